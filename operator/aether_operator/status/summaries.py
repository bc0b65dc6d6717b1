"""What the status of every kind has: the state, its three conditions, and what failed or is being deleted.

`api.reasons` says of each reason who can resolve it. What only a user can resolve is Stalled at once. What may resolve
itself is Reconciling; after `progressDeadlineSeconds` in one generation it is Stalled too, until it is resolved.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from aether_operator.api import reasons
from aether_operator.api.models import PROGRESS_DEADLINE_SECONDS
from aether_operator.api.reasons import ConditionType, Reason, Remedy
from aether_operator.observed import live_objects
from aether_operator.observed.observation import Observed
from aether_operator.status import conditions, findings, sanitizer
from aether_operator.status.conditions import Condition, Truth
from aether_operator.status.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from aether_operator.api.definition import Definition
    from aether_operator.api.resources import Resource
    from aether_operator.observed.kinds import Manifest

ResourceT = TypeVar("ResourceT")
ObservedT = TypeVar("ObservedT", bound=Observed)


class State(StrEnum):
    """The state of an object, in one word."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    TERMINATING = "Terminating"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusInput(Generic[ResourceT, ObservedT]):
    """What a reconcile observed of one object, after its actions.

    `in_force` has the spec in force: the newest one, or the last applied one while the newest is invalid or the object
    is paused; None if there never was one. `newest` has the newest spec if it is valid, else `problems` say why not,
    each with its field. `observed` belongs to the spec in force. `previous` is the object's current status.
    """

    generation: int
    paused: bool
    in_force: ResourceT | None
    newest: ResourceT | None
    problems: tuple[str, ...] = ()
    observed: ObservedT
    previous: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What the rules of a kind find in a `StatusInput`.

    Without findings the object is Ready. `conditions` are those beside Ready, Reconciling, Stalled and Paused; `fields`
    are the kind's own fields of the status.
    """

    findings: Sequence[Finding]
    conditions: Sequence[Condition] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Summary:
    """The overall state, and why."""

    state: State
    reason: Reason
    message: str
    stalled_reason: Reason = Reason.READY


def compute_status(
    definition: Definition, inputs: StatusInput[Any, Any], evaluation: Evaluation, *, now: datetime
) -> dict[str, Any]:
    """The complete status of an object, as the API server accepts it. Transition times are kept."""
    applied, newest = _resolved(definition, inputs.in_force), _resolved(definition, inputs.newest)
    in_force = applied is not None and (newest is None or _meaning(newest) == _meaning(applied))
    found = [*_of_spec(inputs, in_force=in_force), *evaluation.findings]
    summary = _summary(found, inputs, now)
    reported = [*_summary_conditions(summary), *evaluation.conditions]
    if ConditionType.PAUSED in definition.all_conditions:
        reported.append(_paused(inputs))
    return sanitizer.sanitize(
        {
            "observedGeneration": inputs.generation,
            "state": summary.state.value,
            "reason": summary.reason.value,
            "message": conditions.truncated(summary.message),
            "conditions": conditions.to_list(reported, inputs.previous, inputs.generation, now),
            "applied": _applied(inputs, newest),
            **evaluation.fields,
        },
        definition,
    )


def compute_terminating_status(definition: Definition, raw: Manifest, message: str, *, now: datetime) -> dict[str, Any]:
    """The status of an object that is being deleted; the other parts of its status are kept."""
    previous: Mapping[str, Any] = raw.get("status") or {}
    generation = raw["metadata"]["generation"]
    reported = _summary_conditions(_Summary(State.TERMINATING, Reason.TERMINATING, message))
    return sanitizer.sanitize(
        {
            **previous,
            "observedGeneration": generation,
            "state": State.TERMINATING.value,
            "reason": Reason.TERMINATING.value,
            "message": conditions.truncated(message),
            "conditions": conditions.merged(conditions.to_list(reported, previous, generation, now), previous),
        },
        definition,
    )


def compute_failed_status(definition: Definition, raw: Manifest, cause: str, *, now: datetime) -> dict[str, Any]:
    """The status of an object whose reconcile failed: its state and conditions only, since the rest was not observed.

    `observedGeneration` is left out: this generation was not reconciled.
    """
    previous: Mapping[str, Any] = raw.get("status") or {}
    generation, deadline_seconds = raw["metadata"]["generation"], _raw_deadline_seconds(raw)
    message, reason = f"the reconcile failed, and is retried: {cause}", Reason.RECONCILE_FAILED
    summary = _Summary(State.RECONCILING, reason, message)
    if live_objects.is_deleting(raw):
        summary = _Summary(State.TERMINATING, reason, message)
    elif _deadline_passed(generation, deadline_seconds, previous, now):
        summary = _Summary(State.STALLED, reason, message, stalled_reason=Reason.PROGRESS_DEADLINE_EXCEEDED)
    return sanitizer.sanitize(
        {
            "state": summary.state.value,
            "reason": reason.value,
            "message": conditions.truncated(message),
            "conditions": conditions.merged(
                conditions.to_list(_summary_conditions(summary), previous, generation, now), previous
            ),
        },
        definition,
    )


def remedy(reason: Reason) -> Remedy:
    """Who can resolve a problem. A paused object whose spec is not applied needs a person to unpause it."""
    return Remedy.USER if reason is Reason.PAUSED_BY_SPEC else reasons.EXPLANATIONS[reason].remedy


def _summary(found: Sequence[Finding], inputs: StatusInput[Any, Any], now: datetime) -> _Summary:
    if not found:
        return _Summary(State.READY, Reason.READY, "Everything matches the spec")
    ordered = sorted(found, key=lambda one: remedy(one.reason) is not Remedy.USER)
    first, message = ordered[0], "; ".join(str(one) for one in ordered)
    if remedy(first.reason) is Remedy.USER:
        return _Summary(State.STALLED, first.reason, message, stalled_reason=first.reason)
    deadline_seconds = _deadline_seconds(inputs)
    if _deadline_passed(inputs.generation, deadline_seconds, inputs.previous, now):
        message = f"not ready after {deadline_seconds} s: {message}"
        return _Summary(State.STALLED, first.reason, message, stalled_reason=Reason.PROGRESS_DEADLINE_EXCEEDED)
    return _Summary(State.RECONCILING, first.reason, message)


def _deadline_seconds(inputs: StatusInput[Any, Any]) -> int:
    resource = inputs.newest or inputs.in_force
    seconds: int = getattr(resource.spec if resource else None, "progress_deadline_seconds", PROGRESS_DEADLINE_SECONDS)
    return seconds


def _raw_deadline_seconds(raw: Manifest) -> int:
    seconds = (raw.get("spec") or {}).get("progressDeadlineSeconds")
    return seconds if isinstance(seconds, int) else PROGRESS_DEADLINE_SECONDS


def _deadline_passed(generation: int, deadline_seconds: int, previous: Mapping[str, Any], now: datetime) -> bool:
    """Whether the deadline of this generation has passed. Once it has, only Ready or an edit of the spec ends that."""
    before = conditions.by_type(previous)
    stalled, reconciling = before.get(ConditionType.STALLED, {}), before.get(ConditionType.RECONCILING, {})
    if (
        stalled.get("status") == Truth.TRUE
        and stalled.get("reason") == Reason.PROGRESS_DEADLINE_EXCEEDED
        and stalled.get("observedGeneration") == generation
    ):
        return True
    if reconciling.get("status") != Truth.TRUE or reconciling.get("observedGeneration") != generation:
        return False
    return now - conditions.parse_time(reconciling["lastTransitionTime"]) >= timedelta(seconds=deadline_seconds)


def _summary_conditions(summary: _Summary) -> list[Condition]:
    """The three conditions that kstatus reads: Ready, Reconciling, Stalled."""
    ready, moving, stuck = ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED
    reason, message = summary.reason, summary.message
    match summary.state:
        case State.READY:
            return [
                Condition(ready, Truth.TRUE, reason, message),
                Condition(moving, Truth.FALSE, reason),
                Condition(stuck, Truth.FALSE, reason),
            ]
        case State.STALLED:
            return [
                Condition(ready, Truth.FALSE, reason, message),
                Condition(moving, Truth.FALSE, summary.stalled_reason),
                Condition(stuck, Truth.TRUE, summary.stalled_reason, message),
            ]
        case _:
            return [
                Condition(ready, Truth.FALSE, reason, message),
                Condition(moving, Truth.TRUE, reason, message),
                Condition(stuck, Truth.FALSE, reason),
            ]


def _of_spec(inputs: StatusInput[Any, Any], *, in_force: bool) -> list[Finding]:
    found = []
    if inputs.problems:
        found.append(Finding(findings.SPEC, Reason.INVALID_SPEC, "; ".join(sorted(inputs.problems))))
    if inputs.paused and not in_force:
        message = f"generation {inputs.generation} is not applied while spec.paused is true"
        found.append(Finding(findings.SPEC, Reason.PAUSED_BY_SPEC, message))
    return found


def _meaning(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A spec without the fields that only say how it is reconciled."""
    return {key: value for key, value in spec.items() if key not in {"paused", "progressDeadlineSeconds"}}


def _resolved(definition: Definition, resource: Resource[Any] | None) -> dict[str, Any] | None:
    """A spec as JSON with everything that it implies, without empty fields."""
    if resource is None:
        return None
    return definition.resolved(resource.spec).model_dump(mode="json", by_alias=True, exclude_none=True)


def _applied(inputs: StatusInput[Any, Any], newest: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The spec in force. An invalid or a paused one does not replace it."""
    if inputs.paused or inputs.problems or newest is None:
        last: Mapping[str, Any] | None = inputs.previous.get("applied")
        return last
    return newest


def _paused(inputs: StatusInput[Any, Any]) -> Condition:
    if inputs.paused:
        message = "nothing is changed while spec.paused is true"
        return Condition(ConditionType.PAUSED, Truth.TRUE, Reason.PAUSED_BY_SPEC, message)
    return Condition(ConditionType.PAUSED, Truth.FALSE, Reason.NOT_PAUSED)
