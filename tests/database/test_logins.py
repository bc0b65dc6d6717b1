"""Logins of a database: their rights, their passwords, and what is left to a person."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

import psycopg
import pytest

from aether_operator.api.reasons import Reason
from aether_operator.catalog.logins import DatabaseUser
from aether_operator.observed.endpoints import SecretText
from aether_testing.servers import postgres as servers
from aether_testing.servers import schemas

if TYPE_CHECKING:
    from aether_operator.observed.endpoints import Endpoint


def test_reader_login_may_only_read(postgres: servers.Postgres, fresh: Endpoint) -> None:
    desired = servers.a_schema()
    assert schemas.ensure(fresh, desired).ok
    postgres.run(fresh.database, schemas.insert_trade(0))
    with servers.connected(schemas.as_user(DatabaseUser.READER, fresh, desired)) as person:
        assert person.execute("SELECT symbol FROM aether.trades").fetchall() == [("BTC/USD",)]
        assert person.execute("SHOW transaction_read_only").fetchall() == [("on",)]
        person.execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            person.execute("DELETE FROM aether.trades")
    assert servers.LOGIN_PASSWORD not in postgres.log


def test_ingest_login_has_exactly_the_rights_it_needs(postgres: servers.Postgres, fresh: Endpoint) -> None:
    desired = servers.a_schema()
    assert schemas.ensure(fresh, desired).ok
    with servers.connected(schemas.as_user(DatabaseUser.INGEST, fresh, desired)) as service:
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
    assert schemas.ensure(fresh, desired, leader).ok
    login = dataclasses.replace(desired.logins[user], password=SecretText("canary-new"))
    new = dataclasses.replace(desired, logins={**desired.logins, user: login})
    assert schemas.ensure(fresh, new, leader).ok
    servers.connected(schemas.as_user(user, fresh, new)).close()
    with pytest.raises(psycopg.OperationalError):
        servers.connected(schemas.as_user(user, fresh, desired))
    with servers.statements() as writes:
        assert schemas.ensure(fresh, new, leader).ok
    assert writes == []


def test_foreign_role_is_left_alone(postgres: servers.Postgres, fresh: Endpoint) -> None:
    desired = servers.a_schema()
    reader, ingest = (desired.logins[user].username for user in (DatabaseUser.READER, DatabaseUser.INGEST))
    for name in (reader, ingest):
        postgres.run("postgres", f"CREATE ROLE {name} LOGIN PASSWORD 'theirs'")
    report = schemas.ensure(fresh, desired)
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
    report = schemas.ensure(creator, desired, leader)
    assert (report.reason, report.revision, report.days) == (Reason.PERMISSION_DENIED, "0002", servers.DAYS)
    assert "the login may not create roles" in report.warnings[1]
    name, login = desired.logins[DatabaseUser.INGEST].username, desired.logins[DatabaseUser.INGEST]
    mark = re.search(f'COMMENT ON ROLE "{name}" IS (.*)', report.message)
    assert mark is not None
    with servers.statements() as writes:
        assert schemas.ensure(creator, desired, leader) == report
    assert writes == []
    # Follow the message by hand, with a wrong password first.
    postgres.run("postgres", f"CREATE ROLE {name} NOINHERIT LOGIN PASSWORD 'x'", f"COMMENT ON ROLE {name} IS {mark[1]}")
    report = schemas.ensure(creator, desired, leader)
    assert report.reason is Reason.PERMISSION_DENIED
    assert f"the server rejects the login {name}: ALTER ROLE" in report.message
    assert f"the password of Secret {login.kept_in}" in report.message
    postgres.run("postgres", f"ALTER ROLE {name} PASSWORD '{login.password.text}'")
    assert schemas.ensure(creator, desired, leader).ok
    with servers.connected(schemas.as_user(DatabaseUser.INGEST, fresh, desired)) as service:
        service.execute("INSERT INTO aether.ingest_progress VALUES ('BTC/USD', 0, now())")
    with servers.statements() as writes:
        report = schemas.ensure(creator, desired, leader)
    assert (report.ok, writes) == (True, [])
    limit = f"the login {name} does not set lock_timeout = 5s: ALTER ROLE \"{name}\" SET lock_timeout = '5s'"
    assert limit in report.warnings


def test_temporary_table_grant_that_needs_the_owner_is_named(postgres: servers.Postgres, fresh: Endpoint) -> None:
    desired = servers.a_schema()
    postgres.run("postgres", f"REVOKE TEMPORARY ON DATABASE {fresh.database} FROM PUBLIC")
    assert schemas.ensure(fresh, desired).ok  # the owner grants it
    postgres.run(
        "postgres",
        f"REVOKE TEMPORARY ON DATABASE {fresh.database} FROM {desired.logins[DatabaseUser.INGEST].username}",
        f"ALTER DATABASE {fresh.database} OWNER TO postgres",
        f"GRANT CREATE, CONNECT ON DATABASE {fresh.database} TO {fresh.username}",
    )
    report = schemas.ensure(fresh, desired)
    assert report.reason is Reason.PERMISSION_DENIED
    assert (
        f"may not create temporary tables: only the owner of database {fresh.database} can grant that" in report.message
    )


def test_password_that_the_server_rejects_is_not_set_every_reconcile(
    postgres: servers.Postgres, fresh: Endpoint
) -> None:
    desired, leader = servers.a_schema(), servers.a_leader()
    assert schemas.ensure(fresh, desired, leader).ok
    postgres.run("postgres", f"ALTER ROLE {desired.logins[DatabaseUser.READER].username} VALID UNTIL '2020-01-01'")
    first = schemas.ensure(fresh, desired, leader)
    with servers.statements() as writes:
        second = schemas.ensure(fresh, desired, leader)
    assert (first.ok, second.ok, writes) == (True, True, [])
    assert (
        f"the server rejects the login {desired.logins[DatabaseUser.READER].username} although its password was set"
        in second.warnings
    )
