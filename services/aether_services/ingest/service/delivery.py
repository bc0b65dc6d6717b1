"""Delivering: one output, kept supplied at its own pace, whatever becomes of the others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import TYPE_CHECKING, Final, TypeVar

from aether_services.contracts.statuses import OutputState
from aether_services.domain import times
from aether_services.domain.times import Nanoseconds
from aether_services.ingest.core.outboxes import Letter, Outbox
from aether_services.ingest.core.trade_log import Place, Received, place_of
from aether_services.ingest.ports import NotTold, OutputAway, VenueAway
from aether_services.ingest.service.backfill import History, IdsWentBack

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from aether_services.domain.instruments import Symbol
    from aether_services.domain.trades import Trade
    from aether_services.ingest.core.market import Market
    from aether_services.ingest.core.markets import Markets
    from aether_services.ingest.ports import Output, Sink
    from aether_services.ingest.service.receiver import Receiving
    from aether_services.kit.clocks import Clock

Answer = TypeVar("Answer")
log = logging.getLogger(__name__)

BATCH: Final = 2000
"""Trades of one market, and letters, that are delivered at once at most."""
DEADLINE: Final = 10.0
"""Seconds for a delivery."""
LONGEST_PAUSE: Final = 5.0
NO_USE: Final = 1.0
"""Seconds until a venue that did not tell the trades that are missing is asked again."""
NOT_TOLD: Final = 10.0
"""Seconds until one is asked again that said what is not understood, or cannot be."""
IDLE: Final = 1.0
"""Seconds until a look without a call."""
RATE_OVER: Final = 10.0
SETTLED: Final = 2 * times.SECOND
"""Trades that the venue has not told of after this time did not happen, while it is heard of."""
LATE: Final = 10.0
"""Seconds of lag from which on an output is not well."""
REMEMBERED: Final = 15.0
"""Seconds for which it is not well after it was conflated for."""
WENT_BACK: Final = "TradeIdsWentBack"
NOT_UNDERSTOOD: Final = "TradesNotUnderstood"
LAGGING: Final = "Lagging"
UNEXPECTED: Final = "Unexpected"
CONFLATING: Final = "Conflating"


class Delivering:
    """One output.

    Args:
        output: It.
        markets: What is served.
        receiving: Tells how far a market's tape is complete.
        history: For trades that the tape does not remember any more.
        clock: The time.
        limit: Letters that may wait before they are conflated.
    """

    def __init__(  # noqa: PLR0913 - its parts, by name
        self, *, output: Output, markets: Markets, receiving: Receiving, history: History, clock: Clock, limit: int
    ) -> None:
        self.output = output
        self._markets, self._receiving, self._history, self._clock = markets, receiving, history, clock
        self._refused = markets.refused
        self.outbox = Outbox(limit)
        self._called = asyncio.Event()
        self._places: dict[Symbol, Place] = {}
        self._finding: asyncio.Task[Mapping[Symbol, Place]] | None = None
        """The question where the output stands in the markets that it was `_asked_for`."""
        self._asked_for: frozenset[Symbol] = frozenset()
        self._refills: dict[Symbol, tuple[Place, asyncio.Task[list[Trade]]]] = {}
        """Market → the question for trades that the tape has forgotten, and the place that they come after."""
        self.not_told: set[Symbol] = set()
        """Markets of which the venue says next what is not understood, or cannot be."""
        self._sending: Nanoseconds | None = None
        """When the oldest was received of what is being delivered."""
        self._delivered: deque[tuple[float, int]] = deque()
        self.connected = False
        self.detail = "not connected yet"
        self.back: set[Symbol] = set()
        """Markets whose trade ids the venue began anew: nothing of them is delivered."""
        self.failures = 0
        self._conflated, self._conflated_at = 0, float("-inf")
        self.total = 0
        """Rows or messages that have arrived."""
        self.observe: Callable[[float | None, float], object] = lambda *_: None
        """Is told of each delivery how many seconds it took: from the receipt of its oldest, and by itself."""

    def post(self, letter: Letter) -> None:
        """Take a letter."""
        self.outbox.put(letter)

    def call(self) -> None:
        """Say that there is something."""
        self._called.set()

    async def run(self) -> None:
        """Deliver, for ever."""
        failures = 0
        while True:
            try:
                async with self.output.connected() as sink:
                    self.connected, self.detail = True, ""
                    self._places.clear()
                    log.info("output_connected", extra={"output": self.output.name})
                    while True:
                        await self._wait()
                        await self._deliver(sink)
                        failures = 0
            except Exception as fault:  # noqa: BLE001 - an output that is not served tries again and says why
                if not isinstance(fault, OutputAway):
                    self._refused.note(self.output.name, "", fault, unexpected=True)
                failures += 1
                self.failures += 1
                said = str(fault) if isinstance(fault, OutputAway) else f"{UNEXPECTED}: {type(fault).__name__}"
                self.connected, self.detail, self._sending = False, said, None
                if self._finding is not None:
                    self._finding.cancel()
                    self._finding = None
                self._stop_refills(set(self._refills))
                log.warning("output_away", extra={"output": self.output.name, "cause": said})
            await self._clock.sleep(min(LONGEST_PAUSE, 0.2 * 2 ** min(failures, 10)))

    async def _wait(self) -> None:
        if self.output.gather:
            await self._clock.sleep(self.output.gather)
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE):
                    await self._called.wait()
        self._called.clear()

    async def _deliver(self, sink: Sink) -> None:
        self._place(sink)
        markets = self._markets.all()
        symbols = {market.symbol for market in markets}
        self._stop_refills(set(self._refills) - symbols)
        self.not_told &= symbols
        found = {market.symbol: self._trades(market) for market in markets}
        trades = [one for some in found.values() for one in some]
        letters = self.outbox.take(BATCH)
        whole = [market.symbol for market in markets if self._complete(market, found[market.symbol])]
        complete = dict.fromkeys(whole, Nanoseconds(self._receiving.heard - SETTLED))
        if not trades and not letters and not (complete and self.output.gather):
            return
        received = [*(one.received for one in trades), *(one.received for one in letters)]
        oldest = min(received, default=None)
        self._sending, began = oldest, self._clock.elapsed()
        try:
            arrived = await self._within(sink.deliver(trades, letters, complete))
        except BaseException:
            self.outbox.put_back(letters)
            raise
        self._sending = None
        for one in trades:
            self._places[one.trade.symbol] = place_of(one.trade)
        for symbol in set(self._places) - {market.symbol for market in markets}:
            del self._places[symbol]
        self._count(arrived)
        late = None if oldest is None else (self._clock.now() - oldest) / times.SECOND
        self.observe(late, self._clock.elapsed() - began)

    def _place(self, sink: Sink) -> None:
        """Find out where the output stands in markets that are new here; it may take a while, and holds nobody up."""
        if self._finding is not None and self._finding.done():
            places, self._finding = self._finding.result(), None
            for symbol in self._unplaced():
                market = self._markets[symbol]
                if symbol in self._asked_for and (place := places.get(symbol) or market.tape.first) is not None:
                    self._places[symbol] = place
        if self._finding is None and (unplaced := self._unplaced()):
            self._asked_for = frozenset(unplaced)
            self._finding = asyncio.create_task(self._find(sink, unplaced))

    async def _find(self, sink: Sink, symbols: list[Symbol]) -> Mapping[Symbol, Place]:
        places = await sink.places(symbols)
        self.call()
        return places

    def _unplaced(self) -> list[Symbol]:
        return [one.symbol for one in self._markets.all() if one.symbol not in self._places and one.tape.last]

    @staticmethod
    async def _within(what: Awaitable[Answer]) -> Answer:
        try:
            async with asyncio.timeout(DEADLINE):  # `wait_for` may forget that it was cancelled, in Python 3.11
                return await what
        except TimeoutError:
            raise OutputAway(f"no answer in {DEADLINE:.0f} s") from None

    def _trades(self, market: Market) -> Sequence[Received]:
        place, last = self._places.get(market.symbol), market.tape.last
        if place is None or last is None:
            return ()
        if market.tape.contradicts(place):
            return self._went_back(market, place)
        found = market.tape.after(place, BATCH)
        if found is None:
            return self._refill(market, place)
        self.back.discard(market.symbol)
        self.not_told.discard(market.symbol)
        return found

    def _refill(self, market: Market, place: Place) -> Sequence[Received]:
        """What the tape has forgotten. The venue is asked beside the deliveries: it may take its time."""
        if market.symbol in self._refills and self._refills[market.symbol][0] != place:
            self._stop_refills({market.symbol})
        if market.symbol not in self._refills:
            asked = asyncio.create_task(self._ask(market.symbol, place))
            asked.add_done_callback(self._answered)
            self._refills[market.symbol] = place, asked
        asked = self._refills[market.symbol][1]
        if not asked.done():
            return ()
        del self._refills[market.symbol]
        try:
            trades = asked.result()
        except IdsWentBack:
            return self._went_back(market, place)
        if trades:
            self.back.discard(market.symbol)
        now = self._clock.now()
        return [Received(one, now) for one in trades]

    async def _ask(self, symbol: Symbol, place: Place) -> list[Trade]:
        """Ask the venue; an answer that is no use comes a little later, so that it is not asked again at once."""
        try:
            trades = await self._history.after(symbol, place)
            self.not_told.discard(symbol)
            if trades:
                return trades
        except NotTold as fault:
            if symbol not in self.not_told:
                self.not_told.add(symbol)
                log.error("not_told", extra={"symbol": symbol, "after": place.trade_id, "cause": str(fault)})  # noqa: TRY400
            await self._clock.sleep(NOT_TOLD)
            return []
        except VenueAway as fault:
            cause = {"symbol": symbol, "after": place.trade_id, "cause": str(fault)}
            log.warning("refill_failed", extra=cause)
        except IdsWentBack:
            await self._clock.sleep(NO_USE)
            raise
        await self._clock.sleep(NO_USE)
        return []

    def _answered(self, asked: asyncio.Task[list[Trade]]) -> None:
        if not asked.cancelled():
            asked.exception()  # looked at with the answer; where nobody looks any more, it is no news
            self.call()

    def _stop_refills(self, symbols: set[Symbol]) -> None:
        for symbol in symbols:
            self._refills.pop(symbol)[1].cancel()

    def _went_back(self, market: Market, place: Place) -> Sequence[Received]:
        """Nothing is delivered of a market whose ids are not those that the output knows."""
        if market.symbol not in self.back:
            self.back.add(market.symbol)
            log.error("trade_ids_went_back", extra={"symbol": market.symbol, "stored": place.trade_id})
        return ()

    def _complete(self, market: Market, found: Sequence[Received]) -> bool:
        """Whether with this delivery every trade of a market has been delivered, but for the last moments."""
        place, last = place_of(found[-1].trade) if found else self._places.get(market.symbol), market.tape.last
        return place is not None and place == last and self._receiving.complete(market)

    def _count(self, number: int) -> None:
        elapsed = self._clock.elapsed()
        self.total += number
        self._delivered.append((elapsed, number))
        self._forget(elapsed)

    def _forget(self, elapsed: float) -> None:
        while self._delivered and self._delivered[0][0] < elapsed - RATE_OVER:
            self._delivered.popleft()

    # What is told.

    def _stands(self) -> list[tuple[Market, Place]]:
        """Where it stands in each market; before all that is known here while that is not found out yet."""
        markets = [(market, self._places.get(market.symbol) or market.tape.first) for market in self._markets.all()]
        return [(market, place) for market, place in markets if place is not None]

    def waiting(self) -> int:
        """Trades and letters that have not arrived."""
        return len(self.outbox) + sum(market.tape.count_after(place) for market, place in self._stands())

    def lag(self) -> float:
        """Seconds for which the oldest has waited that has not arrived."""
        trades = [market.tape.oldest_after(place) for market, place in self._stands()]
        waits = [self._sending, self.outbox.oldest, *(one.received for one in trades if one is not None)]
        since = min((one for one in waits if one is not None), default=None)
        return 0.0 if since is None else max(0.0, (self._clock.now() - since) / times.SECOND)

    def look(self) -> None:
        """Notice whether it was conflated for."""
        if self.outbox.conflated != self._conflated:
            self._conflated, self._conflated_at = self.outbox.conflated, self._clock.elapsed()

    def _trouble(self, lag: float) -> str:
        """What is wrong; in words that stay the same while it is, since they become a condition."""
        if not self.connected:
            return self.detail
        if self.back:
            return f"{WENT_BACK}: {', '.join(sorted(self.back))}"
        if self.not_told:
            return f"{NOT_UNDERSTOOD}: {', '.join(sorted(self.not_told))}"
        if lag > LATE:
            return LAGGING
        return CONFLATING if self._clock.elapsed() - self._conflated_at < REMEMBERED else ""

    def state(self) -> OutputState:
        """As it is told."""
        self._forget(self._clock.elapsed())
        lag = self.lag()
        trouble = self._trouble(lag)
        return OutputState(
            ok=not trouble,
            detail=trouble,
            lag_seconds=round(lag, 3),
            waiting=self.waiting(),
            conflated=self.outbox.conflated,
            rate=round(sum(number for _, number in self._delivered) / RATE_OVER, 1),
        )
