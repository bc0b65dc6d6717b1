"""Planning of a database, with values only: no server."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import datetime
from typing import Any

import pytest

from aether_operator.api.platforms import Timescale
from aether_operator.api.reasons import Reason
from aether_operator.catalog.logins import PRIVILEGES, DatabaseUser
from aether_operator.catalog.platform_schema import PLATFORM_SCHEMA
from aether_operator.database import connections, drifts, fence, logins, plans, policies, rollups, servers
from aether_operator.database.pg_catalog import (
    Aggregate,
    DatabaseState,
    Extension,
    LiveTable,
    Partition,
    Partitioning,
    Progress,
    Role,
    ServerFacts,
    View,
)
from aether_operator.database.revisions import Migration, Revisions
from aether_operator.database.steps import PlanBuilder, Write
from aether_operator.observed.endpoints import Endpoint, SecretText
from aether_operator.observed.reports import Engine
from aether_operator.observed.server_owners import Ownership
from aether_testing.servers import postgres

NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
TODAY = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)
GROWING = PLATFORM_SCHEMA.growing
TABLES = {
    name: LiveTable(name=name, columns=table.columns, constraints=table.constraints, indexes=table.indexes)
    for name, table in PLATFORM_SCHEMA.tables.items()
}
"""The platform's tables, in a database where each is as it should be."""


def facts(timescale: str = "", partman: str = "4.7.2", *, installed: bool = True, **other: Any) -> ServerFacts:
    def extension(version: str) -> Extension:
        return Extension(installed=version if installed else "", available=version, schema="partman")

    return (
        ServerFacts(version="15.18", major=15, timescale=extension(timescale), partman=extension(partman))
        if not other
        else dataclasses.replace(facts(timescale, partman, installed=installed), **other)
    )


def a_part(days_ago: int, rows: int | None = 10) -> Partition:
    start = TODAY - DAY * days_ago
    return Partition(name=f"p{days_ago}", start=start, end=start + DAY, rows=rows)


def a_state(**other: Any) -> DatabaseState:
    return dataclasses.replace(
        DatabaseState(
            now=NOW,
            server=facts(),
            database_schema=True,
            database_tables=frozenset({"ownership", "fence"}),
            schema=True,
            relations=frozenset({"settings", "progress", "alembic_version"}),
            owner=postgres.a_schema().owner,
            owned_since=NOW,
            venue="Simulated",
            tables=TABLES,
            revision="0002",
        ),
        **other,
    )


def a_maintained(engine: Engine, trades: Partitioning, **recorded: str) -> dict[str, Any]:
    """The state of a database in which only the trades' partitioning may differ from what is desired."""
    growing = GROWING.items()
    unchanged = {
        name: Partitioning(
            engine=engine,
            days=postgres.DAYS[name],
            compress_days=one.compress_days,
            compressed=True,
            premake=policies.PREMAKE,
            partitions=(
                Partition(name=f"{name}_p", start=TODAY, end=TODAY + DAY * one.partition_days * (policies.PREMAKE + 1)),
            ),
        )
        for name, one in growing
    }
    trades = dataclasses.replace(trades, engine=engine, compress_days=7, compressed=True, premake=policies.PREMAKE)
    partitioned = {
        name: dataclasses.replace(table, kind="p" if name in unchanged and engine is Engine.PARTMAN else "r")
        for name, table in TABLES.items()
    }
    settings = {f"{name}_days": str(postgres.DAYS[name]) for name in unchanged}
    settings |= {f"{name}_compress_days": str(one.compress_days) for name, one in growing}
    settings |= {f"{name}_engine": engine.value for name in unchanged}
    return {
        "server": facts("2.20.0") if engine is Engine.TIMESCALE else facts(),
        "partitioning": unchanged | {"trades": trades},
        "tables": partitioned,
        "settings": settings | {rollup.name: "digest" for rollup in PLATFORM_SCHEMA.rollups} | recorded,
        "views": {
            name: View(kind="v", columns=columns, digest="digest")
            for rollup in PLATFORM_SCHEMA.rollups
            for name, columns in ((rollup.name, rollup.columns), (rollup.sums, rollup.sums_columns))
        },
        "aggregates": {
            rollup.sums: Aggregate(refreshed=((None, rollup.minutes * 60.0, float(rollups.REFRESH_SECONDS)),))
            for rollup in PLATFORM_SCHEMA.rollups
        },
    }


def planned_for(state: DatabaseState, pending: tuple[Migration, ...] = (), **desired: Any) -> plans.SchemaPlan:
    context = plans.PlanContext(database="desk", leads=True, verifier=lambda _: "verifier")
    return plans.plan(state, postgres.a_schema(**{"logins": {}, **desired}), context, lambda _: pending)


OURS, UNCLAIMED, ANOTHERS, UNKNOWN = Ownership  # in the order of the class
BEFORE = {"venue": None, "rows": True}
"""A database of an earlier release, with trades."""


@pytest.mark.parametrize(
    ("changes", "ownership", "reason"),
    [
        ({}, OURS, Reason.READY),
        ({"owner": None, "venue": None}, UNCLAIMED, Reason.READY),
        ({"owner": ""}, UNCLAIMED, Reason.READY),
        ({"owner": "desk/live of namespace 5d8f"}, ANOTHERS, Reason.DATABASE_OWNED_BY_ANOTHER),
        ({"owner": "desk/paper of namespace 77aa"}, ANOTHERS, Reason.DATABASE_OWNED_BY_ANOTHER),
        ({"venue": "Kraken"}, ANOTHERS, Reason.VENUE_MISMATCH),
        ({"owner": "", "venue": "Kraken"}, ANOTHERS, Reason.VENUE_MISMATCH),
        ({"venue": None}, UNCLAIMED, Reason.READY),
        (BEFORE, UNCLAIMED, Reason.READY),
        (BEFORE | {"owned_since": postgres.a_schema().created}, UNCLAIMED, Reason.READY),
        (BEFORE | {"owned_since": postgres.a_schema().created - DAY}, UNKNOWN, Reason.VENUE_UNKNOWN),
        (BEFORE | {"owned_since": None}, UNKNOWN, Reason.VENUE_UNKNOWN),
        (BEFORE | {"owner": None}, UNKNOWN, Reason.VENUE_UNKNOWN),
        (BEFORE | {"owner": ""}, UNKNOWN, Reason.VENUE_UNKNOWN),
    ],
)
def test_database_is_owned_by_platform_and_venue(changes: dict[str, Any], ownership: Ownership, reason: Reason) -> None:
    found = a_state(**a_maintained(Engine.PARTMAN, Partitioning(days=90.0)), **changes)
    assert plans.ownership(found, postgres.a_schema()) is ownership
    plan = planned_for(found)
    claims = ["aether.ownership" in str(step) for step in plan.steps]
    assert (plan.reason, any(claims)) == (reason, ownership is UNCLAIMED)
    assert ownership not in {ANOTHERS, UNKNOWN} or claims == []


def test_unclaimed_database_is_not_claimed_while_another_server_is_owned() -> None:
    for owner in (None, ""):
        plan = planned_for(a_state(owner=owner), may_claim=False)
        assert (plan.reason, plan.steps) == (Reason.PROGRESSING, ())
    assert (
        planned_for(a_state(**a_maintained(Engine.PARTMAN, Partitioning(days=90.0))), may_claim=False).reason
        is Reason.READY
    )


def test_rejection_suggests_nothing_that_mixes_two_venues() -> None:
    mismatch, unknown = (
        planned_for(a_state(venue="Kraken")).message,
        planned_for(a_state(owner=None, venue=None, rows=True)).message,
    )
    for message in (mismatch, unknown):
        assert "DELETE" not in message.upper()
        assert "DROP" not in message.upper()
    assert mismatch == (
        "the database holds data of venue Kraken, and the platform says Simulated: apply it with venue Kraken, or as "
        "another platform, by another name, with servers of its own"
    )


@pytest.mark.parametrize(
    ("server", "timescale", "expected"),
    [
        (facts(major=14), Timescale.PREFERRED, Reason.VERSION_UNSUPPORTED),
        (facts(major=15), Timescale.PREFERRED, Engine.PARTMAN),
        (facts(major=16), Timescale.PREFERRED, Engine.PARTMAN),
        (facts(major=17), Timescale.PREFERRED, Engine.PARTMAN),
        (facts(major=18), Timescale.PREFERRED, Reason.VERSION_UNSUPPORTED),
        (facts("2.17.0"), Timescale.REQUIRED, Engine.TIMESCALE),
        (facts("2.23.0-dev"), Timescale.PREFERRED, Engine.TIMESCALE),
        (facts("3.0.0"), Timescale.PREFERRED, Engine.TIMESCALE),
        (facts("2.16.9"), Timescale.REQUIRED, Reason.VERSION_UNSUPPORTED),
        (facts("2.16.9"), Timescale.PREFERRED, Reason.VERSION_UNSUPPORTED),
        (facts("2.16.9", installed=False, superuser=True), Timescale.PREFERRED, Engine.PARTMAN),
        (facts("2.20.0", timescale_licence="apache"), Timescale.REQUIRED, Reason.VERSION_UNSUPPORTED),
        (facts("2.20.0", timescale_licence="apache"), Timescale.PREFERRED, Engine.PARTMAN),
        (facts(), Timescale.REQUIRED, Reason.TIMESCALE_MISSING),
        (facts(partman=""), Timescale.PREFERRED, Reason.PARTMAN_MISSING),
        (facts(partman="4.6.2"), Timescale.PREFERRED, Reason.VERSION_UNSUPPORTED),
        (facts(partman="5.0.0"), Timescale.PREFERRED, Engine.PARTMAN),
        (facts(partman="5.2.4"), Timescale.PREFERRED, Engine.PARTMAN),
        (facts(partman="6.0.0"), Timescale.PREFERRED, Reason.VERSION_UNSUPPORTED),
        (facts(installed=False), Timescale.PREFERRED, Reason.PERMISSION_DENIED),
        (facts(partman_rights=("USAGE",)), Timescale.PREFERRED, Reason.PERMISSION_DENIED),
        (facts(may_create=False), Timescale.PREFERRED, Reason.PERMISSION_DENIED),
        (facts(standby=True), Timescale.PREFERRED, Reason.PERMISSION_DENIED),
    ],
)
def test_server_is_evaluated_by_version_and_extensions(
    server: ServerFacts, timescale: Timescale, expected: Engine | Reason
) -> None:
    chosen = servers.choose(server, timescale, database="desk", schema="aether")
    assert (chosen.reason if isinstance(chosen, servers.Unsuitable) else chosen) is expected


@pytest.mark.parametrize(
    ("text", "asked_for_password", "expected"),
    [
        ('connection failed: FATAL:  database "x" does not exist', True, Reason.DATABASE_MISSING),
        ('connection failed: FATAL:  password authentication failed for user "x"', True, Reason.AUTHENTICATION_FAILED),
        ('connection failed: FATAL:  role "x" is not permitted to log in', True, Reason.AUTHENTICATION_FAILED),
        (
            'failed: FATAL:  no pg_hba.conf entry for host "10.0.0.1", no encryption',
            False,
            Reason.AUTHENTICATION_FAILED,
        ),
        ("fe_sendauth: no password supplied", True, Reason.AUTHENTICATION_FAILED),
        ('failed: FATAL:  permission denied for database "x"', True, Reason.PERMISSION_DENIED),
        ("failed: SSL error: certificate verify failed", False, Reason.TLS_FAILED),
        ('server certificate for "a" does not match host name "b"', False, Reason.TLS_FAILED),
        ("failed: FATAL:  the database system is starting up", False, Reason.UNREACHABLE),
        ("failed: FATAL:  sorry, too many clients already", True, Reason.UNREACHABLE),
        (
            'failed: FATAL:  Passwort-Authentifizierung für Benutzer "x" fehlgeschlagen',
            True,
            Reason.AUTHENTICATION_FAILED,
        ),
        ("failed: Connection refused", False, Reason.UNREACHABLE),
    ],
)
def test_libpq_messages_are_parsed(text: str, *, asked_for_password: bool, expected: Reason) -> None:
    assert connections.connect_error(text, asked_for_password=asked_for_password)[0] is expected


@pytest.mark.parametrize(
    ("reason", "text", "message"),
    [
        (
            Reason.AUTHENTICATION_FAILED,
            'password authentication failed for user "desk"',
            "authentication failed: check",
        ),
        (
            Reason.AUTHENTICATION_FAILED,
            'role "canary-login" is not permitted to log in',
            "authentication failed: check",
        ),
        (Reason.AUTHENTICATION_FAILED, 'no pg_hba.conf entry for host "10.0.0.1"', "the server rejects this client"),
        (Reason.UNREACHABLE, "the database system is starting up", "the server is starting or shutting down: wait"),
        (Reason.UNREACHABLE, "sorry, too many clients already", "no free connection: raise max_connections"),
        (Reason.UNREACHABLE, "", "no connection: check host and port"),
    ],
)
def test_failed_connection_is_described_in_our_words(reason: Reason, text: str, message: str) -> None:
    endpoint = Endpoint(host="db", port=5432, username="canary-login", password=SecretText("x"))
    found = connections.connect_message(reason, text, endpoint)
    assert found.startswith(message)
    assert "canary" not in found
    assert ("(" in found) == ("pg_hba" in text or "too many" in text), "the server's text, only where it says more"


def retention_steps(partitioning: Partitioning, *, recorded: int, desired: int) -> tuple[list[str], int]:
    """The names of the planned steps, and the number of held lines."""
    trades = dataclasses.replace(partitioning, partitions=(a_part(40),))
    plan = planned_for(
        a_state(**a_maintained(Engine.TIMESCALE, trades, trades_days=str(recorded))), trades_days=desired
    )
    return [step.what for step in plan.steps if isinstance(step, Write)], len(plan.held)


def test_foreign_shortening_is_reverted_and_our_own_stays_on_hold() -> None:
    by_others = Partitioning(days=20, has_older_rows=True)
    assert retention_steps(by_others, recorded=365, desired=30) == (["keep trades for 365 days"], 1)
    assert retention_steps(by_others, recorded=90, desired=90) == (["keep trades for 90 days"], 0)


def test_paused_policy_is_not_resumed_over_data_it_would_drop() -> None:
    paused = Partitioning(days=30, paused=("policy_retention",), has_older_rows=True)
    assert retention_steps(paused, recorded=30, desired=60) == ([], 1)
    assert retention_steps(paused, recorded=30, desired=30) == ([], 0)  # it stays paused, with a warning
    assert paused.effective_days is None


def test_detached_partitions_are_not_dropped_without_consent() -> None:
    assert retention_steps(Partitioning(days=20, drops=False, has_older_rows=True), recorded=20, desired=30) == ([], 1)
    assert retention_steps(Partitioning(days=20, drops=False), recorded=20, desired=30) == (
        ["keep trades for 30 days"],
        0,
    )


def test_shortening_checks_once_more_within_its_own_transaction() -> None:
    plan = planned_for(a_state(**a_maintained(Engine.PARTMAN, Partitioning(days=90))), trades_days=30)
    (step,) = [one for one in plan.steps if isinstance(one, Write) and one.what == "keep trades for 30 days"]
    assert step.statements[0].startswith(
        "DO $$BEGIN IF EXISTS (SELECT FROM aether.trades WHERE ts < now() - INTERVAL '30"
    )


def test_missing_index_of_a_large_table_is_named_not_created() -> None:
    trades = dataclasses.replace(TABLES["trades"], indexes={}, size=1 << 40)
    steps, drift = drifts.compare({**TABLES, "trades": trades}, PLATFORM_SCHEMA)
    assert steps == []
    assert all("CREATE INDEX" in one.what and not one.repaired for one in drift)
    assert len(drift) == len(TABLES["trades"].indexes)


@pytest.mark.parametrize(
    ("live", "desired", "has_older_rows", "steps", "held"),
    [
        (90.0, 90, False, 0, 0),
        (90.0, 120, False, 1, 0),
        (90.0, 120, True, 1, 0),
        (90.0, 30, False, 1, 0),
        (90.0, 30, True, 0, 1),
        (None, 30, False, 1, 0),
        (None, 30, True, 0, 1),
    ],
)
def test_retention_is_never_shortened_over_data(
    *, live: float | None, desired: int, has_older_rows: bool, steps: int, held: int
) -> None:
    state = a_maintained(
        Engine.TIMESCALE, Partitioning(days=live, has_older_rows=has_older_rows, partitions=(a_part(40),))
    )
    if not live:
        del state["settings"]["trades_days"]
    plan = planned_for(a_state(**state), trades_days=desired)
    assert (plan.reason, len(plan.steps), len(plan.held)) == (Reason.READY, steps, held)


def test_shorter_retention_reports_exactly_what_it_would_drop() -> None:
    partitions = tuple(a_part(day) for day in range(40, -1, -1))
    line = policies.would_drop(
        "aether.trades", Partitioning(engine=Engine.TIMESCALE, days=90, partitions=partitions), 30, NOW
    )
    assert line == (
        "aether.trades stays at 90 days: 30 days would drop 11 chunks from 2026-10-15 to 2026-10-26, about 110 rows"
    )
    one = Partitioning(engine=Engine.PARTMAN, days=90, partitions=(a_part(31, rows=None),))
    assert policies.would_drop("aether.trades", one, 30, NOW).endswith(
        "1 partition from 2026-10-24 to 2026-10-25, rows not counted yet"
    )


@pytest.mark.parametrize(
    ("newest", "oldest", "due"),
    [(4, 3, False), (3, 3, True), (4, 10, False), (4, 11, True)],
    ids=["enough ahead", "too few ahead", "within the retention", "older than it"],
)
def test_maintenance_is_due_for_missing_or_expired_partitions(*, newest: int, oldest: int, due: bool) -> None:
    partitioning = Partitioning(engine=Engine.PARTMAN, days=10, partitions=(a_part(oldest), a_part(-newest)))
    assert policies.maintenance_due(GROWING["trades"], partitioning, NOW) is due


def test_unchanged_table_has_no_drift() -> None:
    assert drifts.compare(TABLES, PLATFORM_SCHEMA) == ([], [])


def test_no_column_is_float_and_every_timestamp_has_a_zone() -> None:
    types = {column.type for table in TABLES.values() for column in table.columns}
    assert types == {"text", "smallint", "bigint", "numeric", "numeric[]", "timestamp with time zone"}
    message = " ".join(
        one for migration in Revisions(PLATFORM_SCHEMA).after(None, Engine.TIMESCALE) for one in migration.statements
    )
    assert not {"FLOAT", "REAL", "DOUBLE"} & set(message.upper().split())


def test_migrations_have_one_head() -> None:
    revisions = Revisions(PLATFORM_SCHEMA)
    assert revisions.knows(revisions.head)
    assert not revisions.knows(revisions.head[:-1])
    assert revisions.after(revisions.head, Engine.PARTMAN) == ()


def test_migrations_are_rendered_in_several_threads_at_once() -> None:
    def render(_: int) -> tuple[Migration, ...]:
        return Revisions(PLATFORM_SCHEMA).after(None, Engine.PARTMAN)

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        first, *others = threads.map(render, range(24))
    assert others == [first] * 23


MIGRATION = Migration(revision="0003", statements=("one", "two", "three"))


def test_interrupted_migration_resumes_at_the_next_statement() -> None:
    progress = Progress(revision="0003", done=2, digest=MIGRATION.digest(2))
    plan = planned_for(a_state(progress=progress), pending=(MIGRATION,))
    assert [step.what for step in plan.steps if hasattr(step, "what")] == [
        "revision 0003, statement 3",
        "revision 0003 is done",
    ]


def test_unfinished_migration_of_another_release_is_not_continued() -> None:
    progress = Progress(revision="0003", done=2, digest="another")
    plan = planned_for(a_state(progress=progress), pending=(MIGRATION,))
    assert (plan.reason, plan.steps) == (Reason.FAILED, ())


ENDPOINT = Endpoint(host="2001:db8::7", port=5432, username="aether", password=SecretText("canary"), database="desk")


@pytest.mark.parametrize(
    ("taken", "epoch", "holder", "expected"),
    [
        (None, None, "", False),
        (None, 7, "another", False),
        (3, 3, "me", True),
        (3, 4, "me", True),
        (3, 4, "another", fence.FencedOff),
        (3, 3, "another", False),
        (3, None, "", False),
    ],
    ids=["no row", "first touch", "mine", "mine by another name", "followed", "restored", "made anew"],
)
def test_owner_of_the_fence(taken: int | None, epoch: int | None, holder: str, expected: Any) -> None:
    fences = fence.Fences(holder="me", guard=lambda: None)
    if taken is not None:
        fences.record_epoch(ENDPOINT, taken)
    if expected is fence.FencedOff:
        with pytest.raises(fence.FencedOff, match=r"^database desk at \[2001:db8::7\]:5432 is led by another$"):
            fence.is_ours(fences, ENDPOINT, epoch=epoch, holder=holder)
    else:
        assert fence.is_ours(fences, ENDPOINT, epoch=epoch, holder=holder) is expected


def test_missing_timescaledb_is_accepted_where_the_spec_allows_it() -> None:
    state = a_state(server=facts("2.20.0", installed=False, superuser=True), tables={})
    context = plans.PlanContext(database="desk", leads=True, verifier=str, timescale_error="it is not preloaded")
    assert plans.engine_of(state, postgres.a_schema(), context) is Engine.PARTMAN
    error = plans.engine_of(state, postgres.a_schema(timescale=Timescale.REQUIRED), context)
    assert error == servers.Unsuitable(Reason.TIMESCALE_MISSING, "it is not preloaded")


def planned_login(
    user: DatabaseUser, role: Role | None, *, creates_roles: bool = True, password_rejected: bool = False
) -> PlanBuilder:
    builder = PlanBuilder()
    kept_in = "paper-postgres-them"
    desired = logins.DesiredLogin(
        user=user,
        name="them",
        rights=PRIVILEGES[user],
        owner="desk/paper",
        database="desk",
        schema="aether",
        secret=kept_in,
    )
    state = a_state(server=facts(creates_roles=creates_roles), roles={} if role is None else {user: role})
    logins.plan(state, desired, lambda: "verifier", builder, password_rejected=password_rejected)
    return builder


MARK = {user: f"aether: {PRIVILEGES[user].description} for desk/paper" for user in DatabaseUser}


@pytest.mark.parametrize("user", DatabaseUser)
def test_privileged_login_is_left_alone_and_reported(user: DatabaseUser) -> None:
    builder = planned_login(user, Role(comment=MARK[user], excess_attributes=("SUPERUSER",), password_works=True))
    assert (builder.steps, builder.warnings) == ([], ["the login them has SUPERUSER, which it should not"])


PROBLEMS = {
    "not there": (None, {"creates_roles": False}, "the login may not create roles: there is no login them"),
    "of another owner": (
        Role(comment="somebody's"),
        {},
        "the login them belongs to somebody else and is left unchanged",
    ),
    "may not connect": (
        Role(comment="", can_connect=False, grantable=False),
        {},
        "the login them may not connect: only the owner of database desk can grant that",
    ),
    "password rejected": (
        Role(comment="", password_works=False),
        {"password_rejected": True},
        "the server rejects the login them although its password was set",
    ),
    "another password": (
        Role(comment="", password_works=False),
        {"creates_roles": False},
        "the server rejects the login them",
    ),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_missing_reader_login_only_warns_missing_service_login_is_unready(case: str) -> None:
    role, state, message = PROBLEMS[case]
    for user in DatabaseUser:
        settings = PRIVILEGES[user].settings
        live = role and dataclasses.replace(role, comment=role.comment or MARK[user], settings=settings)
        builder = planned_login(user, live, **state)
        recorded = builder.blockers if PRIVILEGES[user].needed else builder.warnings
        assert [line[: len(message)] for line in recorded] == [
            message.split(": only")[0] if user is DatabaseUser.READER else message
        ]
        assert not (builder.warnings if PRIVILEGES[user].needed else builder.blockers)


def test_manual_login_is_described_with_its_complete_statements() -> None:
    (line,) = planned_login(DatabaseUser.INGEST, None, creates_roles=False).blockers
    assert line.endswith(
        'create it by CREATE ROLE "them" NOINHERIT LOGIN PASSWORD with the password of Secret paper-postgres-them, and '
        "assign it to this platform by COMMENT ON ROLE \"them\" IS 'aether: ingests for desk/paper'"
    )


def test_no_login_may_delete_rows_or_alter_tables() -> None:
    for rights in PRIVILEGES.values():
        assert rights.writes.keys() <= TABLES.keys()
        assert {one for privileges in rights.writes.values() for one in privileges} <= {"INSERT", "UPDATE"}
