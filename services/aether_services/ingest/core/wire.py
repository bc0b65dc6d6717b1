"""The venue's messages, WebSocket v2, as values. Numbers stay the text that was on the wire until somebody needs them.

Kraken, "Spot WebSocket v2". Fields that nobody here reads are left out, and may come or go.
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
    """What one can subscribe to, and what comes unasked."""

    BOOK = "book"
    TRADE = "trade"
    TICKER = "ticker"
    INSTRUMENT = "instrument"
    STATUS = "status"
    HEARTBEAT = "heartbeat"


_CHANNELS: Final = re.compile(r'"channel"\s*:\s*"([^"\\]*)"')
_SYMBOLS: Final = re.compile(r'"symbol"\s*:\s*"([^"\\]*)"')
_LARGEST_ID: Final = 2**63 - 1
"""What a bigint of the tables holds."""


class MalformedMessage(ValueError):
    """A message is not what the venue's documentation says."""


def number(raw: msgspec.Raw) -> Decimal:
    """A JSON number, exactly as it was written.

    Raises:
        ValueError: It is none (a text, null, true), or is beyond anything that is traded.
    """
    return decimals.parse(bytes(raw).decode())


def integer(raw: msgspec.Raw) -> int:
    """A whole number, however JSON wrote it: 7, 7.0, 7e0.

    Raises:
        ValueError: It is none.
    """
    value = number(raw)
    if decimals.decimal_places(value):
        raise ValueError(f"not a whole number: {value}")
    return int(value)


def trade_id(raw: msgspec.Raw) -> int:
    """A trade's number.

    Raises:
        ValueError: It is none.
    """
    value = integer(raw)
    if not 0 <= value <= _LARGEST_ID:
        raise ValueError(f"no trade_id: {value}")
    return value


def positive(value: Decimal) -> Decimal:
    """A price or a quantity that was traded, or a step of prices.

    Raises:
        ValueError: It is none.
    """
    if value <= 0:
        raise ValueError(f"not positive: {value}")
    return value


class Level(msgspec.Struct, gc=False):
    """A level of a book."""

    price: msgspec.Raw
    qty: msgspec.Raw

    def text(self) -> str:
        """As a book takes it."""
        return f"{bytes(self.price).decode()}{LEVEL_SEPARATOR}{bytes(self.qty).decode()}"


class BookData(msgspec.Struct, gc=False):
    """A book, or what changed in it; older snapshots have no time."""

    symbol: str
    bids: list[Level]
    asks: list[Level]
    checksum: msgspec.Raw
    timestamp: str = ""


class TradeData(msgspec.Struct, gc=False):
    """A trade."""

    symbol: str
    side: Side
    price: msgspec.Raw
    qty: msgspec.Raw
    ord_type: OrderType
    trade_id: msgspec.Raw
    timestamp: str

    def trade(self) -> Trade:
        """As a value.

        Raises:
            ValueError: Its time is none, or a number is not one of a trade.
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
    """A ticker; older ones have no time."""

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
        """As a value; its time is when it was received where the venue does not say.

        Raises:
            ValueError: Its time is none, or a number is none.
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
    """A market, as the instrument channel has it."""

    symbol: str
    price_precision: msgspec.Raw
    qty_precision: msgspec.Raw

    def digits(self) -> tuple[int, int]:
        """Decimals of its prices and of its quantities.

        Raises:
            ValueError: No number has so many.
        """
        found = integer(self.price_precision), integer(self.qty_precision)
        if not all(0 <= one <= decimals.MAX_DIGITS for one in found):
            raise ValueError(f"not a number of decimals: {found}")
        return found


class InstrumentData(msgspec.Struct, gc=False):
    """Markets, all of them or those that changed."""

    pairs: list[msgspec.Raw] = []
    """Each a PairData, read by itself: what is wrong with one is not wrong with the others."""


class StatusData(msgspec.Struct, gc=False):
    """How the venue is."""

    system: str


class Head(msgspec.Struct, gc=False):
    """What tells messages apart, and what came in reply to a request; `data` is read once it is known what it is."""

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
        """Which symbol a reply is about, where it says so: a refusal beside its words, all others in the result."""
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
    """What any message says first.

    Raises:
        NotUnderstood: It is no JSON object, or a field has another type.
    """
    try:
        return _heads.decode(frame)
    except (msgspec.DecodeError, RecursionError) as fault:
        raise MalformedMessage(f"message: {fault}") from fault


def data(one: Head, form: type[Data]) -> Data:
    """The data of a message.

    Raises:
        NotUnderstood: It has another form.
    """
    return entry(one.data, form)


def entries(one: Head) -> list[msgspec.Raw]:
    """The entries of a message, each to be read by itself: what is wrong with one is not wrong with the others.

    Raises:
        NotUnderstood: There is no list of them.
    """
    return data(one, list[msgspec.Raw])


def entry(raw: msgspec.Raw, form: type[Data]) -> Data:
    """One entry.

    Raises:
        NotUnderstood: It has another form.
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
    """Which market an entry is about that was not understood, as far as that can be told."""
    try:
        return entry(raw, _WithSymbol).symbol
    except MalformedMessage:
        return ""


def trade_id_of(raw: msgspec.Raw) -> int | None:
    """Which trade an entry is about that was not understood, as far as that can be told."""
    try:
        return integer(entry(raw, _WithTradeId).trade_id)
    except (MalformedMessage, ValueError):
        return None


def markets_named(frame: str) -> set[str] | None:
    """The markets whose book a message may have been about that is not understood; None where it may be any."""
    try:
        decoded = msgspec.json.decode(frame)
    except (msgspec.DecodeError, RecursionError):
        decoded = None
    if isinstance(decoded, dict) and "data" not in decoded and decoded.get("channel") != Channel.BOOK:
        return set()  # a reply, or word of an error
    channels = set(_CHANNELS.findall(frame))
    if channels and Channel.BOOK not in channels:
        return set()
    names = set(_SYMBOLS.findall(frame))
    return names or (None if channels or not isinstance(decoded, dict) else set())


def request(method: str, channel: Channel, req_id: int, symbols: Sequence[Symbol], **params: Any) -> str:
    """A subscription to each of these markets, or to a channel that is not of one; or the end of that."""
    named = {"symbol": symbols} if symbols else {}
    return json.dumps({"method": method, "params": {"channel": channel, **named, **params}, "req_id": req_id})


def ping(req_id: int) -> str:
    """A question that the venue answers at once."""
    return json.dumps({"method": "ping", "req_id": req_id})
