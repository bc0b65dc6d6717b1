"""Messages of contracts.marketdata as bytes. Books are joined from text that is there already: they are many."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from aether_services.contracts.marketdata import TickerMessage, TradeMessage
from aether_services.domain import times
from aether_services.domain.times import Nanoseconds

if TYPE_CHECKING:
    from aether_services.domain.books import Book, Unusable
    from aether_services.domain.instruments import Symbol
    from aether_services.domain.tickers import Ticker
    from aether_services.ingest.core.tapes import Received


_MIDDLE: Final = b'%d","usable":true,"checksum":%d,"at":"%b%bZ","received":"%b%09dZ","bids":['
_MICROSECONDS: Final = len("2023-07-30T15:29:58.343415Z")


class BookWriter:
    """Writes the messages of one market's book. Many are of one second, whose text is made once.

    Args:
        symbol: The market.
        writer: Tells this life of this replica from all others.
    """

    __slots__ = ("_begin", "_number", "_received", "_received_from", "_venue", "_venue_text", "_written")

    def __init__(self, symbol: Symbol, writer: str) -> None:
        self._begin = f'{{"version":1,"type":"book","symbol":{json.dumps(symbol)},"id":"{writer}-'.encode()
        self._number = 0
        self._written = ""
        """The venue's time of the book that was written last."""
        self._venue, self._venue_text = "", b""
        """A second of the venue's time, as it writes it and as it is published: up to the point."""
        self._received, self._received_from = b"", -times.SECOND
        """A second of our own, as it is published and when it began."""

    def usable(self, book: Book, timestamp: str, received: Nanoseconds) -> bytes:
        """A book as it verified.

        Args:
            book: It.
            timestamp: The venue's time of it, as it writes it: RFC 3339 in UTC; empty where it gives none.
            received: When it was received.

        Raises:
            ValueError: The venue's time is none.
        """
        second, decimals = timestamp[:20], timestamp[20:26]
        if second != self._venue or len(timestamp) != _MICROSECONDS or not decimals.isdigit():
            timestamp = times.text(times.parse(timestamp) if timestamp else received)
            self._venue, nine = timestamp[:20], timestamp[20:29].encode()
            self._venue_text = self._venue.encode()
        else:
            nine = b"%b000" % decimals.encode()
        since = received - self._received_from
        if not 0 <= since < times.SECOND:
            since = received % times.SECOND
            self._received_from = received - since
            self._received = times.text(Nanoseconds(self._received_from))[:20].encode()
        self._written = timestamp
        self._number += 1
        return b"".join((
            self._begin,
            _MIDDLE % (self._number, book.checksum, self._venue_text, nine, self._received, since),
            book.bids.text, b'],"asks":[', book.asks.text, b"]}",
        ))  # fmt: skip

    @property
    def at(self) -> Nanoseconds | None:
        """The venue's time of the book that was written last; nothing before the first."""
        return times.parse(self._written) if self._written else None

    def again(self, book: Book, received: Nanoseconds) -> bytes:
        """A book that is still what it was when it was written last."""
        return self.usable(book, self._written, received)

    def unusable(self, why: Unusable, now: Nanoseconds) -> bytes:
        """Word that there is no book to be trusted."""
        self._number += 1
        at = times.text(now)
        said = f'{self._number}","usable":false,"reason":"{why}","at":"{at}","received":"{at}"}}'
        return self._begin + said.encode()


def trade(one: Received) -> bytes:
    """A trade's message."""
    it = one.trade
    message = TradeMessage(
        id=f"{it.symbol}:{it.trade_id}",
        symbol=it.symbol,
        trade_id=it.trade_id,
        side=it.side,
        price=it.price,
        quantity=it.quantity,
        order_type=it.order_type,
        at=it.at,
        received=one.received,
    )
    return message.model_dump_json().encode()


def ticker(one: Ticker, number: str, received: Nanoseconds) -> bytes:
    """A ticker's message."""
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
