"""Ingest as a whole: its parts, the look at what may change, and what it says of itself."""

from __future__ import annotations

import asyncio
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
    from aether_services.ingest.ports import InstrumentStore, LiveSettings, LiveSettingsSource, Output, Peers, Venue
    from aether_services.kit.clocks import Clock

log = logging.getLogger(__name__)

POLL_INTERVAL: Final = 0.5
"""Seconds between looks at the live settings and the other replicas."""
REPUBLISH_INTERVAL: Final = 0.25
NOT_LISTED: Final = "its entry in AssetPairs is not understood"
HANDOVER_TIMEOUT: Final = 12.0
"""Seconds for which one that ends waits until others have its markets; then it withdraws its books all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How much of what.

    Attributes:
        depth: Levels of a book that are asked for.
        refresh: Seconds after which a book is asked for anew.
        trade_log_length: Trades of a market that are remembered.
        outbox_limit: Letters that may wait for an output.
        pace: Seconds between two calls of the venue's REST.
    """

    depth: int = 100
    refresh: float = 300
    trade_log_length: int = 1_000
    outbox_limit: int = 5_000
    rest_interval: float = 0.0


class Ingest:
    """One replica.

    Args:
        instance: Its name, for people; its `number` among the replicas is what shares markets.
        release: Which release it is of.
        writer: Tells this life of it from all others, in the ids of messages.
        venue: Where market data comes from.
        outputs: Where it goes.
        instruments: Where markets are written down.
        live: What may change.
        peers: The other replicas.
        clock: The time.
        choices: How much of what.
        rejections: Counts what is not taken; the venue's adapter counts there, too.
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
        """Work, until cancelled."""
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
            read = self._live.read()
            if read is not None and read != self._settings:
                log.info("settings", extra={"digest": read.digest, "pairs": len(read.pairs), "replicas": read.replicas})
                self._settings = read
                self.receiver.reconnect_policy.replicas = read.replicas
            if self._settings is not None:
                now = self._settings
                usable = await self._peers.usable(now.replicas)
                self.markets.usable_elsewhere = frozenset().union(*usable.values())
                self.markets.serve(self._assignment.assign(now.pairs, now.replicas, usable, leaving=self.draining))
            await self._clock.sleep(POLL_INTERVAL)

    async def _republish_loop(self) -> None:
        while True:
            await self._clock.sleep(REPUBLISH_INTERVAL)
            self.markets.republish(self.receiver.last_received_at, self._clock.now())
            if self.markets.instruments_outdated and self.instrument_list.request_reload():
                self.markets.instruments_outdated, self.receiver.refresh_instruments = False, True
            for output in self.outputs:
                output.check_conflation()
            self._notify()

    async def drain(self) -> None:
        """Hand the markets over to the other replicas, where there are any, and let all that waits arrive."""
        self.draining = True
        ends = self._clock.elapsed() + HANDOVER_TIMEOUT
        while self._has_others() and self.markets.all():
            if self._clock.elapsed() > ends:  # nobody takes them
                log.warning("not_handed_over", extra={"symbols": sorted(one.symbol for one in self.markets.all())})
                break
            await self._clock.sleep(POLL_INTERVAL / 2)
        if self._receive_task is not None:
            self._receive_task.cancel()
            self.receiver.stop()
        while any(output.connected and output.waiting() for output in self.outputs):
            await self._clock.sleep(POLL_INTERVAL / 10)

    def _has_others(self) -> bool:
        return self._settings is not None and set(range(self._settings.replicas)) != {self._number}

    # What it says.

    def checks(self) -> dict[str, Check]:
        """Ready is who has its settings and hears the venue.

        An output that is away is no reason to send the readers of books elsewhere.
        """
        feed = self.receiver
        return {
            "settings": Check(ok=self._settings is not None, detail="" if self._settings else "no live settings yet"),
            "feed": Check(ok=feed.connected, detail=feed.detail),
        }

    def status(self) -> IngestStatus:
        """All of it."""
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
        """A market's book as it is now; nothing where it is not served here."""
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
            reason = f"Refused: {rejection}"
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
