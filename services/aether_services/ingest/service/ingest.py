"""Ingest as a whole: composes its parts, follows the live settings, and reports status."""

from __future__ import annotations

import asyncio
import functools
import logging
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from aether_services.contracts.books import BookView
from aether_services.contracts.statuses import BookState, Check, Feed, IngestStatus
from aether_services.domain import times
from aether_services.domain.books import CHECKSUM_LEVELS
from aether_services.ingest.core.market import UNKNOWN
from aether_services.ingest.core.markets import Markets
from aether_services.ingest.core.rejections import Rejections
from aether_services.ingest.core.sharding import ShardAssignment
from aether_services.ingest.service.backfill import TradeHistory
from aether_services.ingest.service.delivery import Delivery
from aether_services.ingest.service.instrument_list import InstrumentListReader
from aether_services.ingest.service.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aether_services.domain.instruments import Symbol
    from aether_services.domain.times import Nanoseconds
    from aether_services.ingest.core.outboxes import EncodedMessage
    from aether_services.ingest.ports import (
        InstrumentStore,
        LiveSettings,
        LiveSettingsSource,
        Observer,
        Output,
        Peers,
        Venue,
    )
    from aether_services.kit.clocks import Clock

log = logging.getLogger(__name__)

POLL_INTERVAL: Final = 0.5
"""Seconds between two reads of the live settings and queries of the other replicas."""
REPUBLISH_INTERVAL: Final = 0.25
NOT_LISTED: Final = "its entry in AssetPairs is malformed"
HANDOVER_TIMEOUT: Final = 12.0
"""Seconds that a draining replica waits for others to take its markets; then it withdraws its books regardless."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Tuning parameters.

    Attributes:
        depth: The subscribed depth of books.
        refresh: Seconds after which a new snapshot of a book is requested.
        trade_log_length: Trades of each market that are kept in memory.
        outbox_limit: Messages that may queue for an output.
        pace: Seconds between two REST calls to the venue.
    """

    depth: int = 100
    refresh: float = 300
    trade_log_length: int = 1_000
    outbox_limit: int = 5_000
    rest_interval: float = 0.0


class Ingest:
    """One replica of ingest.

    Args:
        instance: The name of its pod.
        number: Its number among the replicas, which decides its share of the markets.
        release: The release of the software.
        writer: An id of this process, the prefix of message ids.
        venue: The source of market data.
        outputs: The destinations of market data.
        instruments: Stores the markets.
        live: The live settings.
        peers: The other replicas.
        clock: The time.
        observer: Gets each measured time.
        options: Tuning parameters.
        rejections: Counts rejected messages and entries; shared with the venue's adapter.
    """

    def __init__(  # noqa: PLR0913 - its parts, by name
        self,
        *,
        instance: str,
        number: int,
        release: str,
        writer: str,
        venue: Venue,
        outputs: Sequence[Output],
        instruments: InstrumentStore,
        live: LiveSettingsSource,
        peers: Peers,
        clock: Clock,
        observer: Observer,
        options: Options | None = None,
        rejections: Rejections | None = None,
    ) -> None:
        options, rejections = options or Options(), rejections or Rejections()
        self._instance, self._release, self._clock = instance, release, clock
        self._live, self._peers = live, peers
        self._number, self._assignment = number, ShardAssignment(number)
        self._started = clock.now()
        self._settings: LiveSettings | None = None
        self._receive_task: asyncio.Task[None] | None = None
        self.draining = False
        self.markets = Markets(
            writer=writer,
            depth=options.depth,
            trade_log_length=options.trade_log_length,
            publish=self._publish,
            observe_delay=observer.feed_delay,
            rejections=rejections,
        )
        self.instrument_list = InstrumentListReader(venue, instruments, clock, rejections)
        history = TradeHistory(venue, clock, self.instrument_list.reload, rejections)
        self.receiver = Receiver(
            venue=venue,
            history=history,
            markets=self.markets,
            clock=clock,
            depth=options.depth,
            refresh=options.refresh,
            on_received=self._notify,
            rest_interval=options.rest_interval,
        )
        self.outputs = [
            Delivery(
                output=output,
                markets=self.markets,
                receiver=self.receiver,
                history=history,
                clock=clock,
                limit=options.outbox_limit,
                observe=functools.partial(observer.delivered, output.name),
            )
            for output in outputs
        ]

    def _publish(self, message: EncodedMessage) -> None:
        for output in self.outputs:
            output.enqueue(message)

    def _notify(self) -> None:
        for output in self.outputs:
            output.notify()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            self._receive_task = tasks.create_task(self.receiver.run())
            for work in (
                self._follow_settings(),
                self._republish_loop(),
                self.instrument_list.run(),
                self.receiver.backfill(),
                *(output.run() for output in self.outputs),
            ):
                tasks.create_task(work)

    async def _follow_settings(self) -> None:
        while True:
            settings = self._live.read()
            if settings is not None and settings != self._settings:
                log.info(
                    "settings_changed",
                    extra={"digest": settings.digest, "pairs": len(settings.pairs), "replicas": settings.replicas},
                )
                self._settings = settings
                self.receiver.reconnect_policy.replicas = settings.replicas
            if self._settings is not None:
                now = self._settings
                usable = await self._peers.usable(now.replicas)
                self.markets.serve(
                    self._assignment.assign(now.pairs, now.replicas, usable, leaving=self.draining),
                    usable_elsewhere=frozenset().union(*usable.values()),
                )
            await self._clock.sleep(POLL_INTERVAL)

    async def _republish_loop(self) -> None:
        while True:
            await self._clock.sleep(REPUBLISH_INTERVAL)
            self.markets.republish(self.receiver.last_received_at, self._clock.now())
            if self.markets.instruments_outdated and self.instrument_list.request_reload():
                self.markets.instruments_requested()
                self.receiver.refresh_instruments = True
            for output in self.outputs:
                output.check_conflation()
            self._notify()

    async def drain(self) -> None:
        """Hand the markets over to the other replicas, if any, and deliver what is queued."""
        self.draining = True
        ends = self._clock.elapsed() + HANDOVER_TIMEOUT
        while self._has_others() and self.markets.all():
            if self._clock.elapsed() > ends:  # no replica takes them
                log.warning("handover_timeout", extra={"symbols": sorted(one.symbol for one in self.markets.all())})
                break
            await self._clock.sleep(POLL_INTERVAL / 2)
        if self._receive_task is not None:
            self._receive_task.cancel()
            self.receiver.stop()
        while any(output.connected and output.waiting() for output in self.outputs):
            await self._clock.sleep(POLL_INTERVAL / 10)

    def _has_others(self) -> bool:
        return self._settings is not None and set(range(self._settings.replicas)) != {self._number}

    # Status.

    def checks(self) -> dict[str, Check]:
        """Ready with live settings and a connected feed.

        An unavailable output does not matter here: clients of /books still get good books from this replica.
        """
        feed = self.receiver
        return {
            "settings": Check(ok=self._settings is not None, detail="" if self._settings else "no live settings yet"),
            "feed": Check(ok=feed.connected, detail=feed.detail),
        }

    def status(self) -> IngestStatus:
        now, feed = self._clock.now(), self.receiver
        checks = self.checks()
        return IngestStatus(
            service="ingest",
            release=self._release,
            instance=self._instance,
            started=self._started,
            ready=not self.draining and all(check.ok for check in checks.values()),
            draining=self.draining,
            checks=checks,
            settings=self._settings.digest if self._settings else "",
            feed=Feed(
                connected=feed.connected,
                detail=feed.detail,
                system=self.markets.system,
                age_seconds=_age(feed.last_received_at, now),
                reconnects=feed.reconnects,
            ),
            books={market.symbol: self._book(market.symbol, now) for market in self.markets.all()},
            outputs={output.output.name: output.state() for output in self.outputs},
        )

    def view(self, symbol: Symbol, depth: int) -> BookView | None:
        """The current book of a market; None if this replica does not serve it."""
        market = self.markets.get(symbol)
        if market is None:
            return None
        book = market.book if market.usable else None
        return BookView(
            symbol=symbol,
            usable=book is not None,
            reason=market.reason,
            proved=CHECKSUM_LEVELS,
            checksum=int(book.checksum) if book else 0,
            at=market.writer.at or market.sent_at,
            received=market.sent_at,
            snapshot_at=market.snapshot_at,
            bids=tuple(islice(book.bids.levels(), depth)) if book else (),
            asks=tuple(islice(book.asks.levels(), depth)) if book else (),
        )

    def _book(self, symbol: Symbol, now: Nanoseconds) -> BookState:
        market = self.markets[symbol]
        reason = market.reason
        rejection = self.receiver.rejection(symbol)
        if rejection and reason != UNKNOWN:
            reason = f"Rejected: {rejection}"
        last = market.trade_log.last
        return BookState(
            usable=market.usable,
            reason=reason,
            age_seconds=_age(market.sent_at, now) if market.usable else None,
            last_trade_id=last.trade_id if last else None,
            checksum_failures=market.checksum_failures,
            gaps=market.gaps,
            silent=market.liveness.silent,
            trades=market.withheld or (NOT_LISTED if symbol in self.instrument_list.unreadable else ""),
            backoff_seconds=round(self.receiver.backoff(symbol), 1),
        )


def _age(since: Nanoseconds, now: Nanoseconds) -> float | None:
    return round(max(0, now - since) / times.SECOND, 3) if since else None
