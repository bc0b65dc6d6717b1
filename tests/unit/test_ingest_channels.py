"""Channels that are acknowledged and bring nothing, and books that their market has left."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from aether_services.domain import books, times
from aether_services.domain.books import UnusableReason
from aether_services.ingest.core.trade_logs import cursor_after
from aether_services.ingest.core.wire import Channel
from aether_services.ingest.ports import InvalidTrades
from aether_testing import recordings
from aether_testing.fake_venue import BTC, World, a_trade, faithful

if TYPE_CHECKING:
    from decimal import Decimal


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
    trade_log = world.markets[BTC].trade_log
    async with world.running(filling=True):
        await world.pass_until(lambda: trade_log.last is not None and trade_log.last.trade_id == 7, 40)
        assert silent(world) == (Channel.TRADE,)
        assert not world.receiver.complete(world.markets[BTC]), "an empty minute is not known to be one"
        await world.pass_until(lambda: world.venue.methods("trade") == ["subscribe", "unsubscribe", "subscribe"], 20)
        assert silent(world) == (Channel.TRADE,)
        world.venue.traded.append(a_trade(8, 8))
        await world.pass_until(lambda: trade_log.last is not None and trade_log.last.trade_id == 8, 30)
        world.venue.tell(a_told_trade(world, 9, str(the_spread(world)[0])))
        await world.pass_until(lambda: trade_log.last is not None and trade_log.last.trade_id == 9, 5)
        assert silent(world) == ()
        await world.pass_until(lambda: world.receiver.complete(world.markets[BTC]), 5)


def strange_at_first(world: World, *, times: int) -> None:
    """REST's newest trade is not understood so often."""
    world.venue.faults = [InvalidTrades("the newest is not understood")] * times


async def test_silent_market_is_queried_again_after_a_malformed_newest_trade() -> None:
    world = World(beside_heartbeats)
    world.venue.traded = [a_trade(7, 7)]
    strange_at_first(world, times=2)
    market = world.markets[BTC]
    async with world.running(filling=True):
        await world.pass_until(lambda: market.trade_log.last == cursor_after(a_trade(7, 7)), 200)
        assert silent(world) == (Channel.TRADE,)
        assert not market.withheld


async def test_doubt_about_the_newest_trade_ends_once_it_is_resolved() -> None:
    world = World(beside_heartbeats)
    strange_at_first(world, times=1)
    market = world.markets[BTC]
    async with world.running(filling=True):
        await world.pass_until(lambda: bool(market.withheld), 40)
        await world.clock.sleep(5)
        world.venue.tell(a_told_trade(world, 9, str(the_spread(world)[0])))
        await world.pass_until(lambda: market.trade_log.last is not None, 5)
        await world.pass_until(lambda: not market.withheld and world.receiver.complete(market), 90)


async def test_a_market_that_never_traded_is_not_silent() -> None:
    world = World(beside_heartbeats)
    async with world.running(filling=True):
        await world.pass_until(lambda: world.venue.questions == 4, 400)
        assert silent(world) == ()
        assert world.venue.methods("trade") == ["subscribe"]
        assert world.receiver.complete(world.markets[BTC])
    assert world.clock.seconds > 1000 + 180, "and is asked about once a minute"


async def test_silent_channel_stays_named_and_is_renewed_with_growing_backoff() -> None:
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


@pytest.mark.parametrize("updated", [False, True])
async def test_a_book_that_its_market_left_is_withdrawn_until_newer(*, updated: bool) -> None:
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
        if updated:
            moment = the_moment(world)
            world.venue.tell(of_the_moment(update, moment))
            await world.pass_until(lambda: market.verified_at > market.snapshot_at, 5)
        bid, ask = the_spread(world)
        await world.clock.sleep(4)
        world.venue.tell(a_told_trade(world, 1, str(bid)), a_told_trade(world, 2, str(ask)))
        await world.clock.sleep(3)
        assert usable(), "its market trades within its spread"
        world.venue.tell(a_told_trade(world, 3, "35000.0"), a_told_ticker())
        await world.pass_until(lambda: not usable(), 5)
        assert market.reason == UnusableReason.CONTRADICTED
        assert market.checksum_failures == 0
        ends = world.clock.seconds + 400
        while world.clock.seconds < ends:
            assert not usable(), "the same book once more is no better"
            assert silent(world) == (Channel.BOOK,)
            await asyncio.sleep(0)
        assert world.venue.methods("book").count("subscribe") > 6
        moment = the_moment(world)
        await world.pass_until(usable, 90)
        assert silent(world) == (Channel.BOOK,), "a snapshot does not prove that updates come"
        world.venue.tell(of_the_moment(update, the_moment(world)))
        await world.pass_until(lambda: silent(world) == (), 5)
        assert usable()


async def test_stale_ticker_of_a_trading_market_is_resubscribed() -> None:
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


async def test_crossed_book_is_resubscribed_only_if_it_lasts() -> None:
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
        await world.pass_until(lambda: market.reason == UnusableReason.CROSSED, 10)
        began = world.clock.seconds
        await world.pass_until(lambda: len(world.venue.methods("book")) > 1, 15)
        assert world.clock.seconds - began >= 9.5
        assert market.checksum_failures == 0
