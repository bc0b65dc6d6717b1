"""Computes the status of platforms, as the operator does, at times that a test chooses."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from aether_operator import status
from aether_operator.observed.platforms import ObservedPlatform
from aether_operator.status import platforms as platform_status
from aether_testing.values import kstatus

if TYPE_CHECKING:
    from aether_operator.api.platforms import Platform
    from aether_operator.status.platforms import PlatformInput

NOW: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
NEVER: Final[dict[str, Any]] = {"observedGeneration": -1}
"""The status of a platform before its first reconcile, as the API server sets it."""
READY, RECONCILING, STALLED = status.State.READY, status.State.RECONCILING, status.State.STALLED


def inputs(platform: Platform | None, observed: ObservedPlatform | None = None, **parts: Any) -> PlatformInput:
    """The input of `compute_status` for a valid platform that is not paused."""
    usual: dict[str, Any] = {
        "generation": platform.generation if platform else 1,
        "paused": False,
        "newest": platform,
        "observed": observed if observed is not None else ObservedPlatform(children={}),
    }
    return status.StatusInput(in_force=platform, **{**usual, **parts})


def status_of(given: PlatformInput, previous: dict[str, Any] | None = None, at: float = 0) -> dict[str, Any]:
    """The computed status, so many seconds after `NOW`."""
    given = dataclasses.replace(given, previous=NEVER if previous is None else previous)
    return platform_status.compute_status(given, now=NOW + timedelta(seconds=at))


def conditions(reported: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A status's conditions by type."""
    return {one["type"]: one for one in reported["conditions"]}


def kstatus_of(reported: dict[str, Any], generation: int = 1, **meta: Any) -> str:
    """What kstatus computes for an object of this generation with the status."""
    return kstatus.compute({"metadata": {"generation": generation, **meta}, "status": reported})
