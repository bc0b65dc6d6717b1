"""Candles of all intervals in integer units, and the 24-hour figures that tickers show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from aether_services.domain import times
from aether_services.domain.candles import begin_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from aether_services.domain.instruments import Symbol
    from aether_services.domain.times import Nanoseconds
    from aether_services.exchange_sim.core.orders import Traded

INTERVALS: Final = (1, 5, 15, 30, 60, 240, 1440, 10080, 21600)
"""Intervals in minutes, aligned to 1970."""
MAX_SERVED: Final = 720
"""The maximum number of completed candles that REST returns."""
DAY: Final = 1440 * times.MINUTE


class Candle(NamedTuple):
    """One candle with at least one trade; `cost` is the sum of price times quantity, in units of both."""

    symbol: Symbol
    interval: int
    begin: Nanoseconds
    open: int
    high: int
    low: int
    close: int
    volume: int
    cost: int
    trades: int

    def vwap(self) -> int:
        """In units of the price, truncated as Kraken does."""
        return self.cost // self.volume


def retention(interval: int) -> int:
    """How long candles are kept, in nanoseconds. One-minute candles must also cover the last day."""
    return (max(MAX_SERVED, 1440 if interval == 1 else 0) + 2) * interval * times.MINUTE


def with_trade(candle: Candle | None, trade: Traded, interval: int) -> Candle:
    """The candle of a trade including the trade; `candle` is the newest one before it."""
    begin = begin_of(trade.at, interval * times.MINUTE)
    price, quantity = trade.price, trade.quantity
    if candle is None or candle.begin < begin:
        return Candle(trade.symbol, interval, begin, price, price, price, price, quantity, price * quantity, 1)
    return Candle(
        candle.symbol, interval, candle.begin, candle.open, max(candle.high, price), min(candle.low, price), price,
        candle.volume + quantity, candle.cost + price * quantity, candle.trades + 1,
    )  # fmt: skip


def with_empty(candles: Sequence[Candle], until: Nanoseconds) -> Iterator[Candle]:
    """The candles with the empty ones between and after them, whose prices are the last close.

    Empty candles that REST no longer serves are skipped: the venue may have been down for a year.
    """
    for index, candle in enumerate(candles):
        yield candle
        step = candle.interval * times.MINUTE
        end = candles[index + 1].begin if index + 1 < len(candles) else until + 1
        oldest = begin_of(until, step) - MAX_SERVED * step
        for begin in range(max(candle.begin + step, oldest), end, step):
            close = candle.close
            yield Candle(candle.symbol, candle.interval, times.Nanoseconds(begin), close, close, close, close, 0, 0, 0)


class Day(NamedTuple):
    """A ticker's figures over some period."""

    open: int = 0
    high: int = 0
    low: int = 0
    volume: int = 0
    cost: int = 0
    trades: int = 0

    def vwap(self) -> int:
        """In units of the price; 0 without a trade."""
        return self.cost // self.volume if self.volume else 0

    def and_then(self, candle: Candle) -> Day:
        """These figures extended by a later candle."""
        if not self.trades:
            return Day(candle.open, candle.high, candle.low, candle.volume, candle.cost, candle.trades)
        return Day(
            self.open, max(self.high, candle.high), min(self.low, candle.low),
            self.volume + candle.volume, self.cost + candle.cost, self.trades + candle.trades,
        )  # fmt: skip


def day(minutes: Iterable[Candle]) -> Day:
    """The figures over consecutive candles."""
    whole = Day()
    for candle in minutes:
        whole = whole.and_then(candle)
    return whole
