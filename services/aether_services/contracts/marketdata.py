"""Market data as it leaves the platform's door: trades, books and tickers, on Kafka topics and NATS subjects.

Each message is whole in itself. A message may come twice, and of two about one market the newer one counts: `id` tells
that two are one, and `received` which is newer.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final, Literal

import pydantic

from aether_services.contracts.models import Amount, Message, Time, Version
from aether_services.domain.trades import OrderType, Side

if TYPE_CHECKING:
    from aether_services.domain.instruments import Symbol

PUBLISHED_LEVELS: Final = 10
"""Levels of each side in a book's message: those that the venue's checksum proves."""


class Topic(StrEnum):
    """Kafka topics; the key is the symbol, so one market's messages stay in order."""

    TRADES = "md.trades"
    BOOK = "md.book"
    TICKER = "md.ticker"


def subject(topic: Topic, symbol: Symbol) -> str:
    """The NATS subject of one market: md.book.BTC.USD; md.book.> is all of them."""
    return f"{topic}.{symbol.replace('/', '.')}"


class TradeMessage(Message):
    """One trade."""

    version: Version = 1
    type: Literal["trade"] = "trade"
    id: str
    """SYMBOL:TRADE_ID. The same trade has the same id, whoever sends it and however often."""
    symbol: str
    trade_id: int
    """Contiguous within a market."""
    side: Side
    """The taker's."""
    price: Amount
    quantity: Amount
    order_type: OrderType
    """The taker's."""
    at: Time
    """When the venue says that it happened."""
    received: Time
    """When it was received here."""


Level = tuple[Amount, Amount]
"""Price and quantity."""
Levels = Annotated[tuple[Level, ...], pydantic.Field(max_length=PUBLISHED_LEVELS)]


class BookMessage(Message):
    """A book's ten best levels of each side, best first, or word that there is no book to be trusted.

    With `usable` the venue's checksum was recomputed from these levels and was the same. Without, there are no levels,
    and whatever was received before must not be used any more.
    """

    version: Version = 1
    type: Literal["book"] = "book"
    id: str
    """WRITER-NUMBER. Numbers of one writer grow by one for each message it makes; conflation leaves some out."""
    symbol: str
    usable: bool
    reason: str = ""
    """Why it is not usable, one word."""
    checksum: int = 0
    """The venue's; CRC-32."""
    at: Time
    """When the venue says that this became so; when it was received, where the venue does not say."""
    received: Time
    """When it was received here. A message is sent again at least each second while the feed is heard of, with a newer
    time: a book whose newest message is older than a few seconds is stale."""
    bids: Levels = ()
    asks: Levels = ()


class TickerMessage(Message):
    """A market's ticker; low, high, vwap, volume and change over the last 24 hours."""

    version: Version = 1
    type: Literal["ticker"] = "ticker"
    id: str
    """WRITER-NUMBER, as of a book."""
    symbol: str
    bid: Amount
    bid_quantity: Amount
    ask: Amount
    ask_quantity: Amount
    last: Amount
    volume: Amount
    vwap: Amount
    low: Amount
    high: Amount
    change: Amount
    change_percent: Amount
    at: Time
    received: Time
