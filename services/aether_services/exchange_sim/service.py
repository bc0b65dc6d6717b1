"""The venue: it advances the market in steps, and broadcasts the changes to subscribers.

A step: the feed produces orders, the engine matches them, the journal stores the batch, and only then is it broadcast.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import prometheus_client

from aether_services.contracts.statuses import Check, VenueStatus
from aether_services.domain import times
from aether_services.domain.times import Nanoseconds
from aether_services.domain.trades import Side
from aether_services.exchange_sim import connections, schemas
from aether_services.exchange_sim.core import feeds, views, wire_format
from aether_services.exchange_sim.core.batches import BatchBuilder
from aether_services.exchange_sim.core.engines import Engine
from aether_services.exchange_sim.core.faults import FaultKind
from aether_services.exchange_sim.core.orders import LevelSet
from aether_services.exchange_sim.schemas import Key, Request
from aether_services.kit import apps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_services.domain.instruments import Instrument, Symbol, TradingStatus
    from aether_services.exchange_sim.connections import Connection
    from aether_services.exchange_sim.core.batches import Batch, Outcome
    from aether_services.exchange_sim.core.recordings import Recording
    from aether_services.exchange_sim.ports import Journal, JournalState
    from aether_services.exchange_sim.settings import Settings
    from aether_services.kit.clocks import Clock

STEP_INTERVAL: Final = 0.02
"""Seconds between two steps."""
MAX_STEP: Final = 0.25
"""The maximum market time of one step in seconds: after a pause, the rest is skipped."""
CHECK_INTERVAL: Final = 0.1
"""Seconds between checks for heartbeats and for connections without a subscription."""
PRUNE_INTERVAL: Final = 600.0
STALLED_AFTER: Final = 10.0
"""Seconds without a step after which the venue is not ready."""


class Venue:
    """The simulated venue, without its endpoints.

    Args:
        settings: The service's settings.
        instruments: The open markets by symbol.
        journal: Stores each batch before it is broadcast.
        clock: The time.
        registry: Where metrics are registered.
        recording: The recording to replay; None for a synthetic order flow.
    """

    def __init__(  # noqa: PLR0913 - it composes
        self,
        settings: Settings,
        *,
        instruments: Mapping[Symbol, Instrument],
        journal: Journal,
        clock: Clock,
        registry: prometheus_client.CollectorRegistry,
        recording: Recording | None = None,
    ) -> None:
        self.instruments, self.journal, self.clock = instruments, journal, clock
        self.speed, self.flowing, self.draining = settings.speed, True, False
        self.subscribers = connections.Subscribers(settings, clock, registry)
        self._connection_limiter = connections.ConnectionLimiter(settings.connects)
        self._call_limiter = connections.CallLimiter(settings.rest_rate)
        self._settings = settings
        self._started = clock.now()
        self._stepped_at: float | None = None
        self._step_lock = asyncio.Lock()
        self._journaled_trades = 0
        self._traded = prometheus_client.Counter(
            "aether_venue_trades", "Trades since the start", ["symbol"], registry=registry
        )
        self._journaled = prometheus_client.Histogram(
            "aether_venue_journal_write_seconds", "Time to write a batch to the journal", registry=registry,
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0),
        )  # fmt: skip

        state = journal.load(views.RECENT)
        self.engine = Engine(instruments.values())
        self._restore(state)
        self.markets = {symbol: views.Market(one) for symbol, one in instruments.items()}
        self._restore_views(state)
        # A restarted venue must not repeat the orders of its last run.
        seed = f"{settings.seed} {state.next_order_id}"
        self._feed: feeds.Feed = (
            feeds.Replay(recording) if recording else feeds.Synthetic(self.engine, BatchBuilder(state.candles), seed)
        )

    def _restore(self, state: JournalState) -> None:
        self.engine.next_order_id = state.next_order_id
        self.engine.restore(order for order in state.orders if order.symbol in self.engine.books)
        for symbol, last in state.last.items():
            book = self.engine.books.get(symbol)
            if book is not None:
                book.last_trade_id, book.last_trade_at, book.last_price = last.trade_id, last.at, last.price

    def _restore_views(self, state: JournalState) -> None:
        # The journal knows when a level's newest order was placed, but not when an older one was filled or cancelled.
        changed: dict[tuple[Symbol, Side, int], Nanoseconds] = {}
        for order in state.orders:
            key = order.symbol, order.side, order.price
            changed[key] = max(order.at, changed.get(key, order.at))
        for symbol, market in self.markets.items():
            book = self.engine.books[symbol]
            levels = (
                (LevelSet(symbol, side, price, quantity), changed[symbol, side, price])
                for side in Side
                for price, quantity in book.side(side).levels()
            )
            known = [candle for candle in state.candles if candle.symbol == symbol]
            market.restore(levels, state.trades.get(symbol, ()), known, book.last_trade_id)

    # ---- the service: readiness, status, run, drain

    def checks(self) -> Mapping[str, Check]:
        """The venue is ready while its last step is recent."""
        if self._stepped_at is None:
            return {"engine": Check(ok=False, detail="no step yet")}
        late = self.clock.elapsed() - self._stepped_at
        return {
            "engine": Check(ok=late < STALLED_AFTER, detail="" if late < STALLED_AFTER / 10 else f"{late:.1f} s ago")
        }

    def status(self) -> VenueStatus:
        return VenueStatus(
            service="exchange_sim",
            release=self._settings.release,
            instance=self._settings.instance,
            started=self._started,
            ready=apps.ready(self),
            draining=self.draining,
            checks=dict(self.checks()),
            system=self.engine.system.value,
            clients=len(self.subscribers.connections),
            trades=self._journaled_trades,
            pairs={symbol: market.last_trade_id for symbol, market in self.markets.items()},
        )

    async def run(self) -> None:
        """Advance the market until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._step_loop())
            tasks.create_task(self._connection_loop())
            tasks.create_task(self._prune_loop())

    async def drain(self) -> None:
        """Close all connections, and wait until the close frames are sent. What was broadcast is in the journal."""
        self.draining = True
        self.subscribers.close_all(connections.GOING_AWAY, "the venue is shutting down")
        # The HTTP server would close open connections with its own code and without a reason.
        await self.subscribers.wait_closed()

    # ---- steps

    async def _step_loop(self) -> None:
        before = self.clock.elapsed()
        while True:
            now = self.clock.elapsed()
            # After a pause the missed market time is skipped.
            seconds, before = min(now - before, MAX_STEP), now
            async with self._step_lock:
                if self.flowing and not self.draining:
                    batch = self._feed.step(seconds * self.speed, self.clock.now())
                    if batch:
                        await self._write(batch)
                        self._publish(batch)
            self._stepped_at = self.clock.elapsed()
            await self.clock.sleep(max(STEP_INTERVAL - (self._stepped_at - now), 0.0))

    async def _write(self, batch: Batch) -> None:
        if not (batch.trades or batch.opened or batch.reduced or batch.closed):
            return  # a replay has no orders
        began = self.clock.elapsed()
        # Shielded: a write that has begun completes even when the service is cancelled.
        await asyncio.shield(self.journal.write(batch))
        self._journaled.observe(self.clock.elapsed() - began)

    async def _prune_loop(self) -> None:
        while True:
            days = self._settings.trades_days * 1440 * times.MINUTE
            self._journaled_trades = await self.journal.prune(Nanoseconds(self.clock.now() - days))
            await self.clock.sleep(PRUNE_INTERVAL)

    async def _connection_loop(self) -> None:
        while True:
            self.subscribers.check_connections()
            await self.clock.sleep(CHECK_INTERVAL)

    # ---- broadcast

    def _publish(self, batch: Batch) -> None:
        now = self.clock.now()
        for outcome in batch.outcomes:
            self._broadcast(outcome, now)
        self._journaled_trades += len(batch.trades)

    def _broadcast(self, outcome: Outcome, now: Nanoseconds) -> None:
        """Apply the outcome of one command to the view, and send it to the subscribers, encoding each message once."""
        market, subscribers = self.markets[outcome.symbol], self.subscribers
        best = market.best()
        self._broadcast_book(market, outcome, now)
        for trade in outcome.trades:
            market.add_trade(trade)
        for candle in outcome.candles:
            market.add_candle(candle)
        if outcome.trades:
            self._traded.labels(outcome.symbol).inc(len(outcome.trades))
            if subscribers.has_subscribers(key := Key(schemas.TRADE, outcome.symbol)):
                subscribers.broadcast(
                    [(key, wire_format.trades(market.instrument, outcome.trades, kind=wire_format.UPDATE))]
                )
            for candle in outcome.candles:
                if subscribers.has_subscribers(key := Key(schemas.OHLC, outcome.symbol, candle.interval)):
                    subscribers.broadcast(
                        [(key, wire_format.ohlc(market.instrument, (candle,), kind=wire_format.UPDATE, now=now))]
                    )
        triggers = {"trades": bool(outcome.trades), "bbo": best != market.best()}
        happened = [Key(schemas.TICKER, outcome.symbol, trigger) for trigger, so in triggers.items() if so]
        if keys := [key for key in happened if subscribers.has_subscribers(key)]:
            text = wire_format.ticker(market, kind=wire_format.UPDATE, now=now)
            subscribers.broadcast((key, text) for key in keys)

    def _broadcast_book(self, market: views.Market, outcome: Outcome, now: Nanoseconds) -> None:
        keys = {depth: Key(schemas.BOOK, outcome.symbol, depth) for depth in views.DEPTHS}
        levels_by_depth = market.apply(
            outcome.levels, [depth for depth, key in keys.items() if self.subscribers.has_subscribers(key)], now
        )
        if levels_by_depth:
            checksum = market.checksum ^ self.subscribers.faults.take(FaultKind.CHECKSUM, schemas.BOOK, outcome.symbol)
            self.subscribers.broadcast(
                (keys[depth], wire_format.book(market, bids, asks, kind=wire_format.UPDATE, checksum=checksum, at=now))
                for depth, (bids, asks) in levels_by_depth.items()
            )

    # ---- connections

    def allows_connection(self, address: str) -> bool:
        """Whether another connection from an address is accepted."""
        return self._connection_limiter.allows(address, self.clock.elapsed())

    def allows_call(self, address: str) -> bool:
        """Whether another REST call from an address is answered."""
        return self._call_limiter.allows(address, self.clock.elapsed())

    def connect(self) -> Connection:
        """Register a connection, and send it the system status."""
        connection = self.subscribers.add()
        self.subscribers.send(wire_format.status(self.engine.system, connection.connection_id), "status", connection)
        if self.draining:
            connection.close(connections.GOING_AWAY, "the venue is shutting down")
        return connection

    def receive(self, connection: Connection, text: str | bytes) -> None:
        """Handle a request of a client."""
        received = self.clock.now()
        request = schemas.parse_request(text, self.instruments)
        if not connection.allows_message(self.clock.elapsed()):
            error = schemas.RequestError(error=schemas.TOO_FAST)
            self._reply(connection, schemas.error_reply(request, error, received, self.clock.now()))
            return
        if request.method == "ping" and not request.keys:
            self._reply(connection, schemas.pong(request.req_id, received, self.clock.now()))
            return
        for item in request.keys:
            done = item if isinstance(item, schemas.RequestError) else self._change(connection, request, item)
            now = self.clock.now()
            if isinstance(done, schemas.RequestError):
                self._reply(connection, schemas.error_reply(request, done, received, now))
                continue
            self._reply(connection, schemas.success_reply(request, done, received, now))
            if request.method == "subscribe" and request.snapshot:
                self.subscribers.send_snapshot(done, self._snapshot(done, now), connection)

    def _reply(self, connection: Connection, text: str) -> None:
        self.subscribers.send(text, "reply", connection)

    def _change(self, connection: Connection, request: Request, key: Key) -> Key | schemas.RequestError:
        if request.method == "subscribe":
            if self.subscribers.subscribe(connection, key):
                return key
            return schemas.RequestError(error=schemas.ALREADY, symbol=key.symbol)
        if self.subscribers.unsubscribe(connection, key):
            return key
        return schemas.RequestError(error=schemas.NOT_FOUND, symbol=key.symbol)

    def _snapshot(self, key: Key, now: Nanoseconds) -> str:
        kind = wire_format.SNAPSHOT
        if key.channel == schemas.INSTRUMENT:
            return wire_format.instruments(self.instruments.values(), kind=kind)
        market, instrument = self.markets[key.symbol], self.instruments[key.symbol]
        if key.channel == schemas.BOOK:
            bids, asks = (side.texts[: int(key.detail)] for side in (market.bids, market.asks))
            return wire_format.book(
                market, bids, asks, kind=kind, checksum=market.checksum, at=market.changed_at or now
            )
        if key.channel == schemas.OHLC:
            return wire_format.ohlc(instrument, market.candles(int(key.detail))[-views.RECENT :], kind=kind, now=now)
        if key.channel == schemas.TICKER:
            return wire_format.ticker(market, kind=kind, now=now)
        return wire_format.trades(instrument, market.trades, kind=kind)

    # ---- faults on demand

    def set_system(self, system: TradingStatus) -> None:
        """Change the system status, and send it to all connections."""
        self.engine.system = system
        for connection in self.subscribers.connections:
            self.subscribers.send(wire_format.status(system, connection.connection_id), "status", connection)

    def block_calls(self, seconds: float) -> None:
        """Reject all REST calls with a rate-limit error for some seconds."""
        self._call_limiter.block_until(self.clock.elapsed() + seconds)

    async def flow(self, *, speed: float | None = None, flowing: bool | None = None) -> None:
        """Change the market's speed, or stop it. When this returns, everything that happened has been broadcast."""
        self.speed = self.speed if speed is None else speed
        self.flowing = self.flowing if flowing is None else flowing
        async with self._step_lock:
            pass

    def describe_faults(self) -> dict[str, object]:
        """The active faults, for the admin API."""
        usual = {"system": self.engine.system.value, "speed": self.speed, "flowing": self.flowing}
        blocked = self._call_limiter.blocked_for(self.clock.elapsed())
        return {**usual, "refusing_seconds": blocked, **self.subscribers.describe_faults()}
