"""Detects channels of a market that are silent: subscribed, but without the updates that other channels prove.

A silent channel looks like a quiet market. But a trade changes the book and the ticker at the same time, and the
venue's REST API has all trades, so the channels are checked against each other. Only the venue's own times are
compared, since messages of different channels arrive in any order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aether_services.domain import times
from aether_services.domain.books import UnusableReason
from aether_services.ingest.core.wire import Channel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from decimal import Decimal

    from aether_services.domain.tickers import Ticker
    from aether_services.domain.times import Nanoseconds
    from aether_services.domain.trades import Trade
    from aether_services.ingest.core.market import Market

BEHIND: Final = {Channel.TRADE: 1 * times.SECOND, Channel.TICKER: 3 * times.SECOND}
"""By how much a trade or ticker must be newer than a channel's last update to prove that the channel is behind.

For trades this covers the difference of the clocks that stamp the two channels; the prices in a ticker may be a little
older than its timestamp.
"""
SILENT_AFTER: Final = {Channel.BOOK: 2 * times.SECOND, Channel.TICKER: 5 * times.SECOND}
"""How long a channel must be behind to count as silent: the missing message may be on its way."""
CROSSED_FOR: Final = 10 * times.SECOND
"""How long a book may be crossed until it is subscribed to again."""
SUBSCRIBED_FOR: Final = 10 * times.SECOND
"""How long after subscribing the snapshot and all earlier events must have arrived."""
CLEARED_AFTER: Final = 300 * times.SECOND
"""How long without new evidence until a silent channel counts as alive; its next update proves it at once."""


class Liveness:
    """The evidence about the channels of one market."""

    __slots__ = ("_crossed_since", "_silent", "_suspected_since", "_ticker", "_ticker_at", "_trade")

    def __init__(self) -> None:
        self._ticker_at: Nanoseconds | None = None
        self._ticker: Ticker | None = None
        self._trade: Trade | None = None
        """The last received ticker, and the trade with the highest id, from the channel or from REST.

        Not the one with the newest time: a time ahead of the clock would contradict every book until it has passed.
        """
        self._crossed_since: Nanoseconds | None = None
        """Since when the book is crossed, or was last subscribed to again for it."""
        self._suspected_since: dict[Channel, Nanoseconds] = {}
        """Channel → since when it is behind."""
        self._silent: dict[Channel, Nanoseconds] = {}
        """Silent channel → the time of the last evidence."""

    @property
    def silent(self) -> tuple[Channel, ...]:
        """The silent channels, sorted by name."""
        return tuple(sorted(self._silent))

    # Messages received.

    def ticker_received(self, ticker: Ticker, *, dated: bool = True) -> None:
        """A ticker was received; one without a timestamp (not `dated`) cannot be compared with a book."""
        self._ticker_at = ticker.at
        self._ticker = ticker if dated else None

    def trade_received(self, trade: Trade) -> None:
        """A trade was received from the channel or from REST."""
        if self._trade is None or trade.trade_id > self._trade.trade_id or trade.at >= self._trade.at:
            self._trade = trade

    def update_received(self, channel: Channel) -> None:
        """An update (not a snapshot) of a channel was received, which proves that the channel is alive."""
        self._silent.pop(channel, None)

    # Checks of a channel.

    def contradicts(self, at: Nanoseconds, bid: Decimal, ask: Decimal) -> bool:
        """Whether a newer trade or ticker contradicts a book.

        Args:
            at: The venue's time of the book's last change.
            bid: The best bid; 0 for an empty side, which is not compared.
            ask: The best ask; 0 likewise.
        """
        ticker, trade = self._ticker, self._trade
        if trade is not None and trade.at > at + BEHIND[Channel.TRADE] and (trade.price < bid or 0 < ask < trade.price):
            return True
        # A ticker writes 0 for an empty side.
        if ticker is None or ticker.at <= at + BEHIND[Channel.TICKER] or not (ticker.bid and ticker.ask):
            return False
        return any(mine and mine != its for mine, its in ((bid, ticker.bid), (ask, ticker.ask)))

    @property
    def ticker_lacks_a_trade(self) -> bool:
        """Whether there was a trade after the newest ticker, although each trade causes a ticker."""
        if self._trade is None or self._ticker_at is None:
            return self._trade is not None
        return self._trade.at > self._ticker_at + BEHIND[Channel.TICKER]

    def evaluate(self, channel: Channel, now: Nanoseconds, *, against: bool) -> bool:
        """Record whether a channel is behind (`against`); returns whether it has been for long enough to be silent."""
        if not against:
            self._suspected_since.pop(channel, None)
            if now - self._silent.get(channel, now) >= CLEARED_AFTER:
                del self._silent[channel]
            return False
        if now - self._suspected_since.setdefault(channel, now) < SILENT_AFTER[channel]:
            return False
        self._silent[channel] = now
        return True

    def book_withdrawn(self, now: Nanoseconds) -> None:
        """The book was withdrawn because it is contradicted; the next snapshot may be just as old."""
        self._silent[Channel.BOOK] = now

    def crossed(self, now: Nanoseconds, *, is_so: bool) -> bool:
        """Record whether the book is crossed; returns True each time it has been for CROSSED_FOR."""
        if not is_so:
            self._crossed_since = None
            return False
        if self._crossed_since is not None and now - self._crossed_since < CROSSED_FOR:
            return False
        first, self._crossed_since = self._crossed_since is None, now
        return not first

    def trades_missed(self, trades: Sequence[Trade], now: Nanoseconds) -> bool:
        """Whether the trade channel is silent, given trades from REST, in order, that it left out.

        The oldest one decides, since recent trades may be on their way.
        """
        if now - trades[0].at < SUBSCRIBED_FOR:
            return False
        self._silent[Channel.TRADE] = now
        return True

    def trades_confirmed(self, now: Nanoseconds) -> None:
        """REST has no trade that the channel left out."""
        if now - self._silent.get(Channel.TRADE, now) >= CLEARED_AFTER:
            del self._silent[Channel.TRADE]


def silent(market: Market, now: Nanoseconds, *, ticker_subscribed_for: Nanoseconds | None) -> Iterator[Channel]:
    """Check a market's book and ticker channels; yields those that are silent.

    Args:
        market: The market.
        now: The time.
        ticker_subscribed_for: How long the ticker has been subscribed to; None if it is not.
    """
    one, book, at = market.liveness, market.book, market.writer.at
    top = book.top if book is not None and market.usable else None
    contradicted = top is not None and at is not None and one.contradicts(at, *top)
    if one.evaluate(Channel.BOOK, now, against=contradicted):
        yield Channel.BOOK
    elif market.usable and not contradicted and market.verified_at > market.snapshot_at:
        one.update_received(Channel.BOOK)  # only updates after the snapshot prove that the channel is alive
    lacking = ticker_subscribed_for is not None and ticker_subscribed_for >= SUBSCRIBED_FOR and one.ticker_lacks_a_trade
    if one.evaluate(Channel.TICKER, now, against=lacking):
        yield Channel.TICKER


def crossed_for_long(market: Market, now: Nanoseconds) -> bool:
    """Whether a book has been crossed for so long that it must be subscribed to again; repeats after the same time."""
    return market.liveness.crossed(
        now, is_so=market.book is not None and market.book.unusable is UnusableReason.CROSSED
    )
