"""Differences between a database and its schema: what is repaired, and what only a person can repair."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from aether_operator.api.reasons import Reason
from aether_operator.observed.reports import Drift
from aether_testing.servers import postgres as servers
from aether_testing.servers import schemas

if TYPE_CHECKING:
    from aether_operator.observed.endpoints import Endpoint


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
    assert schemas.ensure(fresh, desired, leader).ok
    names = {user: login.username for user, login in desired.logins.items()}
    before = servers.database_contents(postgres, fresh.database, desired)
    postgres.run(fresh.database, edit.format(**names))
    expected = HARMLESS[edit]
    report = schemas.ensure(fresh, desired, leader)
    assert (report.reason, report.drift) == (
        Reason.READY,
        (dataclasses.replace(expected, name=expected.name.format(**names)),),
    )
    assert servers.database_contents(postgres, fresh.database, desired) == before
    assert schemas.ensure(fresh, desired, leader).drift == ()


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
    assert schemas.ensure(fresh, desired, leader).ok
    postgres.run(fresh.database, edit)
    with servers.statements() as writes:
        report = schemas.ensure(fresh, desired, leader)
    name, what = HARMFUL[edit]
    assert report.reason is Reason.SCHEMA_DRIFTED
    assert Drift(name=name, what=what, repaired=False) in report.drift
    assert f"{name} {what}" in report.message
    assert writes == []
