"""The schema on PostgreSQL with pg_partman: what it becomes, whose it is, retention, drift, the login for people."""

# ruff: noqa: S608 - statements of a test's own

from __future__ import annotations

import dataclasses
import datetime
import logging
import re
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from aether_operator.api.platforms import Timescale
from aether_operator.api.reasons import Reason
from aether_operator.database import migrating
from aether_operator.observed.endpoints import Hidden
from aether_operator.observed.reports import Drift, Engine, Login
from aether_testing import postgres as servers

if TYPE_CHECKING:
    from aether_operator.database.fencing import Fences
    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.reports import SchemaReport, SchemaWanted


def up(endpoint: Endpoint, wish: SchemaWanted, leader: Fences | None = None) -> SchemaReport:
    return migrating.bring_up(endpoint, wish, leader or servers.a_leader(), deadline=60)


def trade(days_ago: int, number: int = 1) -> str:
    return (
        "INSERT INTO aether.trades (symbol, trade_id, ts, side, price, qty, ord_type) "
        f"VALUES ('BTC/USD', {number}, now() - interval '{days_ago} days', 'buy', 91234.5, 0.00012345, 'limit')"
    )


def as_reader(endpoint: Endpoint, wish: SchemaWanted) -> Endpoint:
    assert wish.reader is not None
    return dataclasses.replace(endpoint, username=wish.reader.username, password=wish.reader.password)


def test_a_fresh_database_becomes_partitions_kept_by_pg_partman_and_a_person_is_told(
    postgres: servers.Postgres, fresh: Endpoint
) -> None:
    report = up(fresh, servers.a_wish())
    assert (report.reason, report.revision, report.engine) == (Reason.READY, "0002", Engine.PARTMAN)
    assert (report.days.get("trades"), report.held, report.drift) == (90, (), ())
    assert "native partitions" in report.warnings[0]
    assert postgres.run(fresh.database, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'aether.trades'::regclass")[
        0
    ] == (10,)


def test_a_steady_schema_is_not_written_to(postgres: servers.Postgres, fresh: Endpoint) -> None:
    wish, leader = servers.a_wish(), servers.a_leader()
    assert up(fresh, wish, leader).ok
    postgres.run("postgres", f"ALTER DATABASE {fresh.database} SET default_transaction_read_only = on")
    before = postgres.run(fresh.database, "SELECT xmin, ctid FROM pg_class ORDER BY oid")
    with servers.statements() as said:
        assert all(up(fresh, wish, leader).ok for _ in range(3))
    assert said == []
    assert postgres.run(fresh.database, "SELECT xmin, ctid FROM pg_class ORDER BY oid") == before


def test_a_trade_is_stored_exactly_once(postgres: servers.Postgres, fresh: Endpoint) -> None:
    assert up(fresh, servers.a_wish()).ok
    again = "INSERT INTO aether.trades SELECT * FROM aether.trades ON CONFLICT DO NOTHING"
    postgres.run(fresh.database, trade(0), again)
    assert postgres.run(fresh.database, "SELECT count(*), min(qty)::text FROM aether.trades") == [(1, "0.00012345")]


def test_a_second_platform_is_told_who_owns_the_database(postgres: servers.Postgres, fresh: Endpoint) -> None:
    assert up(fresh, servers.a_wish(owner="desk/first of namespace 1")).ok
    with servers.statements() as said:
        report = up(fresh, servers.a_wish(owner="desk/second of namespace 1"))
    assert (report.reason, said) == (Reason.DATABASE_OWNED_BY_ANOTHER, [])
    assert "the database belongs to desk/first of namespace 1, since 20" in report.message
    postgres.run(fresh.database, "DELETE FROM aether.ownership")  # what the guide says releases it
    assert up(fresh, servers.a_wish(owner="desk/second of namespace 1")).ok


def test_timescale_required_where_it_is_not_changes_nothing(fresh: Endpoint) -> None:
    with servers.statements() as said:
        report = up(fresh, servers.a_wish(timescale=Timescale.REQUIRED))
    assert (report.reason, said) == (Reason.TIMESCALE_MISSING, [])


def test_timescale_required_later_is_refused_and_the_partitions_stay(fresh: Endpoint) -> None:
    wish = servers.a_wish()
    assert up(fresh, wish).ok
    report = up(fresh, dataclasses.replace(wish, timescale=Timescale.REQUIRED))
    assert report.reason is Reason.TIMESCALE_MISSING


def test_a_login_without_the_right_says_which(postgres: servers.Postgres, fresh: Endpoint) -> None:
    name, password = postgres.login()
    postgres.run(
        fresh.database, f"GRANT ALL ON SCHEMA partman TO {name}", f"GRANT ALL ON ALL TABLES IN SCHEMA partman TO {name}"
    )
    report = up(dataclasses.replace(fresh, username=name, password=Hidden(password)), servers.a_wish())
    assert report.reason is Reason.RIGHT_MISSING
    assert "grant it CREATE on the database" in report.message


def test_a_longer_retention_is_set_and_a_shorter_one_only_where_nothing_is_lost(
    postgres: servers.Postgres, fresh: Endpoint
) -> None:
    wish, leader = servers.a_wish(trades_days=30, reader=None), servers.a_leader()

    def keeping(days: int) -> SchemaReport:
        return up(fresh, dataclasses.replace(wish, days=servers.DAYS | {"trades": days}), leader)

    assert keeping(30).days.get("trades") == 30
    assert keeping(60).days.get("trades") == 60
    assert keeping(40).days.get("trades") == 40
    postgres.run(fresh.database, trade(3))
    assert keeping(10).days.get("trades") == 10
    held = keeping(2)
    assert (held.ok, held.days.get("trades"), held.drift) == (True, 10, ())
    (line,) = held.held
    assert line.startswith("aether.trades stays at 10 days: 2 days would drop 3 partitions from 20")
    assert postgres.run(fresh.database, "SELECT count(*) FROM aether.trades") == [(1,)]
    assert keeping(10).held == ()


def test_who_may_not_see_the_rows_does_not_make_their_retention_shorter(
    postgres: servers.Postgres, fresh: Endpoint
) -> None:
    leader = servers.a_leader()
    assert up(fresh, servers.a_wish(trades_days=365), leader).days.get("trades") == 365
    postgres.run(fresh.database, f'REVOKE SELECT ON aether.trades FROM "{fresh.username}"')
    report = up(fresh, servers.a_wish(trades_days=30), leader)
    assert (report.days.get("trades"), len(report.held)) == (365, 1)


def test_partitions_are_made_ahead_and_what_is_too_old_is_dropped(postgres: servers.Postgres, fresh: Endpoint) -> None:
    wish, leader = servers.a_wish(trades_days=2, reader=None), servers.a_leader()
    bounds = (
        "SELECT inhrelid::regclass::text, pg_get_expr(relpartbound, inhrelid) FROM pg_inherits "
        "JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = 'aether.trades'::regclass AND relpartbound IS NOT NULL"
    )

    def days() -> dict[int, str]:
        """Whole days from today → the partition of that day."""
        (today,) = postgres.run(fresh.database, "SELECT (now() AT TIME ZONE 'UTC')::date")[0]
        found = {name: re.search(r"FROM \('(\S+)", bound) for name, bound in postgres.run(fresh.database, bounds)}
        return {
            (datetime.date.fromisoformat(start.group(1)) - today).days: name for name, start in found.items() if start
        }

    assert up(fresh, wish, leader).ok
    made = days()
    assert min(made) >= -3
    assert max(made) >= 4
    for ahead in (day for day in made if day > 2):
        postgres.run(fresh.database, f"DROP TABLE {made[ahead]}")
    assert up(fresh, wish, leader).ok
    assert max(days()) >= 4


def test_rows_that_fell_into_the_default_partition_are_told(postgres: servers.Postgres, fresh: Endpoint) -> None:
    wish = servers.a_wish(reader=None)
    assert up(fresh, wish).ok
    postgres.run(fresh.database, trade(400))
    assert "the default partition of aether.trades holds rows" in up(fresh, wish).warnings[1]


HARMLESS = {
    "DROP INDEX aether.trades_symbol_ts": Drift(name="aether.trades_symbol_ts", what="was missing", repaired=True),
    "UPDATE partman.part_config SET retention = '5 days' WHERE parent_table = 'aether.trades'": Drift(
        name="aether.trades", what="had a retention policy of 5 days", repaired=True
    ),
    "UPDATE partman.part_config SET retention = NULL WHERE parent_table = 'aether.trades'": Drift(
        name="aether.trades", what="had no retention policy", repaired=True
    ),
    "UPDATE partman.part_config SET premake = 1 WHERE parent_table = 'aether.trades'": Drift(
        name="aether.trades", what="was not partitioned ahead as it should be", repaired=True
    ),
    "REVOKE SELECT ON aether.trades FROM {reader}": Drift(
        name="role {reader}", what="could not read trades", repaired=True
    ),
    "GRANT INSERT ON aether.trades TO {reader}": Drift(name="role {reader}", what="could write trades", repaired=True),
    "ALTER ROLE {reader} RESET ALL": Drift(name="role {reader}", what="was not read-only", repaired=True),
}


@pytest.mark.parametrize("edit", HARMLESS)
def test_harmless_drift_is_mended_once_and_told(postgres: servers.Postgres, fresh: Endpoint, edit: str) -> None:
    wish, leader = servers.a_wish(), servers.a_leader()
    assert up(fresh, wish, leader).ok
    assert wish.reader is not None
    reader = wish.reader.username
    before = servers.catalogue(postgres, fresh.database, reader)
    postgres.run(fresh.database, edit.format(reader=reader))
    told = HARMLESS[edit]
    report = up(fresh, wish, leader)
    assert (report.reason, report.drift) == (
        Reason.READY,
        (dataclasses.replace(told, name=told.name.format(reader=reader)),),
    )
    assert servers.catalogue(postgres, fresh.database, reader) == before
    assert up(fresh, wish, leader).drift == ()


HARMFUL = {
    "ALTER TABLE aether.trades ADD COLUMN note text": ("aether.trades.note", "is not of this schema"),
    "ALTER TABLE aether.instruments DROP COLUMN quote": ("aether.instruments.quote", "is missing"),
    "ALTER TABLE aether.instruments ALTER COLUMN cost_decimals TYPE int": (
        "aether.instruments.cost_decimals",
        "is integer, should be smallint",
    ),
    "ALTER TABLE aether.trades ALTER COLUMN qty DROP NOT NULL": ("aether.trades.qty", "may be null"),
    "ALTER TABLE aether.trades DROP CONSTRAINT trades_side": ("aether.trades, constraint trades_side", "is missing"),
    "ALTER TABLE aether.instruments DROP CONSTRAINT instruments_pkey": (
        "aether.instruments, constraint instruments_pkey",
        "is missing",
    ),
    "DROP TABLE aether.instruments CASCADE": ("aether.instruments", "is missing"),
    "DROP TABLE aether.trades": ("aether.trades", "is missing"),
}


@pytest.mark.parametrize("edit", HARMFUL)
def test_what_only_a_person_can_mend_is_named_and_left(postgres: servers.Postgres, fresh: Endpoint, edit: str) -> None:
    wish, leader = servers.a_wish(reader=None), servers.a_leader()
    assert up(fresh, wish, leader).ok
    postgres.run(fresh.database, edit)
    with servers.statements() as said:
        report = up(fresh, wish, leader)
    name, what = HARMFUL[edit]
    assert report.reason is Reason.DRIFTED
    assert Drift(name=name, what=what, repaired=False) in report.drift
    assert f"{name} {what}" in report.message
    assert said == []


def test_people_may_read_and_nothing_else(postgres: servers.Postgres, fresh: Endpoint) -> None:
    wish = servers.a_wish()
    assert up(fresh, wish).ok
    postgres.run(fresh.database, trade(0))
    with servers.connected(as_reader(fresh, wish)) as person:
        assert person.execute("SELECT symbol FROM aether.trades").fetchall() == [("BTC/USD",)]
        assert person.execute("SHOW transaction_read_only").fetchall() == [("on",)]
        person.execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            person.execute("DELETE FROM aether.trades")
    assert servers.READER_PASSWORD not in postgres.log


def test_a_new_password_of_the_reader_takes_the_place_of_the_old_one(fresh: Endpoint) -> None:
    wish, leader = servers.a_wish(), servers.a_leader()
    assert up(fresh, wish, leader).ok
    assert wish.reader is not None
    new = dataclasses.replace(wish, reader=Login(username=wish.reader.username, password=Hidden("canary-new")))
    assert up(fresh, new, leader).ok
    servers.connected(as_reader(fresh, new)).close()
    with pytest.raises(psycopg.OperationalError):
        servers.connected(as_reader(fresh, wish))
    with servers.statements() as said:
        assert up(fresh, new, leader).ok
    assert said == []


def test_a_role_of_somebody_else_is_left_alone(postgres: servers.Postgres, fresh: Endpoint) -> None:
    wish = servers.a_wish()
    assert wish.reader is not None
    postgres.run("postgres", f"CREATE ROLE {wish.reader.username} LOGIN PASSWORD 'theirs'")
    report = up(fresh, wish)
    assert report.ok
    assert report.warnings[1] == f"the login {wish.reader.username} is somebody else's, and is left alone"


def test_a_login_that_may_not_make_roles_brings_the_schema_up_and_warns(
    postgres: servers.Postgres, fresh: Endpoint
) -> None:
    name, password = postgres.login()
    postgres.run(
        fresh.database,
        f"GRANT ALL ON SCHEMA partman TO {name}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA partman TO {name}",
        f"GRANT CREATE ON DATABASE {fresh.database} TO {name}",
    )
    report = up(dataclasses.replace(fresh, username=name, password=Hidden(password)), servers.a_wish())
    assert report.ok
    assert "the login may not create roles" in report.warnings[1]


def test_a_password_that_the_server_refuses_all_the_same_is_not_set_at_every_visit(
    postgres: servers.Postgres, fresh: Endpoint
) -> None:
    wish, leader = servers.a_wish(), servers.a_leader()
    assert up(fresh, wish, leader).ok
    assert wish.reader is not None
    postgres.run("postgres", f"ALTER ROLE {wish.reader.username} VALID UNTIL '2020-01-01'")
    first = up(fresh, wish, leader)
    with servers.statements() as said:
        second = up(fresh, wish, leader)
    assert (first.ok, second.ok, said) == (True, True, [])
    assert f"the server refuses the login {wish.reader.username} although its password was set" in second.warnings


def test_no_secret_is_in_a_report_or_a_log(
    postgres: servers.Postgres, fresh: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wish = servers.a_wish()
    seen: list[Any] = [
        up(fresh, wish),
        up(dataclasses.replace(fresh, password=Hidden("canary-wrong")), wish),
        up(dataclasses.replace(fresh, database="canary"), wish).reason,
    ]
    postgres.run(fresh.database, "REVOKE ALL ON ALL TABLES IN SCHEMA partman FROM carrier")
    seen.append(up(fresh, servers.a_wish(trades_days=91)))
    postgres.run(fresh.database, "GRANT ALL ON ALL TABLES IN SCHEMA partman TO carrier")
    assert "canary" not in repr(seen) + caplog.text
    assert servers.READER_PASSWORD not in postgres.log
