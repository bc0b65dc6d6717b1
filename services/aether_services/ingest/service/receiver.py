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
from aether_services.ingest.core import subscriptions, wire
from aether_services.ingest.core.reconnects import LASTED, Connects
from aether_services.ingest.core.subscriptions import Step, Subscriptions
from aether_services.ingest.core.wire import Channel
from aether_services.ingest.ports import NotTold, VenueAway
from aether_services.ingest.service.backfill import History, IdsWentBack
from aether_services.ingest.service.channels import SHARE, Channels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aether_services.domain.instruments import Symbol
    from aether_services.domain.trades import Trade
    from aether_services.ingest.core.market import Market
    from aether_services.ingest.core.markets import Markets
    from aether_services.ingest.core.subscriptions import Key
    from aether_services.ingest.core.trade_log import Place
    from aether_services.ingest.ports import Connection, Venue
    from aether_services.kit.clocks import Clock

log = logging.getLogger(__name__)

TICK: Final = 0.05
"""Seconds between looks at what is to be asked for."""
ASKED_AT_ONCE: Final = 1
"""Requests a look, whatever they are for: twenty a second on one connection.

Kraken names no number ("Exceeded msg rate" says that it was too many, and nautilus_trader keeps to twenty a second);
exchange_sim takes fifty a second, and a hundred at once.
"""
QUIET: Final = 4 * times.SECOND
"""Without a word, a heartbeat included, for this long: the venue is asked whether it is there."""
SILENT: Final = 8 * times.SECOND
"""And after this its books are not trusted any more, and the connection is given up."""
LONGEST_FILL_PAUSE: Final = 30.0
"""Seconds until the venue is asked again for trades that it does not tell."""


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
        pace: Seconds between two calls of REST that the venue bears, of all replicas together.
        symbols_at_once: Symbols that one request asks for.
        chance: A number from 0 to 1.
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
        pace: float = 0.0,
        symbols_at_once: int = subscriptions.SYMBOLS_AT_ONCE,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._venue, self._history, self._markets, self._clock = venue, history, markets, clock
        self._depth, self._refresh, self._arrived = depth, round(refresh * times.SECOND), arrived
        self.connected = False
        self.detail = "not connected yet"
        self.heard = Nanoseconds(0)
        """When the venue was last heard of, a heartbeat included."""
        self.reconnects = 0
        self.connects = Connects(chance)
        self._symbols_at_once, self._chance = symbols_at_once, chance
        self._failures: dict[Key, int] = {}
        """Subscription → how often it failed in a row, on whatever connection."""
        self._asked: Subscriptions = self._nothing_asked()
        self.relist = False
        """Whether the venue is to be asked for its instruments anew."""
        self._pauses: dict[Symbol, tuple[float, float]] = {}
        """Market that the venue did not tell what is missing of → until when it is not asked again, and its pause."""
        self._pinged = Nanoseconds(0)
        self._channels = Channels(markets)
        self._pace, self._next_confirmation = pace, 0.0

    def _nothing_asked(self) -> Subscriptions:
        return Subscriptions(
            params={Channel.BOOK: {"depth": self._depth}},
            extra={channel: {"snapshot": True} for channel in (Channel.BOOK, Channel.TRADE, Channel.INSTRUMENT)},
            failures=self._failures,
            symbols_at_once=self._symbols_at_once,
            chance=self._chance,
        )

    def refusal(self, symbol: Symbol) -> str:
        """The venue's words where it refused a subscription of a market."""
        refused = (self._asked.error((channel, symbol)) for channel in (Channel.BOOK, Channel.TRADE, Channel.TICKER))
        return next((words for words in refused if words), "")

    def backoff(self, symbol: Symbol) -> float:
        """Seconds until a book is asked for again that failed; 0 where it is not waited with."""
        return self._asked.backoff((Channel.BOOK, symbol), self._clock.elapsed())

    def complete(self, market: Market) -> bool:
        """Whether every trade of a market that has happened is on its tape, but for the last moments."""
        held = self._asked.step((Channel.TRADE, market.symbol)) is Step.HELD
        silent = Channel.TRADE in market.liveness.silent
        return self.connected and held and not silent and not market.tape.gap and not market.doubt

    def leave(self) -> None:
        """No more is received: no book is to be trusted any more, and who has one is told."""
        self.connected, self.detail = False, "about to end"
        self._markets.drop(Unusable.DISCONNECTED, self._clock.now())
        self._arrived()

    async def run(self) -> None:
        """Receive, for ever."""
        while True:
            self.connects.attempted(self._clock.elapsed())
            try:
                async with self._venue.connected() as connection:
                    await self._converse(connection)
            except VenueAway as fault:
                maintenance = self._markets.system == Trading.MAINTENANCE
                pause = self.connects.pause(self._clock.elapsed(), code=fault.code, maintenance=maintenance)
                self.connected, self.detail = False, str(fault)
                self.reconnects += 1
                self._markets.drop(Unusable.DISCONNECTED, self._clock.now())
                self._arrived()
                log.warning("venue_away", extra={"cause": str(fault), "code": fault.code, "pause": round(pause, 1)})
            await self._clock.sleep(pause)

    async def _converse(self, connection: Connection) -> None:
        self._asked = self._nothing_asked()
        self._markets.data_of.clear()
        self._channels.begin()
        self.connected, self.detail = True, ""
        self.heard = self._pinged = began = self._clock.now()
        log.info("venue_connected")
        tasks = [asyncio.create_task(one) for one in (self._listen(connection), self._ask(connection))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            if self.heard - began >= LASTED:
                self.connects.lasted()
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _listen(self, connection: Connection) -> None:
        while True:
            frame = await connection.receive()
            self.heard = received = self._clock.now()
            try:
                self._take(frame, received)
            except Exception as fault:  # noqa: BLE001 - whatever is received, the next message is read
                self._markets.refused.note("reply", "", fault, unexpected=True)

    def _take(self, frame: str, received: Nanoseconds) -> None:
        reply, elapsed = self._markets.receive(frame, received), self._clock.elapsed()
        while self._markets.data_of:
            self._asked.heard(self._markets.data_of.pop(), elapsed)
        if reply is None:
            self._arrived()
        elif (answered := self._asked.answered(reply, elapsed)) is not None and answered.error:
            symbols = [symbol for _, symbol in answered.keys]
            log.warning("refused", extra={"channel": answered.keys[0][0], "symbols": symbols, "cause": answered.error})

    async def _ask(self, connection: Connection) -> None:
        while True:
            now, elapsed = self._clock.now(), self._clock.elapsed()
            self._listen_for_silence(now)
            if now - self.heard >= QUIET and now - self._pinged >= QUIET:
                self._pinged = now
                await connection.send(wire.ping(0))
            self._relist(elapsed)
            self._channels.look(self._asked, now, elapsed)
            self._look_at_books(now, elapsed)
            for request in self._asked.requests(self._wanted(), elapsed, most=ASKED_AT_ONCE):
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

    def _relist(self, elapsed: float) -> None:
        """The instruments are asked for anew, where a number did not fit them."""
        instruments = (Channel.INSTRUMENT, None)
        if self.relist and self._asked.step(instruments) is Step.HELD:
            self.relist = False
            self._asked.renew(instruments, elapsed, failed=False)

    def _look_at_books(self, now: Nanoseconds, elapsed: float) -> None:
        """Which are to be asked for anew: they failed, or their deeper levels are old; and which are well."""
        for market in self._markets.all():
            key = (Channel.BOOK, market.symbol)
            late = self._asked.waits(key, elapsed) >= subscriptions.SNAPSHOT_PATIENCE[Channel.BOOK]
            # One that is crossed may be usable with its next update.
            followed = market.book is not None and market.book.followed
            if late and followed and market.book is not None:  # it was used while its refresh was under way
                market.book.drop(Unusable.WAITING)
                self._markets.withdraw(market, now)
            if not followed or market.symbol in self._markets.renew:
                self._asked.renew(key, elapsed)
                self._markets.renew.discard(market.symbol)
                continue
            if market.verified_at - market.snapshot_at >= subscriptions.STEADY * times.SECOND:
                self._asked.steady(key)
            if now - market.snapshot_at >= self._refresh:
                self._asked.renew(key, elapsed, failed=False)

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
        if market is None or not (market.tape.gap or market.doubt):
            self._markets.fill.discard(symbol)
            self._pauses.pop(symbol, None)
        elif market.tape.last is None or self._clock.elapsed() < until:
            pass  # what follows nothing is asked for as a market's newest
        elif await self._ask_again(market, market.tape.last):
            self._pauses.pop(symbol, None)
        else:  # the venue does not have them over REST yet, or says what cannot be
            pause = min(LONGEST_FILL_PAUSE, 2 * pause)
            self._pauses[symbol] = self._clock.elapsed() + pause, pause

    async def _confirm(self) -> None:
        """Ask whether the market that was quiet for longest has traded all the same."""
        elapsed = self._clock.elapsed()
        if not self.connected or elapsed < self._next_confirmation:
            return
        market = self._channels.unconfirmed(self._clock.now())
        if market is None:
            return
        self._next_confirmation = elapsed + SHARE * self._pace * self.connects.replicas
        missed = await self._ask_again(market, market.tape.last)
        if missed is not None:
            market.gaps += bool(missed)
            self._channels.confirmed(market, missed, self._clock.now())

    async def _ask_again(self, market: Market, place: Place | None) -> Sequence[Trade] | None:
        """Bring what the venue has after a place, or its newest trades; nothing where it does not say."""
        symbol, after = market.symbol, place.trade_id if place is not None else None
        try:
            trades = await (self._history.after(symbol, place) if place is not None else self._history.newest(symbol))
        except IdsWentBack:
            log.error("trade_ids_went_back", extra={"symbol": symbol, "after": after})  # noqa: TRY400
            self._markets.begin_anew(market)
            return None
        except VenueAway as fault:
            log.warning("gap_not_filled", extra={"symbol": symbol, "after": after, "cause": str(fault)})
            if isinstance(fault, NotTold):
                self._markets.doubt(market, str(fault), self._clock.now())
            return None
        # Some may have come by themselves meanwhile.
        missed = [one for one in trades if market.tape.last is None or one.trade_id > market.tape.last.trade_id]
        now = self._clock.now()
        if missed and not market.may_follow(missed[0].trade_id, now):
            if not (market.tape.gap or market.doubt):  # nobody else knows that trades are missing
                self._markets.doubt(market, "Trades: numbers are left out", now)
            return None
        market.settle(now, brought=bool(missed))
        if missed:
            self._markets.bring(market, missed, now, after_gap=place is not None)
            log.info("gap_filled", extra={"symbol": symbol, "after": after, "trades": len(missed)})
            self._arrived()
        return missed
