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
from aether_services.domain.books import PROVED
from aether_services.ingest.core.market import UNKNOWN
from aether_services.ingest.core.markets import Markets
from aether_services.ingest.core.refusals import Refusals
from aether_services.ingest.core.sharding import Share
from aether_services.ingest.service.backfill import History
from aether_services.ingest.service.delivery import Delivering
from aether_services.ingest.service.instrument_list import Listing
from aether_services.ingest.service.receiver import Receiving

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aether_services.domain.instruments import Symbol
    from aether_services.domain.times import Nanoseconds
    from aether_services.ingest.core.outboxes import Letter
    from aether_services.ingest.ports import Instruments, Live, LiveSettings, Output, Peers, Venue
    from aether_services.kit.clocks import Clock

log = logging.getLogger(__name__)

LOOK: Final = 0.5
"""Seconds between looks at the live settings and the other replicas."""
BEAT: Final = 0.25
NOT_LISTED: Final = "its entry in AssetPairs is not understood"
HANDOVER: Final = 12.0
"""Seconds for which one that ends waits until others have its markets; then it withdraws its books all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """How much of what.

    Attributes:
        depth: Levels of a book that are asked for.
        refresh: Seconds after which a book is asked for anew.
        tape_length: Trades of a market that are remembered.
        outbox_limit: Letters that may wait for an output.
        pace: Seconds between two calls of the venue's REST.
    """

    depth: int = 100
    refresh: float = 300
    tape_length: int = 1_000
    outbox_limit: int = 5_000
    pace: float = 0.0


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
        refused: Counts what is not taken; the venue's adapter counts there, too.
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
        instruments: Instruments,
        live: LiveSettings,
        peers: Peers,
        clock: Clock,
        choices: Choices | None = None,
        refused: Refusals | None = None,
    ) -> None:
        choices, refused = choices or Choices(), refused or Refusals()
        self._instance, self._release, self._clock = instance, release, clock
        self._live, self._peers = live, peers
        self._number, self._share = number, Share(number)
        self._started = clock.now()
        self._settings: Live | None = None
        self._receiving: asyncio.Task[None] | None = None
        self.draining = False
        self.markets = Markets(
            writer=writer, depth=choices.depth, tape_length=choices.tape_length, post=self._post, refused=refused
        )
        self.listing = Listing(venue, instruments, clock, refused)
        history = History(venue, clock, self.listing.anew, refused)
        self.receiving = Receiving(
            venue=venue,
            history=history,
            markets=self.markets,
            clock=clock,
            depth=choices.depth,
            refresh=choices.refresh,
            arrived=self._call,
            pace=choices.pace,
        )
        self.outputs = [
            Delivering(
                output=output,
                markets=self.markets,
                receiving=self.receiving,
                history=history,
                clock=clock,
                limit=choices.outbox_limit,
            )
            for output in outputs
        ]

    def _post(self, letter: Letter) -> None:
        for output in self.outputs:
            output.post(letter)

    def _call(self) -> None:
        for output in self.outputs:
            output.call()

    async def run(self) -> None:
        """Work, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._receiving = tasks.create_task(self.receiving.run())
            for work in (
                self._look(),
                self._beat(),
                self.listing.run(),
                self.receiving.fill(),
                *(output.run() for output in self.outputs),
            ):
                tasks.create_task(work)

    async def _look(self) -> None:
        while True:
            read = self._live.read()
            if read is not None and read != self._settings:
                log.info("settings", extra={"digest": read.digest, "pairs": len(read.pairs), "replicas": read.replicas})
                self._settings = read
                self.receiving.connects.replicas = read.replicas
            if self._settings is not None:
                now = self._settings
                usable = await self._peers.usable(now.replicas)
                self.markets.elsewhere = frozenset().union(*usable.values())
                self.markets.serve(self._share.look(now.pairs, now.replicas, usable, leaving=self.draining))
            await self._clock.sleep(LOOK)

    async def _beat(self) -> None:
        while True:
            await self._clock.sleep(BEAT)
            self.markets.beat(self.receiving.heard, self._clock.now())
            if self.markets.outgrown and self.listing.ask():
                self.markets.outgrown, self.receiving.relist = False, True
            for output in self.outputs:
                output.look()
            self._call()

    async def drain(self) -> None:
        """Hand the markets over to the other replicas, where there are any, and let all that waits arrive."""
        self.draining = True
        ends = self._clock.elapsed() + HANDOVER
        while self._has_others() and self.markets.all():
            if self._clock.elapsed() > ends:  # nobody takes them
                log.warning("not_handed_over", extra={"symbols": sorted(one.symbol for one in self.markets.all())})
                break
            await self._clock.sleep(LOOK / 2)
        if self._receiving is not None:
            self._receiving.cancel()
            self.receiving.leave()
        while any(output.connected and output.waiting() for output in self.outputs):
            await self._clock.sleep(LOOK / 10)

    def _has_others(self) -> bool:
        return self._settings is not None and set(range(self._settings.replicas)) != {self._number}

    # What it says.

    def checks(self) -> dict[str, Check]:
        """Ready is who has its settings and hears the venue.

        An output that is away is no reason to send the readers of books elsewhere.
        """
        feed = self.receiving
        return {
            "settings": Check(ok=self._settings is not None, detail="" if self._settings else "no live settings yet"),
            "feed": Check(ok=feed.connected, detail=feed.detail),
        }

    def status(self) -> IngestStatus:
        """All of it."""
        now, feed = self._clock.now(), self.receiving
        checks = self.checks()
        return IngestStatus(
            room="ingest",
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
                age_seconds=_age(feed.heard, now),
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
            proved=PROVED,
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
        refusal = self.receiving.refusal(symbol)
        if refusal and reason != UNKNOWN:
            reason = f"Refused: {refusal}"
        last = market.tape.last
        return BookState(
            usable=market.usable,
            reason=reason,
            age_seconds=_age(market.sent_at, now) if market.usable else None,
            last_trade_id=last.trade_id if last else None,
            checksum_failures=market.checksum_failures,
            gaps=market.gaps,
            silent=market.liveness.silent,
            trades=market.doubt or (NOT_LISTED if symbol in self.listing.unreadable else ""),
            backoff_seconds=round(self.receiving.backoff(symbol), 1),
        )


def _age(since: Nanoseconds, now: Nanoseconds) -> float | None:
    return round(max(0, now - since) / times.SECOND, 3) if since else None
