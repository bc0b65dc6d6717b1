"""Encodes messages of contracts.marketdata. Book messages are joined from cached text, since they are by far the most.

The result is the same JSON that the pydantic models would write.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from aether_services.contracts.marketdata import TickerMessage, TradeMessage
from aether_services.domain import times
from aether_services.domain.times import Nanoseconds

if TYPE_CHECKING:
    from aether_services.domain.books import Book, UnusableReason
    from aether_services.domain.instruments import Symbol
    from aether_services.domain.tickers import Ticker
    from aether_services.ingest.core.trade_logs import ReceivedTrade


_SECOND: Final = times.SECOND


class BookWriter:
    """Encodes the messages of one market's book.

    Args:
        symbol: The market.
        writer: An id of this process, the prefix of message ids.
    """

    __slots__ = ("_at", "_begin", "_number", "_received", "_received_from")

    def __init__(self, symbol: Symbol, writer: str) -> None:
        self._begin = f'{{"version":1,"type":"book","symbol":{json.dumps(symbol)},"id":"{writer}-'
        self._number = 0
        self._at = ""
        """The venue's time of the book that was encoded last."""
        self._received, self._received_from = "", -_SECOND
        """Cache: the current second of receipt as text, and its start; many messages share it."""

    def usable(self, book: Book, at: str, received: Nanoseconds) -> bytes:
        """The message of a usable book.

        Args:
            book: The verified book.
            at: The venue's time of it: RFC 3339 in UTC with nanoseconds.
            received: When it was received.
        """
        since = received - self._received_from
        if not 0 <= since < _SECOND:
            since = received % _SECOND
            self._received_from = received - since
            self._received = times.text(Nanoseconds(self._received_from))[:20]
        self._at = at
        self._number += 1
        nine = str(_SECOND + since)[1:]
        return (
            f'{self._begin}{self._number}","usable":true,"checksum":{book.checksum},"at":"{at}",'
            f'"received":"{self._received}{nine}Z","bids":[{book.bids.text}],"asks":[{book.asks.text}]}}'
        ).encode()

    @property
    def at(self) -> Nanoseconds | None:
        """The venue's time of the book that was encoded last; None before the first."""
        return times.parse(self._at) if self._at else None

    def again(self, book: Book, received: Nanoseconds) -> bytes:
        """The message of an unchanged book, with a newer time of receipt."""
        return self.usable(book, self._at, received)

    def unusable(self, reason: UnusableReason, now: Nanoseconds) -> bytes:
        """The message that the book is not usable."""
        self._number += 1
        at = times.text(now)
        rest = f'{self._number}","usable":false,"reason":"{reason}","at":"{at}","received":"{at}"}}'
        return (self._begin + rest).encode()


def trade(one: ReceivedTrade) -> bytes:
    item = one.trade
    message = TradeMessage(
        id=f"{item.symbol}:{item.trade_id}",
        symbol=item.symbol,
        trade_id=item.trade_id,
        side=item.side,
        price=item.price,
        quantity=item.quantity,
        order_type=item.order_type,
        at=item.at,
        received=one.received,
    )
    return message.model_dump_json().encode()


def ticker(one: Ticker, number: str, received: Nanoseconds) -> bytes:
    message = TickerMessage(
        id=number,
        symbol=one.symbol,
        bid=one.bid,
        bid_quantity=one.bid_quantity,
        ask=one.ask,
        ask_quantity=one.ask_quantity,
        last=one.last,
        volume=one.volume,
        vwap=one.vwap,
        low=one.low,
        high=one.high,
        change=one.change,
        change_percent=one.change_percent,
        at=one.at,
        received=received,
    )
    return message.model_dump_json().encode()
