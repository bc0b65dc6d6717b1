"""The venue: the pod of the simulated one, or what ingest reports about its connection to a real one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aether_operator.api.platforms import VenueName
from aether_operator.api.reasons import Reason
from aether_operator.catalog.components import COMPONENTS, Component
from aether_operator.observed import components as reports
from aether_operator.observed.components import ComponentReport
from aether_operator.status import replicas
from aether_operator.status.components.ingest import IngestReport
from aether_operator.status.evaluations import ComponentEvaluation
from aether_operator.status.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_operator.api.platforms import Platform
    from aether_operator.observed.platforms import ObservedPlatform

_PART = COMPONENTS[Component.EXCHANGE_SIM].condition.part


class Status(reports.Status):
    """What is used of its /status; a test compares it with contracts/statuses.py of the services."""

    system: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueReport(ComponentReport):
    """What the simulated venue reports."""

    system: str = ""
    """Its own word: online, maintenance, …"""


def report(common: ComponentReport, status: Status, why: reports.Why) -> VenueReport:
    """Its report."""
    return VenueReport.of(common, system=why(status.system) if status.system else "")


def evaluate(
    platform: Platform, observed: ObservedPlatform, _earlier: Mapping[Component, ComponentEvaluation]
) -> ComponentEvaluation:
    """Whether there is a source of market data. When there is, the message names it, and its system status."""
    name = platform.spec.venue.name
    of_ingest = replicas.reports_of(Component.INGEST, IngestReport, platform, observed)
    if name is VenueName.SIMULATED:
        finding = replicas.unavailable(Component.EXCHANGE_SIM, platform, observed) or replicas.not_ready(
            Component.EXCHANGE_SIM, platform, observed
        )
        own = replicas.reports_of(Component.EXCHANGE_SIM, VenueReport, platform, observed)
        words = {one.system for one in own.values()}
    else:
        finding = _of_feeds(name, of_ingest)
        words = {one.system for one in of_ingest.values()}
    return ComponentEvaluation(finding=finding, message=", ".join((name.value, *sorted(words - {""}))))


def _of_feeds(venue: VenueName, of_ingest: Mapping[str, IngestReport]) -> Finding | None:
    """What is wrong with the connections of ingest's replicas to a real venue; None if nothing is."""
    if not of_ingest:
        return Finding(_PART, Reason.PROGRESSING, "no replica of ingest has reported on it yet", known=False)
    disconnected = replicas.grouped((pod, one.disconnected) for pod, one in of_ingest.items())
    if not disconnected:
        return None
    message = "; ".join(f"{pods}: {why}" for pods, why in disconnected)
    if any(one.received for one in of_ingest.values()):
        return Finding(_PART, Reason.UNREACHABLE, message)
    where = f"{venue}: nothing was ever received from it"
    return Finding(_PART, Reason.NO_EGRESS, f"{where}; the cluster needs egress to the internet, port 443 ({message})")
