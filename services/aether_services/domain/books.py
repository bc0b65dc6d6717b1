"""Books of price levels, and the venue's checksum over their ten best: the hot core of market data.

A level is known by its price in units of the market's smallest price step. Numbers come as the text that was on the
wire, because the checksum is made of that text, trailing zeros included: a float would lose them.
"""

from __future__ import annotations

import re
import zlib
from bisect import bisect_left
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol, SupportsBytes

from aether_services.domain import decimals

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aether_services.domain.instruments import Symbol

PROVED: Final = 10
"""Levels of each side that the checksum is made of."""
_NUMBER: Final = re.compile(rb"[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9])?")
"""As JSON writes it; not negative, and no larger than anything that is traded."""
_POINT: Final = ord(".")
_REMEMBERED: Final = 10_000
"""Prices of one side whose text is remembered."""


class Unusable(StrEnum):
    """Why a book must not be used."""

    WAITING = "WaitingForSnapshot"
    CHECKSUM = "ChecksumMismatch"
    MALFORMED = "MalformedNumber"
    DISCONNECTED = "Disconnected"
    SILENT = "Silent"


class Malformed(ValueError):
    """A number that is negative, or has more decimals than the market."""


class WireLevel(Protocol):
    """A level as received: its numbers as the text that was on the wire."""

    @property
    def price(self) -> SupportsBytes: ...
    @property
    def qty(self) -> SupportsBytes: ...


def checksum(asks: Iterable[tuple[int, int]], bids: Iterable[tuple[int, int]]) -> int:
    """The venue's checksum of the ten best levels: (price, quantity) in units, best first. Kraken, "Book checksum"."""
    return zlib.crc32("".join(f"{price}{quantity}" for side in (asks, bids) for price, quantity in side).encode())


def units(number: bytes, digits: int) -> tuple[int, bytes]:
    """A number in units of 10**-digits, and as text with just so many decimals.

    Raises:
        Malformed: It is negative, or has more decimals than that.
    """
    if _NUMBER.fullmatch(number) is None:
        raise Malformed(f"not a number of a book: {number[:40]!r}")
    try:
        scaled = decimals.scaled(Decimal(number.decode()), digits)
    except ValueError as fault:
        raise Malformed(f"not a number of {digits} decimals: {number[:40]!r}") from fault
    return scaled, decimals.text(scaled, digits).encode()


class Ladder:
    """One side of a book, best level first."""

    __slots__ = ("_digests", "_keys", "_prices", "_sign", "_texts", "digest", "text")

    def __init__(self, sign: int) -> None:
        self._sign = sign
        """-1 for bids: the keys grow from the best level on, on either side."""
        self._prices: dict[bytes, tuple[int, bytes, bytes]] = {}
        """The text of a price → its key, digits and beginning of a level's text: most prices come again and again."""
        self.clear()

    def clear(self) -> None:
        """Without a level."""
        self._keys: list[int] = []
        self._digests: list[bytes] = []
        """A level's part of the text that the checksum is made of."""
        self._texts: list[bytes] = []
        """A level as `price","quantity`: what a message joins."""
        self.digest = self.text = b""
        """Of the ten best levels: what the checksum is made of, and JSON, without the outer brackets."""

    def apply(self, levels: Iterable[WireLevel], price_digits: int, quantity_digits: int, depth: int) -> None:
        """Set or remove each level in turn, then cut to the depth.

        Raises:
            Malformed: A number is not one of this market; the levels before it were applied.
        """
        keys, digests, texts, prices = self._keys, self._digests, self._texts, self._prices
        point = -1 - quantity_digits
        for level in levels:
            price_text, quantity_text = bytes(level.price), bytes(level.qty)
            if (known := prices.get(price_text)) is None:
                known = self._price(price_text, price_digits)
            key, digest, text = known
            # What is written as it always is costs no Decimal. The rest is read by the rules, or refused.
            quantity = quantity_text.replace(b".", b"", 1)
            if not quantity.isdigit() or len(quantity_text) <= quantity_digits or quantity_text[point] != _POINT:
                quantity_text = units(quantity_text, quantity_digits)[1]
                quantity = quantity_text.replace(b".", b"", 1)
            quantity = quantity.lstrip(b"0")
            at = bisect_left(keys, key)
            if at < len(keys) and keys[at] == key:
                if quantity:
                    digests[at] = digest + quantity
                    texts[at] = text + quantity_text
                else:
                    del keys[at], digests[at], texts[at]
            elif quantity:
                keys.insert(at, key)
                digests.insert(at, digest + quantity)
                texts.insert(at, text + quantity_text)
        if len(keys) > depth:
            del keys[depth:], digests[depth:], texts[depth:]
        if len(keys) > PROVED:
            digests, texts = digests[:PROVED], texts[:PROVED]
        self.digest = b"".join(digests)
        self.text = b'["%b"]' % b'"],["'.join(texts) if texts else b""

    def _price(self, text: bytes, digits: int) -> tuple[int, bytes, bytes]:
        units_, canonical = units(text, digits)
        if len(self._prices) >= _REMEMBERED:
            self._prices.clear()
        known = self._prices[text] = units_ * self._sign, b"%d" % units_, canonical + b'","'
        return known

    def levels(self) -> Iterable[tuple[Decimal, Decimal]]:
        """Price and quantity of each level, best first."""
        for one in self._texts:
            price, _, quantity = one.partition(b'","')
            yield Decimal(price.decode()), Decimal(quantity.decode())

    def __len__(self) -> int:
        return len(self._keys)


class Book:
    """One market's book, usable only while the venue's checksum of its ten best levels is what they give.

    Args:
        symbol: The market.
        price_digits: Decimals of its prices.
        quantity_digits: Decimals of its quantities.
        depth: Levels of each side that were subscribed to; what falls out of it is never removed by a message.
    """

    __slots__ = ("asks", "bids", "checksum", "depth", "price_digits", "quantity_digits", "symbol", "unusable")

    def __init__(self, symbol: Symbol, *, price_digits: int, quantity_digits: int, depth: int) -> None:
        self.symbol, self.depth = symbol, depth
        self.price_digits, self.quantity_digits = price_digits, quantity_digits
        self.bids, self.asks = Ladder(-1), Ladder(1)
        self.checksum = 0
        self.unusable: Unusable | None = Unusable.WAITING

    def snapshot(self, bids: Sequence[WireLevel], asks: Sequence[WireLevel], checksum: int) -> bool:
        """Take these levels for all there are; whether they verify."""
        self.bids.clear()
        self.asks.clear()
        self.unusable = None
        return self.update(bids, asks, checksum)

    def update(self, bids: Sequence[WireLevel], asks: Sequence[WireLevel], checksum: int) -> bool:
        """Apply an update; whether the book verifies. One that is unusable stays so until a snapshot."""
        if self.unusable is not None:
            return False
        try:
            if bids:
                self.bids.apply(bids, self.price_digits, self.quantity_digits, self.depth)
            if asks:
                self.asks.apply(asks, self.price_digits, self.quantity_digits, self.depth)
        except Malformed:
            self.drop(Unusable.MALFORMED)
            return False
        if zlib.crc32(self.asks.digest + self.bids.digest) != checksum:
            self.drop(Unusable.CHECKSUM)
            return False
        self.checksum = checksum
        return True

    def drop(self, why: Unusable) -> None:
        """Trust nothing of it any more."""
        self.bids.clear()
        self.asks.clear()
        self.checksum = 0
        self.unusable = why
