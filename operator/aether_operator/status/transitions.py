"""What a change of the status means to a person: the Kubernetes Events to emit, and the change of state to log.

A start and a repair are Normal events until the progress deadline; Warning is for an object that is Stalled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aether_operator.api import reasons
from aether_operator.api.reasons import ConditionType, Reason
from aether_operator.status import conditions
from aether_operator.status.conditions import Truth
from aether_operator.status.summaries import State

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusEvent:
    """A Kubernetes Event about a change of the status."""

    reason: str
    note: str
    warning: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A change of the state, or of its reason.

    `seconds`: for how long the object had been Ready, or had not been, before.
    """

    state: State
    reason: str
    message: str
    seconds: float


def events(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[StatusEvent]:
    """The events for the changes of Ready, Stalled and Warning."""
    old_conditions, new_conditions = conditions.by_type(before), conditions.by_type(after)
    found = []
    for kind in (ConditionType.READY, ConditionType.STALLED, ConditionType.WARNING):
        old, new = old_conditions.get(kind), new_conditions.get(kind)
        if new is None or (old is not None and _value(old) == _value(new)):
            continue
        if new["status"] == Truth.FALSE and (old is None or kind is not ConditionType.READY):
            continue  # the first status of a new platform, or a problem that is resolved
        found.append(
            StatusEvent(
                reason=new["reason"],
                note=new["message"] or new["reason"],
                warning=_needs_action(new["reason"])
                if kind is ConditionType.WARNING
                else after["state"] == State.STALLED,
            )
        )
    return found


def transition(
    before: Mapping[str, Any], after: Mapping[str, Any], *, created: datetime, now: datetime
) -> Transition | None:
    """The change of state; None if state and reason are the same.

    `created` is when the object was created.
    """
    if (before.get("state"), before.get("reason")) == (after["state"], after["reason"]):
        return None
    ready = conditions.by_type(before).get(ConditionType.READY)
    since = created if ready is None else conditions.parse_time(ready["lastTransitionTime"])
    return Transition(
        state=State(after["state"]),
        reason=after["reason"],
        message=after["message"],
        seconds=round(max(0.0, (now - since).total_seconds()), 1),
    )


def _value(condition: Mapping[str, Any]) -> tuple[str, str]:
    return condition["status"], condition["reason"]


def _needs_action(reason: str) -> bool:
    """Whether a warning asks something of a person: that a server is for evaluation only is what the spec chose."""
    return bool(reasons.EXPLANATIONS[Reason(reason)].action)
