"""Partitions by pg_partman: retention, maintenance, and rows outside of every partition."""

from __future__ import annotations

import dataclasses
import datetime
import re
from typing import TYPE_CHECKING

from aether_operator.api.reasons import Reason
from aether_testing.servers import postgres as servers
from aether_testing.servers import schemas

if TYPE_CHECKING:
    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.reports import SchemaReport


def test_retention_is_lengthened_and_shortened_only_where_nothing_is_lost(
    postgres: servers.Postgres, fresh: Endpoint
) -> None:
    desired, leader = servers.a_schema(trades_days=30, logins={}), servers.a_leader()

    def partitioning(days: int) -> SchemaReport:
        return schemas.ensure(fresh, dataclasses.replace(desired, days=servers.DAYS | {"trades": days}), leader)

    assert partitioning(30).days.get("trades") == 30
    assert partitioning(60).days.get("trades") == 60
    assert partitioning(40).days.get("trades") == 40
    postgres.run(fresh.database, schemas.insert_trade(3))
    assert partitioning(10).days.get("trades") == 10
    held = partitioning(2)
    assert (held.ok, held.days.get("trades"), held.drift) == (True, 10, ())
    (line,) = held.held
    assert line.startswith("aether.trades stays at 10 days: 2 days would drop 3 partitions from 20")
    assert postgres.run(fresh.database, "SELECT count(*) FROM aether.trades") == [(1,)]
    assert partitioning(10).held == ()


def test_retention_is_not_shortened_where_rows_cannot_be_seen(postgres: servers.Postgres, fresh: Endpoint) -> None:
    leader = servers.a_leader()
    assert schemas.ensure(fresh, servers.a_schema(trades_days=365), leader).days.get("trades") == 365
    postgres.run(fresh.database, f'REVOKE SELECT ON aether.trades FROM "{fresh.username}"')
    report = schemas.ensure(fresh, servers.a_schema(trades_days=30), leader)
    assert (report.days.get("trades"), len(report.held)) == (365, 1)


def test_partitions_are_created_ahead_and_dropped_when_too_old(postgres: servers.Postgres, fresh: Endpoint) -> None:
    desired, leader = servers.a_schema(trades_days=2, logins={}), servers.a_leader()
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

    assert schemas.ensure(fresh, desired, leader).ok
    existing = days()
    assert min(existing) >= -3
    assert max(existing) >= 4
    for day in (day for day in existing if day > 2):
        postgres.run(fresh.database, f"DROP TABLE {existing[day]}")
    assert schemas.ensure(fresh, desired, leader).ok
    assert max(days()) >= 4


def in_default(postgres: servers.Postgres, endpoint: Endpoint) -> list[int]:
    """The ages in days of the trades in the default partition."""
    ages = "SELECT round(extract(epoch FROM now() - ts) / 86400)::int FROM aether.trades_default ORDER BY 1"
    return [age for (age,) in postgres.run(endpoint.database, ages)]


def test_near_future_rows_leave_the_default_partition_during_maintenance(
    postgres: servers.Postgres, fresh: Endpoint
) -> None:
    """After a venue's wrong clock, and a week without maintenance."""
    desired, leader = servers.a_schema(logins={}), servers.a_leader()
    assert schemas.ensure(fresh, desired, leader).ok
    newest = (
        "SELECT inhrelid::regclass::text FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = "
        "'aether.trades'::regclass AND pg_get_expr(relpartbound, inhrelid) <> 'DEFAULT' ORDER BY 1 DESC LIMIT 6"
    )
    for (part,) in postgres.run(fresh.database, newest):
        postgres.run(fresh.database, f"DROP TABLE {part}")
    postgres.run(
        fresh.database,
        schemas.insert_trade(0),
        schemas.insert_trade(-3),
        schemas.insert_trade(-6),
        schemas.insert_trade(-400),
    )
    assert in_default(postgres, fresh) == [-400, -6, -3, 0]
    before = postgres.run(fresh.database, "SELECT * FROM aether.trades ORDER BY ts")
    report = schemas.ensure(fresh, desired, leader)
    assert report.reason is Reason.READY, report.message
    assert postgres.run(fresh.database, "SELECT * FROM aether.trades ORDER BY ts") == before
    assert in_default(postgres, fresh) == [-400]
    assert len([one for one in report.drift if "in its default partition" in one.what and one.repaired]) == 3
    (warning,) = [one for one in report.warnings if "default partition" in one]
    assert "rows of the future, the last of 20" in warning
    partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'aether.trades'::regclass"
    assert postgres.run(fresh.database, partitions)[0][0] < 25, "and none up to the far future"
    postgres.run(fresh.database, *(schemas.insert_trade(-day, 2) for day in range(-1, 7)))
    assert in_default(postgres, fresh) == [-400], "the days between have theirs, and some after them"
    postgres.run(fresh.database, "SELECT partman.run_maintenance('aether.trades', p_analyze => false)")
    with servers.statements() as writes:
        assert schemas.ensure(fresh, desired, leader).ok
    assert writes == []
    postgres.run(fresh.database, warning.partition("if they are wrong, ")[2])
    assert not [one for one in schemas.ensure(fresh, desired, leader).warnings if "default partition" in one]


def test_settings_of_an_older_release_are_updated_and_no_drift(postgres: servers.Postgres, fresh: Endpoint) -> None:
    desired, leader = servers.a_schema(logins={}), servers.a_leader()
    unchanged = schemas.ensure(fresh, desired, leader)
    postgres.run(
        fresh.database,
        "UPDATE partman.part_config SET ignore_default_data = false",
        "DELETE FROM aether.settings WHERE name LIKE '%past_default'",
    )
    assert schemas.ensure(fresh, desired, leader) == unchanged
    writes = postgres.run(fresh.database, "SELECT bool_and(ignore_default_data) FROM partman.part_config")
    assert writes == [(True,)]


def test_old_rows_leave_the_default_partition_unless_retention_drops_them(
    postgres: servers.Postgres, fresh: Endpoint
) -> None:
    desired, leader = servers.a_schema(logins={}, trades_days=90), servers.a_leader()
    assert schemas.ensure(fresh, desired, leader).ok
    postgres.run(fresh.database, schemas.insert_trade(40), schemas.insert_trade(41), schemas.insert_trade(400))
    report = schemas.ensure(fresh, desired, leader)
    assert report.ok
    assert in_default(postgres, fresh) == [400]
    assert postgres.run(fresh.database, "SELECT count(*) FROM aether.trades") == [(3,)]
    (warning,) = [one for one in report.warnings if "default partition" in one]
    assert "older than the retention of 90 days" in warning
    postgres.run(fresh.database, warning.partition(": ")[2])
    assert postgres.run(fresh.database, "SELECT count(*) FROM aether.trades") == [(2,)]
    assert not [one for one in schemas.ensure(fresh, desired, leader).warnings if "default partition" in one]


def test_default_partition_locked_by_others_is_emptied_later(postgres: servers.Postgres, fresh: Endpoint) -> None:
    desired, leader = servers.a_schema(logins={}), servers.a_leader()
    assert schemas.ensure(fresh, desired, leader).ok
    postgres.run(fresh.database, schemas.insert_trade(40))
    with servers.connected(fresh) as other, other.transaction():
        other.execute("SELECT * FROM aether.trades_default")
        held = schemas.ensure(fresh, desired, leader)
        assert (held.reason, in_default(postgres, fresh)) == (Reason.WAITING_FOR_LOCK, [40])
    assert schemas.ensure(fresh, desired, leader).ok
    assert in_default(postgres, fresh) == []
