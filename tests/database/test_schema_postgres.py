"""The schema on PostgreSQL with pg_partman: creation, whose database it is, and what its login may not do."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import datetime
import logging
from typing import TYPE_CHECKING, Any

import pytest

from aether_operator.api.platforms import Timescale
from aether_operator.api.reasons import Reason
from aether_operator.observed.endpoints import SecretText
from aether_operator.observed.reports import Engine
from aether_operator.observed.server_owners import Ownership
from aether_testing.servers import postgres as servers
from aether_testing.servers import schemas

if TYPE_CHECKING:
    from aether_operator.observed.endpoints import Endpoint


def test_fresh_database_gets_partitions_by_pg_partman_and_a_warning(
    postgres: servers.Postgres, fresh: Endpoint
) -> None:
    report = schemas.ensure(fresh, servers.a_schema())
    assert (report.reason, report.revision, report.engine) == (Reason.READY, "0002", Engine.PARTMAN)
    assert (report.days.get("trades"), report.held, report.drift) == (90, (), ())
    assert "native partitions" in report.warnings[0]
    assert postgres.run(fresh.database, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'aether.trades'::regclass")[
        0
    ] == (10,)


def test_unchanged_schema_is_not_written_to(postgres: servers.Postgres, fresh: Endpoint) -> None:
    desired, leader = servers.a_schema(), servers.a_leader()
    assert schemas.ensure(fresh, desired, leader).ok
    postgres.run("postgres", f"ALTER DATABASE {fresh.database} SET default_transaction_read_only = on")
    before = postgres.run(fresh.database, "SELECT xmin, ctid FROM pg_class ORDER BY oid")
    with servers.statements() as writes:
        assert all(schemas.ensure(fresh, desired, leader).ok for _ in range(3))
    assert writes == []
    assert postgres.run(fresh.database, "SELECT xmin, ctid FROM pg_class ORDER BY oid") == before


def test_a_trade_is_stored_exactly_once(postgres: servers.Postgres, fresh: Endpoint) -> None:
    assert schemas.ensure(fresh, servers.a_schema()).ok
    again = "INSERT INTO aether.trades SELECT * FROM aether.trades ON CONFLICT DO NOTHING"
    postgres.run(fresh.database, schemas.insert_trade(0), again)
    assert postgres.run(fresh.database, "SELECT count(*), min(qty)::text FROM aether.trades") == [(1, "0.00012345")]


def test_second_platform_learns_the_owner_of_the_database(postgres: servers.Postgres, fresh: Endpoint) -> None:
    assert schemas.ensure(fresh, servers.a_schema(owner="desk/first of namespace 1")).ok
    with servers.statements() as writes:
        report = schemas.ensure(fresh, servers.a_schema(owner="desk/second of namespace 1"))
    assert (report.reason, writes) == (Reason.DATABASE_OWNED_BY_ANOTHER, [])
    assert "the database belongs to desk/first of namespace 1, venue Simulated, since 20" in report.message
    assert report.message.endswith("; name another database in the spec")
    assert report.ownership is Ownership.OWNED_BY_ANOTHER
    postgres.run(fresh.database, "UPDATE aether.ownership SET owner = ''")  # as the guide says
    report = schemas.ensure(fresh, servers.a_schema(owner="desk/second of namespace 1"))
    assert (report.ok, report.ownership) == (True, Ownership.OURS)


def test_database_is_denied_to_its_platform_at_another_venue(postgres: servers.Postgres, fresh: Endpoint) -> None:
    assert schemas.ensure(fresh, servers.a_schema()).ok
    postgres.run(fresh.database, schemas.insert_trade(0))
    for given_free in ("SELECT 1", "UPDATE aether.ownership SET owner = ''"):
        postgres.run(fresh.database, given_free)
        with servers.statements() as writes:
            report = schemas.ensure(fresh, servers.a_schema(venue="Kraken"))
        assert (report.reason, report.ownership, writes) == (Reason.VENUE_MISMATCH, Ownership.OWNED_BY_ANOTHER, [])
        assert "holds data of venue Simulated, and the platform says Kraken" in report.message
    assert schemas.ensure(fresh, servers.a_schema()).ok


def test_one_of_many_concurrent_platform_claims_succeeds(fresh: Endpoint) -> None:
    many_desired = [servers.a_schema(owner=f"desk/p{nth} of namespace 1", logins={}) for nth in range(4)]
    with concurrent.futures.ThreadPoolExecutor(len(many_desired)) as threads:
        for _ in range(2):  # in the first round some may find another session at work
            reports = list(threads.map(lambda desired: schemas.ensure(fresh, desired), many_desired))
    ownerships = sorted(report.ownership or "" for report in reports)
    assert ownerships == sorted([Ownership.OURS, *[Ownership.OWNED_BY_ANOTHER] * 3])


@pytest.mark.parametrize(("created", "reason"), [(-1, Reason.READY), (1, Reason.VENUE_UNKNOWN)])
def test_unrecorded_venue_is_that_of_the_claiming_platform(
    postgres: servers.Postgres, fresh: Endpoint, created: int, reason: Reason
) -> None:
    assert schemas.ensure(fresh, servers.a_schema()).ok
    postgres.run(fresh.database, schemas.insert_trade(0), "ALTER TABLE aether.ownership DROP COLUMN venue")
    ((claimed,),) = postgres.run(fresh.database, "SELECT since FROM aether.ownership")
    desired = servers.a_schema(created=claimed + datetime.timedelta(seconds=created))
    report = schemas.ensure(fresh, desired)
    assert report.reason is reason, report
    if reason is Reason.VENUE_UNKNOWN:
        assert report.ownership is Ownership.UNKNOWN, "what runs goes on"
        command = report.message.partition("Kraken: ")[2].replace("VENUE", "Simulated")
        postgres.run(fresh.database, *command.split("; "))
        assert schemas.ensure(fresh, servers.a_schema(venue="Kraken")).reason is Reason.VENUE_MISMATCH
        assert schemas.ensure(fresh, servers.a_schema()).ok
    assert postgres.run(fresh.database, "SELECT owner, venue, since FROM aether.ownership")[0][1] == "Simulated"


def test_database_with_trades_but_no_owner_is_not_claimed(postgres: servers.Postgres, fresh: Endpoint) -> None:
    assert schemas.ensure(fresh, servers.a_schema()).ok
    postgres.run(fresh.database, "DELETE FROM aether.ownership")
    assert schemas.ensure(fresh, servers.a_schema()).ok, "nothing was in it"
    postgres.run(fresh.database, schemas.insert_trade(0), "DELETE FROM aether.ownership")
    assert schemas.ensure(fresh, servers.a_schema()).reason is Reason.VENUE_UNKNOWN


def test_required_but_missing_timescale_changes_nothing(fresh: Endpoint) -> None:
    with servers.statements() as writes:
        report = schemas.ensure(fresh, servers.a_schema(timescale=Timescale.REQUIRED))
    assert (report.reason, writes) == (Reason.TIMESCALE_MISSING, [])


def test_timescale_required_later_is_rejected_and_partitions_stay(fresh: Endpoint) -> None:
    desired = servers.a_schema()
    assert schemas.ensure(fresh, desired).ok
    report = schemas.ensure(fresh, dataclasses.replace(desired, timescale=Timescale.REQUIRED))
    assert report.reason is Reason.TIMESCALE_MISSING


def test_login_without_a_permission_names_it(postgres: servers.Postgres, fresh: Endpoint) -> None:
    name, password = postgres.login()
    postgres.run(
        fresh.database, f"GRANT ALL ON SCHEMA partman TO {name}", f"GRANT ALL ON ALL TABLES IN SCHEMA partman TO {name}"
    )
    report = schemas.ensure(
        dataclasses.replace(fresh, username=name, password=SecretText(password)), servers.a_schema()
    )
    assert report.reason is Reason.PERMISSION_DENIED
    assert "grant it CREATE on the database" in report.message


def test_no_secret_is_in_a_report_or_a_log(
    postgres: servers.Postgres, fresh: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    desired = servers.a_schema()
    results: list[Any] = [
        schemas.ensure(fresh, desired),
        schemas.ensure(dataclasses.replace(fresh, password=SecretText("canary-wrong")), desired),
        schemas.ensure(dataclasses.replace(fresh, database="canary"), desired).reason,
    ]
    postgres.run(fresh.database, "REVOKE ALL ON ALL TABLES IN SCHEMA partman FROM creator")
    results.append(schemas.ensure(fresh, servers.a_schema(trades_days=91)))
    postgres.run(fresh.database, "GRANT ALL ON ALL TABLES IN SCHEMA partman TO creator")
    assert "canary" not in repr(results) + caplog.text
    assert servers.LOGIN_PASSWORD not in postgres.log
