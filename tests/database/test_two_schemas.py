"""A second schema beside the platform's in one database: one owner and one fence, everything else its own."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import datetime
import itertools
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from aether_operator.api.reasons import Reason
from aether_operator.catalog import names
from aether_operator.database import migrator
from aether_testing.servers import postgres as servers
from aether_testing.servers import schemas, toy_schemas

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aether_operator.observed.endpoints import Endpoint

SAMPLES = "INSERT INTO toy.samples (sensor, at) SELECT 's', now() - interval '{days} days'"
TRADE = (
    "INSERT INTO aether.trades (symbol, trade_id, ts, side, price, qty, ord_type) "
    "VALUES ('BTC/USD', 1, now() - interval '3 days', 'buy', 91234.5, 0.00012345, 'limit')"
)


@pytest.fixture
def newest(releases: Callable[[int], servers.Postgres]) -> servers.Postgres:
    """One release, for what does not depend on it."""
    return releases(17)


def contents(postgres: servers.Postgres, endpoint: Endpoint, schema: str) -> list[Any]:
    """A schema's relations with their grants and columns, its partitioning, settings and revision."""
    relations = f"FROM pg_class c JOIN pg_attribute ON attrelid = c.oid WHERE relnamespace = '{schema}'::regnamespace"
    queries = (
        f"SELECT relname, relkind, relacl::text, attname, atttypid, attnotnull {relations} ORDER BY 1, 4",
        f"SELECT * FROM partman.part_config WHERE parent_table LIKE '{schema}.%' ORDER BY parent_table",
        *(f"SELECT * FROM {schema}.{table} ORDER BY 1" for table in ("settings", "progress", "alembic_version")),
    )
    return [postgres.run(endpoint.database, query) for query in queries]


def once(postgres: servers.Postgres, endpoint: Endpoint) -> list[Any]:
    """What the database has once."""
    queries = ("SELECT owner, venue FROM aether.ownership", "SELECT epoch, holder FROM aether.fence")
    return [postgres.run(endpoint.database, query) for query in queries]


def test_two_schemas_have_one_owner_and_one_fence(postgres: servers.Postgres, fresh: Endpoint) -> None:
    platform, toy, leader = servers.a_schema(), toy_schemas.a_toy(), servers.a_leader()
    platform_report = schemas.ensure(fresh, platform, leader)
    before, shared = contents(postgres, fresh, "aether"), once(postgres, fresh)
    toy_report = schemas.ensure(fresh, toy, leader)
    assert (toy_report.reason, toy_report.revision, toy_report.days) == (Reason.READY, "0002", {"samples": 30})
    assert once(postgres, fresh) == shared == [[(toy.owner, toy.venue)], [(1, leader.holder)]]
    assert contents(postgres, fresh, "aether") == before
    with servers.statements() as writes:
        assert schemas.ensure(fresh, platform, leader) == platform_report
        assert schemas.ensure(fresh, toy, leader) == toy_report
    assert writes == []


def test_second_schema_may_be_created_before_the_platforms(postgres: servers.Postgres, fresh: Endpoint) -> None:
    leader, toy = servers.a_leader(), toy_schemas.a_toy()
    assert schemas.ensure(fresh, toy, leader).ok
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'aether' ORDER BY 1"
    assert postgres.run(fresh.database, tables) == [("fence",), ("ownership",)]
    before = contents(postgres, fresh, "toy")
    assert schemas.ensure(fresh, servers.a_schema(), leader).ok
    assert contents(postgres, fresh, "toy") == before
    assert once(postgres, fresh)[1] == [(1, leader.holder)]
    foreign = toy_schemas.a_toy(owner="desk/second of namespace 1")
    assert schemas.ensure(fresh, foreign, leader).reason is Reason.DATABASE_OWNED_BY_ANOTHER
    assert schemas.ensure(fresh, dataclasses.replace(toy, venue="Kraken"), leader).reason is Reason.VENUE_MISMATCH


def test_role_has_rights_in_its_schema_only(newest: servers.Postgres) -> None:
    fresh = newest.fresh()
    platform, toy, leader = servers.a_schema(), toy_schemas.a_toy(), servers.a_leader()
    assert schemas.ensure(fresh, platform, leader).ok
    assert schemas.ensure(fresh, toy, leader).ok
    sampler, reader = toy.logins[toy_schemas.USER].username, platform.logins["reader"].username
    rights = (
        "SELECT has_schema_privilege('{0}', 'aether', 'USAGE'), has_schema_privilege('{0}', 'toy', 'USAGE'), "
        "has_table_privilege('{0}', 'toy.samples', 'INSERT'), has_table_privilege('{0}', 'toy.sensors', 'INSERT')"
    )
    assert newest.run(fresh.database, rights.format(sampler)) == [(False, True, True, False)]
    assert newest.run(fresh.database, rights.format(reader)) == [(True, False, False, False)]


def test_upgrade_interrupted_between_statements_resumes_there(
    postgres: servers.Postgres, fresh: Endpoint, tmp_path: Path
) -> None:
    leader = servers.a_leader()
    platform, toy = servers.a_schema(logins={}), toy_schemas.a_toy()
    assert schemas.ensure(fresh, platform, leader).ok
    first = dataclasses.replace(toy, definition=toy_schemas.first_revision(tmp_path / "migrations"))
    assert schemas.ensure(fresh, first, leader).revision == "0001"
    postgres.run(fresh.database, TRADE, SAMPLES.format(days=1))
    before = contents(postgres, fresh, "aether")
    for interrupted in itertools.count():
        try:
            report = schemas.ensure(fresh, toy, servers.interrupted_at(interrupted))
        except servers.Interrupted:
            postgres.wait_for_no_sessions(fresh.database)
        else:
            break
    assert (report.reason, report.revision, interrupted > 6) == (Reason.READY, "0002", True)
    assert postgres.run(fresh.database, "SELECT sensor FROM toy.sensors") == [("first",)]
    assert postgres.run(fresh.database, "SELECT sensor, value FROM toy.samples") == [("s", None)]
    assert postgres.run(fresh.database, "SELECT count(*) FROM aether.trades") == [(1,)]
    assert contents(postgres, fresh, "aether") == before
    assert postgres.run(fresh.database, "SELECT * FROM toy.progress") == []


@pytest.mark.parametrize("locked", ["aether", "toy"])
def test_lock_of_one_schema_does_not_stop_the_other(newest: servers.Postgres, locked: str) -> None:
    fresh = newest.fresh()
    desired = {one.definition.name: one for one in (servers.a_schema(logins={}), toy_schemas.a_toy(logins={}))}
    (free,) = desired.keys() - {locked}
    with servers.connected(fresh) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (desired[locked].definition.advisory_lock,))
        assert schemas.ensure(fresh, desired[free]).ok
        assert schemas.ensure(fresh, desired[locked]).reason is Reason.WAITING_FOR_LOCK


def test_two_schemas_are_created_at_the_same_time(fresh: Endpoint) -> None:
    leader = servers.a_leader()
    both = [servers.a_schema(), toy_schemas.a_toy()]
    with concurrent.futures.ThreadPoolExecutor(len(both)) as threads:
        reports = list(threads.map(lambda desired: schemas.ensure(fresh, desired, leader), both))
    assert [report.reason for report in reports] == [Reason.READY, Reason.READY], reports


def test_new_leader_of_one_schema_fences_both(newest: servers.Postgres) -> None:
    fresh = newest.fresh()
    old, new = servers.a_leader(), servers.a_leader()
    assert schemas.ensure(fresh, servers.a_schema(trades_days=10, logins={}), old).ok
    assert schemas.ensure(fresh, toy_schemas.a_toy(logins={}), new).ok
    with servers.statements() as writes, pytest.raises(migrator.FencedOff):
        schemas.ensure(fresh, servers.a_schema(trades_days=30, logins={}), old)
    assert writes == []


def test_retention_and_partitions_follow_the_schemas_own_columns(postgres: servers.Postgres, fresh: Endpoint) -> None:
    leader, toy = servers.a_leader(), toy_schemas.a_toy(logins={})
    assert schemas.ensure(fresh, toy, leader).ok
    postgres.run(fresh.database, SAMPLES.format(days=20))
    assert postgres.run(fresh.database, "SELECT count(*) FROM toy.samples_default") == [(1,)]
    assert schemas.ensure(fresh, toy, leader).ok
    assert postgres.run(fresh.database, "SELECT count(*) FROM toy.samples_default") == [(0,)]
    held = schemas.ensure(fresh, dataclasses.replace(toy, days={"samples": 10}), leader)
    assert (held.days, len(held.held)) == ({"samples": 30}, 1)
    assert held.held[0].startswith("toy.samples stays at 30 days: 10 days would drop")


def test_venue_is_not_recorded_beside_data_of_another_schema(newest: servers.Postgres) -> None:
    fresh = newest.fresh()
    platform, toy = servers.a_schema(logins={}), toy_schemas.a_toy(logins={})
    assert schemas.ensure(fresh, platform).ok
    newest.run(fresh.database, TRADE, "UPDATE aether.ownership SET venue = NULL")
    late = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)
    assert schemas.ensure(fresh, dataclasses.replace(toy, created=late)).reason is Reason.VENUE_UNKNOWN
    assert schemas.ensure(fresh, toy).ok, "its owner had claimed the database itself"
    newest.run(fresh.database, "DELETE FROM aether.trades", "DELETE FROM aether.ownership")
    assert schemas.ensure(fresh, platform).reason is Reason.VENUE_UNKNOWN, "the other schema may hold data"


def test_two_databases_with_the_longest_names_share_no_role(newest: servers.Postgres) -> None:
    run, roles = secrets.token_hex(4), set[str]()
    for last in "ab":
        database = f"t_{run}_".ljust(62, "x") + last
        newest.run("postgres", f"CREATE DATABASE {database} OWNER {servers.CREATOR} TEMPLATE {servers.WITH_PARTMAN}")
        endpoint = newest.endpoint(database, servers.CREATOR, servers.CREATOR_PASSWORD)
        desired = servers.a_schema()
        logins = {
            user: dataclasses.replace(login, username=names.role(database, user))
            for user, login in desired.logins.items()
        }
        assert schemas.ensure(endpoint, dataclasses.replace(desired, logins=logins)).ok
        roles |= {login.username for login in logins.values()}
    found = newest.run("postgres", f"SELECT count(*) FROM pg_roles WHERE rolname = ANY(ARRAY{sorted(roles)})")
    assert (found, len(roles)) == ([(4,)], 4)
