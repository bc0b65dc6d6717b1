"""Order books of price levels, verified with Kraken's checksum over the ten best levels. This is the hot path.

A level is keyed by its price as an integer, in units of the market's last decimal. Prices and quantities arrive as the
text of the message, because the checksum is computed over that text, trailing zeros included: a float would lose them.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from isal.isal_zlib import crc32

from aether_services.domain import decimals

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aether_services.domain.instruments import Symbol

CHECKSUM_LEVELS: Final = 10
"""Levels of each side that the checksum covers."""
LEVEL_SEPARATOR: Final = ',"qty":'
"""The text between the price and the quantity of a level, as the venue writes it."""
_NO_LEVEL: Final = sys.maxsize
"""The best key of an empty side: worse than any other."""
MAX_CACHED_PRICES: Final = 1_000
"""Parsed prices that one side caches; when it is full, the cache is cleared."""


class UnusableReason(StrEnum):
    """Why a book is not usable."""

    WAITING = "WaitingForSnapshot"
    CHECKSUM = "ChecksumMismatch"
    MALFORMED = "Malformed"
    CROSSED = "Crossed"
    """The checksum matches, but the best bid is not below the best ask. The levels stay, and updates are applied."""
    CONTRADICTED = "Contradicted"
    """The market's ticker or trades prove that the book has changed, but no update came."""
    DISCONNECTED = "Disconnected"
    SILENT = "Silent"
    AHEAD = "TimeAhead"


class Malformed(ValueError):
    """A number that is negative, or has more decimals than the market."""


def checksum(asks: Iterable[tuple[int, int]], bids: Iterable[tuple[int, int]]) -> int:
    """Kraken's CRC-32 over the ten best levels: (price, quantity) in units, best first. See Kraken, "Book checksum"."""
    return crc32("".join(f"{price}{quantity}" for side in (asks, bids) for price, quantity in side).encode())


def units(number: str, digits: int) -> tuple[int, str]:
    """A JSON number in units of 10**-digits, and as text with exactly that many decimals; 1e3 and 10E-1 are accepted.

    The checksum is computed over this canonical text, so the notation on the wire does not matter.

    Raises:
        Malformed: The number is negative, or has more decimals than `digits`.
    """
    try:
        scaled = decimals.scaled(decimals.parse(number), digits)
    except ValueError as fault:
        raise Malformed(f"not a number of {digits} decimals: {number[:40]!r}") from fault
    if scaled < 0:
        raise Malformed(f"a negative number: {number[:40]}")
    return scaled, decimals.text(scaled, digits)


class Ladder:
    """One side of a book, best level first.

    Args:
        sign: -1 for bids, 1 for asks, so that keys (price times sign) increase from the best level on either side.
        price_digits: Decimals of prices.
        quantity_digits: Decimals of quantities.
        depth: The maximum number of levels.

    Attributes:
        best: The key of the best level. A book is crossed when the best keys of its two sides add up to 0 or less.
        digest: The ten best levels as the text that the checksum covers.
        text: The ten best levels as JSON, without the outer brackets.
    """

    __slots__ = (
        "_depth", "_digests", "_keys", "_point", "_price_digits", "_prices", "_quantity_digits", "_shortest", "_sign",
        "_texts", "_zero", "best", "digest", "text",
    )  # fmt: skip

    def __init__(self, sign: int, *, price_digits: int, quantity_digits: int, depth: int) -> None:
        self._sign, self._depth = sign, depth
        self._price_digits, self._quantity_digits = price_digits, quantity_digits
        self._zero = decimals.text(0, quantity_digits)
        self._point = -1 - quantity_digits
        self._shortest = quantity_digits + 2 if quantity_digits else sys.maxsize
        """The length of the shortest quantity with all decimals; without decimals none takes the fast branch."""
        self._prices: dict[str, tuple[int, str, str]] = {}
        """Cache: the text of a price → its key, digits and the beginning of the level's JSON; most prices repeat."""
        self.clear()

    def clear(self) -> None:
        """Remove all levels."""
        self._keys: list[int] = []
        self._digests: list[str] = []
        """Each level's part of the text that the checksum covers."""
        self._texts: list[str] = []
        """Each level as published JSON: `["price","quantity"]`."""
        self.digest = self.text = ""
        self.best = _NO_LEVEL

    def apply(self, levels: Iterable[str]) -> None:
        """Set or remove each level in order, then truncate to the depth. Idempotent.

        Args:
            levels: The text of each level: price, LEVEL_SEPARATOR, quantity.

        Raises:
            Malformed: A number is invalid for this market. The levels before it are applied, but not in the digest.
        """
        keys, digests, texts, prices = self._keys, self._digests, self._texts, self._prices
        zero, point, shortest, count = self._zero, self._point, self._shortest, len(keys)
        for level in levels:
            price, _, quantity = level.partition(LEVEL_SEPARATOR)
            key, digest, text = prices.get(price) or self._price(price)
            if quantity == zero:
                digits = ""
            else:
                digits = quantity.replace(".", "", 1)
                # The usual notation needs no Decimal. Any other is parsed in full, or is malformed.
                if (
                    (len(quantity) != shortest and (len(quantity) < shortest or quantity[0] == "0"))
                    or quantity[point] != "."
                    or not digits.isdigit()
                    or not digits.isascii()
                ):
                    quantity = units(quantity, self._quantity_digits)[1]
                    digits = quantity.replace(".", "", 1)
                digits = digits.lstrip("0")
            index = bisect_left(keys, key)
            if index < count and keys[index] == key:
                if digits:
                    digests[index] = digest + digits
                    texts[index] = f'{text}{quantity}"]'
                else:
                    del keys[index], digests[index], texts[index]
                    count -= 1
            elif digits:
                keys.insert(index, key)
                digests.insert(index, digest + digits)
                texts.insert(index, f'{text}{quantity}"]')
                count += 1
        while count > self._depth:
            keys.pop()
            digests.pop()
            texts.pop()
            count -= 1
        self.best = keys[0] if count else _NO_LEVEL
        if count > CHECKSUM_LEVELS:
            digests, texts = digests[:CHECKSUM_LEVELS], texts[:CHECKSUM_LEVELS]
        self.digest = "".join(digests)
        self.text = ",".join(texts)

    def _price(self, price: str) -> tuple[int, str, str]:
        scaled, canonical = units(price, self._price_digits)
        if len(self._prices) >= MAX_CACHED_PRICES:
            self._prices.clear()
        cached = self._prices[price] = scaled * self._sign, str(scaled), f'["{canonical}","'
        return cached

    def levels(self) -> Iterable[tuple[Decimal, Decimal]]:
        """Price and quantity of each level, best first."""
        for level in self._texts:
            price, _, quantity = level[2:-2].partition('","')
            yield Decimal(price), Decimal(quantity)

    def __len__(self) -> int:
        return len(self._keys)


class Book:
    """One market's book. It is usable while the venue's checksum matches its ten best levels and it is not crossed.

    A matching engine never leaves the best bid at or above the best ask, so nobody can trade on such a book. A crossed
    book still applies updates, and is usable again once an update uncrosses it.

    Args:
        symbol: The market.
        price_digits: Decimals of prices.
        quantity_digits: Decimals of quantities.
        depth: The subscribed levels of each side; the venue sends no removal for a level that falls out of it.
    """

    __slots__ = ("asks", "bids", "checksum", "price_digits", "quantity_digits", "symbol", "unusable")

    def __init__(self, symbol: Symbol, *, price_digits: int, quantity_digits: int, depth: int) -> None:
        self.symbol = symbol
        self.price_digits, self.quantity_digits = price_digits, quantity_digits
        self.bids, self.asks = (
            Ladder(sign, price_digits=price_digits, quantity_digits=quantity_digits, depth=depth) for sign in (-1, 1)
        )
        self.checksum = "0"
        """The last checksum of the venue that matched, as text; empty after an update that was applied unverified."""
        self.unusable: UnusableReason | None = UnusableReason.WAITING

    def snapshot(self, bids: Sequence[str], asks: Sequence[str], checksum: int) -> bool:
        """Replace all levels; whether the book is usable."""
        self.bids.clear()
        self.asks.clear()
        self.unusable = None
        return self.update(bids, asks, checksum)

    def update(self, bids: Sequence[str], asks: Sequence[str], checksum: int) -> bool:
        """Apply an update; whether the book is usable. An unusable book stays so until a snapshot, unless crossed."""
        if not self.in_sync:
            return False
        try:
            if bids:
                self.bids.apply(bids)
            if asks:
                self.asks.apply(asks)
        except ValueError:
            self.invalidate(UnusableReason.MALFORMED)
            return False
        reason = self.verify(str(checksum))
        if reason is UnusableReason.CHECKSUM:
            self.invalidate(reason)
        else:
            self.unusable = reason
        return reason is None

    @property
    def in_sync(self) -> bool:
        """Whether the levels are the venue's, so that an update can be applied."""
        return self.unusable is None or self.unusable is UnusableReason.CROSSED

    @property
    def top(self) -> tuple[Decimal, Decimal]:
        """The best bid and the best ask; 0 for an empty side."""
        bid, ask = next(iter(self.bids.levels()), None), next(iter(self.asks.levels()), None)
        return Decimal(0) if bid is None else bid[0], Decimal(0) if ask is None else ask[0]

    def verify(self, checksum: str) -> UnusableReason | None:
        """Compare with the venue's checksum: None if it matches, CHECKSUM if not, CROSSED if it matches a crossed book.

        On CHECKSUM the caller must invalidate the book.
        """
        asks, bids = self.asks, self.bids
        if str(crc32((asks.digest + bids.digest).encode())) != checksum:
            return UnusableReason.CHECKSUM
        self.checksum = checksum
        return None if asks.best + bids.best > 0 else UnusableReason.CROSSED

    def invalidate(self, reason: UnusableReason) -> None:
        """Remove all levels and mark the book unusable until the next snapshot."""
        self.bids.clear()
        self.asks.clear()
        self.checksum = "0"
        self.unusable = reason
