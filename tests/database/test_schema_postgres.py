"""The schema on PostgreSQL with pg_partman: creation, ownership, retention, drift, logins."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import datetime
import logging
import re
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from aether_operator.api.platforms import Timescale
from aether_operator.api.reasons import Reason
from aether_operator.catalog.logins import DatabaseUser
from aether_operator.database import migrator
from aether_operator.observed.endpoints import SecretText
from aether_operator.observed.reports import Drift, Engine
from aether_operator.observed.server_owners import Ownership
from aether_testing.servers import postgres as servers

if TYPE_CHECKING:
    from aether_operator.database.fence import Fences
    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.reports import DesiredSchema, SchemaReport


def ensure(endpoint: Endpoint, desired: DesiredSchema, leader: Fences | None = None) -> SchemaReport:
    return migrator.ensure_schema(endpoint, desired, leader or servers.a_leader(), deadline=60)


def trade(days_ago: int, number: int = 1) -> str:
    return (
        "INSERT INTO aether.trades (symbol, trade_id, ts, side, price, qty, ord_type) "
        f"VALUES ('BTC/USD', {number}, now() - interval '{days_ago} days', 'buy', 91234.5, 0.00012345, 'limit')"
    )


def as_one(user: DatabaseUser, endpoint: Endpoint, desired: DesiredSchema) -> Endpoint:
    login = desired.logins[user]
    return dataclasses.replace(endpoint, username=login.username, password=login.password)


def test_fresh_database_gets_partitions_by_pg_partman_and_a_warning(
    postgres: servers.Postgres, fresh: Endpoint
) -> None:
    report = ensure(fresh, servers.a_schema())
    assert (report.reason, report.revision, report.engine) == (Reason.READY, "0002", Engine.PARTMAN)
    assert (report.days.get("trades"), report.held, report.drift) == (90, (), ())
    assert "native partitions" in report.warnings[0]
    assert postgres.run(fresh.database, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'aether.trades'::regclass")[
        0
    ] == (10,)


def test_unchanged_schema_is_not_written_to(postgres: servers.Postgres, fresh: Endpoint) -> None:
    desired, leader = servers.a_schema(), servers.a_leader()
    assert ensure(fresh, desired, leader).ok
    postgres.run("postgres", f"ALTER DATABASE {fresh.database} SET default_transaction_read_only = on")
    before = postgres.run(fresh.database, "SELECT xmin, ctid FROM pg_class ORDER BY oid")
    with servers.statements() as writes:
        assert all(ensure(fresh, desired, leader).ok for _ in range(3))
    assert writes == []
    assert postgres.run(fresh.database, "SELECT xmin, ctid FROM pg_class ORDER BY oid") == before


def test_a_trade_is_stored_exactly_once(postgres: servers.Postgres, fresh: Endpoint) -> None:
    assert ensure(fresh, servers.a_schema()).ok
    again = "INSERT INTO aether.trades SELECT * FROM aether.trades ON CONFLICT DO NOTHING"
    postgres.run(fresh.database, trade(0), again)
    assert postgres.run(fresh.database, "SELECT count(*), min(qty)::text FROM aether.trades") == [(1, "0.00012345")]


def test_second_platform_learns_the_owner_of_the_database(postgres: servers.Postgres, fresh: Endpoint) -> None:
    assert ensure(fresh, servers.a_schema(owner="desk/first of namespace 1")).ok
    with servers.statements() as writes:
        report = ensure(fresh, servers.a_schema(owner="desk/second of namespace 1"))
    assert (report.reason, writes) == (Reason.DATABASE_OWNED_BY_ANOTHER, [])
    assert "the database belongs to desk/first of namespace 1, venue Simulated, since 20" in report.message
    assert report.message.endswith("; name another database in the spec")
    assert report.ownership is Ownership.OWNED_BY_ANOTHER
    postgres.run(fresh.database, "UPDATE aether.ownership SET owner = ''")  # as the guide says
    report = ensure(fresh, servers.a_schema(owner="desk/second of namespace 1"))
    assert (report.ok, report.ownership) == (True, Ownership.OURS)


def test_database_is_denied_to_its_platform_at_another_venue(postgres: servers.Postgres, fresh: Endpoint) -> None:
    assert ensure(fresh, servers.a_schema()).ok
    postgres.run(fresh.database, trade(0))
    for given_free in ("SELECT 1", "UPDATE aether.ownership SET owner = ''"):
        postgres.run(fresh.database, given_free)
        with servers.statements() as writes:
            report = ensure(fresh, servers.a_schema(venue="Kraken"))
        assert (report.reason, report.ownership, writes) == (Reason.VENUE_MISMATCH, Ownership.OWNED_BY_ANOTHER, [])
        assert "holds data of venue Simulated, and the platform says Kraken" in report.message
    assert ensure(fresh, servers.a_schema()).ok


def test_one_of_many_concurrent_platform_claims_succeeds(fresh: Endpoint) -> None:
    many_desired = [servers.a_schema(owner=f"desk/p{nth} of namespace 1", logins={}) for nth in range(4)]
    with concurrent.futures.ThreadPoolExecutor(len(many_desired)) as threads:
        for _ in range(2):  # in the first round some may find another session at work
            reports = list(threads.map(lambda desired: ensure(fresh, desired), many_desired))
    ownerships = sorted(report.ownership or "" for report in reports)
    assert ownerships == sorted([Ownership.OURS, *[Ownership.OWNED_BY_ANOTHER] * 3])


@pytest.mark.parametrize(("created", "reason"), [(-1, Reason.READY), (1, Reason.VENUE_UNKNOWN)])
def test_unrecorded_venue_is_that_of_the_claiming_platform(
    postgres: servers.Postgres, fresh: Endpoint, created: int, reason: Reason
) -> None:
    assert ensure(fresh, servers.a_schema()).ok
    postgres.run(fresh.database, trade(0), "ALTER TABLE aether.ownership DROP COLUMN venue")
    ((claimed,),) = postgres.run(fresh.database, "SELECT since FROM aether.ownership")
    desired = servers.a_schema(created=claimed + datetime.timedelta(seconds=created))
    report = ensure(fresh, desired)
    assert report.reason is reason, report
    if reason is Reason.VENUE_UNKNOWN:
        assert report.ownership is Ownership.UNKNOWN, "what runs goes on"
        command = report.message.partition("Kraken: ")[2].replace("VENUE", "Simulated")
        postgres.run(fresh.database, *command.split("; "))
        assert ensure(fresh, servers.a_schema(venue="Kraken")).reason is Reason.VENUE_MISMATCH
        assert ensure(fresh, servers.a_schema()).ok
    assert postgres.run(fresh.database, "SELECT owner, venue, since FROM aether.ownership")[0][1] == "Simulated"


def test_database_with_trades_but_no_owner_is_not_claimed(postgres: servers.Postgres, fresh: Endpoint) -> None:
    assert ensure(fresh, servers.a_schema()).ok
    postgres.run(fresh.database, "DELETE FROM aether.ownership")
    assert ensure(fresh, servers.a_schema()).ok, "nothing was in it"
    postgres.run(fresh.database, trade(0), "DELETE FROM aether.ownership")
    assert ensure(fresh, servers.a_schema()).reason is Reason.VENUE_UNKNOWN


def test_required_but_missing_timescale_changes_nothing(fresh: Endpoint) -> None:
    with servers.statements() as writes:
        report = ensure(fresh, servers.a_schema(timescale=Timescale.REQUIRED))
    assert (report.reason, writes) == (Reason.TIMESCALE_MISSING, [])


def test_timescale_required_later_is_rejected_and_partitions_stay(fresh: Endpoint) -> None:
    desired = servers.a_schema()
    assert ensure(fresh, desired).ok
    report = ensure(fresh, dataclasses.replace(desired, timescale=Timescale.REQUIRED))
    assert report.reason is Reason.TIMESCALE_MISSING


def test_login_without_a_permission_names_it(postgres: servers.Postgres, fresh: Endpoint) -> None:
    name, password = postgres.login()
    postgres.run(
        fresh.database, f"GRANT ALL ON SCHEMA partman TO {name}", f"GRANT ALL ON ALL TABLES IN SCHEMA partman TO {name}"
    )
    report = ensure(dataclasses.replace(fresh, username=name, password=SecretText(password)), servers.a_schema())
    assert report.reason is Reason.PERMISSION_DENIED
    assert "grant it CREATE on the database" in report.message


def test_retention_is_lengthened_and_shortened_only_where_nothing_is_lost(
    postgres: servers.Postgres, fresh: Endpoint
) -> None:
    desired, leader = servers.a_schema(trades_days=30, logins={}), servers.a_leader()

    def partitioning(days: int) -> SchemaReport:
        return ensure(fresh, dataclasses.replace(desired, days=servers.DAYS | {"trades": days}), leader)

    assert partitioning(30).days.get("trades") == 30
    assert partitioning(60).days.get("trades") == 60
    assert partitioning(40).days.get("trades") == 40
    postgres.run(fresh.database, trade(3))
    assert partitioning(10).days.get("trades") == 10
    held = partitioning(2)
    assert (held.ok, held.days.get("trades"), held.drift) == (True, 10, ())
    (line,) = held.held
    assert line.startswith("aether.trades stays at 10 days: 2 days would drop 3 partitions from 20")
    assert postgres.run(fresh.database, "SELECT count(*) FROM aether.trades") == [(1,)]
    assert partitioning(10).held == ()


def test_retention_is_not_shortened_where_rows_cannot_be_seen(postgres: servers.Postgres, fresh: Endpoint) -> None:
    leader = servers.a_leader()
    assert ensure(fresh, servers.a_schema(trades_days=365), leader).days.get("trades") == 365
    postgres.run(fresh.database, f'REVOKE SELECT ON aether.trades FROM "{fresh.username}"')
    report = ensure(fresh, servers.a_schema(trades_days=30), leader)
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

    assert ensure(fresh, desired, leader).ok
    existing = days()
    assert min(existing) >= -3
    assert max(existing) >= 4
    for day in (day for day in existing if day > 2):
        postgres.run(fresh.database, f"DROP TABLE {existing[day]}")
    assert ensure(fresh, desired, leader).ok
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
    assert ensure(fresh, desired, leader).ok
    newest = (
        "SELECT inhrelid::regclass::text FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = "
        "'aether.trades'::regclass AND pg_get_expr(relpartbound, inhrelid) <> 'DEFAULT' ORDER BY 1 DESC LIMIT 6"
    )
    for (part,) in postgres.run(fresh.database, newest):
        postgres.run(fresh.database, f"DROP TABLE {part}")
    postgres.run(fresh.database, trade(0), trade(-3), trade(-6), trade(-400))
    assert in_default(postgres, fresh) == [-400, -6, -3, 0]
    before = postgres.run(fresh.database, "SELECT * FROM aether.trades ORDER BY ts")
    report = ensure(fresh, desired, leader)
    assert report.reason is Reason.READY, report.message
    assert postgres.run(fresh.database, "SELECT * FROM aether.trades ORDER BY ts") == before
    assert in_default(postgres, fresh) == [-400]
    assert len([one for one in report.drift if "in its default partition" in one.what and one.repaired]) == 3
    (warning,) = [one for one in report.warnings if "default partition" in one]
    assert "rows of the future, the last of 20" in warning
    partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'aether.trades'::regclass"
    assert postgres.run(fresh.database, partitions)[0][0] < 25, "and none up to the far future"
    postgres.run(fresh.database, *(trade(-day, 2) for day in range(-1, 7)))
    assert in_default(postgres, fresh) == [-400], "the days between have theirs, and some after them"
    postgres.run(fresh.database, "SELECT partman.run_maintenance('aether.trades', p_analyze => false)")
    with servers.statements() as writes:
        assert ensure(fresh, desired, leader).ok
    assert writes == []
    postgres.run(fresh.database, warning.partition("if they are wrong, ")[2])
    assert not [one for one in ensure(fresh, desired, leader).warnings if "default partition" in one]


def test_settings_of_an_older_release_are_updated_and_no_drift(postgres: servers.Postgres, fresh: Endpoint) -> None:
    desired, leader = servers.a_schema(logins={}), servers.a_leader()
    unchanged = ensure(fresh, desired, leader)
    postgres.run(
        fresh.database,
        "UPDATE partman.part_config SET ignore_default_data = false",
        "DELETE FROM aether.settings WHERE name LIKE '%past_default'",
    )
    assert ensure(fresh, desired, leader) == unchanged
    writes = postgres.run(fresh.database, "SELECT bool_and(ignore_default_data) FROM partman.part_config")
    assert writes == [(True,)]


def test_old_rows_leave_the_default_partition_unless_retention_drops_them(
    postgres: servers.Postgres, fresh: Endpoint
) -> None:
    desired, leader = servers.a_schema(logins={}, trades_days=90), servers.a_leader()
    assert ensure(fresh, desired, leader).ok
    postgres.run(fresh.database, trade(40), trade(41), trade(400))
    report = ensure(fresh, desired, leader)
    assert report.ok
    assert in_default(postgres, fresh) == [400]
    assert postgres.run(fresh.database, "SELECT count(*) FROM aether.trades") == [(3,)]
    (warning,) = [one for one in report.warnings if "default partition" in one]
    assert "older than the retention of 90 days" in warning
    postgres.run(fresh.database, warning.partition(": ")[2])
    assert postgres.run(fresh.database, "SELECT count(*) FROM aether.trades") == [(2,)]
    assert not [one for one in ensure(fresh, desired, leader).warnings if "default partition" in one]


def test_default_partition_locked_by_others_is_emptied_later(postgres: servers.Postgres, fresh: Endpoint) -> None:
    desired, leader = servers.a_schema(logins={}), servers.a_leader()
    assert ensure(fresh, desired, leader).ok
    postgres.run(fresh.database, trade(40))
    with servers.connected(fresh) as other, other.transaction():
        other.execute("SELECT * FROM aether.trades_default")
        held = ensure(fresh, desired, leader)
        assert (held.reason, in_default(postgres, fresh)) == (Reason.WAITING_FOR_LOCK, [40])
    assert ensure(fresh, desired, leader).ok
    assert in_default(postgres, fresh) == []


HARMLESS = {
    "DROP INDEX aether.trades_symbol_ts": Drift(name="aether.trades_symbol_ts", what="was missing", repaired=True),
    "UPDATE partman.part_config SET retention = '5 days' WHERE parent_table = 'aether.trades'": Drift(
        name="aether.trades", what="had a retention policy of 5 days", repaired=True
    ),
    "UPDATE partman.part_config SET retention = NULL WHERE parent_table = 'aether.trades'": Drift(
        name="aether.trades", what="had no retention policy", repaired=True
    ),
    "UPDATE partman.part_config SET premake = 1 WHERE parent_table = 'aether.trades'": Drift(
        name="aether.trades", what="had other settings for future partitions", repaired=True
    ),
    "UPDATE partman.part_config SET ignore_default_data = false WHERE parent_table = 'aether.trades'": Drift(
        name="aether.trades", what="had other settings for future partitions", repaired=True
    ),
    "REVOKE SELECT ON aether.trades FROM {reader}": Drift(
        name="role {reader}", what="could not read trades", repaired=True
    ),
    "REVOKE SELECT ON aether.candles_1h FROM {ingest}": Drift(
        name="role {ingest}", what="could not read candles_1h", repaired=True
    ),
    "GRANT INSERT ON aether.trades TO {reader}": Drift(
        name="role {reader}", what="could INSERT on trades", repaired=True
    ),
    "GRANT DELETE, TRUNCATE ON aether.trades TO {ingest}": Drift(
        name="role {ingest}", what="could DELETE, TRUNCATE on trades", repaired=True
    ),
    "REVOKE UPDATE ON aether.ingest_progress FROM {ingest}": Drift(
        name="role {ingest}", what="could not UPDATE on ingest_progress", repaired=True
    ),
    "REVOKE ALL ON SCHEMA aether FROM {ingest}": Drift(
        name="role {ingest}", what="could not use the schema", repaired=True
    ),
    "GRANT CREATE ON SCHEMA aether TO {ingest}": Drift(name="role {ingest}", what="could create tables", repaired=True),
    "ALTER ROLE {reader} RESET ALL": Drift(
        name="role {reader}", what="does not set default_transaction_read_only = on", repaired=True
    ),
    "ALTER ROLE {ingest} SET lock_timeout = '1h'": Drift(
        name="role {ingest}", what="does not set lock_timeout = 5s", repaired=True
    ),
}


@pytest.mark.parametrize("edit", HARMLESS)
def test_harmless_drift_is_repaired_once_and_reported(postgres: servers.Postgres, fresh: Endpoint, edit: str) -> None:
    desired, leader = servers.a_schema(), servers.a_leader()
    assert ensure(fresh, desired, leader).ok
    names = {user: login.username for user, login in desired.logins.items()}
    before = servers.database_contents(postgres, fresh.database, desired)
    postgres.run(fresh.database, edit.format(**names))
    expected = HARMLESS[edit]
    report = ensure(fresh, desired, leader)
    assert (report.reason, report.drift) == (
        Reason.READY,
        (dataclasses.replace(expected, name=expected.name.format(**names)),),
    )
    assert servers.database_contents(postgres, fresh.database, desired) == before
    assert ensure(fresh, desired, leader).drift == ()


HARMFUL = {
    "ALTER TABLE aether.trades ADD COLUMN note text": ("aether.trades.note", "is not part of the schema"),
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
def test_drift_only_a_person_can_repair_is_named_and_left(
    postgres: servers.Postgres, fresh: Endpoint, edit: str
) -> None:
    desired, leader = servers.a_schema(logins={}), servers.a_leader()
    assert ensure(fresh, desired, leader).ok
    postgres.run(fresh.database, edit)
    with servers.statements() as writes:
        report = ensure(fresh, desired, leader)
    name, what = HARMFUL[edit]
    assert report.reason is Reason.SCHEMA_DRIFTED
    assert Drift(name=name, what=what, repaired=False) in report.drift
    assert f"{name} {what}" in report.message
    assert writes == []


def test_reader_login_may_only_read(postgres: servers.Postgres, fresh: Endpoint) -> None:
    desired = servers.a_schema()
    assert ensure(fresh, desired).ok
    postgres.run(fresh.database, trade(0))
    with servers.connected(as_one(DatabaseUser.READER, fresh, desired)) as person:
        assert person.execute("SELECT symbol FROM aether.trades").fetchall() == [("BTC/USD",)]
        assert person.execute("SHOW transaction_read_only").fetchall() == [("on",)]
        person.execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            person.execute("DELETE FROM aether.trades")
    assert servers.LOGIN_PASSWORD not in postgres.log


def test_ingest_login_has_exactly_the_rights_it_needs(postgres: servers.Postgres, fresh: Endpoint) -> None:
    desired = servers.a_schema()
    assert ensure(fresh, desired).ok
    with servers.connected(as_one(DatabaseUser.INGEST, fresh, desired)) as service:
        service.execute(
            "INSERT INTO aether.ingest_progress VALUES ('BTC/USD', 0, now()) ON CONFLICT (symbol) "
            "DO UPDATE SET trade_id = 0"
        )
        with service.transaction():
            service.execute("CREATE TEMPORARY TABLE stage (LIKE aether.trades) ON COMMIT DROP")
            with service.cursor().copy("COPY stage FROM STDIN") as copy:
                copy.write_row(("BTC/USD", 1, "now", "buy", "91234.5", "0.00012345", "limit", "now"))
            service.execute("SELECT trade_id FROM aether.ingest_progress FOR UPDATE")
            service.execute("INSERT INTO aether.trades SELECT * FROM stage ON CONFLICT DO NOTHING")
            service.execute("UPDATE aether.ingest_progress SET trade_id = 1, ts = now()")
        service.execute("INSERT INTO aether.books VALUES ('BTC/USD', now(), now(), 1, '{1}', '{1}', '{}', '{}')")
        service.execute("INSERT INTO aether.tickers VALUES ('BTC/USD', now(), 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, now())")
        service.execute(
            "INSERT INTO aether.candles VALUES ('BTC/USD', date_trunc('minute', now()), 1, 1, 1, 1, 1, 1, 1, 1) "
            "ON CONFLICT (symbol, ts) DO UPDATE SET trades = 2"
        )
        assert service.execute("SELECT trades FROM aether.candles_1d").fetchall() == [(1,)]
        for statement in (
            "DELETE FROM aether.trades",
            "UPDATE aether.trades SET qty = 1",
            "TRUNCATE aether.books",
            "DROP TABLE aether.tickers",
            "ALTER TABLE aether.candles ADD COLUMN x int",
            "CREATE TABLE aether.mine (x int)",
            "INSERT INTO aether.settings VALUES ('a', 'b')",
            "DELETE FROM aether.ownership",
            "UPDATE aether.fence SET epoch = 9",
            "CREATE ROLE another",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                service.execute(statement.encode())
        shown = [
            service.execute(f"SHOW {name}".encode()).fetchall()[0][0] for name in ("lock_timeout", "statement_timeout")
        ]
    assert shown == ["5s", "30s"]
    assert servers.LOGIN_PASSWORD not in postgres.log


@pytest.mark.parametrize("user", DatabaseUser)
def test_new_password_of_a_login_replaces_the_old_one(fresh: Endpoint, user: DatabaseUser) -> None:
    desired, leader = servers.a_schema(), servers.a_leader()
    assert ensure(fresh, desired, leader).ok
    login = dataclasses.replace(desired.logins[user], password=SecretText("canary-new"))
    new = dataclasses.replace(desired, logins={**desired.logins, user: login})
    assert ensure(fresh, new, leader).ok
    servers.connected(as_one(user, fresh, new)).close()
    with pytest.raises(psycopg.OperationalError):
        servers.connected(as_one(user, fresh, desired))
    with servers.statements() as writes:
        assert ensure(fresh, new, leader).ok
    assert writes == []


def test_foreign_role_is_left_alone(postgres: servers.Postgres, fresh: Endpoint) -> None:
    desired = servers.a_schema()
    reader, ingest = (desired.logins[user].username for user in (DatabaseUser.READER, DatabaseUser.INGEST))
    for name in (reader, ingest):
        postgres.run("postgres", f"CREATE ROLE {name} LOGIN PASSWORD 'theirs'")
    report = ensure(fresh, desired)
    assert report.warnings[1] == f"the login {reader} belongs to somebody else and is left unchanged"
    assert report.reason is Reason.PERMISSION_DENIED
    assert (
        f"the login {ingest} belongs to somebody else and is left unchanged: assign it to this platform by"
        in report.message
    )


def without_roles(postgres: servers.Postgres, fresh: Endpoint) -> Endpoint:
    """The database for a login that may create the schema and no roles."""
    name, password = postgres.login()
    postgres.run(
        fresh.database,
        f"GRANT ALL ON SCHEMA partman TO {name}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA partman TO {name}",
        f"GRANT CREATE ON DATABASE {fresh.database} TO {name}",
    )
    return dataclasses.replace(fresh, username=name, password=SecretText(password))


def test_without_createrole_the_schema_migrates_and_manual_steps_are_named(
    postgres: servers.Postgres, fresh: Endpoint
) -> None:
    leader, creator = servers.a_leader(), without_roles(postgres, fresh)
    ours = servers.a_schema().logins.items()
    desired = servers.a_schema(
        logins={user: dataclasses.replace(login, password=SecretText("by-hand")) for user, login in ours}
    )
    report = ensure(creator, desired, leader)
    assert (report.reason, report.revision, report.days) == (Reason.PERMISSION_DENIED, "0002", servers.DAYS)
    assert "the login may not create roles" in report.warnings[1]
    name, login = desired.logins[DatabaseUser.INGEST].username, desired.logins[DatabaseUser.INGEST]
    mark = re.search(f'COMMENT ON ROLE "{name}" IS (.*)', report.message)
    assert mark is not None
    with servers.statements() as writes:
        assert ensure(creator, desired, leader) == report
    assert writes == []
    # Follow the message by hand, with a wrong password first.
    postgres.run("postgres", f"CREATE ROLE {name} NOINHERIT LOGIN PASSWORD 'x'", f"COMMENT ON ROLE {name} IS {mark[1]}")
    report = ensure(creator, desired, leader)
    assert report.reason is Reason.PERMISSION_DENIED
    assert f"the server rejects the login {name}: ALTER ROLE" in report.message
    assert f"the password of Secret {login.kept_in}" in report.message
    postgres.run("postgres", f"ALTER ROLE {name} PASSWORD '{login.password.text}'")
    assert ensure(creator, desired, leader).ok
    with servers.connected(as_one(DatabaseUser.INGEST, fresh, desired)) as service:
        service.execute("INSERT INTO aether.ingest_progress VALUES ('BTC/USD', 0, now())")
    with servers.statements() as writes:
        report = ensure(creator, desired, leader)
    assert (report.ok, writes) == (True, [])
    limit = f"the login {name} does not set lock_timeout = 5s: ALTER ROLE \"{name}\" SET lock_timeout = '5s'"
    assert limit in report.warnings


def test_temporary_table_grant_that_needs_the_owner_is_named(postgres: servers.Postgres, fresh: Endpoint) -> None:
    desired = servers.a_schema()
    postgres.run("postgres", f"REVOKE TEMPORARY ON DATABASE {fresh.database} FROM PUBLIC")
    assert ensure(fresh, desired).ok  # the owner grants it
    postgres.run(
        "postgres",
        f"REVOKE TEMPORARY ON DATABASE {fresh.database} FROM {desired.logins[DatabaseUser.INGEST].username}",
        f"ALTER DATABASE {fresh.database} OWNER TO postgres",
        f"GRANT CREATE, CONNECT ON DATABASE {fresh.database} TO {fresh.username}",
    )
    report = ensure(fresh, desired)
    assert report.reason is Reason.PERMISSION_DENIED
    assert (
        f"may not create temporary tables: only the owner of database {fresh.database} can grant that" in report.message
    )


def test_password_that_the_server_rejects_is_not_set_every_reconcile(
    postgres: servers.Postgres, fresh: Endpoint
) -> None:
    desired, leader = servers.a_schema(), servers.a_leader()
    assert ensure(fresh, desired, leader).ok
    postgres.run("postgres", f"ALTER ROLE {desired.logins[DatabaseUser.READER].username} VALID UNTIL '2020-01-01'")
    first = ensure(fresh, desired, leader)
    with servers.statements() as writes:
        second = ensure(fresh, desired, leader)
    assert (first.ok, second.ok, writes) == (True, True, [])
    assert (
        f"the server rejects the login {desired.logins[DatabaseUser.READER].username} although its password was set"
        in second.warnings
    )


def test_no_secret_is_in_a_report_or_a_log(
    postgres: servers.Postgres, fresh: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    desired = servers.a_schema()
    results: list[Any] = [
        ensure(fresh, desired),
        ensure(dataclasses.replace(fresh, password=SecretText("canary-wrong")), desired),
        ensure(dataclasses.replace(fresh, database="canary"), desired).reason,
    ]
    postgres.run(fresh.database, "REVOKE ALL ON ALL TABLES IN SCHEMA partman FROM creator")
    results.append(ensure(fresh, servers.a_schema(trades_days=91)))
    postgres.run(fresh.database, "GRANT ALL ON ALL TABLES IN SCHEMA partman TO creator")
    assert "canary" not in repr(results) + caplog.text
    assert servers.LOGIN_PASSWORD not in postgres.log
