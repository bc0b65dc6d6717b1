"""Receiving: what is asked of a venue, and what silence and refusals lead to, in time that the test owns."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
import re
from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import prometheus_client
import pytest

from aether_services.domain import books, times
from aether_services.domain.books import Unusable
from aether_services.domain.instruments import Symbol
from aether_services.domain.times import Nanoseconds
from aether_services.domain.trades import OrderType, Side, Trade
from aether_services.exchange_sim.core import markets as venue_markets
from aether_services.exchange_sim.ports import Past
from aether_services.exchange_sim.service import Venue as SimulatedVenue
from aether_services.exchange_sim.settings import Settings
from aether_services.ingest.core.asking import Step
from aether_services.ingest.core.markets import Markets
from aether_services.ingest.core.refusals import Why
from aether_services.ingest.core.tapes import Received, place_of
from aether_services.ingest.core.wire import Channel
from aether_services.ingest.ports import Listed, NotTold, VenueAway
from aether_services.ingest.service.history import History
from aether_services.ingest.service.receiving import Receiving
from aether_testing import recordings
from aether_testing.clocks import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from aether_services.exchange_sim.ports import Journal
    from aether_services.exchange_sim.telling import Connection as SimulatedConnection
    from aether_services.ingest import ports
    from aether_services.ingest.core.tapes import Place

BTC, ETH, BAD = Symbol(recordings.SYMBOL), Symbol("ETH/USD"), Symbol("AAA/USD")
MANY = [Symbol(f"B{number:03}/USD") for number in range(120)]


def the_instruments() -> bytes:
    """All these markets, alike."""
    said = json.loads(recordings.INSTRUMENT)
    (pair,) = said["data"]["pairs"]
    said["data"]["pairs"] = [{**pair, "symbol": symbol} for symbol in (BTC, ETH, BAD, *MANY)]
    return json.dumps(said).encode()


INSTRUMENTS = the_instruments()


Answer = Callable[[dict[str, Any]], "Sequence[bytes | int]"]


class Venue:
    """Answers as told: a request → frames; None ends the connection with a code."""

    def __init__(self, clock: Clock, answer: Answer) -> None:
        self._clock, self._answer = clock, answer
        self._frames: asyncio.Queue[bytes | int] = asyncio.Queue()
        self.asked: list[dict[str, Any]] = []
        self.connections: list[float] = []
        """When each began."""
        self.traded: list[Trade] = []
        self.questions = 0
        """Times that REST was asked for trades."""

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Venue]:
        """A connection."""
        self.connections.append(self._clock.seconds)
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

    async def trades(self, symbol: Symbol, after: Place | None) -> Sequence[Trade]:
        """What it has over REST: trades that it did not tell of."""
        del symbol
        self.questions += 1
        return [one for one in self.traded if after is None or one.trade_id > after.trade_id]

    def tell(self, *frames: bytes) -> None:
        """Say something unasked."""
        for frame in frames:
            self._frames.put_nowait(frame)

    def methods(self, channel: str) -> list[str]:
        """What was asked for of a channel."""
        return [one["method"] for one in self.asked if one.get("params", {}).get("channel") == channel]

    def symbols(self, method: str, channel: str) -> list[Symbol]:
        """Markets that were named to it, each as often as it was."""
        asked = [one["params"] for one in self.asked if one["method"] == method]
        return [symbol for params in asked if params["channel"] == channel for symbol in params.get("symbol", ())]


def an_ack(request: dict[str, Any], symbol: str = "", **words: Any) -> bytes:
    result = {"result": {"symbol": symbol}} if symbol else {}
    said = {"method": request["method"], "req_id": request["req_id"], "success": True, **result, **words}
    return json.dumps(said).encode()


class World:
    """A venue, and what listens to it."""

    def __init__(self, answer: Answer, *symbols: Symbol) -> None:
        self.clock = Clock()
        self.venue = Venue(self.clock, answer)
        self.markets = Markets(writer="w", depth=10, tape_length=10, post=lambda _: None)
        self.markets.serve(symbols or [BTC])
        self.receiving = self.receives(self.venue)

    def receives(self, venue: ports.Venue, *, pace: float = 0.0) -> Receiving:
        """What receives of a venue."""
        return Receiving(
            venue=venue,
            history=History(venue, self.clock),
            markets=self.markets,
            clock=self.clock,
            depth=10,
            refresh=300,
            arrived=lambda: None,
            pace=pace,
            chance=lambda: 0.5,
        )

    def step(self, channel: Channel, symbol: Symbol) -> Step | None:
        """How far a subscription is."""
        return self.receiving._asked.step((channel, symbol))  # noqa: SLF001 - its table

    @contextlib.asynccontextmanager
    async def running(self, *, filling: bool = False) -> AsyncIterator[None]:
        """It receives meanwhile, and brings the trades that are missed."""
        tasks = [asyncio.create_task(self.receiving.run())]
        if filling:
            tasks.append(asyncio.create_task(self.receiving.fill()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def pass_until(self, holds: Callable[[], bool], seconds: float) -> None:
        """Let time pass until something holds, which must be within so many seconds."""
        ends = self.clock.seconds + seconds
        while not holds():
            assert self.clock.seconds < ends, self.venue.asked
            await asyncio.sleep(0)

    async def until(self, holds: Callable[[], bool], seconds: float) -> None:
        """Receive until something holds, which must be within so many seconds."""
        async with self.running():
            await self.pass_until(holds, seconds)


def faithful(request: dict[str, Any]) -> list[bytes | int]:
    """A venue as it should be, whose markets stand still."""
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
    await world.until(lambda: len(world.venue.connections) == 2, 700)
    assert world.clock.seconds - began >= 600


async def test_connects_that_fail_come_slower_and_slower() -> None:
    world = World(lambda _: [1006])
    began = world.clock.seconds
    await world.until(lambda: len(world.venue.connections) == 12, 400)
    # Kraken bears about 150 in ten minutes.
    assert world.clock.seconds - began > 12 * 4
    await world.until(lambda: len(world.venue.connections) == 1200, 1200 * 40)  # a night's outage is no more than that


async def test_a_venue_that_closes_after_its_first_snapshot_is_connected_to_slower() -> None:
    def answer(request: dict[str, Any]) -> list[bytes | int]:
        return [*faithful(request), 1006] if request.get("params", {}).get("channel") == "book" else faithful(request)

    world = World(answer)
    began, connects = world.clock.seconds, world.venue.connections
    await world.until(lambda: world.clock.seconds - began > 1800 or len(connects) > 200, 2000)
    assert world.markets.book_messages > 20
    assert max(sum(since <= one < since + 600 for one in connects) for since in connects) <= 30


async def test_after_a_session_that_lasted_the_venue_is_connected_to_at_once() -> None:
    ended: list[float] = []

    def answer(request: dict[str, Any]) -> list[bytes | int]:
        if request["method"] == "ping" and world.clock.seconds - world.venue.connections[-1] > 40:
            ended.append(world.clock.seconds)
            return [1006]
        return faithful(request)

    world = World(answer)
    await world.until(lambda: len(world.venue.connections) == 4, 200)
    for closed, connected in zip(ended, world.venue.connections[1:], strict=True):
        assert connected - closed < 0.5


@pytest.mark.parametrize("served", [[], [BTC]])
async def test_a_session_that_lasted_without_a_usable_book_counts_as_one(served: list[Symbol]) -> None:
    ended: list[float] = []

    def answer(request: dict[str, Any]) -> list[bytes | int]:
        if request["method"] == "ping" and world.clock.seconds - world.venue.connections[-1] > 40:
            ended.append(world.clock.seconds)
            return [1006]
        return [frame for frame in faithful(request) if isinstance(frame, int) or b'"bids"' not in frame]

    world = World(answer)
    world.markets.serve(served)
    await world.until(lambda: len(world.venue.connections) == 4, 300)
    for closed, connected in zip(ended, world.venue.connections[1:], strict=True):
        assert connected - closed < 0.5


async def test_a_book_that_never_verifies_keeps_no_other_market_from_its_own() -> None:
    def answer(request: dict[str, Any]) -> list[bytes | int]:
        frames = [frame for frame in faithful(request) if isinstance(frame, bytes)]
        return [
            frame.replace(b'm":', b'm":1') if BAD.encode() in frame and b'"bids"' in frame else frame
            for frame in frames
        ]

    world = World(answer, BAD, *MANY)
    began = world.clock.seconds
    async with world.running():
        await world.pass_until(lambda: all(world.markets[symbol].usable for symbol in MANY), 10)
        await world.pass_until(lambda: world.clock.seconds - began >= 100, 200)
    asked = {channel: world.venue.symbols("subscribe", channel) for channel in ("book", "ticker", "trade")}
    assert sorted(asked["ticker"]) == sorted(asked["trade"]) == [BAD, *MANY]
    assert [symbol for symbol in asked["book"] if symbol != BAD] == MANY
    assert 5 < asked["book"].count(BAD) <= 10
    assert world.receiving.backoff(BAD) > 10
    assert world.receiving.backoff(MANY[0]) == 0
    assert world.markets[BAD].reason == "ChecksumMismatch"


async def test_books_asked_for_together_are_all_had_when_some_frames_are_lost() -> None:
    whole = itertools.count()

    def answer(request: dict[str, Any]) -> list[bytes | int]:
        frames = faithful(request)
        if request.get("params", {}).get("channel") == "book" and not next(whole):
            for number in (30, 9, 8, 3, 2):  # the reply to one, reply and snapshot of another, and two more of either
                del frames[number]
        return [*frames, b'{"channel":"heartbeat"}']

    world = World(answer, *MANY[:20])
    await world.until(lambda: all(world.markets[symbol].usable for symbol in MANY[:20]), 20)
    asked = world.venue.symbols("subscribe", "book")
    assert 20 < len(asked) <= 25


# A subscription is what the venue holds: against the simulated venue, without its sockets.


class Simulated:
    """The simulated venue, whose markets stand still."""

    def __init__(self, clock: Clock) -> None:
        self.venue = SimulatedVenue(
            Settings.model_validate({"instance": "venue-0", "release": "test", "journal": "/nowhere"}),
            instruments={symbol: venue_markets.MARKETS[symbol] for symbol in (BTC, ETH)},
            journal=cast("Journal", SimpleNamespace(load=lambda _: Past())),
            clock=clock,
            registry=prometheus_client.CollectorRegistry(),
        )
        self.connections: list[SimulatedConnection] = []

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Simulated]:
        """A connection."""
        self.connections.append(self.venue.connect())
        yield self

    async def receive(self) -> str:
        """The next message, or a heartbeat when it is time for one."""
        while not self.connections[-1].waiting:
            self.venue.audience.look()
            await asyncio.sleep(0)
        return await self.connections[-1].next()

    async def send(self, text: str) -> None:
        """Take a request."""
        self.venue.hear(self.connections[-1], text)

    async def instruments(self) -> Listed:
        """None."""
        return Listed()

    async def trades(self, symbol: Symbol, after: Place | None) -> Sequence[Trade]:
        """None."""
        del symbol, after
        return []

    def holds(self, symbol: Symbol) -> set[str]:
        """Channels of a market that the newest connection is subscribed to."""
        return {key.channel for key in self.connections[-1].subscribed if key.symbol == symbol}


async def test_a_market_added_or_removed_in_a_silence_is_what_the_venue_holds() -> None:
    world = World(faithful, ETH)
    venue = Simulated(world.clock)
    world.receiving = world.receives(venue)
    channels = (Channel.BOOK, Channel.TICKER, Channel.TRADE)
    async with world.running():
        await world.pass_until(lambda: world.markets[ETH].usable and venue.holds(ETH) == set(channels), 5)
        venue.venue.audience.be_silent(5)
        world.markets.serve([ETH, BTC])
        await world.pass_until(lambda: venue.holds(BTC) == set(channels), 5)
        assert not world.markets[BTC].usable
        await world.pass_until(lambda: world.markets[BTC].usable, 20)
        await world.pass_until(lambda: all(world.step(one, BTC) is Step.HELD for one in channels), 5)
        assert world.receiving.refusal(BTC) == ""
        venue.venue.audience.be_silent(5)
        world.markets.serve([ETH])
        await world.pass_until(lambda: not venue.holds(BTC), 5)
        await world.pass_until(lambda: all(world.step(one, BTC) is None for one in channels), 20)
        assert world.markets[ETH].usable
        assert len(venue.connections) == 1


async def test_a_refused_pair_is_said_in_the_venue_s_words() -> None:
    def answer(request: dict[str, Any]) -> list[bytes | int]:
        if request.get("params", {}).get("channel") == "trade":
            return [an_ack(request, success=False, error="Currency pair not supported BTC/USD")]
        return faithful(request)

    world = World(answer)
    await world.until(lambda: bool(world.receiving.refusal(BTC)), 5)
    assert world.receiving.refusal(BTC) == "Currency pair not supported BTC/USD"


async def filling(world: World, holds: Callable[[], bool], seconds: float) -> None:
    """Let missed trades be asked for until something holds."""
    ends = world.clock.seconds + seconds
    task = asyncio.create_task(world.receiving.fill())
    try:
        while not holds():
            assert not task.done(), task.result()
            assert world.clock.seconds < ends
            await asyncio.sleep(0)
    finally:
        task.cancel()
        await asyncio.wait([task])


def told(world: World, *trades: Trade) -> None:
    """The WebSocket tells of trades."""
    data = [
        {
            "symbol": one.symbol, "side": "buy", "price": int(one.price), "qty": 1, "ord_type": "limit",
            "trade_id": one.trade_id, "timestamp": times.text(one.at),
        }
        for one in trades
    ]  # fmt: skip
    world.markets.receive(json.dumps({"channel": "trade", "type": "update", "data": data}), world.clock.now())


async def test_a_trade_from_the_future_is_asked_for_slowly_and_heals_once_it_is_its_time() -> None:
    world = World(faithful)
    now = world.clock.now() / times.SECOND
    ahead, after = a_trade(8, now + 900), a_trade(9, now + 1)
    world.venue.traded = [ahead, after]
    told(world, a_trade(7, now), ahead, after)
    market = world.markets[BTC]
    asked: list[float] = []
    trades = world.venue.trades

    async def noted(symbol: Symbol, after: Place | None) -> Sequence[Trade]:
        asked.append(world.clock.seconds)
        return await trades(symbol, after)

    world.venue.trades = noted  # type: ignore[method-assign]
    began = world.clock.seconds
    await filling(world, lambda: world.clock.seconds > began + 590, 600)
    assert (market.tape.last, market.doubt) == (place_of(a_trade(7, now)), "Trades: a time ahead of our clock")
    assert not world.receiving.complete(market)
    assert 10 < len(asked) < 40, "in ten minutes"
    await filling(world, lambda: market.tape.last == place_of(after), 60)
    assert not market.doubt


async def test_a_trade_that_the_venue_puts_right_is_handed_on_with_all_after_it() -> None:
    world = World(faithful)
    now = world.clock.now() / times.SECOND
    world.venue.traded = [a_trade(8, now + 86400), a_trade(9, now + 1)]
    told(world, a_trade(7, now), *world.venue.traded)
    began = world.clock.seconds
    await filling(world, lambda: world.clock.seconds > began + 20, 30)
    assert world.markets[BTC].doubt
    world.venue.traded[0] = a_trade(8, now + 1)
    await filling(world, lambda: world.markets[BTC].tape.last == place_of(a_trade(9, now + 1)), 60)
    assert not world.markets[BTC].doubt


async def test_a_trade_that_was_refused_and_rest_leaves_out_is_waited_for() -> None:
    world = World(faithful)
    now = world.clock.now() / times.SECOND
    first, strange, after = (a_trade(number, now + number) for number in (7, 8, 9))
    told(world, first, dataclasses.replace(strange, price=Decimal(-1)), after)
    world.venue.traded = [after]
    market, began = world.markets[BTC], world.clock.seconds
    await filling(world, lambda: world.clock.seconds > began + 55, 60)
    assert (market.tape.last, market.doubt) == (place_of(first), "not positive: -1")
    await filling(world, lambda: market.tape.last == place_of(after), 40)
    assert (market.doubt, market.tape.holes) == ("", 1), "after a minute it counts as none"


async def test_a_trade_that_was_refused_is_handed_on_once_rest_has_it() -> None:
    world = World(faithful)
    now = world.clock.now() / times.SECOND
    first, strange, after = (a_trade(number, now + number) for number in (7, 8, 9))
    told(world, first, dataclasses.replace(strange, price=Decimal(-1)), after)
    world.venue.traded = [after]
    market, began = world.markets[BTC], world.clock.seconds
    await filling(world, lambda: world.clock.seconds > began + 20, 30)
    world.venue.traded = [strange, after]
    await filling(world, lambda: market.tape.last == place_of(after), 30)
    assert (market.doubt, market.tape.holes) == ("", 0)


async def test_a_number_that_does_not_fit_has_the_instruments_subscribed_anew() -> None:
    world = World(faithful)
    odd = recordings.book_frames()[1].decode().replace('"qty":', '"qty":0.000000001,"x":')

    def anew() -> bool:
        if world.markets[BTC].usable and not world.receiving.relist and not world.markets.outgrown:
            world.markets.receive(odd, world.clock.now())
            world.receiving.relist = world.markets.outgrown
        return world.venue.methods("instrument") == ["subscribe", "unsubscribe", "subscribe"]

    await world.until(anew, 10)


async def test_a_fault_of_ours_in_a_reply_ends_no_connection(caplog: pytest.LogCaptureFixture) -> None:
    world = World(faithful)
    take, faults = world.receiving._take, iter([TypeError("a fault of ours")] * 2)  # noqa: SLF001

    def fails(frame: str, received: Nanoseconds) -> None:
        if (fault := next(faults, None)) is not None:
            raise fault
        take(frame, received)

    world.receiving._take = fails  # type: ignore[method-assign]  # noqa: SLF001
    await world.until(lambda: world.markets[BTC].usable, 60)
    assert world.receiving.reconnects == 0
    assert world.markets.refused.counted["reply", Why.UNEXPECTED] == 2
    assert len([one for one in caplog.records if one.exc_info]) == 1


# Channels that are acknowledged and bring nothing.


def beside_heartbeats(request: dict[str, Any]) -> list[bytes | int]:
    """A venue that sends snapshots of books and tickers, and nothing else of its markets."""
    params, frames = request.get("params", {}), faithful(request)
    if request["method"] == "subscribe" and params["channel"] == "ticker":
        frames.append(a_told_ticker("snapshot"))
    return [*frames, b'{"channel":"heartbeat"}']


def the_moment(world: World) -> str:
    """Now, as a message has it."""
    return times.text(world.clock.now())


def of_the_moment(frame: bytes, moment: str) -> bytes:
    """A book's message with another time."""
    said = re.sub(rb',"timestamp":"[^"]*"', b"", frame)
    return said.removesuffix(b"}]}") + f',"timestamp":"{moment}"}}]}}'.encode()


def a_told_trade(world: World, trade_id: int, price: str) -> bytes:
    return (
        f'{{"channel":"trade","type":"update","data":[{{"symbol":"{BTC}","side":"buy","price":{price},"qty":1.0,'
        f'"ord_type":"limit","trade_id":{trade_id},"timestamp":"{the_moment(world)}"}}]}}'
    ).encode()


def a_told_ticker(kind: str = "update") -> bytes:
    """Without a time, so that it is of when it is received."""
    names = ("bid", "bid_qty", "ask", "ask_qty", "last", "volume", "vwap", "low", "high", "change", "change_pct")
    return json.dumps(
        {"channel": "ticker", "type": kind, "data": [{"symbol": BTC, **dict.fromkeys(names, 0)}]}
    ).encode()


def the_spread(world: World) -> tuple[Decimal, Decimal]:
    book = world.markets[BTC].book
    assert book is not None
    return book.top


def silent(world: World) -> tuple[str, ...]:
    return world.markets[BTC].liveness.silent


async def test_trades_that_a_silent_channel_leaves_out_come_over_rest() -> None:
    world = World(beside_heartbeats)
    world.venue.traded = [a_trade(number, number) for number in (5, 6, 7)]
    tape = world.markets[BTC].tape
    async with world.running(filling=True):
        await world.pass_until(lambda: tape.last is not None and tape.last.trade_id == 7, 40)
        assert silent(world) == (Channel.TRADE,)
        assert not world.receiving.complete(world.markets[BTC]), "an empty minute is not known to be one"
        await world.pass_until(lambda: world.venue.methods("trade") == ["subscribe", "unsubscribe", "subscribe"], 20)
        assert silent(world) == (Channel.TRADE,)
        world.venue.traded.append(a_trade(8, 8))
        await world.pass_until(lambda: tape.last is not None and tape.last.trade_id == 8, 30)
        world.venue.tell(a_told_trade(world, 9, str(the_spread(world)[0])))
        await world.pass_until(lambda: tape.last is not None and tape.last.trade_id == 9, 5)
        assert silent(world) == ()
        await world.pass_until(lambda: world.receiving.complete(world.markets[BTC]), 5)


async def test_a_silent_market_whose_newest_trade_is_strange_is_asked_about_again() -> None:
    world = World(beside_heartbeats)
    world.venue.traded = [a_trade(7, 7)]
    trades, strange = world.venue.trades, iter([NotTold("the newest is not understood")] * 2)

    async def strange_first(symbol: Symbol, after: Place | None) -> Sequence[Trade]:
        if (fault := next(strange, None)) is not None:
            raise fault
        return await trades(symbol, after)

    world.venue.trades = strange_first  # type: ignore[method-assign]
    market = world.markets[BTC]
    async with world.running(filling=True):
        await world.pass_until(lambda: market.tape.last == place_of(a_trade(7, 7)), 200)
        assert silent(world) == (Channel.TRADE,)
        assert not market.doubt


async def test_doubt_about_the_newest_trade_ends_though_the_next_is_told() -> None:
    world = World(beside_heartbeats)
    trades, strange = world.venue.trades, iter([NotTold("the newest is not understood")])

    async def strange_first(symbol: Symbol, after: Place | None) -> Sequence[Trade]:
        if (fault := next(strange, None)) is not None:
            raise fault
        return await trades(symbol, after)

    world.venue.trades = strange_first  # type: ignore[method-assign]
    market = world.markets[BTC]
    async with world.running(filling=True):
        await world.pass_until(lambda: bool(market.doubt), 40)
        await world.clock.sleep(5)
        world.venue.tell(a_told_trade(world, 9, str(the_spread(world)[0])))
        await world.pass_until(lambda: market.tape.last is not None, 5)
        await world.pass_until(lambda: not market.doubt and world.receiving.complete(market), 90)


async def test_a_market_that_never_traded_is_not_silent() -> None:
    world = World(beside_heartbeats)
    async with world.running(filling=True):
        await world.pass_until(lambda: world.venue.questions == 4, 400)
        assert silent(world) == ()
        assert world.venue.methods("trade") == ["subscribe"]
        assert world.receiving.complete(world.markets[BTC])
    assert world.clock.seconds > 1000 + 180, "and is asked about once a minute"


async def test_a_channel_that_stays_silent_is_named_all_the_time_and_renewed_slower_and_slower() -> None:
    world = World(beside_heartbeats)

    def trading() -> bool:
        """A trade about every five seconds, which REST alone tells."""
        while len(world.venue.traded) < (world.clock.seconds - 1000) // 5:
            number = len(world.venue.traded) + 1
            world.venue.traded.append(a_trade(number, number))
        return False

    async with world.running(filling=True):
        await world.pass_until(lambda: trading() or bool(silent(world)), 60)
        ends = world.clock.seconds + 900
        while world.clock.seconds < ends:
            trading()
            assert silent(world) == (Channel.TRADE,)
            await asyncio.sleep(0)
    assert 4 <= world.venue.methods("trade").count("subscribe") <= 900 // 40


async def test_a_book_that_its_market_has_left_is_withdrawn_until_a_snapshot_is_newer() -> None:
    snapshot, update, *_ = recordings.book_frames()
    world = World(faithful)
    moment = the_moment(world)

    def answer(request: dict[str, Any]) -> list[bytes | int]:
        frames = beside_heartbeats(request)
        return [of_the_moment(one, moment) if one == snapshot else one for one in frames]

    world.venue._answer = answer  # noqa: SLF001 - it tells the time of its world
    market = world.markets[BTC]

    def usable() -> bool:
        return market.usable

    async with world.running():
        await world.pass_until(usable, 10)
        bid, ask = the_spread(world)
        await world.pass_until(lambda: world.clock.now() > times.parse(moment) + 4 * times.SECOND, 10)
        world.venue.tell(a_told_trade(world, 1, str(bid)), a_told_trade(world, 2, str(ask)))
        await world.clock.sleep(3)
        assert usable(), "its market trades within its spread"
        world.venue.tell(a_told_trade(world, 3, "35000.0"), a_told_ticker())
        await world.pass_until(lambda: not usable(), 5)
        assert market.reason == Unusable.CONTRADICTED
        assert market.checksum_failures == 0
        await world.pass_until(lambda: world.venue.methods("book").count("subscribe") >= 3, 30)
        assert not usable(), "the same book once more is no better"
        assert silent(world) == (Channel.BOOK,)
        moment = the_moment(world)
        await world.pass_until(usable, 90)
        assert silent(world) == (Channel.BOOK,), "a snapshot does not prove that updates come"
        world.venue.tell(of_the_moment(update, the_moment(world)))
        await world.pass_until(lambda: silent(world) == (), 5)
        assert usable()


async def test_a_book_that_stops_after_updates_is_not_used_again_from_old_snapshots() -> None:
    snapshot, update, *_ = recordings.book_frames()
    world = World(faithful)
    moment = the_moment(world)

    def answer(request: dict[str, Any]) -> list[bytes | int]:
        frames = beside_heartbeats(request)
        return [of_the_moment(one, moment) if one == snapshot else one for one in frames]

    world.venue._answer = answer  # noqa: SLF001 - it tells the time of its world
    market = world.markets[BTC]
    async with world.running():
        await world.pass_until(lambda: market.usable, 10)
        moment = the_moment(world)
        world.venue.tell(of_the_moment(update, moment))
        await world.pass_until(lambda: market.verified_at > market.snapshot_at, 5)
        await world.clock.sleep(4)
        world.venue.tell(a_told_trade(world, 3, "35000.0"))
        await world.pass_until(lambda: not market.usable, 5)
        ends = world.clock.seconds + 400
        while world.clock.seconds < ends:
            assert not market.usable
            assert Channel.BOOK in silent(world)
            await asyncio.sleep(0)
    assert world.venue.methods("book").count("subscribe") > 6


async def test_a_ticker_that_stands_still_while_its_market_trades_is_asked_for_anew() -> None:
    world = World(beside_heartbeats)
    numbers = itertools.count(1)

    def trading() -> bool:
        world.venue.tell(a_told_trade(world, next(numbers), str(the_spread(world)[0])))
        return False

    async with world.running():
        await world.pass_until(lambda: world.markets[BTC].usable, 10)
        await world.pass_until(lambda: trading() or bool(silent(world)), 60)
        assert silent(world) == (Channel.TICKER,)
        await world.pass_until(
            lambda: trading() or world.venue.methods("ticker") == ["subscribe", "unsubscribe", "subscribe"], 20
        )
        world.venue.tell(a_told_ticker())
        await world.pass_until(lambda: silent(world) == (), 5)


async def test_a_crossed_book_is_asked_for_anew_only_if_it_lasts() -> None:
    level = b'{"price":10.0,"qty":1.00000000}'
    checksum = books.checksum([(100, 10**8)], [(100, 10**8)])

    def answer(request: dict[str, Any]) -> list[bytes | int]:
        frames = beside_heartbeats(request)
        head = b'{"channel":"book","type":"snapshot","data":[{"symbol":"BTC/USD","bids":['
        crossed = head + level + b'],"asks":[' + level + f'],"checksum":{checksum}}}]}}'.encode()
        return [crossed if isinstance(one, bytes) and b'"snapshot","data":[{"symbol"' in one else one for one in frames]

    world = World(answer)
    market = world.markets[BTC]
    async with world.running():
        await world.pass_until(lambda: market.reason == Unusable.CROSSED, 10)
        began = world.clock.seconds
        await world.pass_until(lambda: len(world.venue.methods("book")) > 1, 15)
        assert world.clock.seconds - began >= 9.5
        assert market.checksum_failures == 0


@pytest.mark.parametrize(("replicas", "apart"), [(1, 2), (2, 4)])
async def test_many_quiet_markets_take_every_second_call_and_a_gap_comes_first(replicas: int, apart: int) -> None:
    world = World(faithful, *MANY[:60])
    world.receiving = world.receives(world.venue, pace=1)
    world.receiving.connects.replicas = replicas
    asked: list[tuple[float, Symbol]] = []

    async def noted(symbol: Symbol, after: Place | None) -> Sequence[Trade]:
        del after
        asked.append((world.clock.seconds, symbol))
        await world.clock.sleep(1)
        return []

    world.venue.trades = noted  # type: ignore[method-assign]
    now = world.clock.now()
    for number, market in enumerate(world.markets.all()):
        market.tape.add([Received(dataclasses.replace(a_trade(7, 7), symbol=market.symbol), Nanoseconds(now - number))])
    quiet = [market.symbol for market in reversed(world.markets.all())]
    world.receiving.connected = True
    await filling(world, lambda: len(asked) == 120, 60 + 120 * (apart + 1))
    assert [symbol for _, symbol in asked] == [*quiet, *quiet], "the quietest first, and all before one again"
    moments = [moment for moment, _ in asked]
    assert all(apart <= later - earlier < apart + 0.2 for earlier, later in itertools.pairwise(moments))
    gap = world.markets[quiet[7]]
    gap.tape.add([Received(dataclasses.replace(a_trade(9, 9), symbol=gap.symbol), now)])
    world.markets.fill.add(gap.symbol)
    await filling(world, lambda: len(asked) == 121, 1)
    assert asked[-1][1] == gap.symbol


async def test_many_quiet_markets_keep_no_silent_one_from_its_turn() -> None:
    world = World(faithful, *MANY)
    world.receiving = world.receives(world.venue, pace=1)
    now = world.clock.now()
    for market in world.markets.all():
        market.tape.add([Received(dataclasses.replace(a_trade(7, 7), symbol=market.symbol), now)])
    silent_one = world.markets[MANY[70]]
    silent_one.liveness.missed([a_trade(7, 7)], now)
    asked: list[Symbol] = []

    async def noted(symbol: Symbol, after: Place | None) -> Sequence[Trade]:
        del after
        asked.append(symbol)
        return []

    world.venue.trades = noted  # type: ignore[method-assign]
    world.receiving.connected = True
    await filling(world, lambda: len(asked) >= 120, 300)
    assert 4 <= asked[20:].count(MANY[70]) <= 12
    others = [symbol for symbol in asked if symbol != MANY[70]]
    assert len(others) == len(set(others)) > 100
