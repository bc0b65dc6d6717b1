"""The venue: it turns, batch by batch, and tells whoever is subscribed.

A turn: the feed says what happens, the engine matches it, the journal has it, and only then is anybody told.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter, deque
from typing import TYPE_CHECKING, Final, Protocol

import prometheus_client

from aether_services.contracts.statuses import Check, VenueStatus
from aether_services.domain import times
from aether_services.domain.times import Nanoseconds
from aether_services.domain.trades import Side
from aether_services.exchange_sim import schemas
from aether_services.exchange_sim.core import batches, flows, views, wires
from aether_services.exchange_sim.core.batches import Batch, Outcome
from aether_services.exchange_sim.core.engines import Engine
from aether_services.exchange_sim.core.faults import Faults, Kind
from aether_services.exchange_sim.core.orders import LevelSet
from aether_services.exchange_sim.core.recordings import Replayed
from aether_services.exchange_sim.schemas import Asked, Key
from aether_services.kit import apps

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aether_services.domain.instruments import Instrument, Symbol, Trading
    from aether_services.exchange_sim.core.recordings import Recording
    from aether_services.exchange_sim.ports import Journal, Past
    from aether_services.exchange_sim.settings import Settings
    from aether_services.kit.clocks import Clock

log = logging.getLogger(__name__)

TURN: Final = 0.02
"""Seconds from one batch to the next."""
LONGEST: Final = 0.25
"""Seconds that one batch makes up for at most."""
BLINK: Final = 0.1
"""Seconds of the flow within which its traders do not see what the others do."""
LOOK: Final = 0.1
"""Seconds between looks at connections that have nothing to say or nothing to hear."""
HEARTBEAT: Final = 1.0
WINDOW: Final = 600.0
"""Seconds over which connects are counted, and for which an address with too many is refused."""
PRUNE: Final = 600.0
GOING_AWAY, POLICY, TRY_AGAIN = 1001, 1008, 1013
"""Codes that a connection is closed with."""


class Feed(Protocol):
    """What makes the market move."""

    def step(self, seconds: float) -> Batch:
        """What comes of the next so many seconds."""
        ...


class Synthetic:
    """Made-up orders, matched by the engine."""

    def __init__(self, engine: Engine, batching: batches.Batching, clock: Clock, seed: str) -> None:
        self._engine, self._batching, self._clock = engine, batching, clock
        self._flow = flows.Flow(engine.books, seed)

    def step(self, seconds: float) -> Batch:
        """What comes of the next so many seconds."""
        batch, now = Batch(), self._clock.now()
        while seconds > 0:
            some, seconds = min(seconds, BLINK), seconds - BLINK
            for symbol, commands in zip(self._engine.books, self._flow.step(some), strict=True):
                for command in commands:
                    self._batching.add(batch, symbol, self._engine.handle(command, now))
        batch.next_order_id = self._engine.next_order_id
        return batch


class Replay:
    """A recorded book, at the pace that it had; after its end it begins again."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._book = Replayed(recording.symbol, recording.depth)
        self._waited, self._next = 0.0, 0

    def step(self, seconds: float) -> Batch:
        """What comes of the next so many seconds; at most once through the recording."""
        batch = Batch()
        self._waited += seconds
        for _ in self._recording.moments:
            moment = self._recording.moments[self._next]
            if self._waited < moment.seconds:
                break
            self._waited -= moment.seconds
            self._next = (self._next + 1) % len(self._recording.moments)
            outcome = Outcome(self._recording.symbol, levels=list(self._book.apply(moment)))
            batch.outcomes.append(outcome)
        return batch


class Connection:
    """One WebSocket, as the venue knows it."""

    def __init__(self, *, limit: int, rate: int, now: float) -> None:
        self.connection_id = secrets.randbits(63)
        self.subscribed: dict[Key, None] = {}
        self.heard_of_at = now
        """When it was sent something, or when it came."""
        self.subscribed_at = now
        """When it last had a subscription."""
        self.closing: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        """Why it is closed."""
        self.waiting: deque[str] = deque()
        self._limit = limit
        self._more = asyncio.Event()
        self._rate, self._tokens, self._counted_at = rate, float(2 * rate), now

    def push(self, text: str, now: float) -> None:
        """Have a message wait for it; one too many, and it is closed."""
        if self.closing.done():
            return
        if len(self.waiting) >= self._limit:
            log.warning("slow_consumer", extra={"connection": self.connection_id, "waiting": self._limit})
            self.close(POLICY, f"slow consumer: {self._limit} messages wait")
            return
        self.waiting.append(text)
        self.heard_of_at = now
        self._more.set()

    async def next(self) -> str:
        """The message that waits longest."""
        while not self.waiting:
            self._more.clear()
            await self._more.wait()
        return self.waiting.popleft()

    def close(self, code: int, reason: str) -> None:
        """Have it closed; the first reason counts."""
        if not self.closing.done():
            self.closing.set_result((code, reason))

    def may_speak(self, now: float) -> bool:
        """Whether it has not said too much lately."""
        self._tokens = min(2.0 * self._rate, self._tokens + (now - self._counted_at) * self._rate)
        self._counted_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


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
        self.faults = Faults()
        self._settings = settings
        self._started = clock.now()
        self._turned: float | None = None
        self._connections: dict[Connection, None] = {}
        self._subscribers: dict[Key, dict[Connection, None]] = {}
        self._silent_until = 0.0
        self._connects: dict[str, deque[float]] = {}
        self._refused_until: dict[str, float] = {}
        self._kept_trades = 0
        self._sent = prometheus_client.Counter(
            "aether_venue_messages", "Messages for clients, by channel", ["channel"], registry=registry
        )
        self._traded = prometheus_client.Counter(
            "aether_venue_trades", "Trades since the start", ["symbol"], registry=registry
        )
        self._journaled = prometheus_client.Histogram(
            "aether_venue_journal_seconds", "How long a batch takes to be in the journal", registry=registry,
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0),
        )  # fmt: skip
        self._closed = prometheus_client.Counter(
            "aether_venue_closed", "Connections closed by the venue, by code", ["code"], registry=registry
        )

        past = journal.load(views.RECENT)
        self.engine = Engine(instruments.values())
        self._restore(past)
        self.markets = {symbol: views.Market(one) for symbol, one in instruments.items()}
        self._show(past)
        newest = {(bar.symbol, bar.interval): bar for bar in past.bars}
        batching = batches.Batching(newest.values())
        self._feed: Feed = (
            Replay(recording)
            if recording
            else Synthetic(self.engine, batching, clock, f"{settings.seed} {past.next_order_id}")
        )

    def _restore(self, past: Past) -> None:
        self.engine.next_order_id = past.next_order_id
        self.engine.restore(order for order in past.orders if order.symbol in self.engine.books)
        for symbol, last in past.last.items():
            book = self.engine.books.get(symbol)
            if book is not None:
                book.last_trade_id, book.last_trade_at, book.last_price = last.trade_id, last.at, last.price

    def _show(self, past: Past) -> None:
        for symbol, market in self.markets.items():
            book = self.engine.books[symbol]
            levels = (
                LevelSet(symbol, side, price, quantity) for side in Side for price, quantity in book.side(side).levels()
            )
            known = [bar for bar in past.bars if bar.symbol == symbol]
            market.restore(levels, past.trades.get(symbol, ()), known, book.last_trade_id)

    # ---- what every room has

    def checks(self) -> Mapping[str, Check]:
        """It is ready once it turned, and while it goes on."""
        if self._turned is None:
            return {"turning": Check(ok=False, detail="it has not turned yet")}
        late = self.clock.elapsed() - self._turned
        return {"turning": Check(ok=late < 10 * HEARTBEAT, detail="" if late < HEARTBEAT else f"{late:.1f} s ago")}

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
            clients=len(self._connections),
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
        """Say goodbye. What was told is in the journal already."""
        self.draining = True
        self.close_all(GOING_AWAY, "the venue is about to end")

    # ---- turning

    async def _turning(self) -> None:
        before = self.clock.elapsed()
        while True:
            now = self.clock.elapsed()
            # After a pause the time in between is left out, and not made up for.
            seconds, before = min(now - before, LONGEST), now
            if self.flowing and not self.draining:
                batch = self._feed.step(seconds * self.speed)
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

    # ---- telling

    def _publish(self, batch: Batch) -> None:
        now = self.clock.now()
        for outcome in batch.outcomes:
            self._tell(outcome, now)
        self._kept_trades += len(batch.trades)

    def _tell(self, outcome: Outcome, now: Nanoseconds) -> None:
        symbol = outcome.symbol
        market, instrument = self.markets[symbol], self.instruments[symbol]
        best = market.best()
        depths = [depth for depth in views.DEPTHS if self._wanted(Key(schemas.BOOK, symbol, depth))]
        told = market.apply(outcome.levels, depths, now)
        for trade in outcome.trades:
            market.traded(trade)
        for bar in outcome.bars:
            market.barred(bar)
        if told:
            wrong = self.faults.take(Kind.CHECKSUM, schemas.BOOK, symbol)
            checksum = market.checksum ^ wrong
            self._send(
                (
                    Key(schemas.BOOK, symbol, depth),
                    wires.book(market, *sides, kind=wires.UPDATE, checksum=checksum, at=now),
                )
                for depth, sides in told.items()
            )
        if outcome.trades:
            self._traded.labels(symbol).inc(len(outcome.trades))
            key = Key(schemas.TRADE, symbol)
            if self._wanted(key):
                self._send([(key, wires.trades(instrument, outcome.trades, kind=wires.UPDATE))])
            for bar in outcome.bars:
                key = Key(schemas.OHLC, symbol, bar.interval)
                if self._wanted(key):
                    self._send([(key, wires.ohlc(instrument, (bar,), kind=wires.UPDATE, now=now))])
        triggers = {"trades": bool(outcome.trades), "bbo": best != market.best()}
        keys = [
            key for trigger, so in triggers.items() if so and self._wanted(key := Key(schemas.TICKER, symbol, trigger))
        ]
        if keys:
            text = wires.ticker(market, kind=wires.UPDATE, now=now)
            self._send((key, text) for key in keys)

    def _wanted(self, key: Key) -> bool:
        return key in self._subscribers

    def _send(self, messages: Iterable[tuple[Key, str]]) -> None:
        """One message, at each depth that it has: what goes wrong with it goes wrong with it at each."""
        copies = -1
        for key, text in messages:
            if copies < 0:
                dropped = self.faults.take(Kind.DROP, key.channel, key.symbol)
                copies = 0 if dropped else 1 + self.faults.take(Kind.DOUBLE, key.channel, key.symbol)
            for _ in range(copies):
                self._to(self._subscribers.get(key, ()), text, key.channel)

    def _to(self, connections: Iterable[Connection], text: str, channel: str) -> None:
        now = self.clock.elapsed()
        if now < self._silent_until:
            return
        count = 0
        for count, connection in enumerate(connections, 1):  # noqa: B007 - counted
            connection.push(text, now)
        self._sent.labels(channel).inc(count)

    async def _looking(self) -> None:
        """Heartbeats, and an end to those who want nothing."""
        while True:
            now = self.clock.elapsed()
            for connection in list(self._connections):
                if connection.subscribed:
                    connection.subscribed_at = now
                    if now - connection.heard_of_at >= HEARTBEAT:
                        self._to((connection,), wires.HEARTBEAT, "heartbeat")
                elif now - connection.subscribed_at >= self._settings.idle_seconds:
                    connection.close(POLICY, "no subscription")
            await self.clock.sleep(LOOK)

    # ---- connections

    def admits(self, address: str) -> bool:
        """Whether one more connect from an address is let in."""
        now = self.clock.elapsed()
        if now < self._refused_until.get(address, 0.0):
            return False
        recent = self._connects.setdefault(address, deque())
        while recent and recent[0] <= now - WINDOW:
            recent.popleft()
        if len(recent) >= self._settings.connects:
            self._refused_until[address] = now + WINDOW
            recent.clear()
            log.warning("connects_refused", extra={"address": address, "seconds": WINDOW})
            return False
        recent.append(now)
        return True

    def connect(self) -> Connection:
        """A new connection; it is told the status."""
        now = self.clock.elapsed()
        connection = Connection(limit=self._settings.queue, rate=self._settings.message_rate, now=now)
        self._connections[connection] = None
        self._to((connection,), wires.status(self.engine.system, connection.connection_id), "status")
        if self.draining:
            connection.close(GOING_AWAY, "the venue is about to end")
        return connection

    def disconnect(self, connection: Connection) -> None:
        """It is gone."""
        self._connections.pop(connection, None)
        for key in connection.subscribed:
            self._unsubscribe(connection, key)
        connection.subscribed.clear()
        if connection.closing.done() and not connection.closing.cancelled():
            self._closed.labels(str(connection.closing.result()[0])).inc()

    def close_all(self, code: int, reason: str) -> int:
        """Close every connection; how many."""
        for connection in self._connections:
            connection.close(code, reason)
        return len(self._connections)

    def hear(self, connection: Connection, text: str | bytes) -> None:
        """Do what a connection asks for."""
        received = self.clock.now()
        request = schemas.asked(text, self.instruments)
        if not connection.may_speak(self.clock.elapsed()):
            self._answer(
                connection, schemas.refused(request, schemas.Refused(error=schemas.TOO_FAST), received, received)
            )
            return
        if request.method == "ping":
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
                self._to((connection,), self._snapshot(done, now), done.channel)

    def _answer(self, connection: Connection, text: str) -> None:
        self._to((connection,), text, "answer")

    def _change(self, connection: Connection, request: Asked, key: Key) -> Key | schemas.Refused:
        if request.method == "subscribe":
            if key in connection.subscribed:
                return schemas.Refused(error=schemas.ALREADY, symbol=key.symbol)
            connection.subscribed[key] = None
            self._subscribers.setdefault(key, {})[connection] = None
            return key
        if key not in connection.subscribed:
            return schemas.Refused(error=schemas.NOT_FOUND, symbol=key.symbol)
        del connection.subscribed[key]
        self._unsubscribe(connection, key)
        connection.subscribed_at = self.clock.elapsed()
        return key

    def _unsubscribe(self, connection: Connection, key: Key) -> None:
        those = self._subscribers[key]
        del those[connection]
        if not those:
            del self._subscribers[key]

    def _snapshot(self, key: Key, now: Nanoseconds) -> str:
        kind = wires.SNAPSHOT
        if key.channel == schemas.INSTRUMENT:
            return wires.instruments(self.instruments.values(), kind=kind)
        market, instrument = self.markets[key.symbol], self.instruments[key.symbol]
        if key.channel == schemas.BOOK:
            bids, asks = (side.texts[: int(key.detail)] for side in (market.bids, market.asks))
            return wires.book(market, bids, asks, kind=kind, checksum=market.checksum, at=market.changed_at or now)
        if key.channel == schemas.OHLC:
            return wires.ohlc(instrument, market.bars(int(key.detail))[-views.RECENT :], kind=kind, now=now)
        if key.channel == schemas.TICKER:
            return wires.ticker(market, kind=kind, now=now)
        return wires.trades(instrument, market.trades, kind=kind)

    # ---- faults on demand

    def be(self, system: Trading) -> None:
        """Change what the venue takes, and tell everybody."""
        self.engine.system = system
        for connection in self._connections:
            self._to((connection,), wires.status(system, connection.connection_id), "status")

    def be_silent(self, seconds: float) -> None:
        """Send nothing to anybody for a while: what would have been sent is lost."""
        self._silent_until = self.clock.elapsed() + seconds

    def telling(self) -> dict[str, object]:
        """What is wrong on purpose."""
        return {
            "system": self.engine.system.value,
            "speed": self.speed,
            "flowing": self.flowing,
            "silent_seconds": max(self._silent_until - self.clock.elapsed(), 0.0),
            "waiting": self.faults.waiting(),
            "subscriptions": Counter(key.channel for key in self._subscribers),
        }
