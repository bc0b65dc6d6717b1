"""When a platform is reconciled again without an event, as docs/guide/operator.md says."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

from aether_operator.api.reasons import Reason
from aether_operator.controllers.platforms import PlatformReconciler
from aether_operator.controllers.resync_schedule import Resync
from aether_testing.values import changes, evaluations, observations

PLATFORM = observations.a_platform(progressDeadlineSeconds=60)
HEALTHY = observations.healthy(PLATFORM)


def requeue_after(status: dict[str, Any]) -> float | Resync:
    return PlatformReconciler(cast("Any", None)).requeue_after(status)


def test_ready_platform_is_steady_and_resynced_after_a_minute() -> None:
    assert requeue_after(evaluations.status_of(evaluations.inputs(PLATFORM, HEALTHY))) == Resync(60)


def test_unhealthy_components_are_checked_soon_then_less_often() -> None:
    inputs = evaluations.inputs(PLATFORM, dataclasses.replace(HEALTHY, component_reports={}))
    first = evaluations.status_of(inputs)
    assert requeue_after(first) == 2
    assert requeue_after(evaluations.status_of(inputs, first, at=60)) == 15


def test_failed_dependency_is_checked_soon_and_a_stall_every_minute() -> None:
    inputs = evaluations.inputs(PLATFORM, changes.server(Reason.UNREACHABLE)(HEALTHY))
    first = evaluations.status_of(inputs)
    assert requeue_after(first) == 5
    assert requeue_after(evaluations.status_of(inputs, first, at=60)) == 60
