"""Trades that were missed or refused, asked of the venue over REST, in time that the test owns."""

from __future__ import annotations

import dataclasses
import itertools
import json
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from aether_services.domain import times
from aether_services.domain.times import Nanoseconds
from aether_services.ingest.core.subscriptions import State
from aether_services.ingest.core.trade_logs import ReceivedTrade, cursor_after
from aether_services.ingest.core.wire import Channel
from aether_testing.fake_venue import BTC, MANY, World, a_trade, faithful, filling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aether_services.domain.instruments import Symbol
    from aether_services.domain.trades import Trade
    from aether_services.ingest.core.trade_logs import Cursor


async def test_missed_last_trade_of_a_quiet_market_arrives_over_rest() -> None:
    world = World(lambda request: [*faithful(request), b'{"channel":"heartbeat"}'])
    await world.until(lambda: world.markets[BTC].usable, 5)
    trade_log, began = world.markets[BTC].trade_log, world.clock.seconds
    trade_log.add([ReceivedTrade(a_trade(7, began), world.clock.now())])
    world.venue.traded = [a_trade(8, began + 1)]
    world.receiver.connected = True
    await filling(world, lambda: trade_log.last == cursor_after(world.venue.traded[0]), 90)
    assert world.clock.seconds - began >= 60
    assert world.markets[BTC].gaps == 1


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


async def test_future_trade_is_requested_slowly_and_recovers_at_its_time() -> None:
    world = World(faithful)
    now = world.clock.now() / times.SECOND
    ahead, after = a_trade(8, now + 900), a_trade(9, now + 1)
    world.venue.traded = [ahead, after]
    told(world, a_trade(7, now), ahead, after)
    market = world.markets[BTC]
    asked: list[float] = []
    trades = world.venue.trades

    async def noted(symbol: Symbol, after: Cursor | None) -> Sequence[Trade]:
        asked.append(world.clock.seconds)
        return await trades(symbol, after)

    world.venue.trades = noted  # type: ignore[method-assign]
    began = world.clock.seconds
    await filling(world, lambda: world.clock.seconds > began + 590, 600)
    assert (market.trade_log.last, market.withheld) == (
        cursor_after(a_trade(7, now)),
        "Trades: a time ahead of our clock",
    )
    assert not world.receiver.complete(market)
    assert 10 < len(asked) < 40, "in ten minutes"
    await filling(world, lambda: market.trade_log.last == cursor_after(after), 60)
    assert not market.withheld


async def test_corrected_trade_is_delivered_with_all_its_successors() -> None:
    world = World(faithful)
    now = world.clock.now() / times.SECOND
    world.venue.traded = [a_trade(8, now + 86400), a_trade(9, now + 1)]
    told(world, a_trade(7, now), *world.venue.traded)
    began = world.clock.seconds
    await filling(world, lambda: world.clock.seconds > began + 20, 30)
    assert world.markets[BTC].withheld
    world.venue.traded[0] = a_trade(8, now + 1)
    await filling(world, lambda: world.markets[BTC].trade_log.last == cursor_after(a_trade(9, now + 1)), 60)
    assert not world.markets[BTC].withheld


def refused_or_lost(world: World, *, refused: bool) -> tuple[Trade, Trade, Trade]:
    """Of three trades the WebSocket told the second as it cannot be, or not at all; REST has the last alone."""
    now = world.clock.now() / times.SECOND
    first, strange, after = (a_trade(number, now + number) for number in (7, 8, 9))
    told(world, first, *([dataclasses.replace(strange, price=Decimal(-1))] if refused else []), after)
    world.venue.traded = [after]
    return first, strange, after


@pytest.mark.parametrize("refused", [True, False])
async def test_a_trade_that_rest_leaves_out_is_waited_for(*, refused: bool) -> None:
    world = World(faithful)
    first, _, after = refused_or_lost(world, refused=refused)
    market, began = world.markets[BTC], world.clock.seconds
    await filling(world, lambda: world.clock.seconds > began + 55, 60)
    assert (market.trade_log.last, bool(market.withheld)) == (cursor_after(first), refused)
    assert not world.receiver.complete(market)
    await filling(world, lambda: market.trade_log.last == cursor_after(after), 60)
    assert (market.withheld, market.trade_log.absent_ids) == ("", 1), "after a minute it counts as none"


async def test_quiet_market_with_a_trade_omitted_by_rest_is_incomplete() -> None:
    world = World(lambda request: [*faithful(request), b'{"channel":"heartbeat"}'])
    market, began = world.markets[BTC], world.clock.seconds
    await world.until(lambda: market.usable and world.step(Channel.TRADE, BTC) is State.SUBSCRIBED, 5)
    told(world, a_trade(7, began))
    world.venue.traded = [a_trade(9, began + 1)]
    world.receiver.connected = True
    assert world.receiver.complete(market)
    await filling(world, lambda: bool(market.withheld), 90)
    assert not world.receiver.complete(market)
    await filling(world, lambda: market.trade_log.last == cursor_after(a_trade(9, began + 1)), 120)
    assert world.receiver.complete(market)


@pytest.mark.parametrize("refused", [True, False])
async def test_a_trade_that_rest_has_late_is_handed_on(*, refused: bool) -> None:
    world = World(faithful)
    _, strange, after = refused_or_lost(world, refused=refused)
    market, began = world.markets[BTC], world.clock.seconds
    await filling(world, lambda: world.clock.seconds > began + 20, 30)
    world.venue.traded = [strange, after]
    await filling(world, lambda: market.trade_log.last == cursor_after(after), 30)
    assert (market.withheld, market.trade_log.absent_ids) == ("", 0)


@pytest.mark.parametrize(("replicas", "apart"), [(1, 2), (2, 4)])
async def test_quiet_markets_get_every_second_call_and_gaps_go_first(replicas: int, apart: int) -> None:
    world = World(faithful, *MANY[:60])
    world.receiver = world.receives(world.venue, rest_interval=1)
    world.receiver.reconnect_policy.replicas = replicas
    asked: list[tuple[float, Symbol]] = []

    async def noted(symbol: Symbol, after: Cursor | None) -> Sequence[Trade]:
        del after
        asked.append((world.clock.seconds, symbol))
        await world.clock.sleep(1)
        return []

    world.venue.trades = noted  # type: ignore[method-assign]
    now = world.clock.now()
    for number, market in enumerate(world.markets.all()):
        market.trade_log.add(
            [ReceivedTrade(dataclasses.replace(a_trade(7, 7), symbol=market.symbol), Nanoseconds(now - number))]
        )
    quiet = [market.symbol for market in reversed(world.markets.all())]
    world.receiver.connected = True
    await filling(world, lambda: len(asked) == 120, 60 + 120 * (apart + 1))
    assert [symbol for _, symbol in asked] == [*quiet, *quiet], "the quietest first, and all before one again"
    moments = [moment for moment, _ in asked]
    assert all(apart <= later - earlier < apart + 0.2 for earlier, later in itertools.pairwise(moments))
    gap = world.markets[quiet[7]]
    gap.trade_log.add([ReceivedTrade(dataclasses.replace(a_trade(9, 9), symbol=gap.symbol), now)])
    world.markets.backfill.add(gap.symbol)
    await filling(world, lambda: len(asked) == 121, 1)
    assert asked[-1][1] == gap.symbol


async def test_many_quiet_markets_keep_no_silent_one_from_its_turn() -> None:
    world = World(faithful, *MANY)
    world.receiver = world.receives(world.venue, rest_interval=1)
    now = world.clock.now()
    for market in world.markets.all():
        market.trade_log.add([ReceivedTrade(dataclasses.replace(a_trade(7, 7), symbol=market.symbol), now)])
    silent_one = world.markets[MANY[70]]
    silent_one.liveness.trades_missed([a_trade(7, 7)], now)
    asked: list[Symbol] = []

    async def noted(symbol: Symbol, after: Cursor | None) -> Sequence[Trade]:
        del after
        asked.append(symbol)
        return []

    world.venue.trades = noted  # type: ignore[method-assign]
    world.receiver.connected = True
    await filling(world, lambda: len(asked) >= 120, 300)
    assert 4 <= asked[20:].count(MANY[70]) <= 12
    others = [symbol for symbol in asked if symbol != MANY[70]]
    assert len(others) == len(set(others)) > 100
