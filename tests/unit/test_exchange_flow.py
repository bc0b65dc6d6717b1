"""The venue's synthetic order flow: alive, never crossed, and the same whenever it is made again."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import pytest

from aether_services.domain import decimals
from aether_services.domain.times import Nanoseconds
from aether_services.domain.trades import OrderType
from aether_services.exchange_sim.core import markets, order_flow
from aether_services.exchange_sim.core.engines import Engine
from aether_services.exchange_sim.core.orders import Command, LevelSet, OrderRejected, PlaceOrder, Traded
from aether_services.exchange_sim.core.views import DEPTHS

NOON: Final = 1_795_608_000_000_000_000
STEP: Final = 0.02


@dataclass
class Run:
    """What came of some time."""

    engine: Engine
    commands: list[Command] = field(default_factory=list)
    trades: list[Traded] = field(default_factory=list)
    updates: Counter[str] = field(default_factory=Counter)
    each_second: list[int] = field(default_factory=list)
    rejected: int = 0


def a_run(seed: str, seconds: float, step: float = STEP) -> Run:
    engine = Engine(markets.MARKETS.values())
    run, flow = Run(engine), order_flow.Flow(engine.books, seed)
    beginning = None
    for number in range(int(seconds / step)):
        at, before = Nanoseconds(NOON + int(number * step * 1e9)), run.updates.total()
        for commands in flow.step(step):
            for command in commands:
                run.commands.append(command)
                events = engine.handle(command, at)
                run.trades += [event for event in events if isinstance(event, Traded)]
                run.rejected += any(isinstance(event, OrderRejected) for event in events)
                run.updates.update({event.symbol for event in events if isinstance(event, LevelSet)})
        if beginning is None:
            # The first step fills the books.
            beginning = run.updates.total()
            run.updates.clear()
            continue
        if not number % int(1 / step):
            run.each_second.append(0)
        elif run.each_second:
            run.each_second[-1] += run.updates.total() - before
    return run


@pytest.fixture(scope="module")
def minute() -> Run:
    """A minute of it."""
    return a_run("a minute", 60)


def test_the_same_seed_and_steps_give_the_same_commands() -> None:
    assert a_run("one", 1).commands == a_run("one", 1).commands
    assert a_run("one", 1).commands != a_run("another", 1).commands


def test_two_hundred_updates_per_second_mostly_in_the_biggest_market(minute: Run) -> None:
    assert 80 <= minute.updates.total() / 60 <= 500
    assert set(minute.updates) == set(markets.MARKETS)
    assert minute.updates.most_common(1)[0][0] == "BTC/USD"


def test_order_rate_varies_over_time(minute: Run) -> None:
    ordered = sorted(minute.each_second)
    assert ordered[-1] > 2 * ordered[len(ordered) // 4]


def test_every_book_fills_depth_500_and_is_not_crossed(minute: Run) -> None:
    for book in minute.engine.books.values():
        assert len(book.bids) > DEPTHS[3] < len(book.asks)
        assert book.bids.price() < book.asks.price()


def test_every_market_has_trades_of_limit_and_market_orders(minute: Run) -> None:
    assert {trade.order_type for trade in minute.trades} == set(OrderType)
    assert {trade.symbol for trade in minute.trades} == set(markets.MARKETS)


def test_orders_fit_the_steps_and_minimums_of_their_market(minute: Run) -> None:
    for order in minute.commands:
        if isinstance(order, PlaceOrder):
            one = markets.MARKETS[order.symbol]
            assert decimals.unscaled(order.quantity, one.quantity_digits) >= one.quantity_min
    assert minute.rejected < 0.05 * len(minute.commands), "rejected orders are no flow"


def test_prices_stay_in_the_range_of_their_market(minute: Run) -> None:
    for symbol, book in minute.engine.books.items():
        price = float(decimals.unscaled(book.bids.price(), book.instrument.price_digits))
        assert price == pytest.approx(order_flow.MARKET_PROFILES[symbol].price, rel=0.02)


def test_flow_continues_with_existing_books() -> None:
    engine = a_run("first life", 2).engine
    resting = dict(engine.open_orders())
    commands = [command for some in order_flow.Flow(engine.books, "second life").step(STEP) for command in some]
    assert len(commands) < 100, "the books are full already"
    assert len(resting) > 10_000


@pytest.mark.parametrize("mean", [0.1, 2.0, 100.0])
def test_poisson_samples_have_the_requested_mean(mean: float) -> None:
    chance = random.Random(1)
    assert sum(order_flow.poisson(chance, mean) for _ in range(4000)) / 4000 == pytest.approx(mean, rel=0.1)
