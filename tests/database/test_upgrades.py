"""The upgrade of a database of the release before market data: nothing is lost, whatever interrupts it."""

from __future__ import annotations

import dataclasses
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from aether_operator.api.platforms import PlatformSpec
from aether_operator.api.reasons import Reason
from aether_operator.catalog.logins import DatabaseUser
from aether_operator.catalog.platform_schema import PLATFORM_SCHEMA
from aether_testing.cluster import previous_release
from aether_testing.servers import postgres as servers
from aether_testing.servers import schemas

if TYPE_CHECKING:
    from aether_operator.catalog.schemas import SchemaDefinition
    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.reports import DesiredSchema, SchemaReport

OLD_SPEC = PlatformSpec.model_validate({"retention": {"tradesDays": 30}})
"""A spec without the fields that came later."""


def a_schema(**other: Any) -> DesiredSchema:
    return servers.a_schema(**{"days": OLD_SPEC.retention.by_table(), **other})


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> SchemaDefinition:
    """The schema of the earlier release."""
    return previous_release.definition(tmp_path_factory.mktemp("before") / "migrations")


def assert_upgraded(endpoint: Endpoint, report: SchemaReport, kept: list[Any]) -> None:
    assert (report.reason, report.revision, report.held, report.drift) == (Reason.READY, "0002", (), ())
    assert report.days == {"trades": 30, "books": 7, "tickers": 30, "candles": 1825}
    assert previous_release.content(endpoint) == kept
    with servers.connected(endpoint) as connection:
        noted = {name for (name,) in connection.execute("SELECT name FROM aether.settings")}
        assert {f"{table}_engine" for table in PLATFORM_SCHEMA.growing} <= noted
        assert not {"engine", "compress_days"} & noted
        assert connection.execute("SELECT wsname, rest_id FROM aether.instruments").fetchall() == [(None, None)]
        assert connection.execute("SELECT * FROM aether.progress").fetchall() == []
        assert connection.execute("SELECT * FROM aether.candles_1d").fetchall() == []


def test_upgrade_killed_at_any_statement_loses_nothing_and_resumes_there(
    postgres: servers.Postgres, before: SchemaDefinition
) -> None:
    desired, first = a_schema(logins={}), postgres.fresh()
    previous_release.make_database(first, before, desired)
    kept = previous_release.content(first)
    postgres.wait_for_no_sessions(first.database)
    whole = postgres.fresh(first.database)
    with servers.statements() as writes:
        assert_upgraded(whole, schemas.ensure(whole, desired), kept)
    expected = servers.database_contents(postgres, whole.database, desired)
    assert len(writes) > 40
    # Every other moment on one release, and the rest on the other.
    for number, after in writes.moments[postgres.release.major == 17 :: 2]:
        there = postgres.fresh(first.database)
        child = servers.in_child_process(
            lambda: schemas.ensure(there, desired),  # noqa: B023
            at=number,
            after=after,
            sign=signal.SIGKILL,
        )
        _, how = os.waitpid(child, 0)
        assert os.WIFSIGNALED(how), f"not reached: {writes[number]}"
        postgres.wait_for_no_sessions(there.database)
        assert_upgraded(there, schemas.ensure(there, desired), kept)
        assert servers.database_contents(postgres, there.database, desired) == expected, writes[number]
        postgres.run("postgres", f"DROP DATABASE {there.database}")


def test_reader_login_survives_an_upgrade_and_ingest_gets_its_own(
    postgres: servers.Postgres, fresh: Endpoint, before: SchemaDefinition
) -> None:
    desired = a_schema()
    reader = {DatabaseUser.READER: desired.logins[DatabaseUser.READER]}
    previous_release.make_database(fresh, before, a_schema(logins=reader))
    (before_upgrade,) = postgres.run(
        fresh.database, f"SELECT oid FROM pg_roles WHERE rolname = '{reader[DatabaseUser.READER].username}'"
    )
    report = schemas.ensure(fresh, desired)
    assert (report.reason, report.drift) == (Reason.READY, ())
    for user, login in desired.logins.items():
        query = (
            "SELECT r.oid, has_table_privilege(r.oid, 'aether.candles_1h', 'SELECT'), "
            "has_table_privilege(r.oid, 'aether.books', 'INSERT') "
            f"FROM pg_roles r WHERE r.rolname = '{login.username}'"
        )
        ((oid, reads, adds),) = postgres.run(fresh.database, query)
        assert (oid == before_upgrade[0], reads, adds) == (
            user is DatabaseUser.READER,
            True,
            user is DatabaseUser.INGEST,
        )


def test_stored_names_are_those_of_earlier_releases(postgres: servers.Postgres, fresh: Endpoint) -> None:
    """Ownership of databases and roles is decided by these, and they are in databases."""
    desired = a_schema()
    assert schemas.ensure(fresh, desired).ok
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'aether'"
    found = {name for (name,) in postgres.run(fresh.database, tables)}
    assert found >= {"ownership", "fence", "settings", "progress", "alembic_version"}
    assert postgres.run(fresh.database, "SELECT id, owner, venue FROM aether.ownership") == [
        (1, "desk/paper of namespace 5d8f", "Simulated")
    ]
    recorded = {name for (name,) in postgres.run(fresh.database, "SELECT name FROM aether.settings")}
    assert recorded >= {"trades_engine", "trades_past_default", "trades_days", "candles_1h", "reader", "ingest"}
    for user, comment in (("reader", "reads"), ("ingest", "ingests")):
        stored = (
            "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles "
            f"WHERE rolname = '{desired.logins[user].username}'"
        )
        expected = f"aether: {comment} for desk/paper of namespace 5d8f"
        assert postgres.run(fresh.database, stored) == [(expected,)]


def test_previous_release_leaves_the_upgraded_schema_unchanged(fresh: Endpoint, before: SchemaDefinition) -> None:
    desired = a_schema(logins={})
    assert schemas.ensure(fresh, desired).ok
    with servers.statements() as writes:
        report = schemas.ensure(fresh, dataclasses.replace(desired, definition=before))
    assert (report.reason, writes) == (Reason.SCHEMA_NEWER, [])


def test_interrupted_timescale_upgrade_resumes_there(timescale: Endpoint, before: SchemaDefinition) -> None:
    desired, interrupted = a_schema(logins={}), 0
    while True:
        with servers.connected(timescale) as connection:
            connection.execute("DROP SCHEMA IF EXISTS aether CASCADE")
        previous_release.make_database(timescale, before, desired)
        kept = previous_release.content(timescale)
        try:
            report = schemas.ensure(timescale, desired, servers.interrupted_at(interrupted))
        except servers.Interrupted:
            interrupted += 2  # at every other statement; on PostgreSQL at each
            assert_upgraded(timescale, schemas.ensure(timescale, desired), kept)
        else:
            assert_upgraded(timescale, report, kept)
            break
    assert interrupted > 40
