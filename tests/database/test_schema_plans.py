"""The plan for a schema, with values only: who owns the database, migrations, and the fence; no server."""

from __future__ import annotations

import concurrent.futures
import dataclasses
from typing import Any

import pytest

from aether_operator.api.reasons import Reason
from aether_operator.catalog.platform_schema import PLATFORM_SCHEMA
from aether_operator.database import drifts, fence, plans
from aether_operator.database.pg_catalog import (
    Partitioning,
    Progress,
)
from aether_operator.database.revisions import Migration, Revisions
from aether_operator.observed.endpoints import Endpoint, SecretText
from aether_operator.observed.reports import Engine
from aether_operator.observed.server_owners import Ownership
from aether_testing.servers import database_states, postgres

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
        (BEFORE | {"owned_since": postgres.a_schema().created - database_states.DAY}, UNKNOWN, Reason.VENUE_UNKNOWN),
        (BEFORE | {"owned_since": None}, UNKNOWN, Reason.VENUE_UNKNOWN),
        (BEFORE | {"owner": None}, UNKNOWN, Reason.VENUE_UNKNOWN),
        (BEFORE | {"owner": ""}, UNKNOWN, Reason.VENUE_UNKNOWN),
    ],
)
def test_database_is_owned_by_platform_and_venue(changes: dict[str, Any], ownership: Ownership, reason: Reason) -> None:
    found = database_states.a_state(**database_states.a_maintained(Engine.PARTMAN, Partitioning(days=90.0)), **changes)
    assert plans.ownership(found, postgres.a_schema()) is ownership
    plan = database_states.planned_for(found)
    claims = ["aether.ownership" in str(step) for step in plan.steps]
    assert (plan.reason, any(claims)) == (reason, ownership is UNCLAIMED)
    assert ownership not in {ANOTHERS, UNKNOWN} or claims == []


def test_unclaimed_database_is_not_claimed_while_another_server_is_owned() -> None:
    for owner in (None, ""):
        plan = database_states.planned_for(database_states.a_state(owner=owner), may_claim=False)
        assert (plan.reason, plan.steps) == (Reason.PROGRESSING, ())
    assert (
        database_states.planned_for(
            database_states.a_state(**database_states.a_maintained(Engine.PARTMAN, Partitioning(days=90.0))),
            may_claim=False,
        ).reason
        is Reason.READY
    )


def test_rejection_suggests_nothing_that_mixes_two_venues() -> None:
    mismatch, unknown = (
        database_states.planned_for(database_states.a_state(venue="Kraken")).message,
        database_states.planned_for(database_states.a_state(owner=None, venue=None, rows=True)).message,
    )
    for message in (mismatch, unknown):
        assert "DELETE" not in message.upper()
        assert "DROP" not in message.upper()
    assert mismatch == (
        "the database holds data of venue Kraken, and the platform says Simulated: apply it with venue Kraken, or as "
        "another platform, by another name, with servers of its own"
    )


def test_missing_index_of_a_large_table_is_named_not_created() -> None:
    trades = dataclasses.replace(database_states.TABLES["trades"], indexes={}, size=1 << 40)
    steps, drift = drifts.compare({**database_states.TABLES, "trades": trades}, PLATFORM_SCHEMA)
    assert steps == []
    assert all("CREATE INDEX" in one.what and not one.repaired for one in drift)
    assert len(drift) == len(database_states.TABLES["trades"].indexes)


def test_unchanged_table_has_no_drift() -> None:
    assert drifts.compare(database_states.TABLES, PLATFORM_SCHEMA) == ([], [])


def test_no_column_is_float_and_every_timestamp_has_a_zone() -> None:
    types = {column.type for table in database_states.TABLES.values() for column in table.columns}
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
    plan = database_states.planned_for(database_states.a_state(progress=progress), pending=(MIGRATION,))
    assert [step.what for step in plan.steps if hasattr(step, "what")] == [
        "revision 0003, statement 3",
        "revision 0003 is done",
    ]


def test_unfinished_migration_of_another_release_is_not_continued() -> None:
    progress = Progress(revision="0003", done=2, digest="another")
    plan = database_states.planned_for(database_states.a_state(progress=progress), pending=(MIGRATION,))
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
