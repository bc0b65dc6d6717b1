"""Receiving: what is asked of a venue, and what silence and refusals lead to, in time that the test owns."""

from __future__ import annotations

import asyncio
import contextlib
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from aether_services.domain import times
from aether_services.domain.instruments import Symbol
from aether_services.domain.times import Nanoseconds
from aether_services.domain.trades import OrderType, Side, Trade
from aether_services.ingest.core.markets import Markets
from aether_services.ingest.core.tapes import Received, place_of
from aether_services.ingest.ports import Listed, VenueAway
from aether_services.ingest.service.history import History
from aether_services.ingest.service.receiving import Receiving
from aether_testing import recordings
from aether_testing.clocks import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from aether_services.ingest.core.tapes import Place

BTC = Symbol(recordings.SYMBOL)


class Venue:
    """Answers as told: a request → frames; None ends the connection with a code."""

    def __init__(self, answer: Callable[[dict[str, Any]], Sequence[bytes | int]]) -> None:
        self._answer = answer
        self._frames: asyncio.Queue[bytes | int] = asyncio.Queue()
        self.asked: list[dict[str, Any]] = []
        self.connections = 0
        self.traded: list[Trade] = []

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Venue]:
        """A connection."""
        self.connections += 1
        self._frames = asyncio.Queue()
        yield self

    async def receive(self) -> str:
        """The next message."""
        frame = await self._frames.get()
        if isinstance(frame, int):
            raise VenueAway(f"code {frame}", frame)
        return frame.decode()

    async def send(self, text: str) -> None:
        """Take a request."""
        request = json.loads(text)
        self.asked.append(request)
        for frame in self._answer(request):
            self._frames.put_nowait(frame)

    async def instruments(self) -> Listed:
        """None."""
        return Listed()

    async def trades(self, symbol: Symbol, after: Place) -> Sequence[Trade]:
        """What it has over REST: trades that it did not tell of."""
        del symbol
        return [one for one in self.traded if one.trade_id > after.trade_id]

    def methods(self, channel: str) -> list[str]:
        """What was asked for of a channel."""
        return [one["method"] for one in self.asked if one.get("params", {}).get("channel") == channel]


def an_ack(request: dict[str, Any], **words: Any) -> bytes:
    return json.dumps({"method": request["method"], "req_id": request["req_id"], "success": True, **words}).encode()


class World:
    """A venue, and what listens to it."""

    def __init__(self, answer: Callable[[dict[str, Any]], Sequence[bytes | int]]) -> None:
        self.clock, self.venue = Clock(), Venue(answer)
        self.markets = Markets(writer="w", depth=10, tape_length=10, post=lambda _: None)
        self.markets.serve([BTC])
        self.receiving = Receiving(
            venue=self.venue,
            history=History(self.venue, self.clock),
            markets=self.markets,
            clock=self.clock,
            depth=10,
            refresh=300,
            arrived=lambda: None,
        )

    async def until(self, holds: Callable[[], bool], seconds: float) -> None:
        """Let time pass until something holds, which must be within so many seconds."""
        ends = self.clock.seconds + seconds
        task = asyncio.create_task(self.receiving.run())
        try:
            while not holds():
                assert self.clock.seconds < ends, self.venue.asked
                await asyncio.sleep(0)
        finally:
            task.cancel()
            await asyncio.wait([task])


def faithful(request: dict[str, Any]) -> list[bytes | int]:
    """A venue as it should be, whose market stands still."""
    channel = request.get("params", {}).get("channel")
    if request["method"] == "subscribe" and channel == "instrument":
        return [an_ack(request), recordings.INSTRUMENT]
    if request["method"] == "subscribe" and channel == "book":
        return [an_ack(request), recordings.book_frames()[0]]
    return [an_ack(request)]


async def test_a_market_is_asked_for_once_its_decimals_are_known_and_each_channel_by_itself() -> None:
    world = World(faithful)
    await world.until(lambda: len(world.venue.asked) == 4 and world.markets[BTC].usable, 5)
    assert [one["params"]["channel"] for one in world.venue.asked] == ["instrument", "book", "ticker", "trade"]


async def test_a_book_whose_snapshot_does_not_come_is_asked_for_again() -> None:
    lost = iter([True])

    def answer(request: dict[str, Any]) -> list[bytes | int]:
        said = faithful(request)
        return said[:1] if request.get("params", {}).get("channel") == "book" and next(lost, False) else said

    world = World(answer)
    await world.until(lambda: world.markets[BTC].usable, 10)
    assert world.venue.methods("book") == ["subscribe", "unsubscribe", "subscribe"]


async def test_a_book_is_asked_for_anew_after_a_while_and_used_meanwhile() -> None:
    world = World(lambda request: [*faithful(request), b'{"channel":"heartbeat"}'])
    await world.until(lambda: world.markets[BTC].usable, 10)
    began = world.markets[BTC].snapshot_at

    def renewed() -> bool:
        assert world.markets[BTC].usable
        return world.markets[BTC].snapshot_at > began

    world.receiving._refresh = 3 * times.SECOND  # noqa: SLF001 - shorter than its silence
    await world.until(renewed, 8)


async def test_a_venue_that_says_nothing_is_asked_and_then_given_up() -> None:
    world = World(lambda request: faithful(request) if request["method"] == "subscribe" else [])
    await world.until(lambda: world.markets[BTC].usable, 5)
    await world.until(lambda: world.receiving.reconnects == 1, 20)
    assert "ping" in [one["method"] for one in world.venue.asked]
    assert "silent for" in world.receiving.detail
    assert not world.markets[BTC].usable


def a_trade(trade_id: int, at: float) -> Trade:
    moment = Nanoseconds(round(at * times.SECOND))
    return Trade(
        symbol=BTC,
        trade_id=trade_id,
        side=Side.BUY,
        price=Decimal(1),
        quantity=Decimal(1),
        order_type=OrderType.LIMIT,
        at=moment,
    )


async def test_the_last_trade_of_a_quiet_market_that_was_not_told_is_found_over_rest() -> None:
    world = World(lambda request: [*faithful(request), b'{"channel":"heartbeat"}'])
    await world.until(lambda: world.markets[BTC].usable, 5)
    tape, began = world.markets[BTC].tape, world.clock.seconds
    tape.add([Received(a_trade(7, began), world.clock.now())])
    world.venue.traded = [a_trade(8, began + 1)]
    filling = asyncio.create_task(world.receiving.fill())
    try:
        world.receiving.connected = True
        ends = began + 90
        while tape.last != place_of(world.venue.traded[0]):
            assert world.clock.seconds < ends
            await asyncio.sleep(0)
    finally:
        filling.cancel()
        await asyncio.wait([filling])
    assert world.clock.seconds - began >= 60
    assert world.markets[BTC].gaps == 1


async def test_who_leaves_withdraws_its_books() -> None:
    world = World(faithful)
    await world.until(lambda: world.markets[BTC].usable, 5)
    world.receiving.leave()
    assert not world.markets[BTC].usable
    assert not world.receiving.connected


async def test_a_venue_that_refuses_us_is_left_alone_for_ten_minutes() -> None:
    world = World(lambda _: [1008])
    began = world.clock.seconds
    await world.until(lambda: world.venue.connections == 2, 700)
    assert world.clock.seconds - began >= 600


async def test_connects_that_fail_come_slower_and_slower() -> None:
    world = World(lambda _: [1006])
    began = world.clock.seconds
    await world.until(lambda: world.venue.connections == 12, 400)
    # Kraken bears about 150 in ten minutes.
    assert world.clock.seconds - began > 12 * 4
    await world.until(lambda: world.venue.connections == 1200, 1200 * 40)  # a night's outage is no more than that


async def test_a_refused_pair_is_said_in_the_venue_s_words() -> None:
    def answer(request: dict[str, Any]) -> list[bytes | int]:
        if request.get("params", {}).get("channel") == "trade":
            return [an_ack(request, success=False, error="Currency pair not supported BTC/USD")]
        return faithful(request)

    world = World(answer)
    await world.until(lambda: bool(world.receiving.refusal(BTC)), 5)
    assert world.receiving.refusal(BTC) == "Currency pair not supported BTC/USD"
