"""Delivers to one output at its own pace, independently of the others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import TYPE_CHECKING, Final, TypeVar

from aether_services.contracts.statuses import OutputState
from aether_services.domain import times
from aether_services.domain.times import Nanoseconds
from aether_services.ingest.core.outboxes import EncodedMessage, Outbox
from aether_services.ingest.core.trade_logs import Cursor, ReceivedTrade, cursor_after
from aether_services.ingest.ports import InvalidTrades, OutputUnavailable, VenueUnavailable
from aether_services.ingest.service.backfill import TradeHistory, TradeIdsReset
from aether_services.ingest.service.outage_log import OutageLog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from aether_services.domain.instruments import Symbol
    from aether_services.domain.trades import Trade
    from aether_services.ingest.core.market import Market
    from aether_services.ingest.core.markets import Markets
    from aether_services.ingest.ports import Output, Sink
    from aether_services.ingest.service.receiver import Receiver
    from aether_services.kit.clocks import Clock

Result = TypeVar("Result")
log = logging.getLogger(__name__)

MAX_BATCH: Final = 2000
"""The maximum number of trades of one market, and of messages, in one delivery."""
DEADLINE: Final = 10.0
"""Seconds for one delivery."""
LONGEST_PAUSE: Final = 5.0
RETRY_PAUSE: Final = 1.0
"""Seconds until missing trades are queried again that REST did not return."""
INVALID_PAUSE: Final = 10.0
"""Seconds until trades are queried again that were malformed or implausible."""
IDLE_INTERVAL: Final = 1.0
"""Seconds until the next check without a notification."""
RATE_WINDOW: Final = 10.0
SETTLED_AFTER: Final = 2 * times.SECOND
"""While the feed is alive, a trade that is older than this has been received."""
MAX_LAG: Final = 10.0
"""Seconds of lag above which an output is not ok."""
CONFLATED_FOR: Final = 15.0
"""Seconds after a conflation for which an output is not ok."""
IDS_RESET: Final = "TradeIdsReset"
INVALID_TRADES: Final = "TradesInvalid"
LAGGING: Final = "Lagging"
UNEXPECTED: Final = "Unexpected"
CONFLATING: Final = "Conflating"


class Delivery:
    """The delivery to one output.

    Args:
        output: The output.
        markets: The served markets.
        receiver: Knows whether a market's trade log is complete.
        history: For trades that the trade log no longer has.
        clock: The time.
        limit: Messages that may queue before they are conflated.
        observe: Called after each delivery with the seconds since the receipt of its oldest item, None where it has
            none, and with its duration.
    """

    def __init__(  # noqa: PLR0913 - its parts, by name
        self,
        *,
        output: Output,
        markets: Markets,
        receiver: Receiver,
        history: TradeHistory,
        clock: Clock,
        limit: int,
        observe: Callable[[float | None, float], object] = lambda *_: None,
    ) -> None:
        self.output, self._observe = output, observe
        self._markets, self._receiver, self._history, self._clock = markets, receiver, history, clock
        self._rejections = markets.rejections
        self._outage_log = OutageLog(log, down="output_unavailable", up="output_connected", clock=clock)
        self.outbox = Outbox(limit)
        self._notified = asyncio.Event()
        self._cursors: dict[Symbol, Cursor] = {}
        self._cursor_query: asyncio.Task[Mapping[Symbol, Cursor]] | None = None
        """The running query for the output's cursors in `_queried_symbols`."""
        self._queried_symbols: frozenset[Symbol] = frozenset()
        self._refills: dict[Symbol, tuple[Cursor, asyncio.Task[list[Trade]]]] = {}
        """Market → the cursor, and the running query for trades after it that the trade log no longer has."""
        self.invalid_trades: set[Symbol] = set()
        """Markets whose next trade at the venue is malformed or implausible."""
        self._sending: Nanoseconds | None = None
        """When the oldest item of the current delivery was received."""
        self._delivered: deque[tuple[float, int]] = deque()
        self.connected = False
        self.detail = "not connected yet"
        self.reset_ids: set[Symbol] = set()
        """Markets whose trade ids started over: none of their trades is delivered."""
        self.failures = 0
        self._conflated, self._conflated_at = 0, float("-inf")
        self.total = 0
        """Rows or messages delivered since the start."""

    def enqueue(self, message: EncodedMessage) -> None:
        self.outbox.put(message)

    def notify(self) -> None:
        """Wake the delivery: there are new trades or messages."""
        self._notified.set()

    async def run(self) -> None:
        """Deliver until cancelled, reconnecting with backoff."""
        failures = 0
        while True:
            try:
                async with self.output.connected() as sink:
                    self.connected, self.detail = True, ""
                    self._cursors.clear()
                    self._outage_log.record_success(output=self.output.name)
                    while True:
                        await self._wait()
                        await self._deliver(sink)
                        failures = 0
            except Exception as fault:  # noqa: BLE001 - any error is reported and retried
                if not isinstance(fault, OutputUnavailable):
                    self._rejections.record(self.output.name, "", fault, unexpected=True)
                failures += 1
                self.failures += 1
                cause = str(fault) if isinstance(fault, OutputUnavailable) else f"{UNEXPECTED}: {type(fault).__name__}"
                self.connected, self.detail, self._sending = False, cause, None
                if self._cursor_query is not None:
                    self._cursor_query.cancel()
                    self._cursor_query = None
                self._stop_refills(set(self._refills))
                self._outage_log.record_failure(cause, output=self.output.name)
            await self._clock.sleep(min(LONGEST_PAUSE, 0.2 * 2 ** min(failures, 10)))

    async def _wait(self) -> None:
        if self.output.batch_interval:
            await self._clock.sleep(self.output.batch_interval)
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_INTERVAL):
                    await self._notified.wait()
        self._notified.clear()

    async def _deliver(self, sink: Sink) -> None:
        self._update_cursors(sink)
        markets = self._markets.all()
        symbols = {market.symbol for market in markets}
        self._stop_refills(set(self._refills) - symbols)
        self.invalid_trades &= symbols
        found = {market.symbol: self._trades(market) for market in markets}
        trades = [one for some in found.values() for one in some]
        messages = self.outbox.take(MAX_BATCH)
        complete_markets = [market.symbol for market in markets if self._complete(market, found[market.symbol])]
        complete = dict.fromkeys(complete_markets, Nanoseconds(self._receiver.last_received_at - SETTLED_AFTER))
        if not trades and not messages and not (complete and self.output.batch_interval):
            return
        received = [*(one.received for one in trades), *(one.received for one in messages)]
        oldest = min(received, default=None)
        self._sending, began = oldest, self._clock.elapsed()
        try:
            arrived = await self._within(sink.deliver(trades, messages, complete))
        except BaseException:
            self.outbox.put_back(messages)
            raise
        self._sending = None
        for one in trades:
            self._cursors[one.trade.symbol] = cursor_after(one.trade)
        for symbol in set(self._cursors) - {market.symbol for market in markets}:
            del self._cursors[symbol]
        self._count(arrived)
        late = None if oldest is None else (self._clock.now() - oldest) / times.SECOND
        self._observe(late, self._clock.elapsed() - began)

    def _update_cursors(self, sink: Sink) -> None:
        """Query the output's cursors in new markets, in the background since it may take a while."""
        if self._cursor_query is not None and self._cursor_query.done():
            cursors, self._cursor_query = self._cursor_query.result(), None
            for symbol in self._markets_without_cursor():
                cursor = cursors.get(symbol) or self._markets[symbol].trade_log.first
                if symbol in self._queried_symbols and cursor is not None:
                    self._cursors[symbol] = cursor
        if self._cursor_query is None and (unknown := self._markets_without_cursor()):
            self._queried_symbols = frozenset(unknown)
            self._cursor_query = asyncio.create_task(self._query_cursors(sink, unknown))

    async def _query_cursors(self, sink: Sink, symbols: list[Symbol]) -> Mapping[Symbol, Cursor]:
        cursors = await sink.cursors(symbols)
        self.notify()
        return cursors

    def _markets_without_cursor(self) -> list[Symbol]:
        return [one.symbol for one in self._markets.all() if one.symbol not in self._cursors and one.trade_log.last]

    @staticmethod
    async def _within(what: Awaitable[Result]) -> Result:
        try:
            async with asyncio.timeout(DEADLINE):  # in Python 3.11 `wait_for` may swallow a cancellation
                return await what
        except TimeoutError:
            raise OutputUnavailable(f"no response in {DEADLINE:.0f} s") from None

    def _trades(self, market: Market) -> Sequence[ReceivedTrade]:
        cursor, last = self._cursors.get(market.symbol), market.trade_log.last
        if cursor is None or last is None:
            return ()
        if market.trade_log.contradicts(cursor):
            return self._ids_reset(market, cursor)
        found = market.trade_log.after(cursor, MAX_BATCH)
        if found is None:
            return self._refill(market, cursor)
        self.reset_ids.discard(market.symbol)
        self.invalid_trades.discard(market.symbol)
        return found

    def _refill(self, market: Market, cursor: Cursor) -> Sequence[ReceivedTrade]:
        """Trades that the trade log no longer has. They are queried in the background, beside the deliveries."""
        if market.symbol in self._refills and self._refills[market.symbol][0] != cursor:
            self._stop_refills({market.symbol})
        if market.symbol not in self._refills:
            query = asyncio.create_task(self._query_trades(market.symbol, cursor))
            query.add_done_callback(self._refill_done)
            self._refills[market.symbol] = cursor, query
        query = self._refills[market.symbol][1]
        if not query.done():
            return ()
        del self._refills[market.symbol]
        try:
            trades = query.result()
        except TradeIdsReset:
            return self._ids_reset(market, cursor)
        if trades:
            self.reset_ids.discard(market.symbol)
        now = self._clock.now()
        return [ReceivedTrade(one, now) for one in trades]

    async def _query_trades(self, symbol: Symbol, cursor: Cursor) -> list[Trade]:
        """Query trades after a cursor. Without a result it returns after a pause, to delay the next query."""
        try:
            trades = await self._history.after(symbol, cursor)
            self.invalid_trades.discard(symbol)
            if trades:
                return trades
        except InvalidTrades as fault:
            if symbol not in self.invalid_trades:
                self.invalid_trades.add(symbol)
                log.error("invalid_trades", extra={"symbol": symbol, "after": cursor.trade_id, "cause": str(fault)})  # noqa: TRY400
            await self._clock.sleep(INVALID_PAUSE)
            return []
        except VenueUnavailable as fault:
            cause = {"symbol": symbol, "after": cursor.trade_id, "cause": str(fault)}
            log.warning("backfill_failed", extra=cause)
        except TradeIdsReset:
            await self._clock.sleep(RETRY_PAUSE)
            raise
        await self._clock.sleep(RETRY_PAUSE)
        return []

    def _refill_done(self, query: asyncio.Task[list[Trade]]) -> None:
        if not query.cancelled():
            query.exception()  # marks it as retrieved; `_refill` handles it with the result
            self.notify()

    def _stop_refills(self, symbols: set[Symbol]) -> None:
        for symbol in symbols:
            self._refills.pop(symbol)[1].cancel()

    def _ids_reset(self, market: Market, cursor: Cursor) -> Sequence[ReceivedTrade]:
        """Deliver no trade of a market whose ids started over since the output's cursor."""
        if market.symbol not in self.reset_ids:
            self.reset_ids.add(market.symbol)
            log.error("trade_ids_reset", extra={"symbol": market.symbol, "stored": cursor.trade_id})
        return ()

    def _complete(self, market: Market, found: Sequence[ReceivedTrade]) -> bool:
        """Whether with this delivery all trades of a market are delivered, except for the last SETTLED_AFTER."""
        cursor = cursor_after(found[-1].trade) if found else self._cursors.get(market.symbol)
        return cursor is not None and cursor == market.trade_log.last and self._receiver.complete(market)

    def _count(self, number: int) -> None:
        elapsed = self._clock.elapsed()
        self.total += number
        self._delivered.append((elapsed, number))
        self._forget(elapsed)

    def _forget(self, elapsed: float) -> None:
        while self._delivered and self._delivered[0][0] < elapsed - RATE_WINDOW:
            self._delivered.popleft()

    # State.

    def _known_cursors(self) -> list[tuple[Market, Cursor]]:
        """The cursor in each market; the start of the trade log while the output's is not known yet."""
        markets = [
            (market, self._cursors.get(market.symbol) or market.trade_log.first) for market in self._markets.all()
        ]
        return [(market, cursor) for market, cursor in markets if cursor is not None]

    def waiting(self) -> int:
        """The number of trades and messages that are not delivered yet."""
        return len(self.outbox) + sum(market.trade_log.count_after(cursor) for market, cursor in self._known_cursors())

    def lag(self) -> float:
        """The age in seconds of the oldest item that is not delivered yet."""
        trades = [market.trade_log.oldest_after(cursor) for market, cursor in self._known_cursors()]
        waits = [self._sending, self.outbox.oldest, *(one.received for one in trades if one is not None)]
        since = min((one for one in waits if one is not None), default=None)
        return 0.0 if since is None else max(0.0, (self._clock.now() - since) / times.SECOND)

    def check_conflation(self) -> None:
        """Record the time of a conflation."""
        if self.outbox.conflated != self._conflated:
            self._conflated, self._conflated_at = self.outbox.conflated, self._clock.elapsed()

    def _problem(self, lag: float) -> str:
        """What is wrong, without variable numbers, since it becomes a condition's message; empty if nothing is."""
        if not self.connected:
            return self.detail
        if self.reset_ids:
            return f"{IDS_RESET}: {', '.join(sorted(self.reset_ids))}"
        if self.invalid_trades:
            return f"{INVALID_TRADES}: {', '.join(sorted(self.invalid_trades))}"
        if lag > MAX_LAG:
            return LAGGING
        return CONFLATING if self._clock.elapsed() - self._conflated_at < CONFLATED_FOR else ""

    def state(self) -> OutputState:
        self._forget(self._clock.elapsed())
        lag = self.lag()
        problem = self._problem(lag)
        return OutputState(
            ok=not problem,
            detail=problem,
            lag_seconds=round(lag, 3),
            waiting=self.waiting(),
            conflated=self.outbox.conflated,
            rate=round(sum(number for _, number in self._delivered) / RATE_WINDOW, 1),
        )
