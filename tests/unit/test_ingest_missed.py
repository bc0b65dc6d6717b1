"""Missed or rejected trades, requested over REST, in virtual time."""

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
from aether_testing.servers.fake_venue import BTC, MANY, ReceiverHarness, a_trade, faithful, run_backfill

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aether_services.domain.instruments import Symbol
    from aether_services.domain.trades import Trade
    from aether_services.ingest.core.trade_logs import Cursor


async def test_missed_last_trade_of_a_quiet_market_arrives_over_rest() -> None:
    harness = ReceiverHarness(lambda request: [*faithful(request), b'{"channel":"heartbeat"}'])
    await harness.until(lambda: harness.markets[BTC].usable, 5)
    trade_log, began = harness.markets[BTC].trade_log, harness.clock.seconds
    trade_log.add([ReceivedTrade(a_trade(7, began), harness.clock.now())])
    harness.venue.rest_trades = [a_trade(8, began + 1)]
    harness.receiver.connected = True
    await run_backfill(harness, lambda: trade_log.last == cursor_after(harness.venue.rest_trades[0]), 90)
    assert harness.clock.seconds - began >= 60
    assert harness.markets[BTC].gaps == 1


def receive_trades(harness: ReceiverHarness, *trades: Trade) -> None:
    """Send trades on the WebSocket."""
    data = [
        {
            "symbol": one.symbol, "side": "buy", "price": int(one.price), "qty": 1, "ord_type": "limit",
            "trade_id": one.trade_id, "timestamp": times.text(one.at),
        }
        for one in trades
    ]  # fmt: skip
    harness.markets.receive(json.dumps({"channel": "trade", "type": "update", "data": data}), harness.clock.now())


async def test_future_trade_is_requested_slowly_and_recovers_at_its_time() -> None:
    harness = ReceiverHarness(faithful)
    now = harness.clock.now() / times.SECOND
    ahead, after = a_trade(8, now + 900), a_trade(9, now + 1)
    harness.venue.rest_trades = [ahead, after]
    receive_trades(harness, a_trade(7, now), ahead, after)
    market = harness.markets[BTC]
    queries: list[float] = []
    trades = harness.venue.trades

    async def noted(symbol: Symbol, after: Cursor | None) -> Sequence[Trade]:
        queries.append(harness.clock.seconds)
        return await trades(symbol, after)

    harness.venue.trades = noted  # type: ignore[method-assign]
    began = harness.clock.seconds
    await run_backfill(harness, lambda: harness.clock.seconds > began + 590, 600)
    assert (market.trade_log.last, market.withheld) == (
        cursor_after(a_trade(7, now)),
        "Trades: a time ahead of our clock",
    )
    assert not harness.receiver.complete(market)
    assert 10 < len(queries) < 40, "in ten minutes"
    await run_backfill(harness, lambda: market.trade_log.last == cursor_after(after), 60)
    assert not market.withheld


async def test_corrected_trade_is_delivered_with_all_its_successors() -> None:
    harness = ReceiverHarness(faithful)
    now = harness.clock.now() / times.SECOND
    harness.venue.rest_trades = [a_trade(8, now + 86400), a_trade(9, now + 1)]
    receive_trades(harness, a_trade(7, now), *harness.venue.rest_trades)
    began = harness.clock.seconds
    await run_backfill(harness, lambda: harness.clock.seconds > began + 20, 30)
    assert harness.markets[BTC].withheld
    harness.venue.rest_trades[0] = a_trade(8, now + 1)
    await run_backfill(harness, lambda: harness.markets[BTC].trade_log.last == cursor_after(a_trade(9, now + 1)), 60)
    assert not harness.markets[BTC].withheld


def rejected_or_lost(harness: ReceiverHarness, *, rejected: bool) -> tuple[Trade, Trade, Trade]:
    """Of three trades the WebSocket sends the second malformed, or not at all; REST has only the last."""
    now = harness.clock.now() / times.SECOND
    first, strange, after = (a_trade(number, now + number) for number in (7, 8, 9))
    receive_trades(harness, first, *([dataclasses.replace(strange, price=Decimal(-1))] if rejected else []), after)
    harness.venue.rest_trades = [after]
    return first, strange, after


@pytest.mark.parametrize("rejected", [True, False])
async def test_trade_omitted_by_rest_is_awaited(*, rejected: bool) -> None:
    harness = ReceiverHarness(faithful)
    first, _, after = rejected_or_lost(harness, rejected=rejected)
    market, began = harness.markets[BTC], harness.clock.seconds
    await run_backfill(harness, lambda: harness.clock.seconds > began + 55, 60)
    assert (market.trade_log.last, bool(market.withheld)) == (cursor_after(first), rejected)
    assert not harness.receiver.complete(market)
    await run_backfill(harness, lambda: market.trade_log.last == cursor_after(after), 60)
    assert (market.withheld, market.trade_log.absent_ids) == ("", 1), "after a minute it counts as none"


async def test_quiet_market_with_a_trade_omitted_by_rest_is_incomplete() -> None:
    harness = ReceiverHarness(lambda request: [*faithful(request), b'{"channel":"heartbeat"}'])
    market, began = harness.markets[BTC], harness.clock.seconds
    await harness.until(lambda: market.usable and harness.step(Channel.TRADE, BTC) is State.SUBSCRIBED, 5)
    receive_trades(harness, a_trade(7, began))
    harness.venue.rest_trades = [a_trade(9, began + 1)]
    harness.receiver.connected = True
    assert harness.receiver.complete(market)
    await run_backfill(harness, lambda: bool(market.withheld), 90)
    assert not harness.receiver.complete(market)
    await run_backfill(harness, lambda: market.trade_log.last == cursor_after(a_trade(9, began + 1)), 120)
    assert harness.receiver.complete(market)


@pytest.mark.parametrize("rejected", [True, False])
async def test_trade_that_rest_has_late_is_delivered(*, rejected: bool) -> None:
    harness = ReceiverHarness(faithful)
    _, strange, after = rejected_or_lost(harness, rejected=rejected)
    market, began = harness.markets[BTC], harness.clock.seconds
    await run_backfill(harness, lambda: harness.clock.seconds > began + 20, 30)
    harness.venue.rest_trades = [strange, after]
    await run_backfill(harness, lambda: market.trade_log.last == cursor_after(after), 30)
    assert (market.withheld, market.trade_log.absent_ids) == ("", 0)


@pytest.mark.parametrize(("replicas", "apart"), [(1, 2), (2, 4)])
async def test_quiet_markets_get_every_second_call_and_gaps_go_first(replicas: int, apart: int) -> None:
    harness = ReceiverHarness(faithful, *MANY[:60])
    harness.receiver = harness.a_receiver(harness.venue, rest_interval=1)
    harness.receiver.reconnect_policy.replicas = replicas
    queries: list[tuple[float, Symbol]] = []

    async def noted(symbol: Symbol, after: Cursor | None) -> Sequence[Trade]:
        del after
        queries.append((harness.clock.seconds, symbol))
        await harness.clock.sleep(1)
        return []

    harness.venue.trades = noted  # type: ignore[method-assign]
    now = harness.clock.now()
    for number, market in enumerate(harness.markets.all()):
        market.trade_log.add(
            [ReceivedTrade(dataclasses.replace(a_trade(7, 7), symbol=market.symbol), Nanoseconds(now - number))]
        )
    quiet = [market.symbol for market in reversed(harness.markets.all())]
    harness.receiver.connected = True
    await run_backfill(harness, lambda: len(queries) == 120, 60 + 120 * (apart + 1))
    assert [symbol for _, symbol in queries] == [*quiet, *quiet], "the quietest first, and all before one again"
    moments = [moment for moment, _ in queries]
    assert all(apart <= later - earlier < apart + 0.2 for earlier, later in itertools.pairwise(moments))
    gap = harness.markets[quiet[7]]
    gap.trade_log.add([ReceivedTrade(dataclasses.replace(a_trade(9, 9), symbol=gap.symbol), now)])
    harness.markets.backfill.add(gap.symbol)
    await run_backfill(harness, lambda: len(queries) == 121, 1)
    assert queries[-1][1] == gap.symbol


async def test_quiet_markets_do_not_starve_a_silent_one() -> None:
    harness = ReceiverHarness(faithful, *MANY)
    harness.receiver = harness.a_receiver(harness.venue, rest_interval=1)
    now = harness.clock.now()
    for market in harness.markets.all():
        market.trade_log.add([ReceivedTrade(dataclasses.replace(a_trade(7, 7), symbol=market.symbol), now)])
    silent_one = harness.markets[MANY[70]]
    silent_one.liveness.trades_missed([a_trade(7, 7)], now)
    queries: list[Symbol] = []

    async def noted(symbol: Symbol, after: Cursor | None) -> Sequence[Trade]:
        del after
        queries.append(symbol)
        return []

    harness.venue.trades = noted  # type: ignore[method-assign]
    harness.receiver.connected = True
    await run_backfill(harness, lambda: len(queries) >= 120, 300)
    assert 4 <= queries[20:].count(MANY[70]) <= 12
    others = [symbol for symbol in queries if symbol != MANY[70]]
    assert len(others) == len(set(others)) > 100
