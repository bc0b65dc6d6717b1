"""The status of a platform, from everything that was observed of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aether_operator.api.platform_definition import DEFINITION
from aether_operator.api.platforms import Server
from aether_operator.api.reasons import ConditionType, Reason
from aether_operator.observed import child_refs
from aether_operator.observed.reports import Engine
from aether_operator.status import components, conditions, facts, findings, servers, summaries
from aether_operator.status.conditions import Condition, Truth
from aether_operator.status.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from aether_operator.api.platforms import Platform
    from aether_operator.observed.platforms import ObservedPlatform
    from aether_operator.observed.reports import SchemaReport, TopicsReport

    PlatformInput = summaries.StatusInput[Platform, ObservedPlatform]


def compute_status(inputs: PlatformInput, *, now: datetime) -> dict[str, Any]:
    """The complete status of a platform."""
    return summaries.compute_status(DEFINITION, inputs, evaluate(inputs), now=now)


def evaluate(inputs: PlatformInput) -> summaries.Evaluation:
    """What prevents a platform from being Ready, and what its status says beyond that."""
    platform, observed = inputs.in_force, inputs.observed
    by_server = _of_servers(inputs)
    dependents = [_evaluate_dependent(part, inputs, by_server) for part in (_of_schema(inputs), _of_topics(inputs))]
    of_components = components.evaluate(platform, observed)
    parts = [
        *(_of_server(server, one, inputs) for server, one in by_server.items()),
        *(condition for _, condition in dependents),
        *of_components.conditions,
    ]
    schema = _schema_facts(inputs)
    return summaries.Evaluation(
        findings=[
            *(_platform_findings(platform, observed, by_server, [one for one, _ in dependents]) if platform else ()),
            *of_components.findings,
        ],
        conditions=[*parts, _warning(inputs, schema)],
        fields={
            "readyParts": conditions.ready_parts(parts),
            **of_components.fields,
            "endpoints": facts.endpoints(platform, observed) if platform else None,
            "servers": facts.versions(observed),
            "schema": schema,
        },
    )


def _of_servers(inputs: PlatformInput) -> dict[Server, Finding | None]:
    if inputs.in_force is None:
        return {server: findings.not_started(server.value, inputs.observed) for server in Server}
    return {server: servers.evaluate(server, inputs.in_force, inputs.observed) for server in Server}


def _platform_findings(
    platform: Platform,
    observed: ObservedPlatform,
    by_server: Mapping[Server, Finding | None],
    dependents: Sequence[Finding | None],
) -> list[Finding]:
    found = [*by_server.values(), *findings.of_other_objects(child_refs.all_of(platform), observed), *dependents]
    return [one for one in found if one is not None]


def _of_server(server: Server, finding: Finding | None, inputs: PlatformInput) -> Condition:
    report = inputs.observed.servers.get(server)
    return servers.condition(server, finding, report.version if report else "")


@dataclass(frozen=True, slots=True)
class _DependentPart:
    """A part that the operator sets up on a server: the schema, the topics."""

    name: str
    kind: ConditionType
    server: Server
    report: SchemaReport | TopicsReport | None
    ok_message: str
    """The message of its condition when it is Ready."""


def _of_schema(inputs: PlatformInput) -> _DependentPart:
    report = inputs.observed.schema
    ok_message = (report.message or f"revision {report.revision}") if report else ""
    return _DependentPart(findings.SCHEMA, ConditionType.SCHEMA_READY, Server.POSTGRES, report, ok_message)


def _of_topics(inputs: PlatformInput) -> _DependentPart:
    report = inputs.observed.topics
    return _DependentPart(
        findings.TOPICS, ConditionType.TOPICS_READY, Server.KAFKA, report, ", ".join(report.topics) if report else ""
    )


def _evaluate_dependent(
    part: _DependentPart, inputs: PlatformInput, by_server: Mapping[Server, Finding | None]
) -> tuple[Finding | None, Condition]:
    """What is wrong with a part that depends on a server, and its condition."""
    kind, report, server_finding = part.kind, part.report, by_server[part.server]
    last_condition = conditions.by_type(inputs.previous).get(kind)
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


def _schema_facts(inputs: PlatformInput) -> Mapping[str, Any]:
    if inputs.observed.schema is not None:
        return facts.schema(inputs.observed.schema)
    last: Mapping[str, Any] = inputs.previous.get("schema") or {}
    return last if inputs.paused else {}


_EVALUATION: Final = "one node each, for evaluation, not for production"


def _warning(inputs: PlatformInput, schema: Mapping[str, Any]) -> Condition:
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
    managed = sorted(child_refs.managed_servers(inputs.in_force)) if inputs.in_force else []
    if managed:
        warnings.append((Reason.EVALUATION_ONLY, f"Managed {', '.join(managed)}: {_EVALUATION}"))
    if not warnings:
        return Condition(ConditionType.WARNING, Truth.FALSE, Reason.READY)
    return Condition(ConditionType.WARNING, Truth.TRUE, warnings[0][0], "; ".join(text for _, text in warnings))
