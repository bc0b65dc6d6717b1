"""docs/reference/states.md: each case has the status that it says, and every reason of a platform occurs."""

from __future__ import annotations

import pytest

from aether_operator.api.reasons import ConditionType, Reason
from aether_testing import kstatus, states

WARNINGS = {
    Reason.EVALUATION_ONLY,
    Reason.NATIVE_PARTITIONS,
    Reason.RETENTION_HELD,
    Reason.SCHEMA_WARNING,
    Reason.TOPICS_WARNING,
}
OF_CONDITIONS = {Reason.PROGRESS_DEADLINE_EXCEEDED, Reason.NOT_PAUSED}
"""Reasons that only conditions have, never the whole platform."""


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


def test_every_reason_of_a_platform_has_a_state() -> None:
    shown = {one.reason for one in states.STATES} - {""}
    assert shown == {*Reason} - WARNINGS - OF_CONDITIONS - {Reason.TERMINATING}
    reasons = {one["reason"] for state in states.STATES for one in state.status.get("conditions", ())}
    assert reasons >= WARNINGS | OF_CONDITIONS
