"""The venue: it turns, batch by batch, and tells whoever is subscribed.

A turn: the feed says what happens, the engine matches it, the journal has it, and only then is anybody told.
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
from aether_services.exchange_sim.core.batches import Batching
from aether_services.exchange_sim.core.engines import Engine
from aether_services.exchange_sim.core.faults import Kind
from aether_services.exchange_sim.core.orders import LevelSet
from aether_services.exchange_sim.schemas import Asked, Key
from aether_services.kit import apps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_services.domain.instruments import Instrument, Symbol, Trading
    from aether_services.exchange_sim.connections import Connection
    from aether_services.exchange_sim.core.batches import Batch, Outcome
    from aether_services.exchange_sim.core.recordings import Recording
    from aether_services.exchange_sim.ports import Journal, Past
    from aether_services.exchange_sim.settings import Settings
    from aether_services.kit.clocks import Clock

TURN: Final = 0.02
"""Seconds from one batch to the next."""
LONGEST: Final = 0.25
"""Seconds that one batch makes up for at most."""
LOOK: Final = 0.1
"""Seconds between looks at connections that have nothing to hear, or want nothing."""
PRUNE: Final = 600.0
STALE: Final = 10.0
"""Seconds after a turn when one must say that it stands still."""


class Venue:
    """All of it, but for the ways to it.

    Args:
        settings: What the room was told.
        instruments: The markets that are open.
        journal: What happened.
        clock: The time.
        registry: Its metrics.
        recording: What is replayed; without, orders are made up.
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
        self.audience = connections.Audience(settings, clock, registry)
        self._door = connections.Door(settings.connects)
        self._calls = connections.Calls(settings.rest_rate)
        self._settings = settings
        self._started = clock.now()
        self._turned: float | None = None
        self._turn = asyncio.Lock()
        self._kept_trades = 0
        self._traded = prometheus_client.Counter(
            "aether_venue_trades", "Trades since the start", ["symbol"], registry=registry
        )
        self._journaled = prometheus_client.Histogram(
            "aether_venue_journal_seconds", "How long a batch takes to be in the journal", registry=registry,
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0),
        )  # fmt: skip

        past = journal.load(views.RECENT)
        self.engine = Engine(instruments.values())
        self._restore(past)
        self.markets = {symbol: views.Market(one) for symbol, one in instruments.items()}
        self._show(past)
        # Another life, another chance: the same orders once more would be strange.
        seed = f"{settings.seed} {past.next_order_id}"
        self._feed: feeds.Feed = (
            feeds.Replay(recording) if recording else feeds.Synthetic(self.engine, Batching(past.bars), seed)
        )

    def _restore(self, past: Past) -> None:
        self.engine.next_order_id = past.next_order_id
        self.engine.restore(order for order in past.orders if order.symbol in self.engine.books)
        for symbol, last in past.last.items():
            book = self.engine.books.get(symbol)
            if book is not None:
                book.last_trade_id, book.last_trade_at, book.last_price = last.trade_id, last.at, last.price

    def _show(self, past: Past) -> None:
        # Of a level the journal knows when its newest order came, and not when one before was filled or cancelled.
        changed: dict[tuple[Symbol, Side, int], Nanoseconds] = {}
        for order in past.orders:
            key = order.symbol, order.side, order.price
            changed[key] = max(order.at, changed.get(key, order.at))
        for symbol, market in self.markets.items():
            book = self.engine.books[symbol]
            levels = (
                (LevelSet(symbol, side, price, quantity), changed[symbol, side, price])
                for side in Side
                for price, quantity in book.side(side).levels()
            )
            known = [bar for bar in past.bars if bar.symbol == symbol]
            market.restore(levels, past.trades.get(symbol, ()), known, book.last_trade_id)

    # ---- what every room has

    def checks(self) -> Mapping[str, Check]:
        """It is ready once it turned, and while it goes on."""
        if self._turned is None:
            return {"turning": Check(ok=False, detail="it has not turned yet")}
        late = self.clock.elapsed() - self._turned
        return {"turning": Check(ok=late < STALE, detail="" if late < STALE / 10 else f"{late:.1f} s ago")}

    def status(self) -> VenueStatus:
        """What it says of itself."""
        return VenueStatus(
            room="exchange_sim",
            release=self._settings.release,
            instance=self._settings.instance,
            started=self._started,
            ready=apps.ready(self),
            draining=self.draining,
            checks=dict(self.checks()),
            system=self.engine.system.value,
            clients=len(self.audience.connections),
            trades=self._kept_trades,
            pairs={symbol: market.last_trade_id for symbol, market in self.markets.items()},
        )

    async def run(self) -> None:
        """Turn until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._turning())
            tasks.create_task(self._looking())
            tasks.create_task(self._pruning())

    async def drain(self) -> None:
        """Say goodbye, and wait until it is sent. What was told is in the journal already."""
        self.draining = True
        self.audience.close_all(connections.GOING_AWAY, "the venue is about to end")
        # The server closes what is open when it ends, with a code of its own and no reason.
        await self.audience.wait_closed()

    # ---- turning

    async def _turning(self) -> None:
        before = self.clock.elapsed()
        while True:
            now = self.clock.elapsed()
            # After a pause the time in between is left out, and not made up for.
            seconds, before = min(now - before, LONGEST), now
            async with self._turn:
                if self.flowing and not self.draining:
                    batch = self._feed.step(seconds * self.speed, self.clock.now())
                    if batch:
                        await self._write(batch)
                        self._publish(batch)
            self._turned = self.clock.elapsed()
            await self.clock.sleep(max(TURN - (self._turned - now), 0.0))

    async def _write(self, batch: Batch) -> None:
        if not (batch.trades or batch.opened or batch.reduced or batch.closed):
            return  # a replay has no orders
        began = self.clock.elapsed()
        # Shielded: when the room ends now, what is half written is written all the same, and known to be.
        await asyncio.shield(self.journal.write(batch))
        self._journaled.observe(self.clock.elapsed() - began)

    async def _pruning(self) -> None:
        while True:
            days = self._settings.trades_days * 1440 * times.MINUTE
            self._kept_trades = await self.journal.prune(Nanoseconds(self.clock.now() - days))
            await self.clock.sleep(PRUNE)

    async def _looking(self) -> None:
        while True:
            self.audience.look()
            await self.clock.sleep(LOOK)

    # ---- telling

    def _publish(self, batch: Batch) -> None:
        now = self.clock.now()
        for outcome in batch.outcomes:
            self._tell(outcome, now)
        self._kept_trades += len(batch.trades)

    def _tell(self, outcome: Outcome, now: Nanoseconds) -> None:
        """Show what came of one command, and write it for those who listen: each text once."""
        market, audience = self.markets[outcome.symbol], self.audience
        best = market.best()
        self._tell_book(market, outcome, now)
        for trade in outcome.trades:
            market.traded(trade)
        for bar in outcome.bars:
            market.barred(bar)
        if outcome.trades:
            self._traded.labels(outcome.symbol).inc(len(outcome.trades))
            if audience.wants(key := Key(schemas.TRADE, outcome.symbol)):
                audience.tell([(key, wire_format.trades(market.instrument, outcome.trades, kind=wire_format.UPDATE))])
            for bar in outcome.bars:
                if audience.wants(key := Key(schemas.OHLC, outcome.symbol, bar.interval)):
                    audience.tell(
                        [(key, wire_format.ohlc(market.instrument, (bar,), kind=wire_format.UPDATE, now=now))]
                    )
        triggers = {"trades": bool(outcome.trades), "bbo": best != market.best()}
        happened = [Key(schemas.TICKER, outcome.symbol, trigger) for trigger, so in triggers.items() if so]
        if keys := [key for key in happened if audience.wants(key)]:
            text = wire_format.ticker(market, kind=wire_format.UPDATE, now=now)
            audience.tell((key, text) for key in keys)

    def _tell_book(self, market: views.Market, outcome: Outcome, now: Nanoseconds) -> None:
        keys = {depth: Key(schemas.BOOK, outcome.symbol, depth) for depth in views.DEPTHS}
        told = market.apply(outcome.levels, [depth for depth, key in keys.items() if self.audience.wants(key)], now)
        if told:
            checksum = market.checksum ^ self.audience.faults.take(Kind.CHECKSUM, schemas.BOOK, outcome.symbol)
            self.audience.tell(
                (keys[depth], wire_format.book(market, bids, asks, kind=wire_format.UPDATE, checksum=checksum, at=now))
                for depth, (bids, asks) in told.items()
            )

    # ---- connections

    def admits(self, address: str) -> bool:
        """Whether one more connect from an address is let in."""
        return self._door.admits(address, self.clock.elapsed())

    def answers(self, address: str) -> bool:
        """Whether one more call of REST from an address is answered."""
        return self._calls.admits(address, self.clock.elapsed())

    def connect(self) -> Connection:
        """A new connection; it is told the status."""
        connection = self.audience.add()
        self.audience.say(wire_format.status(self.engine.system, connection.connection_id), "status", connection)
        if self.draining:
            connection.close(connections.GOING_AWAY, "the venue is about to end")
        return connection

    def hear(self, connection: Connection, text: str | bytes) -> None:
        """Do what a connection asks for."""
        received = self.clock.now()
        request = schemas.asked(text, self.instruments)
        if not connection.may_speak(self.clock.elapsed()):
            refusal = schemas.Refused(error=schemas.TOO_FAST)
            self._answer(connection, schemas.refused(request, refusal, received, self.clock.now()))
            return
        if request.method == "ping" and not request.wanted:
            self._answer(connection, schemas.pong(request.req_id, received, self.clock.now()))
            return
        for wanted in request.wanted:
            done = wanted if isinstance(wanted, schemas.Refused) else self._change(connection, request, wanted)
            now = self.clock.now()
            if isinstance(done, schemas.Refused):
                self._answer(connection, schemas.refused(request, done, received, now))
                continue
            self._answer(connection, schemas.accepted(request, done, received, now))
            if request.method == "subscribe" and request.snapshot:
                self.audience.tell_snapshot(done, self._snapshot(done, now), connection)

    def _answer(self, connection: Connection, text: str) -> None:
        self.audience.say(text, "answer", connection)

    def _change(self, connection: Connection, request: Asked, key: Key) -> Key | schemas.Refused:
        if request.method == "subscribe":
            if self.audience.subscribe(connection, key):
                return key
            return schemas.Refused(error=schemas.ALREADY, symbol=key.symbol)
        if self.audience.unsubscribe(connection, key):
            return key
        return schemas.Refused(error=schemas.NOT_FOUND, symbol=key.symbol)

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
            return wire_format.ohlc(instrument, market.bars(int(key.detail))[-views.RECENT :], kind=kind, now=now)
        if key.channel == schemas.TICKER:
            return wire_format.ticker(market, kind=kind, now=now)
        return wire_format.trades(instrument, market.trades, kind=kind)

    # ---- on demand

    def be(self, system: Trading) -> None:
        """Change what the venue takes, and tell everybody."""
        self.engine.system = system
        for connection in self.audience.connections:
            self.audience.say(wire_format.status(system, connection.connection_id), "status", connection)

    def refuse_calls(self, seconds: float) -> None:
        """Answer every call of REST for a while as one too many."""
        self._calls.refuse(self.clock.elapsed() + seconds)

    async def flow(self, *, speed: float | None = None, flowing: bool | None = None) -> None:
        """Make the market faster or slower, or stop it: when this returns, all that happened has been told."""
        self.speed = self.speed if speed is None else speed
        self.flowing = self.flowing if flowing is None else flowing
        async with self._turn:
            pass

    def described(self) -> dict[str, object]:
        """What is not as usual."""
        usual = {"system": self.engine.system.value, "speed": self.speed, "flowing": self.flowing}
        refused = self._calls.refused_for(self.clock.elapsed())
        return {**usual, "refusing_seconds": refused, **self.audience.described()}
