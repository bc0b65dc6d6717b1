"""The pure core of ingest: trade logs, outboxes and shares."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aether_services.contracts.marketdata import Topic
from aether_services.domain import times
from aether_services.domain.instruments import Symbol
from aether_services.domain.times import Nanoseconds
from aether_services.domain.trades import OrderType, Side, Trade
from aether_services.ingest.core import sharding, trade_logs, wire
from aether_services.ingest.core.outboxes import EncodedMessage, Outbox
from aether_services.ingest.core.sharding import ShardAssignment
from aether_services.ingest.core.trade_logs import Cursor, ReceivedTrade, TradeLog

if TYPE_CHECKING:
    from collections.abc import Iterable

BTC, ETH = Symbol("BTC/USD"), Symbol("ETH/USD")


def a_trade(trade_id: int, symbol: Symbol = BTC) -> ReceivedTrade:
    trade = Trade(
        symbol=symbol,
        trade_id=trade_id,
        side=Side.SELL,
        price=Decimal("1.5"),
        quantity=Decimal("0.1"),
        order_type=OrderType.MARKET,
        at=Nanoseconds(trade_id * times.SECOND),
    )
    return ReceivedTrade(trade, Nanoseconds(trade_id * times.SECOND + 1))


def trades(ids: Iterable[int]) -> list[ReceivedTrade]:
    return [a_trade(one) for one in ids]


def a_cursor(trade_id: int) -> Cursor:
    return trade_logs.cursor_after(a_trade(trade_id).trade)


def ids(some: Iterable[ReceivedTrade] | None) -> list[int] | None:
    return None if some is None else [one.trade.trade_id for one in some]


# Trade logs.


@given(order=st.permutations(range(2, 12)), often=st.integers(1, 3))
def test_trade_log_is_deduplicated_and_sorted_whatever_the_input_order(order: list[int], often: int) -> None:
    trade_log = TradeLog(100)
    trade_log.add(trades([1]))
    for one in order * often:
        trade_log.add([a_trade(one)])
    assert ids(trade_log.after(a_cursor(0), 100)) == list(range(1, 12))
    assert not trade_log.has_gap


def test_trades_after_a_gap_wait_until_it_is_filled() -> None:
    trade_log = TradeLog(100)
    assert trade_log.add(trades([5, 6, 9, 10])) == 4
    assert trade_log.has_gap
    assert trade_log.last == a_cursor(6)
    assert ids(trade_log.after(a_cursor(4), 100)) == [5, 6]
    trade_log.backfill(trades([7]))
    assert ids(trade_log.after(a_cursor(4), 100)) == [5, 6, 7]
    trade_log.backfill(trades([8, 9]))
    assert ids(trade_log.after(a_cursor(6), 100)) == [7, 8, 9, 10]
    assert trade_log.last == a_cursor(10)
    assert trade_log.absent_ids == 0


def test_missing_trade_id_is_a_gap_that_blocks_nothing() -> None:
    trade_log = TradeLog(100)
    trade_log.add(trades([5, 8, 9]))
    trade_log.backfill(trades([7]))
    assert not trade_log.has_gap
    assert trade_log.absent_ids == 1
    assert ids(trade_log.after(a_cursor(5), 100)) == [7, 8, 9]
    assert ids(trade_log.after(a_cursor(6), 100)) == [7, 8, 9]
    assert ids(trade_log.after(a_cursor(8), 100)) == [9]
    assert ids(trade_log.after(a_cursor(4), 2)) == [5, 7]


def test_forgotten_position_differs_from_one_without_successors() -> None:
    trade_log = TradeLog(3)
    assert trade_log.after(a_cursor(1), 5) == []
    trade_log.add(trades(range(1, 6)))
    assert trade_log.after(a_cursor(1), 5) is None
    assert ids(trade_log.after(a_cursor(2), 5)) == [3, 4, 5]
    assert trade_log.after(a_cursor(5), 5) == []
    assert trade_log.after(a_cursor(99), 5) == []
    assert trade_log.first == Cursor(trade_id=2, at=Nanoseconds(3 * times.SECOND))
    assert (
        trade_log.count_after(a_cursor(1)),
        trade_log.count_after(a_cursor(5)),
        trade_log.count_after(a_cursor(9)),
    ) == (4, 0, 0)


def test_reused_ids_contradict_a_position() -> None:
    trade_log = TradeLog(100)
    assert not trade_log.contradicts(a_cursor(5))
    trade_log.add(trades([5, 6, 7]))
    assert not any(trade_log.contradicts(a_cursor(one)) for one in (3, 5, 7))
    assert not trade_log.contradicts(Cursor(trade_id=7, at=Nanoseconds(7 * times.SECOND - 1000)))  # as REST rounds it
    assert trade_log.contradicts(Cursor(trade_id=6, at=Nanoseconds(2 * times.SECOND)))
    assert trade_log.contradicts(Cursor(trade_id=100, at=Nanoseconds(2 * times.SECOND)))
    assert not trade_log.contradicts(a_cursor(100))  # it is only further on


# Outboxes.


def a_message(symbol: Symbol, number: int, topic: Topic = Topic.BOOK) -> EncodedMessage:
    return EncodedMessage(topic, symbol, f"{symbol} {number}".encode(), Nanoseconds(number))


def bodies(outbox: Outbox) -> list[bytes]:
    return [message.body for message in outbox.take(1000)]


def test_messages_are_sent_in_order_and_unsent_ones_retried_first() -> None:
    outbox = Outbox(10)
    for number in range(4):
        outbox.put(a_message(BTC, number))
    taken = outbox.take(2)
    assert outbox.oldest == 2
    outbox.put_back(taken)
    assert outbox.oldest == 0
    assert bodies(outbox) == [b"BTC/USD 0", b"BTC/USD 1", b"BTC/USD 2", b"BTC/USD 3"]
    assert outbox.conflated == 0
    assert outbox.oldest is None


def test_overflow_keeps_the_newest_message_per_market_and_topic() -> None:
    outbox = Outbox(4)
    for number in range(4):
        outbox.put(a_message(BTC if number % 2 else ETH, number))
    outbox.put(a_message(BTC, 4, Topic.TICKER))
    assert bodies(outbox) == [b"ETH/USD 2", b"BTC/USD 3", b"BTC/USD 4"]
    assert outbox.conflated == 2


TOPICS = (Topic.TRADES, Topic.BOOK, Topic.TICKER)


@given(numbers=st.lists(st.tuples(st.sampled_from([BTC, ETH]), st.sampled_from(TOPICS)), max_size=60))
def test_newest_message_of_each_key_is_never_lost_or_overtaken(numbers: list[tuple[Symbol, Topic]]) -> None:
    outbox, newest = Outbox(7), dict[tuple[Topic, Symbol], int]()
    for number, (symbol, topic) in enumerate(numbers):
        outbox.put(a_message(symbol, number, topic))
        newest[topic, symbol] = number
        assert len(outbox) <= 8
    left = outbox.take(1000)
    assert {(one.topic, one.symbol): one.received for one in left} == newest
    assert [one.received for one in left] == sorted(one.received for one in left)
    assert len(left) + outbox.conflated == len(numbers)


# Shares.

SYMBOLS = [Symbol(f"{chr(65 + n // 26)}{chr(65 + n % 26)}/USD") for n in range(64)]


def after_checks(
    checks: int, replicas: int, shares: dict[int, ShardAssignment], replies: set[int]
) -> dict[int, frozenset[Symbol]]:
    """Run some checks in every replica; those in `replies` report a usable book of all markets that they serve."""
    served = {one: frozenset[Symbol]() for one in shares}
    for _ in range(checks):
        for one, share in shares.items():
            usable = {other: served[other] for other in replies if other != one}
            served[one] = share.assign(SYMBOLS, replicas, usable)
    return served


def test_each_market_converges_on_the_first_replica_of_its_order() -> None:
    served = after_checks(20, 3, {one: ShardAssignment(one) for one in range(3)}, {0, 1, 2})
    assert {symbol: [one for one in served if symbol in served[one]] for symbol in SYMBOLS} == {
        symbol: [sharding.order(symbol, range(3))[0]] for symbol in SYMBOLS
    }
    assert all(10 < len(one) < 35 for one in served.values())


def test_additional_replica_moves_only_the_markets_it_gains() -> None:
    before = {symbol: sharding.order(symbol, range(3))[0] for symbol in SYMBOLS}
    after = {symbol: sharding.order(symbol, range(4))[0] for symbol in SYMBOLS}
    moved = [symbol for symbol in SYMBOLS if before[symbol] != after[symbol]]
    assert 4 < len(moved) < 32
    assert all(after[symbol] == 3 for symbol in moved)


def test_market_is_released_once_the_other_served_it_a_while() -> None:
    first, second = sharding.order(BTC, range(2))
    share = ShardAssignment(second)
    checks = [bool(share.assign([BTC], 2, {})) for _ in range(sharding.TAKE_AFTER)]
    assert checks == [False] * (sharding.TAKE_AFTER - 1) + [True]
    assert share.assign([BTC], 2, {first: {BTC}})
    assert share.assign([BTC], 2, {first: set()})  # it lost the market again: the count starts over
    assert share.assign([BTC], 2, {first: {BTC}})
    assert not share.assign([BTC], 2, {first: {BTC}})


def test_market_of_an_unresponsive_replica_is_taken_over() -> None:
    shares = {one: ShardAssignment(one) for one in range(2)}
    after_checks(10, 2, shares, {0, 1})
    served = after_checks(sharding.TAKE_AFTER + 1, 2, {0: shares[0]}, {0})
    assert served[0] == frozenset(SYMBOLS)


def test_leaving_replica_keeps_a_market_until_another_serves_it() -> None:
    share = ShardAssignment(0)
    share.assign([BTC, ETH], 1, {})
    for _ in range(5):
        assert share.assign([BTC, ETH], 2, {}, leaving=True) == {BTC, ETH}
    for _ in range(2):
        left = share.assign([BTC, ETH], 2, {1: {ETH}}, leaving=True)
    assert left == {BTC}


def test_surplus_replica_hands_over_all_markets() -> None:
    share = ShardAssignment(1)
    for _ in range(5):
        share.assign([BTC], 2, {})
    assert share.assign([BTC], 1, {}) == {BTC}
    share.assign([BTC], 1, {0: {BTC}})
    assert share.assign([BTC], 1, {0: {BTC}}) == frozenset()


def test_market_that_is_no_longer_required_is_released_at_once() -> None:
    share = ShardAssignment(0)
    assert share.assign([BTC, ETH], 1, {}) == {BTC, ETH}
    assert share.assign([ETH], 1, {}) == {ETH}


# Messages.


@pytest.mark.parametrize("frame", ["", "[]", '{"channel":1}', '{"channel":"book","type":"update","data":[{}]}'])
def test_malformed_message_is_rejected(frame: str) -> None:
    with pytest.raises(wire.MalformedMessage):
        wire.data(wire.head(frame), list[wire.BookData])
