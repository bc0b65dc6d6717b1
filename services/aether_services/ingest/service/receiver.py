"""Receives from the venue: connects and reconnects, subscribes, detects silence, and backfills missing trades."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Final

from aether_services.domain import times
from aether_services.domain.books import UnusableReason
from aether_services.domain.instruments import TradingStatus
from aether_services.domain.times import Nanoseconds
from aether_services.ingest.core import subscriptions, wire
from aether_services.ingest.core.reconnects import STABLE_AFTER, ReconnectPolicy
from aether_services.ingest.core.subscriptions import State, Subscriptions
from aether_services.ingest.core.wire import Channel
from aether_services.ingest.ports import InvalidTrades, VenueUnavailable
from aether_services.ingest.service.backfill import TradeHistory, TradeIdsReset
from aether_services.ingest.service.channels import QUERY_SHARE, ChannelMonitor
from aether_services.ingest.service.outage_log import OutageLog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aether_services.domain.instruments import Symbol
    from aether_services.domain.trades import Trade
    from aether_services.ingest.core.market import Market
    from aether_services.ingest.core.markets import Markets
    from aether_services.ingest.core.subscriptions import Key
    from aether_services.ingest.core.trade_logs import Cursor
    from aether_services.ingest.ports import Connection, Venue
    from aether_services.kit.clocks import Clock

log = logging.getLogger(__name__)

TICK: Final = 0.05
"""Seconds between two checks for requests to send."""
REQUESTS_PER_TICK: Final = 1
"""Requests per TICK of any kind: twenty per second on one connection.

Kraken documents no number (the error is "Exceeded msg rate"), and nautilus_trader limits itself to twenty per second;
exchange_sim allows fifty per second with a burst of a hundred.
"""
PING_AFTER: Final = 4 * times.SECOND
"""The time without a message, heartbeats included, after which a ping is sent."""
SILENT_AFTER: Final = 8 * times.SECOND
"""The time without a message after which all books are withdrawn and the connection is closed."""
MAX_BACKFILL_PAUSE: Final = 30.0
"""The maximum pause until missing trades are queried again."""


class Receiver:
    """Receives market data from the venue.

    Args:
        venue: The venue.
        history: For trades that were missed.
        markets: The served markets.
        clock: The time.
        depth: The subscribed depth of books.
        refresh: Seconds after which a new snapshot of a book is requested, for deeper levels without a checksum.
        on_received: Called after each message that was received.
        rest_interval: Seconds between two REST calls that the venue allows, of all replicas together.
        symbols_at_once: Symbols in one request.
        jitter: Returns a random number from 0 to 1.
    """

    def __init__(  # noqa: PLR0913 - its parts, by name
        self,
        *,
        venue: Venue,
        history: TradeHistory,
        markets: Markets,
        clock: Clock,
        depth: int,
        refresh: float,
        on_received: Callable[[], None],
        rest_interval: float = 0.0,
        symbols_at_once: int = subscriptions.SYMBOLS_AT_ONCE,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._venue, self._history, self._markets, self._clock = venue, history, markets, clock
        self._depth, self._refresh, self._on_received = depth, round(refresh * times.SECOND), on_received
        self._outage_log = OutageLog(log, down="venue_unavailable", up="venue_connected", clock=clock)
        self.connected = False
        self.detail = "not connected yet"
        self.last_received_at = Nanoseconds(0)
        """When the last message was received, heartbeats included."""
        self.reconnects = 0
        self.reconnect_policy = ReconnectPolicy(jitter)
        self._symbols_at_once, self._jitter = symbols_at_once, jitter
        self._failures: dict[Key, int] = {}
        """Subscription → consecutive failures, over all connections."""
        self._subscriptions: Subscriptions = self._new_subscriptions()
        self.refresh_instruments = False
        """Whether the instruments must be subscribed to again."""
        self._backfill_pauses: dict[Symbol, tuple[float, float]] = {}
        """Market whose missing trades REST did not return → when they may be queried again, and the current pause."""
        self._pinged = Nanoseconds(0)
        self._channels = ChannelMonitor(markets)
        self._rest_interval, self._next_query_at = rest_interval, 0.0

    def _new_subscriptions(self) -> Subscriptions:
        return Subscriptions(
            params={Channel.BOOK: {"depth": self._depth}},
            extra={channel: {"snapshot": True} for channel in (Channel.BOOK, Channel.TRADE, Channel.INSTRUMENT)},
            failures=self._failures,
            symbols_at_once=self._symbols_at_once,
            jitter=self._jitter,
        )

    def rejection(self, symbol: Symbol) -> str:
        """The venue's error text where it rejected a subscription of a market."""
        errors = (
            self._subscriptions.error((channel, symbol)) for channel in (Channel.BOOK, Channel.TRADE, Channel.TICKER)
        )
        return next((error for error in errors if error), "")

    def backoff(self, symbol: Symbol) -> float:
        """Seconds until a failed book is subscribed to again; 0 when not in backoff."""
        return self._subscriptions.backoff((Channel.BOOK, symbol), self._clock.elapsed())

    def complete(self, market: Market) -> bool:
        """Whether a market's trade log has all trades that happened, except for the last moments."""
        subscribed = self._subscriptions.state((Channel.TRADE, market.symbol)) is State.SUBSCRIBED
        silent = Channel.TRADE in market.liveness.silent
        return self.connected and subscribed and not silent and not market.trade_log.has_gap and not market.withheld

    def stop(self) -> None:
        """Stop receiving, and withdraw all books."""
        self.connected, self.detail = False, "shutting down"
        self._markets.invalidate_books(UnusableReason.DISCONNECTED, self._clock.now())
        self._on_received()

    async def run(self) -> None:
        """Receive until cancelled, reconnecting after each session."""
        while True:
            self.reconnect_policy.record_attempt(self._clock.elapsed())
            try:
                async with self._venue.connected() as connection:
                    await self._run_session(connection)
            except VenueUnavailable as fault:
                maintenance = self._markets.system == TradingStatus.MAINTENANCE
                pause = self.reconnect_policy.pause(self._clock.elapsed(), code=fault.code, maintenance=maintenance)
                self.connected, self.detail = False, str(fault)
                self.reconnects += 1
                self._markets.invalidate_books(UnusableReason.DISCONNECTED, self._clock.now())
                self._on_received()
                self._outage_log.record_failure(str(fault), code=fault.code, pause=round(pause, 1))
            await self._clock.sleep(pause)

    async def _run_session(self, connection: Connection) -> None:
        self._subscriptions = self._new_subscriptions()
        self._markets.connection_opened()
        self._channels.connection_opened()
        self.connected, self.detail = True, ""
        self.last_received_at = self._pinged = began = self._clock.now()
        self._outage_log.record_success()
        tasks = [asyncio.create_task(one) for one in (self._receive_loop(connection), self._request_loop(connection))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            if self.last_received_at - began >= STABLE_AFTER:
                self.reconnect_policy.session_stable()
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _receive_loop(self, connection: Connection) -> None:
        while True:
            frame = await connection.receive()
            self.last_received_at = received = self._clock.now()
            try:
                self._handle_frame(frame, received)
            except Exception as fault:  # noqa: BLE001 - no message may stop the next one
                self._markets.rejections.record("reply", "", fault, unexpected=True)

    def _handle_frame(self, frame: str, received: Nanoseconds) -> None:
        reply, elapsed = self._markets.receive(frame, received), self._clock.elapsed()
        for key in self._markets.take_data_received():
            self._subscriptions.data_received(key, elapsed)
        if reply is None:
            self._on_received()
        elif (result := self._subscriptions.handle_reply(reply, elapsed)) is not None and result.error:
            symbols = [symbol for _, symbol in result.keys]
            log.warning(
                "subscription_rejected", extra={"channel": result.keys[0][0], "symbols": symbols, "cause": result.error}
            )

    async def _request_loop(self, connection: Connection) -> None:
        while True:
            now, elapsed = self._clock.now(), self._clock.elapsed()
            self._check_silence(now)
            if now - self.last_received_at >= PING_AFTER and now - self._pinged >= PING_AFTER:
                self._pinged = now
                await connection.send(wire.ping(0))
            self._refresh_instruments(elapsed)
            self._channels.check(self._subscriptions, now, elapsed)
            self._check_books(now, elapsed)
            for request in self._subscriptions.requests(self._required(), elapsed, limit=REQUESTS_PER_TICK):
                await connection.send(request)
            await self._clock.sleep(TICK)

    def _check_silence(self, now: Nanoseconds) -> None:
        if now - self.last_received_at >= SILENT_AFTER:
            self._markets.invalidate_books(UnusableReason.SILENT, now)
            raise VenueUnavailable(f"silent for {(now - self.last_received_at) / times.SECOND:.0f} s")

    def _required(self) -> set[Key]:
        """The required subscriptions: the instruments, and the channels of markets that the venue is known to have."""
        known = [market.symbol for market in self._markets.all() if market.book is not None]
        channels = (Channel.BOOK, Channel.TRADE, Channel.TICKER)
        return {(Channel.INSTRUMENT, None), *((channel, symbol) for symbol in known for channel in channels)}

    def _refresh_instruments(self, elapsed: float) -> None:
        """Subscribe to the instruments again, if a number did not match them."""
        instruments = (Channel.INSTRUMENT, None)
        if self.refresh_instruments and self._subscriptions.state(instruments) is State.SUBSCRIBED:
            self.refresh_instruments = False
            self._subscriptions.resubscribe(instruments, elapsed, failed=False)

    def _check_books(self, now: Nanoseconds, elapsed: float) -> None:
        """Subscribe again to books that failed or are due for a refresh, and mark stable ones."""
        for market in self._markets.all():
            key = (Channel.BOOK, market.symbol)
            late = self._subscriptions.snapshot_wait(key, elapsed) >= subscriptions.SNAPSHOT_TIMEOUT[Channel.BOOK]
            again = self._markets.take_resubscription(market)
            if late:
                self._markets.snapshot_late(market, now)
            if again:
                self._subscriptions.resubscribe(key, elapsed)
                continue
            if market.verified_at - market.snapshot_at >= subscriptions.STABLE_AFTER * times.SECOND:
                self._subscriptions.mark_stable(key)
            if now - market.snapshot_at >= self._refresh:
                self._subscriptions.resubscribe(key, elapsed, failed=False)

    async def backfill(self) -> None:
        """Query missing trades until cancelled."""
        while True:
            for symbol in list(self._markets.backfill):
                await self._backfill(symbol)
            await self._query_quiet_market()
            await self._clock.sleep(TICK)

    async def _backfill(self, symbol: Symbol) -> None:
        if not self._markets.needs_backfill(symbol):
            self._backfill_pauses.pop(symbol, None)
            return
        market, (until, pause) = self._markets[symbol], self._backfill_pauses.get(symbol, (0.0, 0.5))
        if market.trade_log.last is None or self._clock.elapsed() < until:
            pass  # without a last trade, `_query_quiet_market` queries the newest ones
        elif await self._query_trades(market, market.trade_log.last):
            self._backfill_pauses.pop(symbol, None)
        else:  # REST does not have them yet, or returned invalid trades
            pause = min(MAX_BACKFILL_PAUSE, 2 * pause)
            self._backfill_pauses[symbol] = self._clock.elapsed() + pause, pause

    async def _query_quiet_market(self) -> None:
        """Query whether the market that was quiet for longest has traded."""
        elapsed = self._clock.elapsed()
        if not self.connected or elapsed < self._next_query_at:
            return
        market = self._channels.next_to_query(self._clock.now())
        if market is None:
            return
        self._next_query_at = elapsed + QUERY_SHARE * self._rest_interval * self.reconnect_policy.replicas
        missing = await self._query_trades(market, market.trade_log.last)
        if missing is not None:
            self._channels.query_answered(market, missing, self._clock.now())

    async def _query_trades(self, market: Market, cursor: Cursor | None) -> Sequence[Trade] | None:
        """Add the venue's trades after a cursor, or its newest ones; returns the new ones, None if the query failed."""
        symbol, after = market.symbol, cursor.trade_id if cursor is not None else None
        try:
            trades = await (self._history.after(symbol, cursor) if cursor is not None else self._history.newest(symbol))
        except TradeIdsReset:
            log.error("trade_ids_reset", extra={"symbol": symbol, "after": after})  # noqa: TRY400
            self._markets.restart_trade_log(market)
            return None
        except VenueUnavailable as fault:
            log.warning("gap_not_filled", extra={"symbol": symbol, "after": after, "cause": str(fault)})
            if isinstance(fault, InvalidTrades):
                self._markets.withhold(market, str(fault), self._clock.now())
            return None
        missing = self._markets.add_from_rest(market, trades, self._clock.now(), after_gap=cursor is not None)
        if missing:
            log.info("gap_filled", extra={"symbol": symbol, "after": after, "trades": len(missing)})
            self._on_received()
        return missing
