"""The venue's messages, WebSocket v2, as values. Numbers stay the text that was on the wire until somebody needs them.

Kraken, "Spot WebSocket v2". Fields that nobody here reads are left out, and may come or go.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from aether_services.domain import times
from aether_services.domain.books import BETWEEN
from aether_services.domain.instruments import Symbol
from aether_services.domain.tickers import Ticker
from aether_services.domain.trades import OrderType, Side, Trade

if TYPE_CHECKING:
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
_MOST_DIGITS: Final = 20
"""Before or behind the point, of anything that is traded."""


class NotUnderstood(Exception):
    """A message is not what the venue's documentation says."""


class Level(msgspec.Struct, gc=False):
    """A level of a book."""

    price: msgspec.Raw
    qty: msgspec.Raw

    def text(self) -> str:
        """As a book takes it."""
        return f"{bytes(self.price).decode()}{BETWEEN}{bytes(self.qty).decode()}"


class BookData(msgspec.Struct, gc=False):
    """A book, or what changed in it; older snapshots have no time."""

    symbol: str
    bids: list[Level]
    asks: list[Level]
    checksum: int
    timestamp: str = ""


class TradeData(msgspec.Struct, gc=False):
    """A trade."""

    symbol: str
    side: Side
    price: Decimal
    qty: Decimal
    ord_type: OrderType
    trade_id: int
    timestamp: str

    def trade(self) -> Trade:
        """As a value.

        Raises:
            ValueError: Its time is none, or a number is beyond anything that is traded.
        """
        _bounded(self.price, self.qty)
        return Trade(
            symbol=Symbol(self.symbol),
            trade_id=self.trade_id,
            side=self.side,
            price=self.price,
            quantity=self.qty,
            order_type=self.ord_type,
            at=times.parse(self.timestamp),
        )


class TickerData(msgspec.Struct, gc=False):
    """A ticker; older ones have no time."""

    symbol: str
    bid: Decimal
    bid_qty: Decimal
    ask: Decimal
    ask_qty: Decimal
    last: Decimal
    volume: Decimal
    vwap: Decimal
    low: Decimal
    high: Decimal
    change: Decimal
    change_pct: Decimal
    timestamp: str = ""

    def ticker(self, received: Nanoseconds) -> Ticker:
        """As a value; its time is when it was received where the venue does not say.

        Raises:
            ValueError: Its time is none, or a number is beyond anything that is traded.
        """
        _bounded(
            self.bid, self.bid_qty, self.ask, self.ask_qty, self.last, self.volume, self.vwap, self.low, self.high,
            self.change, self.change_pct,
        )  # fmt: skip
        return Ticker(
            symbol=Symbol(self.symbol),
            bid=self.bid,
            bid_quantity=self.bid_qty,
            ask=self.ask,
            ask_quantity=self.ask_qty,
            last=self.last,
            volume=self.volume,
            vwap=self.vwap,
            low=self.low,
            high=self.high,
            change=self.change,
            change_percent=self.change_pct,
            at=times.parse(self.timestamp) if self.timestamp else received,
        )


def _bounded(*numbers: Decimal) -> None:
    """1e999999999 is a number, and a gigabyte once it is written out."""
    for number in numbers:
        if abs(number.adjusted()) > _MOST_DIGITS:
            raise ValueError(f"beyond anything that is traded: {number:.3e}")


class PairData(msgspec.Struct, gc=False):
    """A market, as the instrument channel has it."""

    symbol: str
    base: str
    quote: str
    status: str
    price_precision: int
    qty_precision: int

    @property
    def sensible(self) -> bool:
        """Whether its numbers can be written; who has no such decimals is no market."""
        return 0 <= self.price_precision <= _MOST_DIGITS and 0 <= self.qty_precision <= _MOST_DIGITS


class InstrumentData(msgspec.Struct, gc=False):
    """Markets, all of them or those that changed."""

    pairs: list[PairData] = []


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
        raise NotUnderstood(f"message: {fault}") from fault


def data(one: Head, form: type[Data]) -> Data:
    """The data of a message.

    Raises:
        NotUnderstood: It has another form.
    """
    try:
        return msgspec.json.decode(one.data, type=form)
    except (msgspec.DecodeError, RecursionError) as fault:
        raise NotUnderstood(f"{one.channel}: {fault}") from fault


class _Named(msgspec.Struct, gc=False):
    """Whatever says of which market it is."""

    symbol: str


def books(one: Head) -> tuple[list[BookData], list[str]]:
    """The books of a message that are understood, and the markets of those that are not.

    Raises:
        NotUnderstood: It has none, or one that does not say its market.
    """
    try:
        return msgspec.json.decode(one.data, type=list[BookData]), []
    except (msgspec.DecodeError, RecursionError):
        found, unreadable = list[BookData](), list[str]()
        for entry in data(one, list[msgspec.Raw]):
            try:
                found.append(msgspec.json.decode(entry, type=BookData))
            except (msgspec.DecodeError, RecursionError):
                unreadable.append(data(Head(channel=one.channel, data=entry), _Named).symbol)
        return found, unreadable


def addressed(frame: str) -> set[str] | None:
    """The markets whose book a message may have been about that is not understood; None where it may be any."""
    try:
        said = msgspec.json.decode(frame)
    except (msgspec.DecodeError, RecursionError):
        said = None
    if isinstance(said, dict) and "data" not in said and said.get("channel") != Channel.BOOK:
        return set()  # a reply, or word of an error
    channels = set(_CHANNELS.findall(frame))
    if channels and Channel.BOOK not in channels:
        return set()
    names = set(_SYMBOLS.findall(frame))
    return names or (None if channels or not isinstance(said, dict) else set())


def request(method: str, channel: Channel, req_id: int, symbol: Symbol | None, **params: Any) -> str:
    """A subscription, or the end of one."""
    symbols = {} if symbol is None else {"symbol": [symbol]}
    return json.dumps({"method": method, "params": {"channel": channel, **symbols, **params}, "req_id": req_id})


def ping(req_id: int) -> str:
    """A question that the venue answers at once."""
    return json.dumps({"method": "ping", "req_id": req_id})
