"""Published market data: trades, books and tickers, on Kafka topics and NATS subjects.

Each message is complete by itself. Delivery is at least once: duplicates have the same `id`, and of two messages about
one market the one with the newer `received` counts.
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
"""Levels of each side in a book message: those that the venue's checksum covers."""


class Topic(StrEnum):
    """Kafka topics. The record key is the symbol, so the messages of one market stay in order."""

    TRADES = "md.trades"
    BOOK = "md.book"
    TICKER = "md.ticker"


def subject(topic: Topic, symbol: Symbol) -> str:
    """The NATS subject of one market: md.book.BTC.USD. All markets are md.book.>."""
    return f"{topic}.{symbol.replace('/', '.')}"


class TradeMessage(Message):
    version: Version = 1
    type: Literal["trade"] = "trade"
    id: str
    """SYMBOL:TRADE_ID. The same trade has the same id, whichever replica sends it and however often."""
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
    """The venue's time of the trade."""
    received: Time
    """When ingest received it."""


Level = tuple[Amount, Amount]
"""Price and quantity."""
Levels = Annotated[tuple[Level, ...], pydantic.Field(max_length=PUBLISHED_LEVELS)]


class BookMessage(Message):
    """A book's ten best levels of each side, best first, or the message that the book is not usable.

    When `usable`, the venue's checksum was recomputed from these levels and matched. Otherwise there are no levels, and
    readers must discard the book that they have of this market.
    """

    version: Version = 1
    type: Literal["book"] = "book"
    id: str
    """WRITER-NUMBER. A writer's numbers increase by one with each message; conflation leaves some out."""
    symbol: str
    usable: bool
    reason: str = ""
    """Why the book is not usable, one CamelCase word."""
    checksum: int = 0
    """The venue's; CRC-32."""
    at: Time
    """The venue's time of this state; the time of receipt where the venue gives none."""
    received: Time
    """When ingest received it. While the feed is alive an unchanged book is published again at least once a second,
    with a newer time: a book whose newest message is older than a few seconds is stale."""
    bids: Levels = ()
    asks: Levels = ()


class TickerMessage(Message):
    """A market's ticker; low, high, vwap, volume and change over the last 24 hours."""

    version: Version = 1
    type: Literal["ticker"] = "ticker"
    id: str
    """WRITER-NUMBER, as in a book message."""
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
