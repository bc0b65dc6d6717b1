"""Conditions: their format in the status, and their transition times."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from aether_operator.api.reasons import ConditionType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from aether_operator.api.reasons import Reason

MAX_LENGTH: Final = 1000
"""The length at which a message is cut."""


PARTS: Final = frozenset(one for one in ConditionType if one.part)
"""The conditions of the parts of an object."""


class Truth(StrEnum):
    """The status of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition of an object."""

    type: ConditionType
    truth: Truth
    reason: Reason
    message: str = ""


def to_list(
    conditions: Iterable[Condition], previous: Mapping[str, Any], generation: int, now: datetime
) -> list[dict[str, Any]]:
    """Conditions as the status has them, in the order of `ConditionType`.

    A transition time is kept while the condition's status is the same. For Reconciling a new generation counts as a
    transition: the progress deadline is counted from it.
    """
    before = by_type(previous)
    result = []
    for one in sorted(conditions, key=lambda condition: _ORDER[condition.type]):
        old = before.get(one.type, {})
        same = old.get("status") == one.truth and "lastTransitionTime" in old
        if one.type is ConditionType.RECONCILING and one.truth is Truth.TRUE:
            same = same and old.get("observedGeneration") == generation
        result.append(
            {
                "type": one.type.value,
                "status": one.truth.value,
                "observedGeneration": generation,
                "lastTransitionTime": old["lastTransitionTime"] if same else format_time(now),
                "reason": one.reason.value,
                "message": truncated(one.message),
            }
        )
    return result


_ORDER: Final = {kind.value: index for index, kind in enumerate(ConditionType)}


def ready_parts(conditions: Iterable[Condition]) -> str:
    """How many parts are ready, of how many, as kubectl prints it for a pod's containers: `7/8`."""
    parts = [one for one in conditions if one.type in PARTS]
    return f"{sum(one.truth is Truth.TRUE for one in parts)}/{len(parts)}"


def merged(result: Sequence[dict[str, Any]], previous: Mapping[str, Any]) -> list[dict[str, Any]]:
    """New conditions, and those of the previous status that are not among them, in the order of `ConditionType`.

    A list in another order would be another status.
    """
    new_types = {one["type"] for one in result}
    kept = [dict(one) for kind, one in by_type(previous).items() if kind not in new_types]
    return sorted([*result, *kept], key=lambda one: _ORDER.get(one["type"], len(_ORDER)))


def by_type(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """A status's conditions by type."""
    return {one["type"]: one for one in status.get("conditions") or ()}


def truncated(text: str) -> str:
    """Cut a text to a length that fits a status."""
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 1]}…"


def format_time(moment: datetime) -> str:
    """A time in the format of Kubernetes."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """Parse a time in the format of Kubernetes."""
    return datetime.fromisoformat(text)
