"""Receiving: one connection to the venue after the other, what is asked for on it, and what silence means."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Final

from aether_services.domain import times
from aether_services.domain.books import Unusable
from aether_services.domain.instruments import Trading
from aether_services.domain.times import Nanoseconds
from aether_services.ingest.core import wire
from aether_services.ingest.core.asking import Step, Subscriptions
from aether_services.ingest.core.tapes import Received
from aether_services.ingest.core.wire import Channel
from aether_services.ingest.ports import NotTold, VenueAway
from aether_services.ingest.service.history import History, IdsWentBack

if TYPE_CHECKING:
    from collections.abc import Callable

    from aether_services.domain.instruments import Symbol
    from aether_services.ingest.core.asking import Key
    from aether_services.ingest.core.markets import Market, Markets
    from aether_services.ingest.ports import Connection, Venue
    from aether_services.kit.clocks import Clock

log = logging.getLogger(__name__)

TICK: Final = 0.05
"""Seconds between looks at what is to be asked for."""
ASKED_AT_ONCE: Final = 1
"""Requests a look: twenty a second, which the venue bears."""
QUIET: Final = 4 * times.SECOND
"""Without a word, a heartbeat included, for this long: the venue is asked whether it is there."""
SILENT: Final = 8 * times.SECOND
"""And after this its books are not trusted any more, and the connection is given up."""
CONFIRMED_EVERY: Final = 60 * times.SECOND
"""A lost trade is known by the next one; where none comes for so long, the venue is asked over REST."""
LONGEST_FILL_PAUSE: Final = 30.0
"""Seconds until the venue is asked again for trades that it does not tell."""
SNAPSHOT_PATIENCE: Final = 3 * times.SECOND
"""How long a book is still used that was asked for anew only for its deeper levels."""
LONGEST_PAUSE: Final = 30.0
MAINTENANCE_PAUSE: Final = 5.0
POLICY_PAUSE: Final = 600.0
"""After a close with code 1008: the venue refuses us, and a ban lasts ten minutes."""
_POLICY: Final = 1008


class Receiving:
    """The way to the venue.

    Args:
        venue: It.
        history: For trades that were missed.
        markets: What is served.
        clock: The time.
        depth: Levels of a book that are asked for.
        refresh: Seconds after which a book is asked for anew, for its deeper levels, which no checksum proves.
        arrived: Called after something was received.
    """

    def __init__(  # noqa: PLR0913 - its parts, by name
        self,
        *,
        venue: Venue,
        history: History,
        markets: Markets,
        clock: Clock,
        depth: int,
        refresh: float,
        arrived: Callable[[], None],
    ) -> None:
        self._venue, self._history, self._markets, self._clock = venue, history, markets, clock
        self._depth, self._refresh, self._arrived = depth, round(refresh * times.SECOND), arrived
        self.connected = False
        self.detail = "not connected yet"
        self.heard = Nanoseconds(0)
        """When the venue was last heard of, a heartbeat included."""
        self.reconnects = 0
        self._asked: Subscriptions = self._nothing_asked()
        self._renewing: dict[Symbol, Nanoseconds] = {}
        """Market → when its book was last asked for anew."""
        self.relist = False
        """Whether the venue is to be asked for its instruments anew."""
        self._pauses: dict[Symbol, tuple[float, float]] = {}
        """Market that the venue did not tell what is missing of → until when it is not asked again, and its pause."""
        self._pinged = Nanoseconds(0)
        self._confirmed: dict[Symbol, Nanoseconds] = {}
        """Market → when the venue was last asked over REST whether it has traded."""

    def _nothing_asked(self) -> Subscriptions:
        return Subscriptions(
            params={Channel.BOOK: {"depth": self._depth}},
            extra={channel: {"snapshot": True} for channel in (Channel.BOOK, Channel.TRADE, Channel.INSTRUMENT)},
        )

    def refusal(self, symbol: Symbol) -> str:
        """The venue's words where it refused a subscription of a market."""
        refused = (self._asked.error((channel, symbol)) for channel in (Channel.BOOK, Channel.TRADE, Channel.TICKER))
        return next((words for words in refused if words), "")

    def complete(self, market: Market) -> bool:
        """Whether every trade of a market that has happened is on its tape, but for the last moments."""
        held = self._asked.step((Channel.TRADE, market.symbol)) is Step.HELD
        return self.connected and held and not market.tape.gap and not market.doubt

    def leave(self) -> None:
        """No more is received: no book is to be trusted any more, and who has one is told."""
        self.connected, self.detail = False, "about to end"
        self._markets.drop(Unusable.DISCONNECTED, self._clock.now())
        self._arrived()

    async def run(self) -> None:
        """Receive, for ever."""
        failures = 0
        while True:
            before = self._markets.book_messages
            try:
                async with self._venue.connected() as connection:
                    await self._converse(connection)
            except VenueAway as fault:
                failures = 0 if self._markets.book_messages > before else failures + 1
                pause = self._pause(fault, failures)
                self.connected, self.detail = False, str(fault)
                self.reconnects += 1
                self._markets.drop(Unusable.DISCONNECTED, self._clock.now())
                self._arrived()
                log.warning("venue_away", extra={"cause": str(fault), "code": fault.code, "pause": round(pause, 1)})
            await self._clock.sleep(pause)

    def _pause(self, fault: VenueAway, failures: int) -> float:
        """At once the first time; then longer and longer, so that the venue's limit of connects is far away."""
        if fault.code == _POLICY:
            return POLICY_PAUSE
        pause = min(LONGEST_PAUSE, 2 ** min(failures - 1, 10)) * random.uniform(0.8, 1.2) if failures else 0.1  # noqa: S311 - no secret
        return max(pause, MAINTENANCE_PAUSE) if self._markets.system == Trading.MAINTENANCE else pause

    async def _converse(self, connection: Connection) -> None:
        self._asked, self._renewing = self._nothing_asked(), {}
        self.connected, self.detail = True, ""
        self.heard = self._pinged = self._clock.now()
        log.info("venue_connected")
        tasks = [asyncio.create_task(one) for one in (self._listen(connection), self._ask(connection))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _listen(self, connection: Connection) -> None:
        while True:
            frame = await connection.receive()
            self.heard = received = self._clock.now()
            reply = self._markets.receive(frame, received)
            if reply is None:
                self._arrived()
            elif (answered := self._asked.answered(reply, self._clock.elapsed())) is not None and answered[2]:
                log.warning(
                    "refused", extra={"channel": answered[0][0], "symbol": answered[0][1], "cause": answered[2]}
                )

    async def _ask(self, connection: Connection) -> None:
        while True:
            now, elapsed = self._clock.now(), self._clock.elapsed()
            self._listen_for_silence(now)
            if now - self.heard >= QUIET and now - self._pinged >= QUIET:
                self._pinged = now
                await connection.send(wire.ping(0))
            requests = [*self._relistings(elapsed), *self._renewals(now, elapsed)][:ASKED_AT_ONCE]
            requests += self._asked.requests(self._wanted(), elapsed, most=ASKED_AT_ONCE - len(requests))
            for request in requests:
                await connection.send(request)
            await self._clock.sleep(TICK)

    def _listen_for_silence(self, now: Nanoseconds) -> None:
        if now - self.heard >= SILENT:
            self._markets.drop(Unusable.SILENT, now)
            raise VenueAway(f"silent for {(now - self.heard) / times.SECOND:.0f} s")

    def _wanted(self) -> set[Key]:
        """A market's channels are asked for once it is known that there is such a market."""
        known = [market.symbol for market in self._markets.all() if market.book is not None]
        channels = (Channel.BOOK, Channel.TRADE, Channel.TICKER)
        return {(Channel.INSTRUMENT, None), *((channel, symbol) for symbol in known for channel in channels)}

    def _relistings(self, elapsed: float) -> list[str]:
        """The instruments, where a number did not fit them."""
        asked = self._asked.renew((Channel.INSTRUMENT, None), elapsed) if self.relist else None
        if asked is None:
            return []
        self.relist = False
        return [asked]

    def _renewals(self, now: Nanoseconds, elapsed: float) -> list[str]:
        """One book that is to be asked for anew: it did not verify, no snapshot came, or its deeper levels are old."""
        for market in self._markets.all():
            symbol, since = market.symbol, self._renewing.get(market.symbol, Nanoseconds(0))
            if market.book is not None and market.book.followed:  # a crossed one may be usable with its next update
                if since > market.snapshot_at and now - since >= SNAPSHOT_PATIENCE:
                    market.book.drop(Unusable.WAITING)
                    self._markets.withdraw(market, now)
                due = symbol in self._markets.renew or now - max(since, market.snapshot_at) >= self._refresh
            else:
                due = symbol in self._markets.renew or now - max(since, market.snapshot_at) >= SNAPSHOT_PATIENCE
            if due and (asked := self._asked.renew((Channel.BOOK, symbol), elapsed)) is not None:
                self._markets.renew.discard(symbol)
                self._renewing[symbol] = now
                return [asked]
        return []

    async def fill(self) -> None:
        """Bring trades that were missed, for ever."""
        while True:
            for symbol in list(self._markets.fill):
                await self._fill(symbol)
            await self._confirm()
            await self._clock.sleep(TICK)

    async def _fill(self, symbol: Symbol) -> None:
        market = self._markets.get(symbol)
        until, pause = self._pauses.get(symbol, (0.0, 0.5))
        if market is None or not (market.tape.gap or market.doubt) or market.tape.last is None:
            self._markets.fill.discard(symbol)
            self._pauses.pop(symbol, None)
        elif self._clock.elapsed() < until:
            pass
        elif await self._ask_again(market):
            self._pauses.pop(symbol, None)
        else:  # the venue does not have them over REST yet, or says what cannot be
            pause = min(LONGEST_FILL_PAUSE, 2 * pause)
            self._pauses[symbol] = self._clock.elapsed() + pause, pause

    async def _confirm(self) -> None:
        """Ask whether the market that was quiet for longest has traded all the same."""
        now = self._clock.now()
        quiet = {
            one: max(one.tape.heard, self._confirmed.get(one.symbol, Nanoseconds(0)))
            for one in self._markets.all()
            if one.tape.last
        }
        market = min(quiet, key=quiet.__getitem__, default=None)
        if market is not None and self.connected and now - quiet[market] >= CONFIRMED_EVERY:
            self._confirmed[market.symbol] = now
            if await self._ask_again(market):
                market.gaps += 1

    async def _ask_again(self, market: Market) -> bool:
        """Bring what the venue has after a market's tape; whether that was anything."""
        place = market.tape.last
        if place is None:
            return False
        try:
            trades = await self._history.after(market.symbol, place)
        except IdsWentBack:
            log.error("trade_ids_went_back", extra={"symbol": market.symbol, "after": place.trade_id})  # noqa: TRY400
            self._markets.begin_anew(market)
            return True
        except VenueAway as fault:
            cause = {"symbol": market.symbol, "after": place.trade_id, "cause": str(fault)}
            log.warning("gap_not_filled", extra=cause)
            if isinstance(fault, NotTold):
                self._markets.doubt(market, str(fault), self._clock.now())
            return False
        # Some may have come by themselves meanwhile.
        missed = [one for one in trades if market.tape.last is None or one.trade_id > market.tape.last.trade_id]
        self._markets.settle(market, self._clock.now(), brought=bool(missed))
        if missed:
            now = self._clock.now()
            market.tape.fill([Received(one, now) for one in missed])
            log.info("gap_filled", extra={"symbol": market.symbol, "after": place.trade_id, "trades": len(missed)})
            self._arrived()
        return bool(missed)
