"""The schema on TimescaleDB: hypertables, compression, retention, drift. No logins: there each is the superuser."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from aether_operator.api.platforms import Timescale
from aether_operator.api.reasons import Reason
from aether_operator.database import migrator
from aether_operator.observed.reports import Drift, Engine
from aether_testing.servers import postgres as servers
from aether_testing.servers import toy_schemas

if TYPE_CHECKING:
    from aether_operator.database.fence import Fences
    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.reports import SchemaReport

SCHEMA = servers.a_schema(timescale=Timescale.REQUIRED, logins={})


def ensure(endpoint: Endpoint, days: int = 90, leader: Fences | None = None) -> SchemaReport:
    desired = dataclasses.replace(SCHEMA, days=servers.DAYS | {"trades": days})
    return migrator.ensure_schema(endpoint, desired, leader or servers.a_leader(), deadline=120)


def run(endpoint: Endpoint, *statements: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    with servers.connected(endpoint) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
            found = cursor.fetchall() if cursor.description else []
    return found


TRADES = (
    "INSERT INTO aether.trades (symbol, trade_id, ts, side, price, qty, ord_type) "
    "SELECT 'BTC/USD', n, now() - make_interval(days => n), 'sell', 1, 1, 'market' FROM generate_series(0, 20) n"
)


def test_fresh_database_gets_a_hypertable_with_policies_and_stays_unchanged(timescale: Endpoint) -> None:
    leader = servers.a_leader()
    report = ensure(timescale, leader=leader)
    assert (report.reason, report.revision, report.engine) == (Reason.READY, "0002", Engine.TIMESCALE)
    assert (report.days.get("trades"), report.held, report.drift, report.warnings) == (90, (), (), ())
    policies = run(
        timescale,
        "SELECT proc_name, coalesce(config->>'drop_after', config->>'compress_after') "
        "FROM timescaledb_information.jobs WHERE hypertable_name = 'trades' ORDER BY 1",
    )
    assert policies == [("policy_compression", "7 days"), ("policy_retention", "90 days")]
    with servers.statements() as writes:
        assert all(ensure(timescale, leader=leader) == report for _ in range(3))
    assert writes == []


def test_second_schema_gets_a_hypertable_by_its_own_columns(timescale: Endpoint) -> None:
    leader, toy = servers.a_leader(), toy_schemas.a_toy(timescale=Timescale.REQUIRED, logins={})
    assert ensure(timescale, leader=leader).ok
    report = migrator.ensure_schema(timescale, toy, leader, deadline=120)
    assert (report.reason, report.engine, report.days) == (Reason.READY, Engine.TIMESCALE, {"samples": 30})
    compressed = (
        "SELECT segmentby, orderby FROM timescaledb_information.hypertable_compression_settings "
        "WHERE hypertable = 'toy.samples'::regclass"
    )
    assert run(timescale, compressed) == [("sensor", "at DESC")]
    with servers.statements() as writes:
        assert migrator.ensure_schema(timescale, toy, leader, deadline=120) == report
        assert ensure(timescale, leader=leader).ok
    assert writes == []


def test_retention_is_lengthened_and_shortened_only_where_nothing_is_lost(timescale: Endpoint) -> None:
    leader = servers.a_leader()
    assert ensure(timescale, 30, leader).days.get("trades") == 30
    assert ensure(timescale, 60, leader).days.get("trades") == 60
    run(timescale, TRADES, "ANALYZE aether.trades")
    assert ensure(timescale, 40, leader).days.get("trades") == 40
    held = ensure(timescale, 10, leader)
    assert (held.ok, held.days.get("trades"), held.drift) == (True, 40, ())
    (line,) = held.held
    assert line.startswith("aether.trades stays at 40 days: 10 days would drop 11 chunks from 20")
    assert line.endswith(", about 11 rows")
    assert run(timescale, "SELECT count(*) FROM aether.trades") == [(21,)]


def test_each_table_is_kept_for_its_own_retention(timescale: Endpoint) -> None:
    leader = servers.a_leader()
    for more in (0, 110, -2):
        days = {table: usual + more for table, usual in servers.DAYS.items()}
        report = migrator.ensure_schema(timescale, dataclasses.replace(SCHEMA, days=days), leader, deadline=120)
        assert (report.ok, report.days, report.held) == (True, days, ())
        policies = run(
            timescale,
            "SELECT hypertable_name, config->>'drop_after' FROM timescaledb_information.jobs "
            "WHERE proc_name = 'policy_retention'",
        )
        assert dict(policies) == {table: f"{kept} days" for table, kept in days.items()}


HARMLESS = {
    "DROP INDEX aether.trades_symbol_ts": ("aether.trades_symbol_ts", "was missing"),
    "SELECT public.remove_retention_policy('aether.trades')": ("aether.trades", "had no retention policy"),
    "SELECT public.remove_compression_policy('aether.trades')": ("aether.trades", "had no compression policy"),
    "ALTER TABLE aether.trades SET (timescaledb.compress, timescaledb.compress_segmentby = '', "
    "timescaledb.compress_orderby = 'ts')": ("aether.trades", "was not compressed by symbol and ts"),
}


@pytest.mark.parametrize("edit", HARMLESS)
def test_harmless_drift_is_repaired_once_and_reported(timescale: Endpoint, edit: str) -> None:
    leader = servers.a_leader()
    unchanged = ensure(timescale, leader=leader)
    run(timescale, edit)
    name, what = HARMLESS[edit]
    repaired = ensure(timescale, leader=leader)
    assert (repaired.reason, repaired.drift) == (Reason.READY, (Drift(name=name, what=what, repaired=True),))
    assert ensure(timescale, leader=leader) == unchanged


def test_removed_policy_is_not_restored_over_data_it_would_drop(timescale: Endpoint) -> None:
    assert ensure(timescale, 30).ok
    run(timescale, TRADES, "SELECT public.remove_retention_policy('aether.trades')")
    report = ensure(timescale, 10)
    assert report.days.get("trades") is None
    assert report.held[0].startswith("aether.trades stays at no limit: 10 days would drop 11 chunks")


def test_policy_paused_by_others_is_reported(timescale: Endpoint) -> None:
    assert ensure(timescale).ok
    run(
        timescale,
        "SELECT public.alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs "
        "WHERE proc_name = 'policy_retention' AND hypertable_name = 'trades'",
    )
    assert ensure(timescale).warnings == ("policy_retention of aether.trades is paused",)


@pytest.mark.parametrize(
    ("edit", "name", "what"),
    [
        ("ALTER TABLE aether.instruments ADD COLUMN x int", "aether.instruments.x", "is not part of the schema"),
        ("ALTER TABLE aether.instruments DROP COLUMN quote", "aether.instruments.quote", "is missing"),
        ("DROP TABLE aether.trades", "aether.trades", "is missing"),
    ],
)
def test_drift_only_a_person_can_repair_is_named_and_left(timescale: Endpoint, edit: str, name: str, what: str) -> None:
    leader = servers.a_leader()
    assert ensure(timescale, leader=leader).ok
    run(timescale, edit)
    with servers.statements() as writes:
        report = ensure(timescale, leader=leader)
    assert report.reason is Reason.SCHEMA_DRIFTED
    assert Drift(name=name, what=what, repaired=False) in report.drift
    assert writes == []
