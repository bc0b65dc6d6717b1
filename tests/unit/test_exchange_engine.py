"""The venue's matching engine: price-time priority, exact numbers, and books that a client can follow."""

from __future__ import annotations

import dataclasses
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aether_services.domain import books
from aether_services.domain.instruments import Instrument, Symbol, TradingStatus
from aether_services.domain.times import Nanoseconds
from aether_services.domain.trades import OrderType, Side
from aether_services.exchange_sim.core import batches, candles, markets, orders, views
from aether_services.exchange_sim.core.engines import Engine
from aether_services.exchange_sim.core.orders import (
    CancelOrder,
    Closed,
    LevelSet,
    Opened,
    OrderId,
    OrderRejected,
    OrderRejectReason,
    Owner,
    PlaceOrder,
    Reduced,
    Traded,
)
from aether_services.ingest.core import wire

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aether_services.exchange_sim.core.orders import Command, Event

BTC: Final = markets.MARKETS[Symbol("BTC/USD")]
ANNA, BEN = Owner("anna"), Owner("ben")
LOT: Final = 10_000
"""Twice the smallest order."""
NOON: Final = Nanoseconds(1_795_608_000_000_000_000)


def an_engine(*instruments: Instrument) -> Engine:
    return Engine(instruments or (BTC,))


def an_order(side: Side, price: int | None, quantity: int = LOT, owner: Owner = ANNA, **more: bool) -> PlaceOrder:
    return PlaceOrder(
        owner=owner,
        symbol=BTC.symbol,
        side=side,
        order_type=OrderType.MARKET if price is None else OrderType.LIMIT,
        price=price,
        quantity=quantity,
        **more,
    )


def trades(events: Iterable[Event]) -> list[Traded]:
    return [event for event in events if isinstance(event, Traded)]


def levels(engine: Engine, side: Side) -> list[tuple[int, int]]:
    return list(engine.books[BTC.symbol].side(side).levels())


def reject_reason(events: list[Event]) -> OrderRejectReason | None:
    return events[0].reason if isinstance(events[0], OrderRejected) else None


# ---- one order after another


def test_best_price_trades_first_then_first_in_time() -> None:
    engine = an_engine()
    for price, owner in ((870_010, ANNA), (870_000, ANNA), (870_000, BEN)):
        engine.handle(an_order(Side.SELL, price, owner=owner), NOON)
    made = trades(engine.handle(an_order(Side.BUY, 870_010, 3 * LOT), NOON))
    assert [(trade.price, trade.maker) for trade in made] == [(870_000, 2), (870_000, 3), (870_010, 1)]
    assert [trade.trade_id for trade in made] == [1, 2, 3]
    assert all(trade.side is Side.BUY and trade.taker == OrderId(4) for trade in made)


def test_unfilled_rest_of_a_limit_order_rests_at_its_price() -> None:
    engine = an_engine()
    engine.handle(an_order(Side.SELL, 870_000), NOON)
    events = engine.handle(an_order(Side.BUY, 870_000, 3 * LOT), NOON)
    assert levels(engine, Side.BUY) == [(870_000, 2 * LOT)]
    assert levels(engine, Side.SELL) == []
    assert [event for event in events if isinstance(event, LevelSet)] == [
        LevelSet(BTC.symbol, Side.SELL, 870_000, 0),
        LevelSet(BTC.symbol, Side.BUY, 870_000, 2 * LOT),
    ]


@pytest.mark.parametrize("price", [None, 870_000])
def test_market_and_immediate_orders_leave_nothing_on_the_book(price: int | None) -> None:
    engine = an_engine()
    engine.handle(an_order(Side.SELL, 870_000), NOON)
    events = engine.handle(an_order(Side.BUY, price, 3 * LOT, immediate=True), NOON)
    assert sum(trade.quantity for trade in trades(events)) == LOT
    assert not list(engine.open_orders())
    assert Closed(OrderId(2), orders.CloseReason.CANCELED, rested=False) in events


def test_post_only_order_never_takes_liquidity() -> None:
    engine = an_engine()
    engine.handle(an_order(Side.SELL, 870_000), NOON)
    assert (
        reject_reason(engine.handle(an_order(Side.BUY, 870_000, post_only=True), NOON)) is OrderRejectReason.POST_ONLY
    )
    assert reject_reason(engine.handle(an_order(Side.BUY, 869_999, post_only=True), NOON)) is None


def test_partially_filled_order_keeps_its_priority() -> None:
    engine = an_engine()
    engine.handle(an_order(Side.SELL, 870_000, 2 * LOT), NOON)
    engine.handle(an_order(Side.SELL, 870_000, LOT, owner=BEN), NOON)
    assert Reduced(OrderId(1), LOT) in engine.handle(an_order(Side.BUY, 870_000, LOT), NOON)
    assert [trade.maker for trade in trades(engine.handle(an_order(Side.BUY, 870_000, 2 * LOT), NOON))] == [1, 2]


def test_only_its_owner_may_cancel_an_order_and_only_once() -> None:
    engine = an_engine()
    engine.handle(an_order(Side.BUY, 870_000), NOON)
    assert (
        reject_reason(engine.handle(CancelOrder(owner=BEN, order_id=OrderId(1)), NOON))
        is OrderRejectReason.UNKNOWN_ORDER
    )
    assert reject_reason(engine.handle(CancelOrder(owner=ANNA, order_id=OrderId(1)), NOON)) is None
    assert (
        reject_reason(engine.handle(CancelOrder(owner=ANNA, order_id=OrderId(1)), NOON))
        is OrderRejectReason.UNKNOWN_ORDER
    )


@pytest.mark.parametrize(
    ("order", "why"),
    [
        (an_order(Side.BUY, 870_000, 4_999), OrderRejectReason.MINIMUM),
        (an_order(Side.BUY, 10, LOT), OrderRejectReason.COST),
        (an_order(Side.BUY, 0), OrderRejectReason.INVALID_PRICE),
        (an_order(Side.BUY, -5), OrderRejectReason.INVALID_PRICE),
        (an_order(Side.BUY, None, post_only=True), OrderRejectReason.INVALID_PRICE),
        (an_order(Side.BUY, 870_000, post_only=True, immediate=True), OrderRejectReason.POST_ONLY),
    ],
)
def test_invalid_order_is_rejected_with_krakens_message(order: PlaceOrder, why: OrderRejectReason) -> None:
    assert reject_reason(an_engine().handle(order, NOON)) is why


def test_price_between_two_ticks_is_rejected() -> None:
    engine = an_engine(dataclasses.replace(BTC, tick_size=Decimal("0.5")))
    assert reject_reason(engine.handle(an_order(Side.BUY, 870_001), NOON)) is OrderRejectReason.TICK
    assert reject_reason(engine.handle(an_order(Side.BUY, 870_005), NOON)) is None


@pytest.mark.parametrize(
    ("system", "placed_order", "posted", "cancelled"),
    [
        (TradingStatus.ONLINE, None, None, None),
        (TradingStatus.POST_ONLY, OrderRejectReason.POST_ONLY_MODE, None, None),
        (TradingStatus.CANCEL_ONLY, OrderRejectReason.CANCEL_ONLY, OrderRejectReason.CANCEL_ONLY, None),
        (
            TradingStatus.MAINTENANCE,
            OrderRejectReason.UNAVAILABLE,
            OrderRejectReason.UNAVAILABLE,
            OrderRejectReason.UNAVAILABLE,
        ),
    ],
)
def test_accepted_requests_depend_on_the_trading_status(
    system: TradingStatus,
    placed_order: OrderRejectReason | None,
    posted: OrderRejectReason | None,
    cancelled: OrderRejectReason | None,
) -> None:
    engine = an_engine()
    engine.handle(an_order(Side.BUY, 870_000), NOON)
    engine.system = system
    assert reject_reason(engine.handle(an_order(Side.BUY, 870_000), NOON)) is placed_order
    assert reject_reason(engine.handle(an_order(Side.BUY, 870_000, post_only=True), NOON)) is posted
    assert reject_reason(engine.handle(CancelOrder(owner=ANNA, order_id=OrderId(1)), NOON)) is cancelled


def test_trade_times_of_a_market_are_unique_despite_clock_jumps() -> None:
    engine = an_engine()
    for _ in range(3):
        engine.handle(an_order(Side.SELL, 870_000), NOON)
    made = trades(engine.handle(an_order(Side.BUY, 870_000, 2 * LOT), NOON))
    made += trades(engine.handle(an_order(Side.BUY, 870_000), Nanoseconds(NOON - 1_000_000_000)))
    assert [trade.at for trade in made] == [NOON, NOON + 1, NOON + 2]


def test_order_ids_have_krakens_format_and_are_unique() -> None:
    assert orders.txid(OrderId(1)) == "OAAAAA-AAAAA-AAAAAB"
    assert len({orders.txid(OrderId(number)) for number in range(10_000)}) == 10_000


# ---- any orders

PRICES = st.integers(870_000, 870_030)
COMMANDS = st.lists(
    st.one_of(
        st.builds(
            an_order,
            st.sampled_from(Side),
            PRICES,
            st.integers(1, 5).map(lambda lots: lots * LOT),
            st.sampled_from((ANNA, BEN)),
        ),
        st.builds(
            an_order, st.sampled_from(Side), PRICES, st.just(LOT), post_only=st.booleans(), immediate=st.booleans()
        ),
        st.builds(an_order, st.sampled_from(Side), st.none(), st.integers(1, 20).map(lambda lots: lots * LOT)),
        st.integers(1, 60).map(lambda number: CancelOrder(owner=ANNA, order_id=OrderId(number))),
    ),
    max_size=60,
)


class Naive:
    """A reference implementation: a list of orders, sorted each time."""

    def __init__(self) -> None:
        self.orders: list[tuple[OrderId, Owner, Side, int, int]] = []
        self.next = 1

    def handle(self, command: Command) -> list[tuple[int, int, int]]:
        """Maker, price and quantity of each trade."""
        if isinstance(command, CancelOrder):
            self.orders = [one for one in self.orders if one[:2] != (command.order_id, command.owner)]
            return []
        sign = 1 if command.side is Side.BUY else -1
        against = sorted(
            (one for one in self.orders if one[2] is not command.side), key=lambda one: (sign * one[3], one[0])
        )
        reached = [one for one in against if command.price is None or sign * one[3] <= sign * command.price]
        if command.post_only and (reached or command.immediate):
            return []
        number, self.next = OrderId(self.next), self.next + 1
        left = command.quantity
        made: list[tuple[int, int, int]] = []
        for maker in reached:
            quantity = min(left, maker[4])
            if quantity:
                made.append((maker[0], maker[3], quantity))
                left -= quantity
                self.orders.remove(maker)
                if maker[4] > quantity:
                    self.orders.append((*maker[:4], maker[4] - quantity))
        if left and command.price is not None and not command.immediate:
            self.orders.append((number, command.owner, command.side, command.price, left))
        return made


@given(COMMANDS)
def test_any_orders_match_by_price_then_time(commands: list[Command]) -> None:
    engine, naive = an_engine(), Naive()
    for command in commands:
        made = [(trade.maker, trade.price, trade.quantity) for trade in trades(engine.handle(command, NOON))]
        assert made == naive.handle(command)
    assert dict(engine.open_orders()) == {one[0]: one[4] for one in naive.orders}


@given(COMMANDS)
def test_book_is_never_crossed_and_levels_sum_their_orders(commands: list[Command]) -> None:
    engine = an_engine()
    book = engine.books[BTC.symbol]
    for command in commands:
        engine.handle(command, NOON)
        if book.bids and book.asks:
            assert book.bids.price() < book.asks.price()
        for side in Side:
            for price, quantity in book.side(side).levels():
                level = book.side(side).level(price)
                assert quantity == sum(order.remaining for order in level.orders.values()) > 0
                assert sorted(level.orders) == list(level.orders)


@given(COMMANDS)
def test_ordered_quantity_is_traded_cancelled_or_open(commands: list[Command]) -> None:
    """What was ordered is traded, cancelled, or still open; and both sides of a trade have the same."""
    engine = an_engine()
    ordered: Counter[OrderId] = Counter()
    filled: Counter[OrderId] = Counter()
    cancelled: Counter[OrderId] = Counter()
    for command in commands:
        number, still_open = engine.next_order_id, dict(engine.open_orders())
        events = engine.handle(command, NOON)
        if isinstance(command, PlaceOrder) and engine.next_order_id != number:
            ordered[number] = command.quantity
        for trade in trades(events):
            filled[trade.maker] += trade.quantity
            filled[trade.taker] += trade.quantity
        for event in events:
            if isinstance(event, Closed) and event.reason is orders.CloseReason.CANCELED:
                rest = ordered[event.order_id] - filled[event.order_id]
                assert not event.rested or rest == still_open[event.order_id]
                cancelled[event.order_id] = rest
    left = Counter(dict(engine.open_orders()))
    assert +ordered == +(filled + cancelled + left)


@given(COMMANDS)
def test_trade_ids_have_no_gap_and_times_increase(commands: list[Command]) -> None:
    engine = an_engine()
    made = [trade for command in commands for trade in trades(engine.handle(command, NOON))]
    assert [trade.trade_id for trade in made] == list(range(1, len(made) + 1))
    assert len({trade.at for trade in made}) == len(made)


@given(COMMANDS, st.integers(0, 60))
def test_engine_restored_from_its_journal_continues_unchanged(commands: list[Command], until: int) -> None:
    engine, batch_builder = an_engine(), batches.BatchBuilder(())
    open_orders: dict[OrderId, Opened] = {}
    for command in commands[:until]:
        batch = batches.Batch()
        batch_builder.add(batch, BTC.symbol, engine.handle(command, NOON))
        for number in batch.closed:
            del open_orders[number]
        for number, remaining in batch.reduced.items():
            open_orders[number] = open_orders[number]._replace(remaining=remaining)
        open_orders |= batch.opened
    again = an_engine()
    again.next_order_id = engine.next_order_id
    again.restore(sorted(open_orders.values()))
    was, book = engine.books[BTC.symbol], again.books[BTC.symbol]
    book.last_trade_id, book.last_trade_at = was.last_trade_id, was.last_trade_at
    for command in commands[until:]:
        assert again.handle(command, NOON) == engine.handle(command, NOON)


@given(COMMANDS)
def test_large_batch_has_the_result_of_single_command_batches(commands: list[Command]) -> None:
    engine, batch_builder, is_snapshot = an_engine(), batches.BatchBuilder(()), batches.Batch()
    for command in commands:
        batch_builder.add(is_snapshot, BTC.symbol, engine.handle(command, NOON))
    remaining = {number: opened.remaining for number, opened in is_snapshot.opened.items()}
    assert remaining == dict(engine.open_orders())
    assert not is_snapshot.reduced
    assert not is_snapshot.closed, "what was opened and closed in one batch is not stored"


# ---- what a client sees


def read(texts: list[str]) -> list[str]:
    """Levels as a book takes them."""
    return [msgspec.json.decode(text, type=wire.Level).text() for text in texts]


class CutsAtEachLevel:
    """A client that is stricter than the rules: it cuts its book after each level, not after each message."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.sides: dict[Side, dict[Decimal, Decimal]] = {Side.BUY: {}, Side.SELL: {}}

    def apply(self, side: Side, texts: list[str]) -> None:
        for level in read(texts):
            price, quantity = map(Decimal, level.split(books.LEVEL_SEPARATOR))
            book = self.sides[side]
            book[price] = quantity
            best = sorted((one for one in book if book[one]), reverse=side is Side.BUY)[: self.depth]
            self.sides[side] = {one: book[one] for one in best}


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(Side), st.integers(1, 45), st.sampled_from((0, 0, LOT, 3 * LOT))),
        min_size=30,
        max_size=400,
    ),
    st.sampled_from((*views.DEPTHS[:2], 3)),
    st.integers(1, 5),
    st.integers(0, 25),
)
def test_client_of_any_depth_has_the_book_after_each_message(
    changes: list[tuple[Side, int, int]], depth: int, at_once: int, before: int
) -> None:
    market = views.Market(BTC)
    found = [
        LevelSet(BTC.symbol, side, 1000 - price if side is Side.BUY else 1000 + price, quantity)
        for side, price, quantity in changes
    ]
    market.apply(found[:before], (), NOON)
    strict = CutsAtEachLevel(depth)
    strict.apply(Side.BUY, market.bids.texts[:depth])
    strict.apply(Side.SELL, market.asks.texts[:depth])
    ours = books.Book(BTC.symbol, price_digits=1, quantity_digits=8, depth=depth)
    snapshot = read(market.bids.texts[:depth]), read(market.asks.texts[:depth])
    proved = depth >= books.CHECKSUM_LEVELS
    assert ours.snapshot(*snapshot, market.checksum) or not proved
    for first in range(before, len(found), at_once):
        updates = market.apply(found[first : first + at_once], (depth,), NOON)
        for bids, asks in updates.values():
            assert ours.update(read(bids), read(asks), market.checksum) or not proved
            strict.apply(Side.BUY, bids)
            strict.apply(Side.SELL, asks)
        for side, ladder in ((Side.BUY, market.bids), (Side.SELL, market.asks)):
            expected = {Decimal(ladder.price(index)) / 10: ladder.quantities[index] for index in range(len(ladder))}
            best = sorted(expected, reverse=side is Side.BUY)[:depth]
            assert strict.sides[side] == {price: Decimal(expected[price]).scaleb(-8) for price in best}


def test_level_leaving_the_depth_is_silent_one_entering_is_sent() -> None:
    market = views.Market(BTC)
    asks = [LevelSet(BTC.symbol, Side.SELL, price, LOT) for price in range(1, 12)]
    market.apply(asks[1:], (), NOON)
    (_, changes) = market.apply(asks[:1], (10,), NOON)[10]
    assert changes == ['{"price":0.1,"qty":0.00010000}']
    (_, changes) = market.apply([asks[4]._replace(quantity=0)], (10,), NOON)[10]
    assert changes == ['{"price":0.5,"qty":0.00000000}', '{"price":1.1,"qty":0.00010000}']
    assert not market.apply([asks[10]._replace(quantity=0)], (9,), NOON), "it was out of view all the time"


@given(COMMANDS, st.sampled_from(views.DEPTHS))
def test_books_after_trading_verify_at_every_depth(commands: list[Command], depth: int) -> None:
    engine, batch_builder, market = an_engine(), batches.BatchBuilder(()), views.Market(BTC)
    ours = books.Book(BTC.symbol, price_digits=1, quantity_digits=8, depth=depth)
    ours.snapshot([], [], 0)
    for command in commands:
        batch = batches.Batch()
        batch_builder.add(batch, BTC.symbol, engine.handle(command, NOON))
        for outcome in batch.outcomes:
            for bids, asks in market.apply(outcome.levels, (depth,), NOON).values():
                assert ours.update(read(bids), read(asks), market.checksum)
    for side, ladder in ((Side.BUY, ours.bids), (Side.SELL, ours.asks)):
        expected = [(Decimal(price) / 10, Decimal(quantity).scaleb(-8)) for price, quantity in levels(engine, side)]
        assert list(ladder.levels()) == expected[:depth]


# ---- candles and tickers


def a_trade(minute: int, price: int, quantity: int = LOT, number: int = 1) -> Traded:
    at = Nanoseconds(NOON + minute * 60_000_000_000)
    return Traded(BTC.symbol, number, Side.BUY, OrderType.LIMIT, price, quantity, at, OrderId(1), OrderId(2))


def test_candle_has_open_high_low_close_and_a_truncated_vwap() -> None:
    candle = None
    for price, quantity in ((100, 1), (103, 1), (98, 2), (101, 3)):
        candle = candles.with_trade(candle, a_trade(0, price, quantity), 1)
    assert candle is not None
    assert (candle.open, candle.high, candle.low, candle.close) == (100, 103, 98, 101)
    assert (candle.volume, candle.trades) == (7, 4)
    assert candle.vwap() == 100, "100.28 is cut off"


def test_minutes_without_a_trade_have_the_last_close() -> None:
    first = candles.with_trade(None, a_trade(0, 100), 1)
    last = candles.with_trade(first, a_trade(3, 105), 1)
    known = list(candles.with_empty([first, last], a_trade(5, 0).at))
    assert [(candle.open, candle.volume) for candle in known] == [
        (100, LOT), (100, 0), (100, 0), (105, LOT), (105, 0), (105, 0),
    ]  # fmt: skip


def test_venue_closed_for_a_year_limits_old_candles_like_kraken() -> None:
    first = candles.with_trade(None, a_trade(0, 100), 1)
    known = list(candles.with_empty([first], a_trade(525_600, 0).at))
    assert len(known) == 1 + candles.MAX_SERVED + 1
    assert known[-1].begin == a_trade(525_600, 0).at
    assert {candle.close for candle in known} == {100}


def test_ticker_covers_the_last_day_and_drops_older_trades() -> None:
    market, candle = views.Market(BTC), None
    for minute, price in ((0, 500), (10, 100), (20, 120), (1441, 110)):
        candle = candles.with_trade(candle, a_trade(minute, price), 1)
        market.add_candle(candle)
    day = market.last_day(a_trade(1441, 0).at)
    assert (day.open, day.high, day.low, day.trades) == (100, 120, 100, 3)
    assert market.last_price == 110
