"""The judgement: everything that was seen, as one status.

`api.reasons` says of each reason who can resolve it. What only a user can resolve is Stalled at once. What time or
others may mend is Reconciling; after `progressDeadlineSeconds` in one generation it is Stalled too, until it is mended.
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
    """How a platform is, in one word."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    TERMINATING = "Terminating"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusInput:
    """What a visit saw of one platform, after it had done what it could.

    `platform` is the spec in force: the newest one, or the last good one while the newest is not understood or the
    platform is paused; nothing where there never was one. `newest` is the newest spec where it is understood, and
    `problems` say why it is not, each with its field. `world` is that of the spec in force.
    """

    generation: int
    paused: bool
    platform: Platform | None
    newest: Platform | None
    problems: tuple[str, ...] = ()
    observed: Observed


@dataclass(frozen=True, slots=True)
class _Summary:
    """How it is altogether."""

    state: State
    reason: Reason
    message: str
    stalled_reason: Reason = Reason.READY


def compute_status(inputs: StatusInput, previous: Mapping[str, Any], *, now: datetime) -> dict[str, Any]:
    """The status of a platform, as a whole, and as the API server takes it.

    `previous` is the status that it had, which times are kept from.
    """
    by_server = _of_servers(inputs)
    kept = [_evaluate_dependent(part, inputs, by_server, previous) for part in (_of_schema(inputs), _of_topics(inputs))]
    component_findings, component_conditions = components.evaluate(inputs.platform, inputs.observed)
    found = [
        *_of_spec(inputs),
        *(
            _of_observed(inputs.platform, inputs.observed, by_server, [one for one, _ in kept])
            if inputs.platform
            else ()
        ),
        *component_findings,
    ]
    summary = _summary(found, inputs, previous, now)
    schema = _schema_facts(inputs, previous)
    told = [
        *_summary_conditions(summary),
        *(_of_server(server, one, inputs) for server, one in by_server.items()),
        *(condition for _, condition in kept),
        *component_conditions,
        _warning(inputs, schema),
        _paused(inputs),
    ]
    status: dict[str, Any] = {
        "observedGeneration": inputs.generation,
        "state": summary.state.value,
        "reason": summary.reason.value,
        "message": conditions.truncated(summary.message),
        "conditions": conditions.to_list(told, previous, inputs.generation, now),
    }
    parts = {
        "applied": _applied(inputs, previous),
        "endpoints": facts.endpoints(inputs.platform, inputs.observed) if inputs.platform else None,
        "servers": facts.versions(inputs.observed),
        "schema": schema,
    }
    return sanitizer.sanitize(status | parts)


def compute_terminating_status(raw: Manifest, *, now: datetime) -> dict[str, Any]:
    """The status of a platform that is being deleted: what was known of it stays."""
    previous: Mapping[str, Any] = raw.get("status") or {}
    generation = raw["metadata"]["generation"]
    message = "It is being deleted; volumes and credentials stay"
    told = _summary_conditions(_Summary(State.TERMINATING, Reason.TERMINATING, message))
    return sanitizer.sanitize(
        {
            **previous,
            "observedGeneration": generation,
            "state": State.TERMINATING.value,
            "reason": Reason.TERMINATING.value,
            "message": message,
            "conditions": conditions.merged(conditions.to_list(told, previous, generation, now), previous),
        }
    )


def compute_failed_status(raw: Manifest, cause: str, *, now: datetime) -> dict[str, Any]:
    """What is told of a platform whose reconcile failed: its standing, and nothing of what could not be looked at.

    `observedGeneration` is not among it: nobody knows what became of this generation.
    """
    previous: Mapping[str, Any] = raw.get("status") or {}
    generation, deadline_seconds = raw["metadata"]["generation"], _raw_deadline_seconds(raw)
    message, reason = f"the operator could not finish its look at it, and tries again: {cause}", Reason.RECONCILE_FAILED
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
    """Who can mend it. Whoever paused a platform with a spec that is not applied must unpause it."""
    return Remedy.USER if reason is Reason.PAUSED_BY_SPEC else reasons.EXPLANATIONS[reason].remedy


# The verdict.


def _summary(found: Sequence[Finding], inputs: StatusInput, previous: Mapping[str, Any], now: datetime) -> _Summary:
    if not found:
        return _Summary(State.READY, Reason.READY, "Everything is as the spec says")
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
    said = (raw.get("spec") or {}).get("progressDeadlineSeconds")
    return said if isinstance(said, int) else PlatformSpec().progress_deadline_seconds


def _deadline_passed(generation: int, deadline_seconds: int, previous: Mapping[str, Any], now: datetime) -> bool:
    """Whether the deadline of this generation has passed. Once it has, only Ready or an edit ends that."""
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
    """The three conditions that kstatus reads."""
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
    """Whether what runs is what the newest spec asks for."""
    if inputs.newest is None:
        return inputs.platform is not None
    return inputs.platform is not None and facts.same_platform(inputs.newest.spec, inputs.platform.spec)


def _of_servers(inputs: StatusInput) -> dict[Server, Finding | None]:
    if inputs.platform is None:
        return {server: findings.not_started(server.value, inputs.observed) for server in Server}
    return {server: findings.of_server(server, inputs.platform, inputs.observed) for server in Server}


def _of_observed(
    platform: Platform, observed: Observed, by_server: Mapping[Server, Finding | None], kept: Sequence[Finding | None]
) -> list[Finding]:
    found = [*by_server.values(), *findings.of_other_objects(platform, observed), *kept]
    return [one for one in found if one is not None]


def _of_server(server: Server, finding: Finding | None, inputs: StatusInput) -> Condition:
    report = inputs.observed.servers.get(server)
    return findings.condition(server, finding, report.version if report else "")


@dataclass(frozen=True, slots=True)
class _DependentPart:
    """A part that is brought up on a server: the schema, the topics."""

    name: str
    kind: ConditionType
    server: Server
    report: SchemaReport | TopicsReport | None
    ok_message: str
    """What its condition says when all is well."""


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
    """What is wrong with a part that is brought up on a server, and its condition."""
    kind, report, below = part.kind, part.report, by_server[part.server]
    old = conditions.by_type(previous).get(kind)
    if inputs.paused and report is None and old is not None and old["status"] != Truth.UNKNOWN:
        # It is not looked at while the platform is paused: what was seen last is what is known.
        # A newer release, which was rolled back, may have had reasons that are not known here.
        reason = Reason(old["reason"]) if old["reason"] in list(Reason) else Reason.FAILED
        kept = Condition(kind, Truth(old["status"]), reason, old.get("message", ""))
        bad = below is None and kept.truth is not Truth.TRUE
        return Finding(part.name, kept.reason, kept.message) if bad else None, kept
    if below is not None:
        return None, Condition(kind, Truth.UNKNOWN, Reason.PROGRESSING, f"it waits for {part.server.value}")
    if report is not None and report.ok:
        return None, Condition(kind, Truth.TRUE, Reason.READY, part.ok_message)
    if report is not None:
        message = report.message or report.reason.value
        return Finding(part.name, report.reason, message), Condition(kind, Truth.FALSE, report.reason, message)
    if inputs.paused:
        held = "it was never looked at, and is not while spec.paused is true"
        finding = Finding(part.name, Reason.PAUSED_BY_SPEC, held, known=False)
    else:
        finding = Finding(part.name, Reason.PROGRESSING, "it was not looked at yet", known=False)
    return finding, Condition(kind, Truth.UNKNOWN, finding.reason, finding.message)


def _schema_facts(inputs: StatusInput, previous: Mapping[str, Any]) -> Mapping[str, Any]:
    if inputs.observed.schema is not None:
        return facts.schema(inputs.observed.schema)
    kept: Mapping[str, Any] = previous.get("schema") or {}
    return kept if inputs.paused else {}


def _applied(inputs: StatusInput, previous: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The spec that is in force. An invalid or a paused one is not, and leaves what was."""
    if inputs.paused or inputs.problems or inputs.newest is None:
        kept: Mapping[str, Any] | None = previous.get("applied")
        return kept
    return facts.applied(inputs.newest.spec)


_EVALUATION: Final = "one node each, for evaluation and not for production"


def _warning(inputs: StatusInput, schema: Mapping[str, Any]) -> Condition:
    """All that works and that a person should know."""
    said: list[tuple[Reason, str]] = []
    if schema.get("held"):
        said.append((Reason.RETENTION_HELD, f"retention is not shortened: {', '.join(schema['held'])}"))
    unmended = [line for line in schema.get("drift", ()) if not line.endswith("(repaired)")]
    if unmended:
        said.append((Reason.SCHEMA_DRIFTED, f"the schema differs: {', '.join(unmended)}"))
    noted = "; ".join(sorted(inputs.observed.schema.warnings)) if inputs.observed.schema is not None else ""
    if schema.get("engine") == Engine.PARTMAN:
        said.append((Reason.NATIVE_PARTITIONS, noted or "tables are native partitions kept by pg_partman"))
    elif noted:
        said.append((Reason.SCHEMA_WARNING, noted))
    if inputs.observed.topics is not None and inputs.observed.topics.warnings:
        said.append((Reason.TOPICS_WARNING, "; ".join(sorted(inputs.observed.topics.warnings))))
    managed = sorted(child_refs.managed_servers(inputs.platform)) if inputs.platform else []
    if managed:
        said.append((Reason.EVALUATION_ONLY, f"Managed {', '.join(managed)}: {_EVALUATION}"))
    if not said:
        return Condition(ConditionType.WARNING, Truth.FALSE, Reason.READY)
    return Condition(ConditionType.WARNING, Truth.TRUE, said[0][0], "; ".join(text for _, text in said))


def _paused(inputs: StatusInput) -> Condition:
    if inputs.paused:
        message = "nothing is changed while spec.paused is true"
        return Condition(ConditionType.PAUSED, Truth.TRUE, Reason.PAUSED_BY_SPEC, message)
    return Condition(ConditionType.PAUSED, Truth.FALSE, Reason.NOT_PAUSED)
