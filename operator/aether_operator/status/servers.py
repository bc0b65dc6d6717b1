"""What prevents a platform's servers from being Ready: their children first, then the connection checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aether_operator.api.platforms import Server
from aether_operator.api.reasons import ConditionType, Reason
from aether_operator.observed import child_refs
from aether_operator.status import findings
from aether_operator.status.conditions import Condition, Truth
from aether_operator.status.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_operator.api.platforms import Platform
    from aether_operator.observed.platforms import ObservedPlatform

CONDITIONS: Final[Mapping[Server, ConditionType]] = {
    Server.POSTGRES: ConditionType.POSTGRES_READY,
    Server.KAFKA: ConditionType.KAFKA_READY,
    Server.NATS: ConditionType.NATS_READY,
    Server.REDIS: ConditionType.REDIS_READY,
}


def evaluate(server: Server, platform: Platform, observed: ObservedPlatform) -> Finding | None:
    """What is wrong with a server: its children first, then its connection check. None if nothing is."""
    workload = None
    if server in child_refs.managed_servers(platform):
        workload = (child_refs.stateful_set(server, platform), child_refs.claim(server, platform), 1)
    expected = child_refs.of_server(server, platform)
    return findings.of_children(server.value, expected, workload, observed) or _of_report(server, observed)


def _of_report(server: Server, observed: ObservedPlatform) -> Finding | None:
    report = observed.servers.get(server)
    if report is None:
        return Finding(server.value, Reason.PROGRESSING, "not checked yet", known=False)
    return None if report.ok else Finding(server.value, report.reason, report.message or report.reason.value)


def condition(server: Server, finding: Finding | None, version: str) -> Condition:
    """The condition of a server."""
    if finding is None:
        return Condition(CONDITIONS[server], Truth.TRUE, Reason.READY, version)
    return Condition(CONDITIONS[server], findings.truth(finding), finding.reason, finding.message)
