"""Books of price levels, and the venue's checksum over their ten best: the hot core of market data.

A level is known by its price in units of the market's smallest price step. It comes as the text that was on the wire,
because the checksum is made of that text, trailing zeros included: a float would lose them.
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
"""Levels of each side that the checksum is made of."""
LEVEL_SEPARATOR: Final = ',"qty":'
"""What stands between the price and the quantity in the text of a level, as the venue writes it."""
_NO_LEVEL: Final = sys.maxsize
"""The best key of a side without a level: better than no other."""
MAX_CACHED_PRICES: Final = 1_000
"""Prices of one side whose text is remembered: a book's own and those about it. Then it begins anew."""


class UnusableReason(StrEnum):
    """Why a book must not be used."""

    WAITING = "WaitingForSnapshot"
    CHECKSUM = "ChecksumMismatch"
    MALFORMED = "Malformed"
    CROSSED = "Crossed"
    """Its checksum fits, and its best bid is not below its best ask. Its levels stay, and updates are applied."""
    CONTRADICTED = "Contradicted"
    """The market's ticker or trades say that it has changed, and no update did."""
    DISCONNECTED = "Disconnected"
    SILENT = "Silent"
    AHEAD = "TimeAhead"


class Malformed(ValueError):
    """A number that is negative, or has more decimals than the market."""


def checksum(asks: Iterable[tuple[int, int]], bids: Iterable[tuple[int, int]]) -> int:
    """The venue's checksum of the ten best levels: (price, quantity) in units, best first. Kraken, "Book checksum"."""
    return crc32("".join(f"{price}{quantity}" for side in (asks, bids) for price, quantity in side).encode())


def units(number: str, digits: int) -> tuple[int, str]:
    """A number in units of 10**-digits, and as text with just so many decimals: however JSON wrote it, as 1e3 or 10E-1.

    The checksum is made of the number as the market's decimals write it, so another way to write one number changes
    nothing in it.

    Raises:
        Malformed: It is negative, or has more decimals than that.
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
        sign: -1 for bids: the keys grow from the best level on, on either side.
        price_digits: Decimals of its prices.
        quantity_digits: Decimals of its quantities.
        depth: Levels that it has at most.

    Attributes:
        best: The key of the best level. Those of two sides add up to more than nothing where they do not cross.
        digest: Of the ten best levels: what the checksum is made of.
        text: Of the same: JSON, without the outer brackets.
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
        """Of what is written as always: without decimals nothing is, since no point may stand there."""
        self._prices: dict[str, tuple[int, str, str]] = {}
        """The text of a price → its key, digits and beginning of a level's text: most prices come again and again."""
        self.clear()

    def clear(self) -> None:
        """Without a level."""
        self._keys: list[int] = []
        self._digests: list[str] = []
        """A level's part of the text that the checksum is made of."""
        self._texts: list[str] = []
        """A level as a message has it: `["price","quantity"]`."""
        self.digest = self.text = ""
        self.best = _NO_LEVEL

    def apply(self, levels: Iterable[str]) -> None:
        """Set or remove each level in turn, then cut to the depth. To do so again changes nothing.

        Args:
            levels: The text of each: its price, BETWEEN, and its quantity.

        Raises:
            Malformed: A number is not one of this market; levels before it were applied, and are not in the digest.
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
                # What is written as it always is costs no Decimal. The rest is read by the rules, or refused.
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
    """One market's book, usable only while the venue's checksum of its ten best levels is what they give.

    And while its best bid is below its best ask: a matching engine leaves no others standing, so a book that says
    otherwise is not what one can trade with. It is followed further, and usable once an update uncrosses it.

    Args:
        symbol: The market.
        price_digits: Decimals of its prices.
        quantity_digits: Decimals of its quantities.
        depth: Levels of each side that were subscribed to; what falls out of it is never removed by a message.
    """

    __slots__ = ("asks", "bids", "checksum", "price_digits", "quantity_digits", "symbol", "unusable")

    def __init__(self, symbol: Symbol, *, price_digits: int, quantity_digits: int, depth: int) -> None:
        self.symbol = symbol
        self.price_digits, self.quantity_digits = price_digits, quantity_digits
        self.bids, self.asks = (
            Ladder(sign, price_digits=price_digits, quantity_digits=quantity_digits, depth=depth) for sign in (-1, 1)
        )
        self.checksum = "0"
        """The venue's, as it verified last, as text; empty between an update and its checksum."""
        self.unusable: UnusableReason | None = UnusableReason.WAITING

    def snapshot(self, bids: Sequence[str], asks: Sequence[str], checksum: int) -> bool:
        """Take these levels for all there are; whether the book is usable."""
        self.bids.clear()
        self.asks.clear()
        self.unusable = None
        return self.update(bids, asks, checksum)

    def update(self, bids: Sequence[str], asks: Sequence[str], checksum: int) -> bool:
        """Apply an update; whether the book is usable. One that is not stays so until a snapshot, unless crossed."""
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
        """Whether it has the venue's levels, so that an update can be applied to it."""
        return self.unusable is None or self.unusable is UnusableReason.CROSSED

    @property
    def top(self) -> tuple[Decimal, Decimal]:
        """Its best bid and its best ask; 0 where there is none."""
        bid, ask = next(iter(self.bids.levels()), None), next(iter(self.asks.levels()), None)
        return Decimal(0) if bid is None else bid[0], Decimal(0) if ask is None else ask[0]

    def verify(self, checksum: str) -> UnusableReason | None:
        """What is wrong with it if this is its checksum: nothing, or it is another, or it fits a crossed book.

        Who hears that the checksum is another has to drop the book.
        """
        asks, bids = self.asks, self.bids
        if str(crc32((asks.digest + bids.digest).encode())) != checksum:
            return UnusableReason.CHECKSUM
        self.checksum = checksum
        return None if asks.best + bids.best > 0 else UnusableReason.CROSSED

    def invalidate(self, reason: UnusableReason) -> None:
        """Trust nothing of it any more."""
        self.bids.clear()
        self.asks.clear()
        self.checksum = "0"
        self.unusable = reason
