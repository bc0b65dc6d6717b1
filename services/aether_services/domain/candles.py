"""Candles by the venue's recorded rules: an empty interval carries the last close, and vwap is cut off, not rounded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import ROUND_DOWN, Decimal
from typing import TYPE_CHECKING

from aether_services.domain import decimals, times
from aether_services.domain.times import Nanoseconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aether_services.domain.instruments import Symbol
    from aether_services.domain.trades import Trade


@dataclass(frozen=True, slots=True, kw_only=True)
class Candle:
    """One interval of one market, from `begin` on; `cost` is the sum of price times quantity, exactly."""

    symbol: Symbol
    begin: Nanoseconds
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    cost: Decimal
    trades: int

    def vwap(self, price_digits: int) -> Decimal:
        """Cost by volume, cut off at the market's decimals; 0 without a trade."""
        if not self.volume:
            return Decimal(0)
        return (self.cost / self.volume).quantize(decimals.POWERS[price_digits], rounding=ROUND_DOWN)

    def with_trade(self, trade: Trade) -> Candle:
        """This candle with one more trade, the latest."""
        return replace(
            self,
            open=self.open if self.trades else trade.price,
            high=max(self.high, trade.price) if self.trades else trade.price,
            low=min(self.low, trade.price) if self.trades else trade.price,
            close=trade.price,
            volume=self.volume + trade.quantity,
            cost=self.cost + trade.price * trade.quantity,
            trades=self.trades + 1,
        )


def begin_of(at: Nanoseconds, interval: int = times.MINUTE) -> Nanoseconds:
    """When the interval began that a time lies in; intervals are counted from 1970."""
    return Nanoseconds(at - at % interval)


def empty(symbol: Symbol, begin: Nanoseconds, close: Decimal) -> Candle:
    """An interval without a trade, after one that closed at that price."""
    nothing = Decimal(0)
    return Candle(
        symbol=symbol,
        begin=begin,
        open=close,
        high=close,
        low=close,
        close=close,
        volume=nothing,
        cost=nothing,
        trades=0,
    )


def following(candle: Candle, until: Nanoseconds, interval: int = times.MINUTE) -> Iterator[Candle]:
    """The empty intervals after a candle that have ended by a time."""
    begin = Nanoseconds(candle.begin + interval)
    while begin + interval <= until:
        yield empty(candle.symbol, begin, candle.close)
        begin = Nanoseconds(begin + interval)
