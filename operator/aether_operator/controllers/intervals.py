"""When a platform is looked at again though nothing tells of it: decided from the status that was just told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aether_operator.api.reasons import ConditionType

if TYPE_CHECKING:
    from collections.abc import Mapping

ASK_OTHERS: Final = 60.0
"""Seconds until all is asked again: servers of others, and what rooms say, which tell us nothing by themselves."""
ASKED_A_SECOND: Final = 5
"""Platforms that are Ready, all together."""
FOLLOWING: Final = 2.0
"""Seconds until rooms are asked again that were well a moment ago, or have just been given new settings."""
UNHEALTHY: Final = 15.0
"""Seconds until rooms are asked again that waited too long to be well: others mend them, and tell us nothing."""
SOON: Final = 5.0
"""Seconds until the next look at what is not Ready and tells us nothing by itself."""
RETRY_STALLED: Final = 60.0
"""Seconds until the next look at what only a person can mend, in case somebody mended it where we do not watch."""
_BEFORE_COMPONENTS: Final = (
    ConditionType.POSTGRES_READY,
    ConditionType.KAFKA_READY,
    ConditionType.NATS_READY,
    ConditionType.REDIS_READY,
    ConditionType.SCHEMA_READY,
    ConditionType.TOPICS_READY,
)
"""What rooms stand on."""


def requeue_after(status: Mapping[str, Any], *, platforms: int, longest: float) -> float:
    """Seconds until the next look, `longest` at most; `platforms` are those that we look at."""
    truths = {one["type"]: one["status"] for one in status["conditions"]}
    stalled = truths[ConditionType.STALLED] == "True"
    if truths[ConditionType.READY] == "True":
        due = max(ASK_OTHERS, platforms / ASKED_A_SECOND)
    elif all(truths[kind] == "True" for kind in _BEFORE_COMPONENTS):
        due = UNHEALTHY if stalled else FOLLOWING  # it is the rooms
    else:
        due = RETRY_STALLED if stalled else SOON
    return min(due, longest)
