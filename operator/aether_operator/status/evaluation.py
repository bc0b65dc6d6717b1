"""Computes the status of a platform from everything that was observed.

`api.reasons` says of each reason who can resolve it. What only a user can resolve is Stalled at once. What may resolve
itself is Reconciling; after `progressDeadlineSeconds` in one generation it is Stalled too, until it is resolved.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from aether_operator.api import reasons
from aether_operator.api.platforms import PlatformSpec, Server
from aether_operator.api.reasons import ConditionType, Reason, Remedy
from aether_operator.observed import child_refs
from aether_operator.observed.reports import Engine
from aether_operator.status import components, conditions, facts, findings, sanitizer
from aether_operator.status.conditions import Condition, Truth
from aether_operator.status.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from aether_operator.api.platforms import Platform
    from aether_operator.observed.kinds import Manifest
    from aether_operator.observed.observation import Observed
    from aether_operator.observed.reports import SchemaReport, TopicsReport


class State(StrEnum):
    """The state of a platform, in one word."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    TERMINATING = "Terminating"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusInput:
    """What a reconcile observed of one platform, after its actions.

    `platform` has the spec in force: the newest one, or the last applied one while the newest is invalid or the
    platform is paused; None if there never was one. `newest` is the newest spec if it is valid, else `problems` say why
    not, each with its field. `observed` belongs to the spec in force.
    """

    generation: int
    paused: bool
    platform: Platform | None
    newest: Platform | None
    problems: tuple[str, ...] = ()
    observed: Observed


@dataclass(frozen=True, slots=True)
class _Summary:
    """The overall state, and why."""

    state: State
    reason: Reason
    message: str
    stalled_reason: Reason = Reason.READY


def compute_status(inputs: StatusInput, previous: Mapping[str, Any], *, now: datetime) -> dict[str, Any]:
    """The complete status of a platform, as the API server accepts it.

    `previous` is its current status, from which transition times are kept.
    """
    by_server = _of_servers(inputs)
    dependents = [
        _evaluate_dependent(part, inputs, by_server, previous) for part in (_of_schema(inputs), _of_topics(inputs))
    ]
    component_findings, component_conditions = components.evaluate(inputs.platform, inputs.observed)
    found = [
        *_of_spec(inputs),
        *(
            _platform_findings(inputs.platform, inputs.observed, by_server, [one for one, _ in dependents])
            if inputs.platform
            else ()
        ),
        *component_findings,
    ]
    summary = _summary(found, inputs, previous, now)
    schema = _schema_facts(inputs, previous)
    reported = [
        *_summary_conditions(summary),
        *(_of_server(server, one, inputs) for server, one in by_server.items()),
        *(condition for _, condition in dependents),
        *component_conditions,
        _warning(inputs, schema),
        _paused(inputs),
    ]
    status: dict[str, Any] = {
        "observedGeneration": inputs.generation,
        "state": summary.state.value,
        "reason": summary.reason.value,
        "message": conditions.truncated(summary.message),
        "readyParts": conditions.ready_parts(reported),
        "conditions": conditions.to_list(reported, previous, inputs.generation, now),
    }
    parts = {
        "readyPairs": components.ready_pairs(inputs.platform, inputs.observed) if inputs.platform else None,
        "applied": _applied(inputs, previous),
        "endpoints": facts.endpoints(inputs.platform, inputs.observed) if inputs.platform else None,
        "servers": facts.versions(inputs.observed),
        "schema": schema,
    }
    return sanitizer.sanitize(status | parts)


def compute_terminating_status(raw: Manifest, *, now: datetime) -> dict[str, Any]:
    """The status of a platform that is being deleted; the other parts of its status are kept."""
    previous: Mapping[str, Any] = raw.get("status") or {}
    generation = raw["metadata"]["generation"]
    message = "The platform is being deleted; volumes and credentials are kept"
    reported = _summary_conditions(_Summary(State.TERMINATING, Reason.TERMINATING, message))
    return sanitizer.sanitize(
        {
            **previous,
            "observedGeneration": generation,
            "state": State.TERMINATING.value,
            "reason": Reason.TERMINATING.value,
            "message": message,
            "conditions": conditions.merged(conditions.to_list(reported, previous, generation, now), previous),
        }
    )


def compute_failed_status(raw: Manifest, cause: str, *, now: datetime) -> dict[str, Any]:
    """The status of a platform whose reconcile failed: its state and conditions only, since the rest was not observed.

    `observedGeneration` is left out: this generation was not reconciled.
    """
    previous: Mapping[str, Any] = raw.get("status") or {}
    generation, deadline_seconds = raw["metadata"]["generation"], _raw_deadline_seconds(raw)
    message, reason = f"the reconcile failed, and is retried: {cause}", Reason.RECONCILE_FAILED
    summary = _Summary(State.RECONCILING, reason, message)
    if _deadline_passed(generation, deadline_seconds, previous, now):
        summary = _Summary(State.STALLED, reason, message, stalled_reason=Reason.PROGRESS_DEADLINE_EXCEEDED)
    return sanitizer.sanitize(
        {
            "state": summary.state.value,
            "reason": reason.value,
            "message": conditions.truncated(message),
            "conditions": conditions.merged(
                conditions.to_list(_summary_conditions(summary), previous, generation, now), previous
            ),
        }
    )


def remedy(reason: Reason) -> Remedy:
    """Who can resolve a problem. A paused platform whose spec is not applied needs a person to unpause it."""
    return Remedy.USER if reason is Reason.PAUSED_BY_SPEC else reasons.EXPLANATIONS[reason].remedy


# The summary.


def _summary(found: Sequence[Finding], inputs: StatusInput, previous: Mapping[str, Any], now: datetime) -> _Summary:
    if not found:
        return _Summary(State.READY, Reason.READY, "Everything matches the spec")
    ordered = sorted(found, key=lambda one: remedy(one.reason) is not Remedy.USER)
    first, message = ordered[0], "; ".join(str(one) for one in ordered)
    if remedy(first.reason) is Remedy.USER:
        return _Summary(State.STALLED, first.reason, message, stalled_reason=first.reason)
    deadline_seconds = _deadline_seconds(inputs)
    if _deadline_passed(inputs.generation, deadline_seconds, previous, now):
        message = f"not ready after {deadline_seconds} s: {message}"
        return _Summary(State.STALLED, first.reason, message, stalled_reason=Reason.PROGRESS_DEADLINE_EXCEEDED)
    return _Summary(State.RECONCILING, first.reason, message)


def _deadline_seconds(inputs: StatusInput) -> int:
    spec = inputs.newest or inputs.platform
    return spec.spec.progress_deadline_seconds if spec else PlatformSpec().progress_deadline_seconds


def _raw_deadline_seconds(raw: Manifest) -> int:
    seconds = (raw.get("spec") or {}).get("progressDeadlineSeconds")
    return seconds if isinstance(seconds, int) else PlatformSpec().progress_deadline_seconds


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


# The parts.


def _of_spec(inputs: StatusInput) -> list[Finding]:
    found = []
    if inputs.problems:
        found.append(Finding(findings.SPEC, Reason.INVALID_SPEC, "; ".join(sorted(inputs.problems))))
    if inputs.paused and not _in_force(inputs):
        message = f"generation {inputs.generation} is not applied while spec.paused is true"
        found.append(Finding(findings.SPEC, Reason.PAUSED_BY_SPEC, message))
    return found


def _in_force(inputs: StatusInput) -> bool:
    """Whether the spec in force is equivalent to the newest one."""
    if inputs.newest is None:
        return inputs.platform is not None
    return inputs.platform is not None and facts.same_platform(inputs.newest.spec, inputs.platform.spec)


def _of_servers(inputs: StatusInput) -> dict[Server, Finding | None]:
    if inputs.platform is None:
        return {server: findings.not_started(server.value, inputs.observed) for server in Server}
    return {server: findings.of_server(server, inputs.platform, inputs.observed) for server in Server}


def _platform_findings(
    platform: Platform,
    observed: Observed,
    by_server: Mapping[Server, Finding | None],
    dependents: Sequence[Finding | None],
) -> list[Finding]:
    found = [*by_server.values(), *findings.of_other_objects(platform, observed), *dependents]
    return [one for one in found if one is not None]


def _of_server(server: Server, finding: Finding | None, inputs: StatusInput) -> Condition:
    report = inputs.observed.servers.get(server)
    return findings.condition(server, finding, report.version if report else "")


@dataclass(frozen=True, slots=True)
class _DependentPart:
    """A part that the operator sets up on a server: the schema, the topics."""

    name: str
    kind: ConditionType
    server: Server
    report: SchemaReport | TopicsReport | None
    ok_message: str
    """The message of its condition when it is Ready."""


def _of_schema(inputs: StatusInput) -> _DependentPart:
    report = inputs.observed.schema
    ok_message = (report.message or f"revision {report.revision}") if report else ""
    return _DependentPart(findings.SCHEMA, ConditionType.SCHEMA_READY, Server.POSTGRES, report, ok_message)


def _of_topics(inputs: StatusInput) -> _DependentPart:
    report = inputs.observed.topics
    return _DependentPart(
        findings.TOPICS, ConditionType.TOPICS_READY, Server.KAFKA, report, ", ".join(report.topics) if report else ""
    )


def _evaluate_dependent(
    part: _DependentPart, inputs: StatusInput, by_server: Mapping[Server, Finding | None], previous: Mapping[str, Any]
) -> tuple[Finding | None, Condition]:
    """What is wrong with a part that depends on a server, and its condition."""
    kind, report, server_finding = part.kind, part.report, by_server[part.server]
    last_condition = conditions.by_type(previous).get(kind)
    if inputs.paused and report is None and last_condition is not None and last_condition["status"] != Truth.UNKNOWN:
        # It is not checked while the platform is paused: the last result stays.
        # A newer release that was rolled back may have used reasons that do not exist here.
        reason = Reason(last_condition["reason"]) if last_condition["reason"] in list(Reason) else Reason.FAILED
        last = Condition(kind, Truth(last_condition["status"]), reason, last_condition.get("message", ""))
        not_ready = server_finding is None and last.truth is not Truth.TRUE
        return Finding(part.name, last.reason, last.message) if not_ready else None, last
    if server_finding is not None:
        return None, Condition(kind, Truth.UNKNOWN, Reason.PROGRESSING, f"waiting for {part.server.value}")
    if report is not None and report.ok:
        return None, Condition(kind, Truth.TRUE, Reason.READY, part.ok_message)
    if report is not None:
        message = report.message or report.reason.value
        return Finding(part.name, report.reason, message), Condition(kind, Truth.FALSE, report.reason, message)
    if inputs.paused:
        message = "it was never checked, and is not while spec.paused is true"
        finding = Finding(part.name, Reason.PAUSED_BY_SPEC, message, known=False)
    else:
        finding = Finding(part.name, Reason.PROGRESSING, "not checked yet", known=False)
    return finding, Condition(kind, Truth.UNKNOWN, finding.reason, finding.message)


def _schema_facts(inputs: StatusInput, previous: Mapping[str, Any]) -> Mapping[str, Any]:
    if inputs.observed.schema is not None:
        return facts.schema(inputs.observed.schema)
    last: Mapping[str, Any] = previous.get("schema") or {}
    return last if inputs.paused else {}


def _applied(inputs: StatusInput, previous: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The spec in force. An invalid or a paused one does not replace it."""
    if inputs.paused or inputs.problems or inputs.newest is None:
        last: Mapping[str, Any] | None = previous.get("applied")
        return last
    return facts.applied(inputs.newest.spec)


_EVALUATION: Final = "one node each, for evaluation, not for production"


def _warning(inputs: StatusInput, schema: Mapping[str, Any]) -> Condition:
    """The Warning condition: what a person should know although the platform works."""
    warnings: list[tuple[Reason, str]] = []
    if schema.get("held"):
        warnings.append((Reason.RETENTION_HELD, f"retention is not reduced: {', '.join(schema['held'])}"))
    unrepaired = [line for line in schema.get("drift", ()) if not line.endswith("(repaired)")]
    if unrepaired:
        warnings.append((Reason.SCHEMA_DRIFTED, f"the schema differs: {', '.join(unrepaired)}"))
    notes = "; ".join(sorted(inputs.observed.schema.warnings)) if inputs.observed.schema is not None else ""
    if schema.get("engine") == Engine.PARTMAN:
        warnings.append((Reason.NATIVE_PARTITIONS, notes or "tables use native partitions, managed by pg_partman"))
    elif notes:
        warnings.append((Reason.SCHEMA_WARNING, notes))
    if inputs.observed.topics is not None and inputs.observed.topics.warnings:
        warnings.append((Reason.TOPICS_WARNING, "; ".join(sorted(inputs.observed.topics.warnings))))
    managed = sorted(child_refs.managed_servers(inputs.platform)) if inputs.platform else []
    if managed:
        warnings.append((Reason.EVALUATION_ONLY, f"Managed {', '.join(managed)}: {_EVALUATION}"))
    if not warnings:
        return Condition(ConditionType.WARNING, Truth.FALSE, Reason.READY)
    return Condition(ConditionType.WARNING, Truth.TRUE, warnings[0][0], "; ".join(text for _, text in warnings))


def _paused(inputs: StatusInput) -> Condition:
    if inputs.paused:
        message = "nothing is changed while spec.paused is true"
        return Condition(ConditionType.PAUSED, Truth.TRUE, Reason.PAUSED_BY_SPEC, message)
    return Condition(ConditionType.PAUSED, Truth.FALSE, Reason.NOT_PAUSED)
