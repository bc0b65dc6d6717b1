"""Liveness: what the channels of one market say of one another."""

from __future__ import annotations

from decimal import Decimal

import pytest

from aether_services.domain import times
from aether_services.domain.instruments import Symbol
from aether_services.domain.tickers import Ticker
from aether_services.domain.times import Nanoseconds
from aether_services.domain.trades import OrderType, Side, Trade
from aether_services.ingest.core import liveness
from aether_services.ingest.core.liveness import Liveness
from aether_services.ingest.core.wire import Channel

BTC = Symbol("BTC/USD")
BID, ASK = Decimal("99.99"), Decimal("100.01")


def at(seconds: float) -> Nanoseconds:
    """A moment of the venue."""
    return Nanoseconds(round((1_000_000 + seconds) * times.SECOND))


def a_trade(seconds: float, price: str, trade_id: int = 1) -> Trade:
    return Trade(
        symbol=BTC,
        trade_id=trade_id,
        side=Side.BUY,
        price=Decimal(price),
        quantity=Decimal(1),
        order_type=OrderType.LIMIT,
        at=at(seconds),
    )


def a_ticker(seconds: float, bid: str, ask: str) -> Ticker:
    one = Decimal(1)
    return Ticker(
        symbol=BTC, bid=Decimal(bid), bid_quantity=one, ask=Decimal(ask), ask_quantity=one, last=one, volume=one,
        vwap=one, low=one, high=one, change=one, change_percent=one, at=at(seconds),
    )  # fmt: skip


def silent(one: Liveness) -> tuple[Channel, ...]:
    return one.silent


@pytest.mark.parametrize(
    ("seconds", "price", "contradicts"),
    [
        (1.5, "150.05", True),
        (1.5, "99.98", True),
        (60, "100.01", False),
        (60, "100.00", False),
        (1, "150.05", False),  # it may have changed the book in the message that comes next
        (-60, "150.05", False),
    ],
)
def test_a_later_trade_outside_the_spread_contradicts_a_book(seconds: float, price: str, *, contradicts: bool) -> None:
    one = Liveness()
    one.trade_received(a_trade(seconds, price))
    assert one.contradicts(at(0), BID, ASK) is contradicts


@pytest.mark.parametrize(
    ("seconds", "bid", "ask", "contradicts"),
    [
        (4, "150.00", "150.05", True),
        (4, "99.99", "100.02", True),
        (4, "99.99", "100.0100", False),
        (4, "0", "100.02", False),  # nobody buys: the other side is known by its trades
        (3, "150.00", "150.05", False),
        (-60, "150.00", "150.05", False),
    ],
)
def test_a_later_ticker_with_other_prices_contradicts_a_book(
    seconds: float, bid: str, ask: str, *, contradicts: bool
) -> None:
    one = Liveness()
    one.ticker_received(a_ticker(seconds, bid, ask))
    assert one.contradicts(at(0), BID, ASK) is contradicts


def test_ticker_without_a_time_is_no_evidence_about_a_book() -> None:
    one = Liveness()
    one.ticker_received(a_ticker(4, "150.00", "150.05"), dated=False)
    one.trade_received(a_trade(6, "100.00"))
    assert not one.contradicts(at(0), BID, ASK)
    assert not one.ticker_lacks_a_trade


NONE = Decimal(0)


@pytest.mark.parametrize(
    ("bid", "ask", "price", "contradicts"),
    [
        (BID, NONE, "99.98", True), (BID, NONE, "150.00", False), (NONE, ASK, "100.02", True),
        (NONE, ASK, "50.00", False), (NONE, NONE, "50.00", False),
    ],
)  # fmt: skip
def test_one_sided_book_is_compared_with_trades(bid: Decimal, ask: Decimal, price: str, *, contradicts: bool) -> None:
    one = Liveness()
    one.trade_received(a_trade(4, price))
    assert one.contradicts(at(0), bid, ask) is contradicts


@pytest.mark.parametrize(
    ("bid", "ask", "contradicts"),
    [("150.00", "150.05", True), ("99.99", "150.05", False), ("99.99", "0", False)],
)
def test_one_sided_book_is_compared_with_tickers(bid: str, ask: str, *, contradicts: bool) -> None:
    one = Liveness()
    one.ticker_received(a_ticker(4, bid, ask))
    assert one.contradicts(at(0), BID, NONE) is contradicts


def test_late_older_trade_does_not_count() -> None:
    one = Liveness()
    one.trade_received(a_trade(10, "100.00", trade_id=2))
    one.trade_received(a_trade(5, "150.00", trade_id=1))
    assert one.contradicts(at(0), Decimal(150), Decimal(150))
    assert not one.contradicts(at(0), Decimal(100), Decimal(100))


def test_future_time_counts_only_until_the_next_message() -> None:
    one = Liveness()
    one.trade_received(a_trade(240, "150.00", trade_id=1))
    one.ticker_received(a_ticker(240, "150.00", "150.05"))
    assert one.contradicts(at(6), BID, ASK)
    one.trade_received(a_trade(5, "100.00", trade_id=2))
    one.ticker_received(a_ticker(5, "99.99", "100.01"))
    assert not one.contradicts(at(6), BID, ASK)
    assert not one.ticker_lacks_a_trade


def test_trade_whose_id_restarted_counts_as_the_newest() -> None:
    one = Liveness()
    one.trade_received(a_trade(10, "100.00", trade_id=900))
    one.trade_received(a_trade(20, "150.00", trade_id=1))
    assert one.contradicts(at(0), BID, ASK)


def test_quiet_market_is_not_suspected() -> None:
    one = Liveness()
    assert not one.contradicts(at(0), BID, ASK)
    assert not one.ticker_lacks_a_trade
    assert silent(one) == ()


def test_channel_is_silent_only_if_data_stays_missing_a_while() -> None:
    one = Liveness()
    assert not one.evaluate(Channel.BOOK, at(0), against=True)
    assert not one.evaluate(Channel.BOOK, at(1.9), against=True)
    assert not one.evaluate(Channel.BOOK, at(1.95), against=False)
    assert not one.evaluate(Channel.BOOK, at(2.5), against=True)
    assert silent(one) == ()
    assert one.evaluate(Channel.BOOK, at(4.5), against=True)
    assert silent(one) == (Channel.BOOK,)


def test_silent_channel_recovers_with_an_update_or_five_quiet_minutes() -> None:
    one = Liveness()
    for channel in (Channel.BOOK, Channel.TICKER):
        one.evaluate(channel, at(0), against=True)
        assert one.evaluate(channel, at(5), against=True)
    assert one.trades_missed([a_trade(-60, "1")], at(5))
    assert silent(one) == (Channel.BOOK, Channel.TICKER, Channel.TRADE)
    one.update_received(Channel.TICKER)
    assert silent(one) == (Channel.BOOK, Channel.TRADE)
    one.evaluate(Channel.BOOK, at(304), against=False)
    one.trades_confirmed(at(304))
    assert silent(one) == (Channel.BOOK, Channel.TRADE)
    one.evaluate(Channel.BOOK, at(305), against=False)
    one.trades_confirmed(at(305))
    assert silent(one) == ()


@pytest.mark.parametrize(("traded", "ticked", "lacks"), [(3, 0, False), (3.5, 0, True), (3.5, 3.5, False)])
def test_ticker_lacks_a_trade_that_came_much_later(traded: float, ticked: float, *, lacks: bool) -> None:
    one = Liveness()
    one.ticker_received(a_ticker(ticked, "1", "2"))
    one.trade_received(a_trade(traded, "1"))
    assert one.ticker_lacks_a_trade is lacks


def test_market_that_traded_without_any_ticker_lacks_one() -> None:
    one = Liveness()
    one.trade_received(a_trade(0, "1"))
    assert one.ticker_lacks_a_trade


def test_trade_that_just_happened_may_still_be_in_flight() -> None:
    one = Liveness()
    now = Nanoseconds(at(0) + liveness.SUBSCRIBED_FOR)
    assert not one.trades_missed([a_trade(0.1, "1")], now)
    assert silent(one) == ()
    assert one.trades_missed([a_trade(0, "1"), a_trade(9, "1")], now), "a busy market has always a new one"
    assert silent(one) == (Channel.TRADE,)
