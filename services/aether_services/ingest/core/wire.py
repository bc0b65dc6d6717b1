"""Parses Kraken's WebSocket v2 messages. Numbers stay raw text until they are used, so that no precision is lost.

Source: Kraken, "Spot WebSocket v2". Fields that ingest does not use are ignored.
"""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from aether_services.domain import decimals, times
from aether_services.domain.books import LEVEL_SEPARATOR
from aether_services.domain.instruments import Symbol
from aether_services.domain.tickers import Ticker
from aether_services.domain.trades import OrderType, Side, Trade

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from aether_services.domain.times import Nanoseconds


class Channel(StrEnum):
    """The channels, including those without a subscription: status and heartbeat."""

    BOOK = "book"
    TRADE = "trade"
    TICKER = "ticker"
    INSTRUMENT = "instrument"
    STATUS = "status"
    HEARTBEAT = "heartbeat"


_CHANNELS: Final = re.compile(r'"channel"\s*:\s*"([^"\\]*)"')
_SYMBOLS: Final = re.compile(r'"symbol"\s*:\s*"([^"\\]*)"')
_LARGEST_ID: Final = 2**63 - 1
"""The maximum of PostgreSQL's bigint."""


class MalformedMessage(ValueError):
    """A message does not have the documented form."""


def number(raw: msgspec.Raw) -> Decimal:
    """Parse a JSON number exactly.

    Raises:
        ValueError: It is not a number (but a string, null, true), or has too many digits.
    """
    return decimals.parse(bytes(raw).decode())


def integer(raw: msgspec.Raw) -> int:
    """Parse an integer in any JSON notation: 7, 7.0, 7e0.

    Raises:
        ValueError: It is not an integer.
    """
    value = number(raw)
    if decimals.decimal_places(value):
        raise ValueError(f"not a whole number: {value}")
    return int(value)


def trade_id(raw: msgspec.Raw) -> int:
    """Parse a trade_id.

    Raises:
        ValueError: It is not an integer, is negative, or exceeds 64 bits.
    """
    value = integer(raw)
    if not 0 <= value <= _LARGEST_ID:
        raise ValueError(f"no trade_id: {value}")
    return value


def positive(value: Decimal) -> Decimal:
    """Check that a price, quantity or tick size is positive.

    Raises:
        ValueError: It is 0 or negative.
    """
    if value <= 0:
        raise ValueError(f"not positive: {value}")
    return value


class Level(msgspec.Struct, gc=False):
    """A level of a book."""

    price: msgspec.Raw
    qty: msgspec.Raw

    def text(self) -> str:
        """The level in the form that `Ladder.apply` takes."""
        return f"{bytes(self.price).decode()}{LEVEL_SEPARATOR}{bytes(self.qty).decode()}"


class BookData(msgspec.Struct, gc=False):
    """A book snapshot or update. Snapshots of older API versions have no timestamp."""

    symbol: str
    bids: list[Level]
    asks: list[Level]
    checksum: msgspec.Raw
    timestamp: str = ""


class TradeData(msgspec.Struct, gc=False):
    """A trade of the trade channel."""

    symbol: str
    side: Side
    price: msgspec.Raw
    qty: msgspec.Raw
    ord_type: OrderType
    trade_id: msgspec.Raw
    timestamp: str

    def trade(self) -> Trade:
        """Convert to a Trade.

        Raises:
            ValueError: The time or a number is invalid.
        """
        return Trade(
            symbol=Symbol(self.symbol),
            trade_id=trade_id(self.trade_id),
            side=self.side,
            price=positive(number(self.price)),
            quantity=positive(number(self.qty)),
            order_type=self.ord_type,
            at=times.parse(self.timestamp),
        )


class TickerData(msgspec.Struct, gc=False):
    """A ticker. Those of older API versions have no timestamp."""

    symbol: str
    bid: msgspec.Raw
    bid_qty: msgspec.Raw
    ask: msgspec.Raw
    ask_qty: msgspec.Raw
    last: msgspec.Raw
    volume: msgspec.Raw
    vwap: msgspec.Raw
    low: msgspec.Raw
    high: msgspec.Raw
    change: msgspec.Raw
    change_pct: msgspec.Raw
    timestamp: str = ""

    def ticker(self, received: Nanoseconds) -> Ticker:
        """Convert to a Ticker; without a timestamp its time is that of receipt.

        Raises:
            ValueError: The time or a number is invalid.
        """
        return Ticker(
            symbol=Symbol(self.symbol),
            bid=number(self.bid),
            bid_quantity=number(self.bid_qty),
            ask=number(self.ask),
            ask_quantity=number(self.ask_qty),
            last=number(self.last),
            volume=number(self.volume),
            vwap=number(self.vwap),
            low=number(self.low),
            high=number(self.high),
            change=number(self.change),
            change_percent=number(self.change_pct),
            at=times.parse(self.timestamp) if self.timestamp else received,
        )


class PairData(msgspec.Struct, gc=False):
    """A market of the instrument channel."""

    symbol: str
    price_precision: msgspec.Raw
    qty_precision: msgspec.Raw

    def digits(self) -> tuple[int, int]:
        """Decimals of prices and of quantities.

        Raises:
            ValueError: A value is not between 0 and MAX_DIGITS.
        """
        found = integer(self.price_precision), integer(self.qty_precision)
        if not all(0 <= one <= decimals.MAX_DIGITS for one in found):
            raise ValueError(f"not a number of decimals: {found}")
        return found


class InstrumentData(msgspec.Struct, gc=False):
    """The data of the instrument channel: all markets, or those that changed."""

    pairs: list[msgspec.Raw] = []
    """Each is a PairData, parsed separately so that one malformed entry does not affect the others."""


class StatusData(msgspec.Struct, gc=False):
    """The data of the status channel."""

    system: str


class Head(msgspec.Struct, gc=False):
    """The fields that identify a message, and those of a reply. `data` is parsed later, by channel."""

    channel: str = ""
    type: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")
    method: str = ""
    req_id: int | None = None
    success: bool | None = None
    error: str = ""
    symbol: str = ""
    result: msgspec.Raw = msgspec.Raw(b"")

    @property
    def about(self) -> str:
        """The symbol of a reply, if it has one: in `symbol` for errors, in `result` otherwise."""
        try:
            return self.symbol or _results.decode(self.result).symbol
        except msgspec.DecodeError:
            return ""


class _Result(msgspec.Struct, gc=False):
    symbol: str = ""


_results: Final = msgspec.json.Decoder(_Result)
_heads: Final = msgspec.json.Decoder(Head)
Data = TypeVar("Data")


def head(frame: str) -> Head:
    """Parse the head of a message.

    Raises:
        MalformedMessage: It is not a JSON object, or a field has another type.
    """
    try:
        return _heads.decode(frame)
    except (msgspec.DecodeError, RecursionError) as fault:
        raise MalformedMessage(f"message: {fault}") from fault


def data(one: Head, form: type[Data]) -> Data:
    """Parse the data of a message.

    Raises:
        MalformedMessage: It has another form.
    """
    return entry(one.data, form)


def entries(one: Head) -> list[msgspec.Raw]:
    """The raw entries of a message, to be parsed separately so that one malformed entry does not affect the others.

    Raises:
        MalformedMessage: The data is not a list.
    """
    return data(one, list[msgspec.Raw])


def entry(raw: msgspec.Raw, form: type[Data]) -> Data:
    """Parse one entry.

    Raises:
        MalformedMessage: It has another form.
    """
    try:
        return msgspec.json.decode(raw, type=form)
    except (msgspec.DecodeError, RecursionError) as fault:
        raise MalformedMessage(str(fault)) from fault


class _WithSymbol(msgspec.Struct, gc=False):
    symbol: str


class _WithTradeId(msgspec.Struct, gc=False):
    trade_id: msgspec.Raw


def symbol_of(raw: msgspec.Raw) -> str:
    """The symbol of a malformed entry; empty where it cannot be read."""
    try:
        return entry(raw, _WithSymbol).symbol
    except MalformedMessage:
        return ""


def trade_id_of(raw: msgspec.Raw) -> int | None:
    """The trade_id of a malformed entry; None where it cannot be read."""
    try:
        return integer(entry(raw, _WithTradeId).trade_id)
    except (MalformedMessage, ValueError):
        return None


def markets_named(frame: str) -> set[str] | None:
    """The symbols whose book a malformed message may be about; None where it may be any book."""
    try:
        decoded = msgspec.json.decode(frame)
    except (msgspec.DecodeError, RecursionError):
        decoded = None
    if isinstance(decoded, dict) and "data" not in decoded and decoded.get("channel") != Channel.BOOK:
        return set()  # a reply or an error
    channels = set(_CHANNELS.findall(frame))
    if channels and Channel.BOOK not in channels:
        return set()
    names = set(_SYMBOLS.findall(frame))
    return names or (None if channels or not isinstance(decoded, dict) else set())


def request(method: str, channel: Channel, req_id: int, symbols: Sequence[Symbol], **params: Any) -> str:
    """A request to subscribe or unsubscribe, for these markets or for a channel without symbols."""
    named = {"symbol": symbols} if symbols else {}
    return json.dumps({"method": method, "params": {"channel": channel, **named, **params}, "req_id": req_id})


def ping(req_id: int) -> str:
    """A ping request, which the venue answers at once."""
    return json.dumps({"method": "ping", "req_id": req_id})
