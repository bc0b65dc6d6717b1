"""Candles of all intervals in integer units, and the 24-hour figures that tickers show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from aether_services.domain import candles, times

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


class Bar(NamedTuple):
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


def with_trade(bar: Bar | None, trade: Traded, interval: int) -> Bar:
    """The candle of a trade including the trade; `bar` is the newest candle before it."""
    begin = candles.begin_of(trade.at, interval * times.MINUTE)
    price, quantity = trade.price, trade.quantity
    if bar is None or bar.begin < begin:
        return Bar(trade.symbol, interval, begin, price, price, price, price, quantity, price * quantity, 1)
    return Bar(
        bar.symbol, interval, bar.begin, bar.open, max(bar.high, price), min(bar.low, price), price,
        bar.volume + quantity, bar.cost + price * quantity, bar.trades + 1,
    )  # fmt: skip


def with_empty(bars: Sequence[Bar], until: Nanoseconds) -> Iterator[Bar]:
    """The candles with the empty ones between and after them, whose prices are the last close.

    Empty candles that REST no longer serves are skipped: the venue may have been down for a year.
    """
    for index, bar in enumerate(bars):
        yield bar
        step = bar.interval * times.MINUTE
        end = bars[index + 1].begin if index + 1 < len(bars) else until + 1
        oldest = candles.begin_of(until, step) - MAX_SERVED * step
        for begin in range(max(bar.begin + step, oldest), end, step):
            close = bar.close
            yield Bar(bar.symbol, bar.interval, times.Nanoseconds(begin), close, close, close, close, 0, 0, 0)


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

    def and_then(self, bar: Bar) -> Day:
        """These figures extended by a later candle."""
        if not self.trades:
            return Day(bar.open, bar.high, bar.low, bar.volume, bar.cost, bar.trades)
        return Day(
            self.open, max(self.high, bar.high), min(self.low, bar.low),
            self.volume + bar.volume, self.cost + bar.cost, self.trades + bar.trades,
        )  # fmt: skip


def day(minutes: Iterable[Bar]) -> Day:
    """The figures over consecutive candles."""
    whole = Day()
    for bar in minutes:
        whole = whole.and_then(bar)
    return whole
