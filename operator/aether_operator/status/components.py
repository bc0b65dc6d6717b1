"""Findings about a platform's components: the venue, and the market data that ingest receives from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aether_operator.api import labels
from aether_operator.api.platforms import VenueName
from aether_operator.api.reasons import ConditionType, Reason
from aether_operator.catalog.components import COMPONENTS, Component
from aether_operator.observed import child_refs
from aether_operator.observed import components as reports
from aether_operator.observed.server_owners import Ownership
from aether_operator.status import findings
from aether_operator.status.conditions import Condition, Truth
from aether_operator.status.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aether_operator.api.platforms import Platform
    from aether_operator.observed.components import ComponentReport
    from aether_operator.observed.platforms import ObservedPlatform

VENUE: Final = "venue"
INGEST: Final = "ingest"
NOT_SERVED: Final = "NotServed"
"""Reported for a market that no replica serves."""
_WORST_FIRST: Final = (
    Reason.UNKNOWN_PAIR,
    Reason.OUTPUT_FAILED,
    Reason.UNREACHABLE,
    Reason.TRADES_INVALID,
    Reason.BOOK_UNUSABLE,
    Reason.CHANNEL_SILENT,
)


def evaluate(
    platform: Platform | None, observed: ObservedPlatform
) -> tuple[list[Finding], tuple[Condition, Condition]]:
    """The findings about the components, and their two conditions."""
    kinds = (ConditionType.VENUE_READY, ConditionType.INGEST_READY)
    if platform is None:
        nothing = findings.not_started("", observed)
        return [], (_bad(kinds[0], nothing), _bad(kinds[1], nothing))
    venue_finding, ingest_finding = venue(platform, observed), ingest(platform, observed)
    if ingest_finding is None and venue_finding is not None:
        waiting = Condition(kinds[1], Truth.UNKNOWN, Reason.PROGRESSING, f"waiting for the {VENUE}")
        return [venue_finding], (_bad(kinds[0], venue_finding), waiting)
    found = [one for one in (venue_finding, ingest_finding) if one is not None]
    count = child_refs.replicas(Component.INGEST, platform)
    served = f"{_count(len(platform.spec.pairs), 'market')} on {_count(count, 'replica')}"
    return found, (
        _good(kinds[0], _venue_status(platform, observed)) if venue_finding is None else _bad(kinds[0], venue_finding),
        _good(kinds[1], served) if ingest_finding is None else _bad(kinds[1], ingest_finding),
    )


def _good(kind: ConditionType, message: str) -> Condition:
    return Condition(kind, Truth.TRUE, Reason.READY, message)


def _bad(kind: ConditionType, finding: Finding) -> Condition:
    return Condition(kind, findings.truth(finding), finding.reason, finding.message)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


# The venue.


def venue(platform: Platform, observed: ObservedPlatform) -> Finding | None:
    """What is wrong with the source of market data; None if nothing is."""
    if platform.spec.venue.name is VenueName.SIMULATED:
        pods = _of_pods(VENUE, Component.EXCHANGE_SIM, platform, observed)
        if pods is not None and not _answers_though_unready(pods, Component.EXCHANGE_SIM, platform, observed):
            return pods
        return _of_checks(VENUE, Component.EXCHANGE_SIM, platform, observed) or pods
    pod_reports = {pod: one for pod, one in _pod_reports(Component.INGEST, platform, observed).items() if one.ok}
    if not pod_reports:
        return Finding(VENUE, Reason.PROGRESSING, "no replica of ingest has reported on it yet", known=False)
    disconnected = {pod: one for pod, one in pod_reports.items() if one.disconnected is not None}
    if not disconnected:
        return None
    message = "; ".join(
        f"{pod}: {why}" for pod, why in _grouped((pod, one.disconnected) for pod, one in disconnected.items())
    )
    if any(one.received for one in pod_reports.values()):
        return Finding(VENUE, Reason.UNREACHABLE, message)
    where = f"{platform.spec.venue.name}: nothing was ever received from it"
    return Finding(VENUE, Reason.NO_EGRESS, f"{where}; the cluster needs egress to the internet, port 443 ({message})")


def _venue_status(platform: Platform, observed: ObservedPlatform) -> str:
    """The venue's name, and its system status as it reports it."""
    simulated = platform.spec.venue.name is VenueName.SIMULATED
    pod_reports = _pod_reports(Component.EXCHANGE_SIM if simulated else Component.INGEST, platform, observed)
    words = sorted({one.system for one in pod_reports.values() if one.system})
    return ", ".join((platform.spec.venue.name.value, *words))


# Ingest.


def ingest(platform: Platform, observed: ObservedPlatform) -> Finding | None:
    """What is wrong with ingest, without what only follows from a venue that is away; None if nothing is."""
    if (unknown := _ownership_unknown(platform, observed)) is not None:
        return unknown
    pods = _of_pods(INGEST, Component.INGEST, platform, observed)
    if pods is not None and not _answers_though_unready(pods, Component.INGEST, platform, observed):
        return pods
    if (outdated := _outdated(platform, observed)) is not None:
        return outdated
    pod_reports = _pod_reports(Component.INGEST, platform, observed)
    venue_failed = venue(platform, observed) is not None
    problems = [
        one
        for one in (
            *_books(platform, pod_reports),
            *_trades(platform, pod_reports),
            *_channels(platform, pod_reports),
            *_outputs(pod_reports),
            *_feeds(platform, pod_reports),
        )
        if not venue_failed or one[0] not in {Reason.BOOK_UNUSABLE, Reason.CHANNEL_SILENT, Reason.UNREACHABLE}
    ]
    if problems:
        ordered = sorted(problems, key=lambda one: _WORST_FIRST.index(one[0]))
        return Finding(INGEST, ordered[0][0], "; ".join(text for _, text in ordered))
    return None if venue_failed else _of_checks(INGEST, Component.INGEST, platform, observed) or pods


def _ownership_unknown(platform: Platform, observed: ObservedPlatform) -> Finding | None:
    """Ingest is not started yet, since a server's owner is unknown or another platform."""
    used = COMPONENTS[Component.INGEST].servers
    unknown = [server.value for server in used if observed.owners.get(server) is not Ownership.OURS]
    if not unknown or child_refs.component_stateful_set(Component.INGEST, platform) in observed.children:
        return None
    message = f"it is not started until it is confirmed that {', '.join(unknown)} belong to this platform"
    return Finding(INGEST, Reason.PROGRESSING, message, known=False)


def _outdated(platform: Platform, observed: ObservedPlatform) -> Finding | None:
    """Replicas that do not follow the newest settings yet: their books are not those of the spec."""
    live = observed.children[child_refs.settings_config_map(Component.INGEST, platform)]
    newest = (live["metadata"].get("annotations") or {}).get(labels.SETTINGS)
    pod_reports = _pod_reports(Component.INGEST, platform, observed)
    outdated = [f"Pod {pod}" for pod, one in pod_reports.items() if one.settings != newest]
    if not outdated:
        return None
    follows = "do" if len(outdated) > 1 else "does"
    return Finding(INGEST, Reason.PROGRESSING, f"{', '.join(outdated)} {follows} not follow the newest settings yet")


def _books(platform: Platform, pod_reports: dict[str, ComponentReport]) -> Iterator[tuple[Reason, str]]:
    """Pairs without a usable book on any replica."""
    for pair in sorted(platform.spec.pairs):
        states = [one.books[pair] for one in pod_reports.values() if pair in one.books]
        if "" in states:
            continue
        why = states[0] if states else NOT_SERVED
        if why == reports.BOOK_CONTRADICTED and reports.BOOK in _silent(pair, pod_reports):
            continue  # its snapshots are usable for a while; the silent channel is the lasting cause
        reason = Reason.UNKNOWN_PAIR if reports.UNKNOWN_PAIR in states else Reason.BOOK_UNUSABLE
        yield reason, f"{pair}: {reports.UNKNOWN_PAIR if reason is Reason.UNKNOWN_PAIR else why}"


def ready_pairs(platform: Platform, observed: ObservedPlatform) -> str:
    """How many pairs have a usable book on some replica, of how many: `9/10`."""
    pod_reports = _pod_reports(Component.INGEST, platform, observed).values()
    usable = [pair for pair in platform.spec.pairs if any(one.books.get(pair) == "" for one in pod_reports)]
    return f"{len(usable)}/{len(platform.spec.pairs)}"


def _trades(platform: Platform, pod_reports: dict[str, ComponentReport]) -> Iterator[tuple[Reason, str]]:
    """Pairs whose trades are held back by a replica that serves them."""
    for pair in sorted(platform.spec.pairs):
        if why := next((one.trades[pair] for one in pod_reports.values() if pair in one.trades), ""):
            yield Reason.TRADES_INVALID, f"{pair}: {why}"


def _silent(pair: str, pod_reports: dict[str, ComponentReport]) -> tuple[str, ...]:
    """The channels of a pair that are silent on each replica that serves it."""
    silent_channels = [one.silent.get(pair, ()) for one in pod_reports.values() if pair in one.books]
    return (
        tuple(channel for channel in silent_channels[0] if all(channel in one for one in silent_channels))
        if silent_channels
        else ()
    )


def _channels(platform: Platform, pod_reports: dict[str, ComponentReport]) -> Iterator[tuple[Reason, str]]:
    """Pairs with channels that are silent although the market trades."""
    for pair in sorted(platform.spec.pairs):
        if silent := _silent(pair, pod_reports):
            yield Reason.CHANNEL_SILENT, f"{pair}: silent: {', '.join(silent)}"


def _outputs(pod_reports: dict[str, ComponentReport]) -> Iterator[tuple[Reason, str]]:
    """Outputs that fail on some replica; each cause once."""
    failing = [
        (pod, f"{output}: {why}") for pod, one in pod_reports.items() for output, why in one.outputs.items() if why
    ]
    for pods, text in _grouped(failing):
        yield Reason.OUTPUT_FAILED, text if len(pod_reports) == 1 else f"{text} ({pods})"


def _feeds(platform: Platform, pod_reports: dict[str, ComponentReport]) -> Iterator[tuple[Reason, str]]:
    """Disconnected feeds of the simulated venue; those of a real one are reported by `venue`."""
    if platform.spec.venue.name is VenueName.SIMULATED:
        for pods, why in _grouped((pod, one.disconnected) for pod, one in pod_reports.items()):
            yield Reason.UNREACHABLE, f"{pods}: no feed from the venue: {why}"


def _grouped(texts: Iterable[tuple[str, str | None]]) -> list[tuple[str, str]]:
    """Group pods by what they report: (pods, text), in the order of the texts."""
    found: dict[str, list[str]] = {}
    for pod, text in texts:
        if text is not None:
            found.setdefault(text, []).append(pod)
    return [(", ".join(pods), text) for text, pods in sorted(found.items())]


# All components.


def _of_pods(part: str, component: Component, platform: Platform, observed: ObservedPlatform) -> Finding | None:
    """What is wrong with a component's children and pods, or with a pod's /status; None if nothing is."""
    claim = child_refs.component_claim(component, platform) if COMPONENTS[component].has_volume else None
    workload = (child_refs.component_stateful_set(component, platform), claim, child_refs.replicas(component, platform))
    finding = findings.of_children(part, child_refs.of_component(component, platform), workload, observed)
    if finding is not None:
        return finding
    silent = [(pod, observed.component_reports.get(pod)) for pod in reports.expected(component, platform)]
    not_queried = [f"Pod {pod}" for pod, one in silent if one is None]
    if not_queried:
        return Finding(part, Reason.PROGRESSING, f"{', '.join(not_queried)}: not queried yet", known=False)
    failed = [(pod, one) for pod, one in silent if one is not None and not one.ok]
    if failed:
        message = "; ".join(f"Pod {pod}: {one.message or one.reason.value}" for pod, one in failed)
        return Finding(part, failed[0][1].reason, message)
    return None


def _answers_though_unready(
    finding: Finding, component: Component, platform: Platform, observed: ObservedPlatform
) -> bool:
    """Whether pods are only not ready, and all answer: then their own reports have the cause."""
    answering = [one.ok for one in _pod_reports(component, platform, observed).values()]
    return (
        finding.reason is Reason.ROLLING_OUT
        and all(answering)
        and len(answering) == child_refs.replicas(component, platform)
    )


def _of_checks(part: str, component: Component, platform: Platform, observed: ObservedPlatform) -> Finding | None:
    """The failing checks that a component reports itself, if nothing else explains them."""
    failing = [
        (pod, f"{check}: {why}")
        for pod, one in _pod_reports(component, platform, observed).items()
        if not one.ready
        for check, why in sorted(one.failing.items()) or (("ready", "it reports that it is not ready"),)
    ]
    if not failing:
        return None
    return Finding(part, Reason.FAILED, "; ".join(f"Pod {pods}: {text}" for pods, text in _grouped(failing)))


def _pod_reports(component: Component, platform: Platform, observed: ObservedPlatform) -> dict[str, ComponentReport]:
    """The reports of the expected pods, in the order of their names."""
    return {
        pod: observed.component_reports[pod]
        for pod in reports.expected(component, platform)
        if pod in observed.component_reports
    }
