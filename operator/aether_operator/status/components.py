"""What stands between a platform and Ready in its rooms: the venue, and the market data from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aether_operator.api import labels
from aether_operator.api.platforms import VenueName
from aether_operator.api.reasons import ConditionType, Reason
from aether_operator.catalog.components import COMPONENTS, Component
from aether_operator.observed import child_refs
from aether_operator.observed import components as reports
from aether_operator.observed.owners import Ownership
from aether_operator.status import findings
from aether_operator.status.conditions import Condition, Truth
from aether_operator.status.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aether_operator.api.platforms import Platform
    from aether_operator.observed.components import ComponentReport
    from aether_operator.observed.observation import Observed

VENUE: Final = "venue"
INGEST: Final = "ingest"
NOT_SERVED: Final = "NotServed"
"""What is said of a market that no replica speaks of."""
_WORST_FIRST: Final = (
    Reason.UNKNOWN_PAIR,
    Reason.OUTPUT_FAILED,
    Reason.UNREACHABLE,
    Reason.TRADES_INVALID,
    Reason.BOOK_UNUSABLE,
    Reason.CHANNEL_SILENT,
)


def evaluate(platform: Platform | None, observed: Observed) -> tuple[list[Finding], tuple[Condition, Condition]]:
    """What is wrong with the rooms, and their two conditions."""
    kinds = (ConditionType.VENUE_READY, ConditionType.INGEST_READY)
    if platform is None:
        nothing = findings.not_started("", observed)
        return [], (_bad(kinds[0], nothing), _bad(kinds[1], nothing))
    of_venue, of_ingest = venue(platform, observed), ingest(platform, observed)
    if of_ingest is None and of_venue is not None:
        waiting = Condition(kinds[1], Truth.UNKNOWN, Reason.PROGRESSING, f"it waits for the {VENUE}")
        return [of_venue], (_bad(kinds[0], of_venue), waiting)
    found = [one for one in (of_venue, of_ingest) if one is not None]
    count = child_refs.replicas(Component.INGEST, platform)
    served = f"{_count(len(platform.spec.pairs), 'market')} on {_count(count, 'replica')}"
    return found, (
        _good(kinds[0], _named(platform, observed)) if of_venue is None else _bad(kinds[0], of_venue),
        _good(kinds[1], served) if of_ingest is None else _bad(kinds[1], of_ingest),
    )


def _good(kind: ConditionType, message: str) -> Condition:
    return Condition(kind, Truth.TRUE, Reason.READY, message)


def _bad(kind: ConditionType, finding: Finding) -> Condition:
    return Condition(kind, findings.truth(finding), finding.reason, finding.message)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


# The venue.


def venue(platform: Platform, observed: Observed) -> Finding | None:
    """What is wrong with where market data come from."""
    if platform.spec.venue.name is VenueName.SIMULATED:
        pods = _of_pods(VENUE, Component.EXCHANGE_SIM, platform, observed)
        if pods is not None and not _answers_though_unready(pods, Component.EXCHANGE_SIM, platform, observed):
            return pods
        return _of_checks(VENUE, Component.EXCHANGE_SIM, platform, observed) or pods
    said = {pod: one for pod, one in _reports(Component.INGEST, platform, observed).items() if one.ok}
    if not said:
        return Finding(VENUE, Reason.PROGRESSING, "no replica of ingest told of it yet", known=False)
    cut = {pod: one for pod, one in said.items() if one.disconnected is not None}
    if not cut:
        return None
    message = "; ".join(f"{pod}: {why}" for pod, why in _grouped((pod, one.disconnected) for pod, one in cut.items()))
    if any(one.received for one in said.values()):
        return Finding(VENUE, Reason.UNREACHABLE, message)
    where = f"{platform.spec.venue.name}: nothing was ever heard of it"
    return Finding(VENUE, Reason.NO_EGRESS, f"{where}; the cluster needs egress to the internet, port 443 ({message})")


def _named(platform: Platform, observed: Observed) -> str:
    """The venue, and its own word of how it is."""
    simulated = platform.spec.venue.name is VenueName.SIMULATED
    said = _reports(Component.EXCHANGE_SIM if simulated else Component.INGEST, platform, observed)
    words = sorted({one.system for one in said.values() if one.system})
    return ", ".join((platform.spec.venue.name.value, *words))


# Ingest.


def ingest(platform: Platform, observed: Observed) -> Finding | None:
    """What is wrong with ingest; what only follows from the venue's absence is the venue's matter."""
    if (unknown := _ownership_unknown(platform, observed)) is not None:
        return unknown
    pods = _of_pods(INGEST, Component.INGEST, platform, observed)
    if pods is not None and not _answers_though_unready(pods, Component.INGEST, platform, observed):
        return pods
    if (outdated := _outdated(platform, observed)) is not None:
        return outdated
    said = _reports(Component.INGEST, platform, observed)
    away = venue(platform, observed) is not None
    complaints = [
        one
        for one in (
            *_books(platform, said),
            *_trades(platform, said),
            *_channels(platform, said),
            *_outputs(said),
            *_feeds(platform, said),
        )
        if not away or one[0] not in {Reason.BOOK_UNUSABLE, Reason.CHANNEL_SILENT, Reason.UNREACHABLE}
    ]
    if complaints:
        ordered = sorted(complaints, key=lambda one: _WORST_FIRST.index(one[0]))
        return Finding(INGEST, ordered[0][0], "; ".join(text for _, text in ordered))
    return None if away else _of_checks(INGEST, Component.INGEST, platform, observed) or pods


def _ownership_unknown(platform: Platform, observed: Observed) -> Finding | None:
    """That it is not started since nobody knows yet whose a server is, or another has it."""
    used = COMPONENTS[Component.INGEST].servers
    unknown = [server.value for server in used if observed.owners.get(server) is not Ownership.OURS]
    if not unknown or child_refs.component_stateful_set(Component.INGEST, platform) in observed.children:
        return None
    message = f"it is not started before {', '.join(unknown)} is known to be this platform's"
    return Finding(INGEST, Reason.PROGRESSING, message, known=False)


def _outdated(platform: Platform, observed: Observed) -> Finding | None:
    """Replicas that do not follow the newest settings: what they say of books is of others."""
    live = observed.children[child_refs.settings_config_map(Component.INGEST, platform)]
    newest = (live["metadata"].get("annotations") or {}).get(labels.SETTINGS)
    said = _reports(Component.INGEST, platform, observed)
    outdated = [f"Pod {pod}" for pod, one in said.items() if one.settings != newest]
    if not outdated:
        return None
    follows = "do" if len(outdated) > 1 else "does"
    return Finding(INGEST, Reason.PROGRESSING, f"{', '.join(outdated)} {follows} not follow the newest settings yet")


def _books(platform: Platform, said: dict[str, ComponentReport]) -> Iterator[tuple[Reason, str]]:
    """The pairs without a usable book on any replica."""
    for pair in sorted(platform.spec.pairs):
        states = [one.books[pair] for one in said.values() if pair in one.books]
        if "" in states:
            continue
        why = states[0] if states else NOT_SERVED
        if why == reports.BOOK_CONTRADICTED and reports.BOOK in _silent(pair, said):
            continue  # its snapshots are usable for a while, and its channel is silent all the time
        reason = Reason.UNKNOWN_PAIR if reports.UNKNOWN_PAIR in states else Reason.BOOK_UNUSABLE
        yield reason, f"{pair}: {reports.UNKNOWN_PAIR if reason is Reason.UNKNOWN_PAIR else why}"


def _trades(platform: Platform, said: dict[str, ComponentReport]) -> Iterator[tuple[Reason, str]]:
    """The pairs whose trades are not handed on by a replica that serves them."""
    for pair in sorted(platform.spec.pairs):
        if why := next((one.trades[pair] for one in said.values() if pair in one.trades), ""):
            yield Reason.TRADES_INVALID, f"{pair}: {why}"


def _silent(pair: str, said: dict[str, ComponentReport]) -> tuple[str, ...]:
    """The channels of a pair that are silent on each replica that serves it."""
    told = [one.silent.get(pair, ()) for one in said.values() if pair in one.books]
    return tuple(channel for channel in told[0] if all(channel in one for one in told)) if told else ()


def _channels(platform: Platform, said: dict[str, ComponentReport]) -> Iterator[tuple[Reason, str]]:
    """The channels of pairs that leave out what happens."""
    for pair in sorted(platform.spec.pairs):
        if silent := _silent(pair, said):
            yield Reason.CHANNEL_SILENT, f"{pair}: silent: {', '.join(silent)}"


def _outputs(said: dict[str, ComponentReport]) -> Iterator[tuple[Reason, str]]:
    """The outputs that do not work somewhere, each cause once."""
    failing = [(pod, f"{output}: {why}") for pod, one in said.items() for output, why in one.outputs.items() if why]
    for pods, text in _grouped(failing):
        yield Reason.OUTPUT_FAILED, text if len(said) == 1 else f"{text} ({pods})"


def _feeds(platform: Platform, said: dict[str, ComponentReport]) -> Iterator[tuple[Reason, str]]:
    """Feeds from a venue of our own; those from a real one are the venue's matter."""
    if platform.spec.venue.name is VenueName.SIMULATED:
        for pods, why in _grouped((pod, one.disconnected) for pod, one in said.items()):
            yield Reason.UNREACHABLE, f"{pods} does not hear of the venue: {why}"


def _grouped(said: Iterable[tuple[str, str | None]]) -> list[tuple[str, str]]:
    """Pods that say the same, and what they say; in the order of what is said."""
    found: dict[str, list[str]] = {}
    for pod, text in said:
        if text is not None:
            found.setdefault(text, []).append(pod)
    return [(", ".join(pods), text) for text, pods in sorted(found.items())]


# Of every room.


def _of_pods(part: str, component: Component, platform: Platform, observed: Observed) -> Finding | None:
    """What is wrong with a room's children and pods, or that one of them does not answer."""
    claim = child_refs.component_claim(component, platform) if COMPONENTS[component].has_volume else None
    workload = (child_refs.component_stateful_set(component, platform), claim, child_refs.replicas(component, platform))
    wrong = findings.of_children(part, child_refs.of_component(component, platform), workload, observed)
    if wrong is not None:
        return wrong
    silent = [(pod, observed.component_reports.get(pod)) for pod in reports.expected(component, platform)]
    unasked = [f"Pod {pod}" for pod, one in silent if one is None]
    if unasked:
        return Finding(part, Reason.PROGRESSING, f"{', '.join(unasked)}: not asked yet", known=False)
    refused = [(pod, one) for pod, one in silent if one is not None and not one.ok]
    if refused:
        message = "; ".join(f"Pod {pod}: {one.message or one.reason.value}" for pod, one in refused)
        return Finding(part, refused[0][1].reason, message)
    return None


def _answers_though_unready(finding: Finding, component: Component, platform: Platform, observed: Observed) -> bool:
    """Whether pods are only not ready, and answer all the same: what they say is the cause."""
    answering = [one.ok for one in _reports(component, platform, observed).values()]
    return (
        finding.reason is Reason.ROLLING_OUT
        and all(answering)
        and len(answering) == child_refs.replicas(component, platform)
    )


def _of_checks(part: str, component: Component, platform: Platform, observed: Observed) -> Finding | None:
    """What a room itself says that it lacks, where nothing else explains it."""
    said = [
        (pod, f"{check}: {why}")
        for pod, one in _reports(component, platform, observed).items()
        if not one.ready
        for check, why in sorted(one.failing.items()) or (("ready", "it says that it is not"),)
    ]
    if not said:
        return None
    return Finding(part, Reason.FAILED, "; ".join(f"Pod {pods}: {text}" for pods, text in _grouped(said)))


def _reports(component: Component, platform: Platform, observed: Observed) -> dict[str, ComponentReport]:
    """What the pods that should be there said, in their order."""
    return {
        pod: observed.component_reports[pod]
        for pod in reports.expected(component, platform)
        if pod in observed.component_reports
    }
