"""Markets as they were broadcast to clients: books at all depths, the newest trades, candles, tickers.

While the journal writes a batch, the engine is ahead of what was broadcast. Snapshots and REST responses are made from
these views, so that a snapshot is consistent with the updates that follow it.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections import deque
from typing import TYPE_CHECKING, Final

from aether_services.domain import decimals, times
from aether_services.domain.books import CHECKSUM_LEVELS
from aether_services.domain.times import Nanoseconds
from aether_services.domain.trades import Side
from aether_services.exchange_sim.core import candles
from aether_services.exchange_sim.core.candles import Candle, Day

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aether_services.domain.instruments import Instrument
    from aether_services.exchange_sim.core.orders import LevelSet, Traded

DEPTHS: Final = (10, 25, 100, 500, 1000)
RECENT: Final = 50
"""Trades in a snapshot."""
SPREADS: Final = 200
"""Changes of the best prices that REST returns."""


class Ladder:
    """One side of a book as it was broadcast, best level first."""

    __slots__ = (
        "_digests",
        "_keys",
        "_price_digits",
        "_quantity_digits",
        "_sign",
        "changed_at",
        "digest",
        "quantities",
        "texts",
    )

    def __init__(self, side: Side, instrument: Instrument) -> None:
        self._sign = -1 if side is Side.BUY else 1
        self._price_digits, self._quantity_digits = instrument.price_digits, instrument.quantity_digits
        self._keys: list[int] = []
        self.quantities: list[int] = []
        self.changed_at: list[Nanoseconds] = []
        """When each level's quantity last changed."""
        self.texts: list[str] = []
        """Each level as a JSON object."""
        self._digests: list[str] = []
        """Each level's part of the text that the checksum covers."""
        self.digest = ""

    def __len__(self) -> int:
        return len(self._keys)

    def price(self, index: int) -> int:
        """The price of a level."""
        return self._keys[index] * self._sign

    def set(self, price: int, quantity: int, at: Nanoseconds, changes: dict[int, list[str]]) -> bool:
        """Set the quantity at a price.

        Args:
            price: In units of the market's last decimal.
            quantity: The new quantity; 0 removes the level.
            at: The time of the change.
            changes: Depth → level texts to send to its subscribers, appended to. After a removal the level that enters
                the depth is sent. A level that an addition pushes out is not: clients truncate their books themselves.

        Returns:
            Whether the levels that the checksum covers changed.
        """
        key = price * self._sign
        index = bisect_left(self._keys, key)
        exists = index < len(self._keys) and self._keys[index] == key
        if not quantity and not exists:
            return False
        text = self._text(price, quantity)
        if quantity:
            digest = f"{price}{quantity}"
            if exists:
                self.quantities[index], self.changed_at[index] = quantity, at
                self.texts[index], self._digests[index] = text, digest
            else:
                self._keys.insert(index, key)
                self.quantities.insert(index, quantity)
                self.changed_at.insert(index, at)
                self.texts.insert(index, text)
                self._digests.insert(index, digest)
        else:
            for levels in (self._keys, self.quantities, self.changed_at, self.texts, self._digests):
                del levels[index]
        for depth, texts in changes.items():
            if index < depth:
                texts.append(text)
                if not quantity and len(self._keys) >= depth:
                    texts.append(self.texts[depth - 1])
        if index >= CHECKSUM_LEVELS:
            return False
        self.digest = "".join(self._digests[:CHECKSUM_LEVELS])
        return True

    def _text(self, price: int, quantity: int) -> str:
        price_text = decimals.text(price, self._price_digits)
        return f'{{"price":{price_text},"qty":{decimals.text(quantity, self._quantity_digits)}}}'


class Market:
    """One market as it was broadcast."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.bids, self.asks = Ladder(Side.BUY, instrument), Ladder(Side.SELL, instrument)
        self.checksum = 0
        self.changed_at = Nanoseconds(0)
        self.trades: deque[Traded] = deque(maxlen=RECENT)
        self.last_trade_id = 0
        self.spreads: deque[tuple[Nanoseconds, int, int]] = deque(maxlen=SPREADS)
        self._candles: dict[int, list[Candle]] = {interval: [] for interval in candles.INTERVALS}
        self._full_minutes = Day()
        """The figures of the last 24 hours without the current minute."""
        self._full_minutes_until = Nanoseconds(0)

    def restore(
        self,
        levels: Iterable[tuple[LevelSet, Nanoseconds]],
        trades: Iterable[Traded],
        known_candles: Iterable[Candle],
        last_trade_id: int,
    ) -> None:
        """Restore the state before a restart, each level with its time; the last trade itself may be pruned already."""
        for level, at in sorted(levels, key=lambda one: one[1]):
            self.apply((level,), (), at)
        self.spreads = deque(list(self.spreads)[-1:], maxlen=SPREADS)  # the others are of half-restored books
        self.trades.extend(trades)
        self.last_trade_id = last_trade_id
        for candle in known_candles:
            self._candles[candle.interval].append(candle)

    def apply(
        self, levels: Iterable[LevelSet], depths: Iterable[int], at: Nanoseconds
    ) -> dict[int, tuple[list[str], list[str]]]:
        """Apply level changes; returns depth → (bids, asks) to send, in order, without depths that did not change."""
        bids: dict[int, list[str]] = {depth: [] for depth in depths}
        asks: dict[int, list[str]] = {depth: [] for depth in bids}
        best, checksum_changed = self.best(), False
        for level in levels:
            if level.side is Side.BUY:
                checksum_changed |= self.bids.set(level.price, level.quantity, at, bids)
            else:
                checksum_changed |= self.asks.set(level.price, level.quantity, at, asks)
        if checksum_changed:
            self.checksum = zlib.crc32(self.bids.digest.encode(), zlib.crc32(self.asks.digest.encode()))
        self.changed_at = at
        new = self.best()
        if new is not None and (best is None or (new[0], new[2]) != (best[0], best[2])):
            self.spreads.append((at, new[0], new[2]))
        return {depth: (bids[depth], asks[depth]) for depth in bids if bids[depth] or asks[depth]}

    def best(self) -> tuple[int, int, int, int] | None:
        """Best bid and its quantity, best ask and its quantity; None while a side is empty."""
        if not self.bids or not self.asks:
            return None
        return self.bids.price(0), self.bids.quantities[0], self.asks.price(0), self.asks.quantities[0]

    def add_trade(self, trade: Traded) -> None:
        self.trades.append(trade)
        self.last_trade_id = trade.trade_id

    def add_candle(self, candle: Candle) -> None:
        """Add a candle, or replace it by its newer state."""
        known = self._candles[candle.interval]
        if known and known[-1].begin == candle.begin:
            known[-1] = candle
            return
        known.append(candle)
        oldest = candle.begin - candles.retention(candle.interval)
        while known[0].begin < oldest:
            del known[0]

    def candles(self, interval: int) -> Sequence[Candle]:
        """Candles with trades, the oldest first."""
        return self._candles[interval]

    @property
    def last_price(self) -> int:
        """The price of the last trade; 0 before the first."""
        known = self._candles[1]
        return known[-1].close if known else 0

    def last_day(self, now: Nanoseconds) -> Day:
        """The figures of the last 24 hours, to the minute."""
        minutes = self._candles[1]
        current = Nanoseconds(now - now % times.MINUTE)
        if self._full_minutes_until != current:
            since = now - candles.DAY
            self._full_minutes = candles.day(candle for candle in minutes if since < candle.begin < current)
            self._full_minutes_until = current
        return (
            self._full_minutes.and_then(minutes[-1]) if minutes and minutes[-1].begin >= current else self._full_minutes
        )

    def today(self, now: Nanoseconds) -> Day:
        """The figures since midnight UTC."""
        midnight = now - now % candles.DAY
        return candles.day(candle for candle in self._candles[1] if candle.begin >= midnight)
