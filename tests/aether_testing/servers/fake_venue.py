"""A fake venue for ingest, in one process and in virtual time, with scripted responses."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from aether_services.contracts.marketdata import BookMessage, Topic
from aether_services.domain import times
from aether_services.domain.instruments import Symbol
from aether_services.domain.times import Nanoseconds
from aether_services.domain.trades import OrderType, Side, Trade
from aether_services.ingest.core.markets import Markets
from aether_services.ingest.ports import InstrumentList, VenueUnavailable
from aether_services.ingest.service.backfill import TradeHistory
from aether_services.ingest.service.receiver import Receiver
from aether_testing import wait
from aether_testing.values import clocks, recordings
from aether_testing.values.clocks import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from aether_services.ingest import ports
    from aether_services.ingest.core.outboxes import EncodedMessage
    from aether_services.ingest.core.subscriptions import State
    from aether_services.ingest.core.trade_logs import Cursor
    from aether_services.ingest.core.wire import Channel

BTC, ETH, BAD = Symbol(recordings.SYMBOL), Symbol("ETH/USD"), Symbol("AAA/USD")
MANY = [Symbol(f"B{number:03}/USD") for number in range(120)]


def the_instruments() -> bytes:
    """The instrument snapshot of all these markets, with equal decimals."""
    fields = json.loads(recordings.INSTRUMENT)
    (pair,) = fields["data"]["pairs"]
    fields["data"]["pairs"] = [{**pair, "symbol": symbol} for symbol in (BTC, ETH, BAD, *MANY)]
    return json.dumps(fields).encode()


INSTRUMENTS = the_instruments()
Answer = Callable[[dict[str, Any]], "Sequence[bytes | int]"]


class Venue:
    """Scripted responses: request → frames; a number closes the connection with that code."""

    def __init__(self, clock: Clock, answer: Answer) -> None:
        self._clock, self._answer = clock, answer
        self._frames: asyncio.Queue[bytes | int] = asyncio.Queue()
        self.requests: list[dict[str, Any]] = []
        self.connections: list[float] = []
        """When each connection was opened."""
        self.rest_trades: list[Trade] = []
        self.rest_errors: list[Exception] = []
        """Errors that REST raises before it returns trades."""
        self.trade_queries = 0
        """How often trades were queried over REST."""

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Venue]:
        self.connections.append(self._clock.seconds)
        self._frames = asyncio.Queue()
        yield self

    async def receive(self) -> str:
        frame = await self._frames.get()
        if isinstance(frame, int):
            raise VenueUnavailable(f"code {frame}", frame)
        return frame.decode()

    async def send(self, text: str) -> None:
        request = json.loads(text)
        self.requests.append(request)
        for frame in self._answer(request):
            self._frames.put_nowait(frame)

    async def instruments(self) -> InstrumentList:
        return InstrumentList()

    async def trades(self, symbol: Symbol, after: Cursor | None) -> Sequence[Trade]:
        """Trades that only REST returns."""
        del symbol
        self.trade_queries += 1
        if self.rest_errors:
            raise self.rest_errors.pop(0)
        return [one for one in self.rest_trades if after is None or one.trade_id > after.trade_id]

    def push(self, *frames: bytes) -> None:
        """Send frames without a request."""
        for frame in frames:
            self._frames.put_nowait(frame)

    def methods(self, channel: str) -> list[str]:
        """The methods of the requests for a channel, in order."""
        return [one["method"] for one in self.requests if one.get("params", {}).get("channel") == channel]

    def symbols(self, method: str, channel: str) -> list[Symbol]:
        """The symbols in requests, duplicates included."""
        params = [one["params"] for one in self.requests if one["method"] == method]
        return [symbol for one in params if one["channel"] == channel for symbol in one.get("symbol", ())]


def an_ack(request: dict[str, Any], symbol: str = "", **extra: Any) -> bytes:
    result = {"result": {"symbol": symbol}} if symbol else {}
    fields = {"method": request["method"], "req_id": request["req_id"], "success": True, **result, **extra}
    return json.dumps(fields).encode()


class ReceiverHarness:
    """A receiver of ingest connected to a scripted venue, in virtual time."""

    def __init__(self, answer: Answer, *symbols: Symbol) -> None:
        self.clock = Clock()
        self.venue = Venue(self.clock, answer)
        self.markets = Markets(writer="w", depth=10, trade_log_length=10, publish=lambda _: None)
        self.markets.serve(symbols or [BTC])
        self.receiver = self.a_receiver(self.venue)

    def a_receiver(self, venue: ports.Venue, *, rest_interval: float = 0.0) -> Receiver:
        return Receiver(
            venue=venue,
            history=TradeHistory(venue, self.clock),
            markets=self.markets,
            clock=self.clock,
            depth=10,
            refresh=300,
            on_received=lambda: None,
            rest_interval=rest_interval,
            jitter=lambda: 0.5,
        )

    def step(self, channel: Channel, symbol: Symbol) -> State | None:
        return self.receiver._subscriptions.state((channel, symbol))  # noqa: SLF001 - no public API

    @contextlib.asynccontextmanager
    async def running(self, *, backfilling: bool = False) -> AsyncIterator[None]:
        """Run the receiver, and on request its backfill, within the block."""
        tasks = [asyncio.create_task(self.receiver.run())]
        if backfilling:
            tasks.append(asyncio.create_task(self.receiver.backfill()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def advance_until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Let virtual time pass until a condition holds, for at most `seconds`."""
        await wait.until_async(
            condition,
            "the condition holds",
            seconds=seconds,
            interval=0,
            clock=self.clock.elapsed,
            detail=lambda: self.venue.requests,
        )

    async def until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Run the receiver until a condition holds, for at most `seconds`."""
        async with self.running():
            await self.advance_until(condition, seconds)


def faithful(request: dict[str, Any]) -> list[bytes | int]:
    """The script of a well-behaved venue whose markets do not move."""
    params = request.get("params", {})
    symbols = params.get("symbol", [])
    if request["method"] != "subscribe":
        return [an_ack(request, symbol) for symbol in symbols or [""]]
    if params["channel"] == "instrument":
        return [an_ack(request), INSTRUMENTS]
    frames: list[bytes | int] = []
    for symbol in symbols:
        frames.append(an_ack(request, symbol))
        if params["channel"] == "book":
            frames.append(recordings.book_frames()[0].replace(BTC.encode(), symbol.encode()))
    return frames


def a_trade(trade_id: int, at: float) -> Trade:
    """A trade of BTC/USD at some seconds after 1970."""
    return a_trade_at(trade_id, Nanoseconds(round(at * times.SECOND)))


def a_trade_at(trade_id: int, moment: Nanoseconds) -> Trade:
    """A trade of BTC/USD at a time."""
    return Trade(
        symbol=BTC,
        trade_id=trade_id,
        side=Side.BUY,
        price=Decimal(1),
        quantity=Decimal(1),
        order_type=OrderType.LIMIT,
        at=moment,
    )


async def run_backfill(harness: ReceiverHarness, condition: Callable[[], bool], seconds: float) -> None:
    """Run the backfill of missing trades until a condition holds."""
    await clocks.run_until(harness.clock, harness.receiver.backfill(), condition, seconds)


# Frames by themselves.

NOW = times.parse("2026-11-26T01:16:40.859480941Z")


class MarketsHarness:
    """Markets that are fed frames, and the messages that they posted."""

    def __init__(self, *served: str) -> None:
        self.messages: list[EncodedMessage] = []
        self.seconds: list[float] = []
        self.markets = Markets(
            writer="w",
            depth=10,
            trade_log_length=100,
            publish=self.messages.append,
            observe_delay=self.seconds.append,
        )
        self.markets.serve(map(Symbol, served or (BTC,)))

    def receive(self, *frames: bytes | dict[str, Any] | list[Any], at: int = NOW) -> None:
        for frame in frames:
            text = frame.decode() if isinstance(frame, bytes) else json.dumps(frame)
            self.markets.receive(text, Nanoseconds(at))

    def books(self) -> list[BookMessage]:
        """The published books."""
        return [BookMessage.model_validate_json(one.body) for one in self.messages if one.topic is Topic.BOOK]


def trade_frame(trade_id: int, symbol: str = BTC) -> dict[str, Any]:
    return {"channel": "trade", "type": "update", "data": [{
        "symbol": symbol, "side": "buy", "price": 5, "qty": 1, "ord_type": "limit", "trade_id": trade_id,
        "timestamp": "2026-11-26T01:16:40.000001Z",
    }]}  # fmt: skip


def an_update(**fields: Any) -> dict[str, Any]:
    """A book update with some fields replaced, and without those that are `...`."""
    data = {"symbol": BTC, "bids": [], "asks": [], "checksum": 7, "timestamp": "2026-11-26T01:16:40.000001Z"} | fields
    return {
        "channel": "book",
        "type": "update",
        "data": [{name: value for name, value in data.items() if value is not ...}],
    }
