"""When a platform is reconciled again without an event, as docs/guide/operator.md says."""

from __future__ import annotations

import dataclasses

import pytest

from aether_operator.api.reasons import Reason
from aether_operator.controllers import intervals
from aether_testing import evaluations, observations

PLATFORM = observations.a_platform(progressDeadlineSeconds=60)
HEALTHY = observations.healthy(PLATFORM)


@pytest.mark.parametrize(("platforms", "seconds"), [(1, 60), (300, 60), (301, 60.2), (2999, 599.8), (3001, 600)])
def test_ready_platforms_are_checked_every_minute_and_many_less_often(platforms: int, seconds: float) -> None:
    status = evaluations.status_of(evaluations.inputs(PLATFORM, HEALTHY))
    assert intervals.requeue_after(status, platforms=platforms, longest=600) == pytest.approx(seconds)
    assert intervals.requeue_after(status, platforms=platforms, longest=30) == 30


def test_unhealthy_components_are_checked_soon_then_less_often() -> None:
    inputs = evaluations.inputs(PLATFORM, dataclasses.replace(HEALTHY, component_reports={}))
    first = evaluations.status_of(inputs)
    assert intervals.requeue_after(first, platforms=1, longest=600) == 2
    assert intervals.requeue_after(evaluations.status_of(inputs, first, at=60), platforms=1, longest=600) == 15


def test_failed_dependency_is_checked_soon_and_a_stall_every_minute() -> None:
    inputs = evaluations.inputs(PLATFORM, evaluations.with_server_reason(Reason.UNREACHABLE)(HEALTHY))
    first = evaluations.status_of(inputs)
    assert intervals.requeue_after(first, platforms=1, longest=600) == 5
    assert intervals.requeue_after(evaluations.status_of(inputs, first, at=60), platforms=1, longest=600) == 60
