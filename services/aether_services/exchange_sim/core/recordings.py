"""Recordings of one market's book messages. Each line is verified with its own checksum."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from aether_services.domain import books, decimals, times
from aether_services.domain.instruments import Symbol
from aether_services.domain.trades import Side
from aether_services.exchange_sim.core.orders import LevelSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aether_services.domain.instruments import Instrument

SNAPSHOT_PAUSE: Final = 1.0
"""Seconds between a snapshot, which has no timestamp in older recordings, and the update after it."""


class InvalidRecording(Exception):
    """A file is not a valid recording."""


class _Level(msgspec.Struct):
    price: msgspec.Raw
    qty: msgspec.Raw


class _Data(msgspec.Struct):
    symbol: str
    bids: list[_Level]
    asks: list[_Level]
    checksum: int
    timestamp: str = ""


class _Message(msgspec.Struct):
    channel: str
    type: str
    data: Annotated[list[_Data], msgspec.Meta(min_length=1, max_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedUpdate:
    """Level changes, `seconds` after the update before; a snapshot replaces all other levels."""

    seconds: float
    is_snapshot: bool
    levels: tuple[LevelSet, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One market's book over time."""

    symbol: Symbol
    depth: int
    updates: tuple[RecordedUpdate, ...]


def read(lines: Iterable[bytes], instruments: Iterable[Instrument]) -> Recording:
    """Parse a recording.

    Raises:
        InvalidRecording: A line is not a book message of the one known market, or its checksum does not match.
    """
    known = {one.symbol: one for one in instruments}
    decode = msgspec.json.Decoder(_Message).decode
    updates: list[RecordedUpdate] = []
    book: ReplayedBook | None = None
    previous_at = None
    for number, line in enumerate(filter(bytes.strip, lines), 1):
        try:
            message = decode(line)
            data = message.data[0]
            instrument = known[Symbol(data.symbol)]
            if message.channel != "book" or (book is None and message.type != "snapshot"):
                raise InvalidRecording(f"line {number}: not a book message, or an update before a snapshot")
            levels = tuple(_levels(data, instrument))
            at = times.parse(data.timestamp) if data.timestamp else None
        except (msgspec.DecodeError, KeyError, ValueError) as fault:
            raise InvalidRecording(f"line {number}: not a book message of a known market: {fault}") from fault
        is_snapshot = message.type == "snapshot"
        if book is None:
            book = ReplayedBook(Symbol(data.symbol), max(len(data.bids), len(data.asks)))
        elif data.symbol != book.symbol:
            raise InvalidRecording(f"line {number}: of another market than {book.symbol}")
        seconds = (at - previous_at) / times.SECOND if at is not None and previous_at is not None else SNAPSHOT_PAUSE
        updates.append(RecordedUpdate(seconds=max(seconds, 0.0), is_snapshot=is_snapshot, levels=levels))
        previous_at = at
        for _ in book.apply(updates[-1]):
            pass
        if book.checksum() != data.checksum:
            raise InvalidRecording(f"line {number}: its checksum is not that of the book")
    if book is None:
        raise InvalidRecording("the recording is empty")
    return Recording(symbol=book.symbol, depth=book.depth, updates=tuple(updates))


def _levels(data: _Data, instrument: Instrument) -> Iterator[LevelSet]:
    for side, levels in ((Side.BUY, data.bids), (Side.SELL, data.asks)):
        for level in levels:
            price, quantity = (Decimal(bytes(raw).decode("ascii")) for raw in (level.price, level.qty))
            yield LevelSet(
                instrument.symbol,
                side,
                decimals.scaled(price, instrument.price_digits),
                decimals.scaled(quantity, instrument.quantity_digits),
            )


class ReplayedBook:
    """The book of a recording. Levels beyond its depth are removed, since no message would ever do so."""

    def __init__(self, symbol: Symbol, depth: int) -> None:
        self.symbol, self.depth = symbol, depth
        self._sides: dict[Side, dict[int, int]] = {Side.BUY: {}, Side.SELL: {}}

    def apply(self, update: RecordedUpdate) -> Iterator[LevelSet]:
        """Apply an update; yields all level changes, implied removals included."""
        if update.is_snapshot:
            listed = {(level.side, level.price) for level in update.levels}
            for side, levels in self._sides.items():
                for price in [price for price in levels if (side, price) not in listed]:
                    del levels[price]
                    yield LevelSet(self.symbol, side, price, 0)
        for level in update.levels:
            levels = self._sides[level.side]
            if level.quantity:
                levels[level.price] = level.quantity
            else:
                levels.pop(level.price, None)
            yield level
        for side, levels in self._sides.items():
            for price in self._best_first(side)[self.depth :]:
                del levels[price]
                yield LevelSet(self.symbol, side, price, 0)

    def checksum(self) -> int:
        """The checksum of the ten best levels."""
        asks, bids = (
            [(price, self._sides[side][price]) for price in self._best_first(side)[: books.CHECKSUM_LEVELS]]
            for side in (Side.SELL, Side.BUY)
        )
        return books.checksum(asks, bids)

    def _best_first(self, side: Side) -> list[int]:
        return sorted(self._sides[side], reverse=side is Side.BUY)
