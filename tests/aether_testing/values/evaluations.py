"""Computes the status of platforms in tests, and changes one part of the observed state."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from aether_operator import status
from aether_operator.api.platforms import Server
from aether_operator.observed.platforms import ObservedPlatform
from aether_operator.observed.reports import SchemaReport, ServerReport
from aether_operator.status import platforms as platform_status
from aether_testing.values import kstatus, observations

if TYPE_CHECKING:
    from collections.abc import Callable

    from aether_operator.api.platforms import Platform
    from aether_operator.api.reasons import Reason
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
    """The result of kstatus for a status."""
    return kstatus.compute({"metadata": {"generation": generation, **meta}, "status": reported})


def with_server_reason(
    reason: Reason, message: str = "as reported", server: Server = Server.KAFKA
) -> Callable[[ObservedPlatform], ObservedPlatform]:
    """Change the result of a server's check."""
    return lambda observed: observations.with_server_report(
        observed, ServerReport(server=server, reason=reason, message=message)
    )


def with_schema(
    reason: Reason, message: str = "as reported", **parts: Any
) -> Callable[[ObservedPlatform], ObservedPlatform]:
    """Change the report of the schema."""
    report = SchemaReport(reason=reason, message=message, revision="0001", **parts)
    return lambda observed: dataclasses.replace(observed, schema=report)
