"""Conditions: their form, and when their truth last changed."""

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
"""Letters of a message."""


class Truth(StrEnum):
    """A condition's status."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Condition:
    """One statement about a platform."""

    type: ConditionType
    truth: Truth
    reason: Reason
    message: str = ""


def to_list(
    conditions: Iterable[Condition], previous: Mapping[str, Any], generation: int, now: datetime
) -> list[dict[str, Any]]:
    """Conditions as the status has them, in the order of their table.

    A time is kept while the truth is the same. A new generation begins to reconcile anew: its time is how long it has
    been under way, which the deadline is counted from.
    """
    before = by_type(previous)
    told = []
    for one in sorted(conditions, key=lambda condition: _ORDER[condition.type]):
        old = before.get(one.type, {})
        same = old.get("status") == one.truth and "lastTransitionTime" in old
        if one.type is ConditionType.RECONCILING and one.truth is Truth.TRUE:
            same = same and old.get("observedGeneration") == generation
        told.append(
            {
                "type": one.type.value,
                "status": one.truth.value,
                "observedGeneration": generation,
                "lastTransitionTime": old["lastTransitionTime"] if same else format_time(now),
                "reason": one.reason.value,
                "message": truncated(one.message),
            }
        )
    return told


_ORDER: Final = {kind.value: place for place, kind in enumerate(ConditionType)}


def merged(told: Sequence[dict[str, Any]], previous: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Conditions, and beside them those of a status that are not told anew; in the order of their table.

    A list in another order would be another status.
    """
    anew = {one["type"] for one in told}
    kept = [dict(one) for kind, one in by_type(previous).items() if kind not in anew]
    return sorted([*told, *kept], key=lambda one: _ORDER.get(one["type"], len(_ORDER)))


def by_type(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """A status's conditions by their types."""
    return {one["type"]: one for one in status.get("conditions") or ()}


def truncated(text: str) -> str:
    """A text that is not too long for a status."""
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 1]}…"


def format_time(moment: datetime) -> str:
    """A time as Kubernetes writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """A time as Kubernetes wrote it."""
    return datetime.fromisoformat(text)
