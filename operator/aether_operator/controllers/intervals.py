"""When a platform is reconciled again without an event: decided from the status that was just written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aether_operator.api.reasons import ConditionType

if TYPE_CHECKING:
    from collections.abc import Mapping

RECHECK_READY: Final = 60.0
"""Seconds until a Ready platform is checked again: external servers and our own services send no events."""
READY_RECHECKS_PER_SECOND: Final = 5
"""Over all Ready platforms."""
RECHECK_COMPONENTS: Final = 2.0
"""Seconds until components are queried again that became unhealthy a moment ago, or got a new configuration."""
RECHECK_STALLED_COMPONENTS: Final = 15.0
"""Seconds until components are queried again that are unhealthy for longer than the progress deadline."""
RECHECK_SERVERS: Final = 5.0
"""Seconds until servers, schema or topics that are not Ready are checked again."""
RECHECK_STALLED: Final = 60.0
"""Seconds until the next check of what only a person can repair, and may have repaired where no watch sees it."""
_COMPONENTS_NEED: Final = (
    ConditionType.POSTGRES_READY,
    ConditionType.KAFKA_READY,
    ConditionType.NATS_READY,
    ConditionType.REDIS_READY,
    ConditionType.SCHEMA_READY,
    ConditionType.TOPICS_READY,
)


def requeue_after(status: Mapping[str, Any], *, platforms: int, longest: float) -> float:
    """Seconds until the next reconcile, `longest` at most; `platforms` is how many the operator reconciles."""
    values = {condition["type"]: condition["status"] for condition in status["conditions"]}
    stalled = values[ConditionType.STALLED] == "True"
    if values[ConditionType.READY] == "True":
        seconds = max(RECHECK_READY, platforms / READY_RECHECKS_PER_SECOND)
    elif all(values[type_] == "True" for type_ in _COMPONENTS_NEED):
        seconds = RECHECK_STALLED_COMPONENTS if stalled else RECHECK_COMPONENTS
    else:
        seconds = RECHECK_STALLED if stalled else RECHECK_SERVERS
    return min(seconds, longest)
