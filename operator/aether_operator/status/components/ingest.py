"""Ingest: whether every market has a usable book, its trades and channels, and whether every output works."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pydantic

from aether_operator.api.platforms import VenueName
from aether_operator.api.reasons import Reason
from aether_operator.catalog.components import COMPONENTS, Component
from aether_operator.observed import child_refs
from aether_operator.observed import components as reports
from aether_operator.observed.components import ComponentReport
from aether_operator.status import replicas
from aether_operator.status.evaluations import ComponentEvaluation
from aether_operator.status.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aether_operator.api.platforms import Platform
    from aether_operator.observed.platforms import ObservedPlatform

    Reports = Mapping[str, "IngestReport"]
    """Pod → its report."""

UNKNOWN_PAIR: Final = "UnknownPair"
"""Reported for a market that the venue does not have."""
BOOK_CONTRADICTED: Final = "Contradicted"
"""Reported for a book whose channel is silent while its market moves."""
BOOK: Final = "book"
"""The channel of order books."""
NOT_SERVED: Final = "NotServed"
"""For a market that no replica serves."""
_PART: Final = COMPONENTS[Component.INGEST].condition.part
_WORST_FIRST: Final = (
    Reason.UNKNOWN_PAIR,
    Reason.OUTPUT_FAILED,
    Reason.UNREACHABLE,
    Reason.TRADES_INVALID,
    Reason.BOOK_UNUSABLE,
    Reason.CHANNEL_SILENT,
)
_OF_THE_VENUE: Final = frozenset({Reason.BOOK_UNUSABLE, Reason.CHANNEL_SILENT, Reason.UNREACHABLE})
"""What follows from a venue that has a problem."""


# Its /status: what is used of it. A test compares this with contracts/statuses.py of the services.


class _Book(reports.Part):
    usable: bool
    reason: str = ""
    trades: str = ""
    silent: tuple[str, ...] = ()


class _Feed(reports.Part):
    connected: bool
    detail: str = ""
    system: str = ""
    age_seconds: float | None = None


class Status(reports.Status):
    """What is used of its /status."""

    feed: _Feed | None = None
    books: dict[str, _Book] = pydantic.Field(default_factory=dict)
    outputs: dict[str, reports.Check] = pydantic.Field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport(ComponentReport):
    """What a replica of ingest reports."""

    system: str = ""
    """The venue's own word: online, maintenance, …"""
    disconnected: str | None = None
    """Why the feed is disconnected; None if it is connected."""
    received: bool = False
    """Whether any message of the venue was ever received."""
    books: Mapping[str, str] = field(default_factory=dict)
    """Market → why its book is not usable; empty if it is."""
    trades: Mapping[str, str] = field(default_factory=dict)
    """Market → why its trades are held back; only such markets."""
    silent: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Market → its channels that are silent while the market trades; only such markets."""
    outputs: Mapping[str, str] = field(default_factory=dict)
    """Output → why it fails; empty if it works."""


def report(common: ComponentReport, status: Status, why: reports.Why) -> IngestReport:
    """Its report."""
    feed, books = status.feed, status.books
    return IngestReport.of(
        common,
        system=why(feed.system) if feed is not None and feed.system else "",
        disconnected=None if feed is None or feed.connected else why(feed.detail),
        received=feed is not None and feed.age_seconds is not None,
        # A code of ours, which quotes nobody.
        books={name: "" if one.usable else reports.one_line(one.reason) for name, one in books.items()},
        trades={name: why(one.trades) for name, one in books.items() if one.trades},
        silent={name: tuple(why(channel) for channel in one.silent) for name, one in books.items() if one.silent},
        outputs={name: "" if one.ok else why(one.detail) for name, one in status.outputs.items()},
    )


def evaluate(
    platform: Platform, observed: ObservedPlatform, earlier: Mapping[Component, ComponentEvaluation]
) -> ComponentEvaluation:
    """Whether market data flow, without what only follows from a venue that has a problem."""
    venue_failed = earlier[Component.EXCHANGE_SIM].finding is not None
    finding = replicas.unavailable(Component.INGEST, platform, observed) or _of_reports(
        platform, observed, venue_failed=venue_failed
    )
    if finding is None and not venue_failed:
        finding = replicas.not_ready(Component.INGEST, platform, observed)
    pods = child_refs.replicas(Component.INGEST, platform)
    return ComponentEvaluation(
        finding=finding,
        waiting_for="the venue" if venue_failed else "",
        message=f"{_count(len(platform.spec.pairs), 'market')} on {_count(pods, 'replica')}",
        fields={"readyPairs": ready_pairs(platform, observed)},
    )


def ready_pairs(platform: Platform, observed: ObservedPlatform) -> str:
    """How many pairs have a usable book on some replica, of how many: `9/10`."""
    pod_reports = replicas.reports_of(Component.INGEST, IngestReport, platform, observed).values()
    usable = [pair for pair in platform.spec.pairs if any(one.books.get(pair) == "" for one in pod_reports)]
    return f"{len(usable)}/{len(platform.spec.pairs)}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _of_reports(platform: Platform, observed: ObservedPlatform, *, venue_failed: bool) -> Finding | None:
    pod_reports = replicas.reports_of(Component.INGEST, IngestReport, platform, observed)
    problems = [
        one
        for one in (
            *_books(platform, pod_reports),
            *_trades(platform, pod_reports),
            *_channels(platform, pod_reports),
            *_outputs(pod_reports),
            *_feeds(platform, pod_reports),
        )
        if not venue_failed or one[0] not in _OF_THE_VENUE
    ]
    if not problems:
        return None
    ordered = sorted(problems, key=lambda one: _WORST_FIRST.index(one[0]))
    return Finding(_PART, ordered[0][0], "; ".join(text for _, text in ordered))


def _books(platform: Platform, pod_reports: Reports) -> Iterator[tuple[Reason, str]]:
    """Pairs without a usable book on any replica."""
    for pair in sorted(platform.spec.pairs):
        states = [one.books[pair] for one in pod_reports.values() if pair in one.books]
        if "" in states:
            continue
        why = states[0] if states else NOT_SERVED
        if why == BOOK_CONTRADICTED and BOOK in _silent(pair, pod_reports):
            continue  # its snapshots are usable for a while; the silent channel is the lasting cause
        reason = Reason.UNKNOWN_PAIR if UNKNOWN_PAIR in states else Reason.BOOK_UNUSABLE
        yield reason, f"{pair}: {UNKNOWN_PAIR if reason is Reason.UNKNOWN_PAIR else why}"


def _trades(platform: Platform, pod_reports: Reports) -> Iterator[tuple[Reason, str]]:
    """Pairs whose trades are held back by a replica that serves them."""
    for pair in sorted(platform.spec.pairs):
        if why := next((one.trades[pair] for one in pod_reports.values() if pair in one.trades), ""):
            yield Reason.TRADES_INVALID, f"{pair}: {why}"


def _silent(pair: str, pod_reports: Reports) -> tuple[str, ...]:
    """The channels of a pair that are silent on each replica that serves it."""
    silent_channels = [one.silent.get(pair, ()) for one in pod_reports.values() if pair in one.books]
    return (
        tuple(channel for channel in silent_channels[0] if all(channel in one for one in silent_channels))
        if silent_channels
        else ()
    )


def _channels(platform: Platform, pod_reports: Reports) -> Iterator[tuple[Reason, str]]:
    """Pairs with channels that are silent although the market trades."""
    for pair in sorted(platform.spec.pairs):
        if silent := _silent(pair, pod_reports):
            yield Reason.CHANNEL_SILENT, f"{pair}: silent: {', '.join(silent)}"


def _outputs(pod_reports: Reports) -> Iterator[tuple[Reason, str]]:
    """Outputs that fail on some replica; each cause once."""
    failing = [
        (pod, f"{output}: {why}") for pod, one in pod_reports.items() for output, why in one.outputs.items() if why
    ]
    for pods, text in replicas.grouped(failing):
        yield Reason.OUTPUT_FAILED, text if len(pod_reports) == 1 else f"{text} ({pods})"


def _feeds(platform: Platform, pod_reports: Reports) -> Iterator[tuple[Reason, str]]:
    """Disconnected feeds of the simulated venue; those of a real one are the venue's problem."""
    if platform.spec.venue.name is VenueName.SIMULATED:
        for pods, why in replicas.grouped((pod, one.disconnected) for pod, one in pod_reports.items()):
            yield Reason.UNREACHABLE, f"{pods}: no feed from the venue: {why}"
