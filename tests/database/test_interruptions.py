"""`ensure_schema` interrupted in every way: killed at each statement, stopped, locked out, two at once."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from aether_operator.api.reasons import Reason
from aether_operator.catalog.platform_schema import PLATFORM_SCHEMA
from aether_operator.database import migrator
from aether_operator.database.revisions import FOLDER
from aether_testing.servers import postgres as servers
from aether_testing.servers import schemas

if TYPE_CHECKING:
    from pathlib import Path

    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.reports import DesiredSchema, SchemaReport

NEXT = """
revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    from alembic import op
    import sqlalchemy as sa

    op.create_table("fees", sa.Column("tier", sa.Integer, nullable=False), schema="aether")
    op.execute("INSERT INTO aether.fees (tier) VALUES (1)")
    op.create_index("fees_tier", "fees", ["tier"], schema="aether", unique=True)
"""


@pytest.fixture
def next_release(tmp_path: Path) -> DesiredSchema:
    """The platform's schema with one revision more."""
    folder = tmp_path / "migrations"
    shutil.copytree(FOLDER / PLATFORM_SCHEMA.migrations, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "0003_fees.py").write_text(NEXT)
    return servers.a_schema(logins={}, definition=dataclasses.replace(PLATFORM_SCHEMA, migrations=folder))


def test_process_killed_at_any_statement_leaves_a_recoverable_schema(
    postgres: servers.Postgres,
) -> None:
    clean, desired = postgres.fresh(), servers.a_schema()
    with servers.statements() as writes:
        assert schemas.ensure(clean, desired).ok
    expected = servers.database_contents(postgres, clean.database, desired)
    assert len(writes) > 100
    # Every other moment on one release, and the rest on the other.
    for number, after in writes.moments[postgres.release.major == 17 :: 2]:
        statement = writes[number]
        there, again = postgres.fresh(), servers.a_schema()
        child = servers.in_child_process(
            lambda: schemas.ensure(there, again),  # noqa: B023
            at=number,
            after=after,
            sign=signal.SIGKILL,
        )
        _, how = os.waitpid(child, 0)
        assert os.WIFSIGNALED(how), f"not reached: {statement}"
        postgres.wait_for_no_sessions(there.database)
        report = schemas.ensure(there, again)
        assert (report.reason, report.drift) == (Reason.READY, ()), f"after {statement}: {report}"
        assert servers.database_contents(postgres, there.database, again) == expected, statement
        postgres.run("postgres", f"DROP DATABASE {there.database}")


def test_upgrade_killed_at_any_statement_resumes_there(postgres: servers.Postgres, next_release: DesiredSchema) -> None:
    desired, first = servers.a_schema(logins={}), postgres.fresh()
    assert schemas.ensure(first, desired).revision == "0002"
    postgres.wait_for_no_sessions(first.database)
    with servers.statements() as writes:
        assert schemas.ensure(postgres.fresh(first.database), next_release).revision == "0003"
    assert len(writes) > 8
    for number, after in writes.moments:
        there = postgres.fresh(first.database)
        child = servers.in_child_process(
            lambda: schemas.ensure(there, next_release),  # noqa: B023
            at=number,
            after=after,
            sign=signal.SIGKILL,
        )
        _, how = os.waitpid(child, 0)
        assert os.WIFSIGNALED(how)
        postgres.wait_for_no_sessions(there.database)
        report = schemas.ensure(there, next_release)
        assert (report.reason, report.revision) == (Reason.READY, "0003")
        assert postgres.run(there.database, "SELECT tier FROM aether.fees") == [(1,)]
        assert postgres.run(there.database, "SELECT * FROM aether.progress") == []
        postgres.run("postgres", f"DROP DATABASE {there.database}")


def test_schema_of_a_newer_release_is_unchanged(fresh: Endpoint, next_release: DesiredSchema) -> None:
    assert schemas.ensure(fresh, next_release).revision == "0003"
    with servers.statements() as writes:
        report = schemas.ensure(fresh, servers.a_schema(trades_days=5))
    assert (report.reason, writes) == (Reason.SCHEMA_NEWER, [])
    assert "revision 0003, which this release does not know" in report.message


def test_of_two_operators_at_once_exactly_one_applies(postgres: servers.Postgres, fresh: Endpoint) -> None:
    desired = servers.a_schema()
    start = threading.Barrier(2)
    found: list[SchemaReport | migrator.FencedOff] = []

    def lead() -> None:
        start.wait(30)
        try:
            found.append(schemas.ensure(fresh, desired))
        except migrator.FencedOff as fenced:
            found.append(fenced)

    both = [threading.Thread(target=lead) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(60)
    reports = [one for one in found if not isinstance(one, migrator.FencedOff)]
    assert any(one.ok for one in reports), found
    assert all(one.reason in {Reason.READY, Reason.WAITING_FOR_LOCK} for one in reports), found
    created = [
        line for line in postgres.log.splitlines() if fresh.database in line and "CREATE TABLE aether.trades" in line
    ]
    assert len(created) == 1
    assert schemas.ensure(fresh, desired).ok


def test_holder_of_the_schema_lock_excludes_others(postgres: servers.Postgres, fresh: Endpoint) -> None:
    desired = servers.a_schema()
    with servers.connected(fresh) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (PLATFORM_SCHEMA.advisory_lock,))
        with servers.statements() as writes:
            report = schemas.ensure(fresh, desired)
    assert report.reason is Reason.WAITING_FOR_LOCK
    assert [one for one in writes if "advisory" not in one] == []
    postgres.wait_for_no_sessions(fresh.database)
    assert schemas.ensure(fresh, desired).ok


def test_table_locked_by_another_session_is_not_awaited(postgres: servers.Postgres, fresh: Endpoint) -> None:
    desired, leader = servers.a_schema(), servers.a_leader()
    assert schemas.ensure(fresh, desired, leader).ok
    postgres.run(fresh.database, "DROP INDEX aether.trades_symbol_ts")
    with servers.connected(fresh) as other, other.transaction():
        other.execute("LOCK TABLE aether.trades IN ROW EXCLUSIVE MODE")
        report = schemas.ensure(fresh, desired, leader)
        assert report.reason is Reason.WAITING_FOR_LOCK
        assert "create the index trades_symbol_ts: canceling statement due to lock timeout" in report.message
    assert [one.repaired for one in schemas.ensure(fresh, desired, leader).drift] == [True]


def test_replaced_leader_writes_nothing(postgres: servers.Postgres, fresh: Endpoint) -> None:
    old, new = servers.a_leader(), servers.a_leader()
    assert schemas.ensure(fresh, servers.a_schema(trades_days=10, logins={}), old).ok
    assert schemas.ensure(fresh, servers.a_schema(trades_days=20, logins={}), new).days.get("trades") == 20
    with servers.statements() as writes, pytest.raises(migrator.FencedOff):
        schemas.ensure(fresh, servers.a_schema(trades_days=30, logins={}), old)
    assert writes == []
    assert postgres.run(fresh.database, "SELECT epoch, holder FROM aether.fence") == [(2, new.holder)]


def test_leader_replaced_between_its_check_and_write_writes_nothing(
    postgres: servers.Postgres, fresh: Endpoint
) -> None:
    counter = iter(range(1000))
    overtaken: list[int] = []

    def take_the_fence() -> None:
        if next(counter) == others_from:
            postgres.run(fresh.database, "UPDATE aether.fence SET epoch = epoch + 1, holder = 'another'")
            overtaken.append(1)

    others_from = 10**6
    leader = servers.a_leader(take_the_fence)
    assert schemas.ensure(fresh, servers.a_schema(trades_days=10, logins={}), leader).ok
    counter, others_from = iter(range(1000)), 0  # the guard is called once before the lock is acquired
    with pytest.raises(migrator.FencedOff):
        schemas.ensure(fresh, servers.a_schema(trades_days=20, logins={}), leader)
    assert overtaken == [1]
    kept = "SELECT retention FROM partman.part_config WHERE parent_table = 'aether.trades'"
    assert postgres.run(fresh.database, kept) == [("10 days",)]


def test_leader_without_its_lease_stops_before_the_next_statement(postgres: servers.Postgres, fresh: Endpoint) -> None:
    class Lost(Exception):
        pass

    counter = iter(range(1000))

    def guard() -> None:
        if next(counter) == 12:
            raise Lost

    with servers.statements() as writes, pytest.raises(Lost):
        schemas.ensure(fresh, servers.a_schema(), servers.a_leader(guard))
    # The guard was called once before the lock was acquired, then before each of eleven statements.
    assert len([one for one in writes if "FOR SHARE" not in one]) == 11
    postgres.wait_for_no_sessions(fresh.database)
    assert schemas.ensure(fresh, servers.a_schema()).ok


def test_leader_frozen_in_a_transaction_blocks_nobody_and_writes_nothing(
    postgres: servers.Postgres, fresh: Endpoint
) -> None:
    desired = servers.a_schema(logins={})
    with servers.statements() as writes:
        assert schemas.ensure(postgres.fresh(), desired).ok
    creating = next(number for number, one in enumerate(writes) if one.startswith("CREATE TABLE aether.trades"))
    child = servers.in_child_process(
        lambda: schemas.ensure(fresh, desired), at=creating, after=True, sign=signal.SIGSTOP
    )
    try:
        _, how = os.waitpid(child, os.WUNTRACED)
        assert os.WIFSTOPPED(how)
        leader = servers.a_leader()
        assert schemas.ensure(fresh, desired, leader).reason is Reason.WAITING_FOR_LOCK
        postgres.wait_for_no_sessions(fresh.database)  # the server ends its session
        assert schemas.ensure(fresh, desired, leader).ok
        before = postgres.run(fresh.database, "SELECT epoch, holder FROM aether.fence")
    finally:
        os.kill(child, signal.SIGCONT)
    os.waitpid(child, 0)
    assert postgres.run(fresh.database, "SELECT epoch, holder FROM aether.fence") == before
    assert schemas.ensure(fresh, desired, leader).ok


def test_session_ended_by_the_server_is_reported_and_retried(postgres: servers.Postgres, fresh: Endpoint) -> None:
    ended = iter([False] * 15)

    def guard() -> None:
        if next(ended, True):
            postgres.terminate_sessions(fresh.database)

    report = schemas.ensure(fresh, servers.a_schema(), servers.a_leader(guard))
    assert report.reason in {Reason.UNREACHABLE, Reason.FAILED}
    assert schemas.ensure(fresh, servers.a_schema()).ok
