"""The plan for retention policies and partitions, with values only: no server."""

from __future__ import annotations

import dataclasses

import pytest

from aether_operator.api.reasons import Reason
from aether_operator.database import policies
from aether_operator.database.pg_catalog import (
    Partitioning,
)
from aether_operator.database.steps import Write
from aether_operator.observed.reports import Engine
from aether_testing.servers import database_states


def retention_steps(partitioning: Partitioning, *, recorded: int, desired: int) -> tuple[list[str], int]:
    """The names of the planned steps, and the number of held lines."""
    trades = dataclasses.replace(partitioning, partitions=(database_states.a_part(40),))
    plan = database_states.planned_for(
        database_states.a_state(**database_states.a_maintained(Engine.TIMESCALE, trades, trades_days=str(recorded))),
        trades_days=desired,
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
    plan = database_states.planned_for(
        database_states.a_state(**database_states.a_maintained(Engine.PARTMAN, Partitioning(days=90))), trades_days=30
    )
    (step,) = [one for one in plan.steps if isinstance(one, Write) and one.what == "keep trades for 30 days"]
    assert step.statements[0].startswith(
        "DO $$BEGIN IF EXISTS (SELECT FROM aether.trades WHERE ts < now() - INTERVAL '30"
    )


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
    state = database_states.a_maintained(
        Engine.TIMESCALE,
        Partitioning(days=live, has_older_rows=has_older_rows, partitions=(database_states.a_part(40),)),
    )
    if not live:
        del state["settings"]["trades_days"]
    plan = database_states.planned_for(database_states.a_state(**state), trades_days=desired)
    assert (plan.reason, len(plan.steps), len(plan.held)) == (Reason.READY, steps, held)


def test_shorter_retention_reports_exactly_what_it_would_drop() -> None:
    partitions = tuple(database_states.a_part(day) for day in range(40, -1, -1))
    line = policies.would_drop(
        "aether.trades", Partitioning(engine=Engine.TIMESCALE, days=90, partitions=partitions), 30, database_states.NOW
    )
    assert line == (
        "aether.trades stays at 90 days: 30 days would drop 11 chunks from 2026-10-15 to 2026-10-26, about 110 rows"
    )
    one = Partitioning(engine=Engine.PARTMAN, days=90, partitions=(database_states.a_part(31, rows=None),))
    assert policies.would_drop("aether.trades", one, 30, database_states.NOW).endswith(
        "1 partition from 2026-10-24 to 2026-10-25, rows not counted yet"
    )


@pytest.mark.parametrize(
    ("newest", "oldest", "due"),
    [(4, 3, False), (3, 3, True), (4, 10, False), (4, 11, True)],
    ids=["enough ahead", "too few ahead", "within the retention", "older than it"],
)
def test_maintenance_is_due_for_missing_or_expired_partitions(*, newest: int, oldest: int, due: bool) -> None:
    partitioning = Partitioning(
        engine=Engine.PARTMAN, days=10, partitions=(database_states.a_part(oldest), database_states.a_part(-newest))
    )
    assert policies.maintenance_due(database_states.GROWING["trades"], partitioning, database_states.NOW) is due
