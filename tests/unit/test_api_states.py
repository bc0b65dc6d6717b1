"""docs/reference/states.md: each case has the status that it says, and every reason of a platform occurs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aether_operator.api import reasons
from aether_operator.api.definitions import DEFINITIONS
from aether_operator.api.reasons import ConditionType, Reason
from aether_testing.values import kstatus, states

if TYPE_CHECKING:
    from aether_operator.api.definition import Definition

WARNINGS = {
    Reason.EVALUATION_ONLY,
    Reason.NATIVE_PARTITIONS,
    Reason.RETENTION_HELD,
    Reason.SCHEMA_WARNING,
    Reason.TOPICS_WARNING,
}
OF_CONDITIONS = {Reason.PROGRESS_DEADLINE_EXCEEDED, Reason.NOT_PAUSED}
"""Reasons that only conditions have, never the whole object."""
NOT_OF_OBJECTS = WARNINGS | OF_CONDITIONS | {Reason.TERMINATING}
"""Reasons that no state on the page has."""


def test_at_least_forty_states_each_with_a_unique_name() -> None:
    titles = [one.title for one in states.STATES]
    assert len(titles) == len(set(titles)) >= 40


@pytest.mark.parametrize("one", states.STATES, ids=lambda one: one.title)
def test_state_is_computed_as_the_page_says(one: states.State) -> None:
    assert (one.status.get("state", ""), one.status.get("reason", "")) == (one.state, one.reason)
    assert kstatus.compute({"metadata": {"generation": 1}, "status": one.status}) == one.kstatus
    assert (one.truth(ConditionType.READY) == "True") is (one.state == states.READY)
    assert (one.truth(ConditionType.RECONCILING) == "True") is (one.state == states.RECONCILING)
    assert (one.truth(ConditionType.STALLED) == "True") is (one.state == states.STALLED)


@pytest.mark.parametrize("definition", DEFINITIONS.values(), ids=lambda one: one.kind)
def test_every_reason_of_a_kind_has_a_state(definition: Definition) -> None:
    cases = states.STATES_OF.get(definition.kind, ())
    shown, own = {one.reason for one in cases} - {""}, definition.reasons - NOT_OF_OBJECTS
    assert own - reasons.COMMON <= shown <= own
    of_conditions = {one["reason"] for state in cases for one in state.status.get("conditions", ())}
    assert of_conditions >= WARNINGS & definition.reasons


def test_every_reason_of_the_engine_has_a_state() -> None:
    cases = [state for of_kind in states.STATES_OF.values() for state in of_kind]
    assert {one.reason for one in cases} >= reasons.COMMON - NOT_OF_OBJECTS
    assert {one["reason"] for state in cases for one in state.status.get("conditions", ())} >= OF_CONDITIONS
