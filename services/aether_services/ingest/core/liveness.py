"""Whether each channel of one market brings what happens there: what the others say is held against it.

Nobody hears that a channel is silent, since a market may be quiet. But a trade changes the book and the ticker in the
same moment, and the venue's REST has every trade, so each of them tells what the others leave out. The venue's times
alone are compared with one another, since messages of several channels come in any order.
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
"""By how much a trade, or a ticker, must be newer than what it is held against.

A trade changes the book in its own moment, so what differs is the clocks that stamp the two. The prices of a ticker may
be a little older than it.
"""
SILENT_AFTER: Final = {Channel.BOOK: 2 * times.SECOND, Channel.TICKER: 5 * times.SECOND}
"""For how long that has to be so: what is missing may be on its way."""
CROSSED_FOR: Final = 10 * times.SECOND
"""For how long a book may be crossed until it is asked for anew."""
SUBSCRIBED_FOR: Final = 10 * times.SECOND
"""For how long a subscription is held until its snapshot, and what happened before, must have come."""
CLEARED_AFTER: Final = 300 * times.SECOND
"""After so long without anything held against it a channel counts as heard, as it does with its next update."""


class Liveness:
    """What is known of the channels of one market."""

    __slots__ = ("_crossed_since", "_silent", "_suspected_since", "_ticker", "_ticker_at", "_trade")

    def __init__(self) -> None:
        self._ticker_at: Nanoseconds | None = None
        self._ticker: Ticker | None = None
        self._trade: Trade | None = None
        """The newest of each: the ticker as they were received, and the trade by its number, however it was heard of.

        By the venue's times one that is ahead would be held against every book until its time has come.
        """
        self._crossed_since: Nanoseconds | None = None
        """Since when its book is crossed, or was asked for anew for it."""
        self._suspected_since: dict[Channel, Nanoseconds] = {}
        """Since when something is held against a channel."""
        self._silent: dict[Channel, Nanoseconds] = {}
        """Channels that are known to be silent, and when they last were."""

    @property
    def silent(self) -> tuple[Channel, ...]:
        """Channels that left out what happened, and have brought no update since; in the order of their names."""
        return tuple(sorted(self._silent))

    # What is heard.

    def ticker_received(self, ticker: Ticker, *, dated: bool = True) -> None:
        """A ticker was received; one without a time of the venue says nothing about a book, which has one."""
        self._ticker_at = ticker.at
        self._ticker = ticker if dated else None

    def trade_received(self, trade: Trade) -> None:
        """A trade was received, or told by the venue's REST."""
        if self._trade is None or trade.trade_id > self._trade.trade_id or trade.at >= self._trade.at:
            self._trade = trade

    def update_received(self, channel: Channel) -> None:
        """An update of a channel was received, which is more than its snapshot."""
        self._silent.pop(channel, None)

    # What is held against a channel.

    def contradicts(self, at: Nanoseconds, bid: Decimal, ask: Decimal) -> bool:
        """Whether a book cannot be what the market is.

        Args:
            at: The venue's time of its last change.
            bid: Its best bid; with 0 it has none, and nothing is held against that.
            ask: Its best ask, likewise.
        """
        ticker, trade = self._ticker, self._trade
        if trade is not None and trade.at > at + BEHIND[Channel.TRADE] and (trade.price < bid or 0 < ask < trade.price):
            return True
        # A side without an order is written as 0.
        if ticker is None or ticker.at <= at + BEHIND[Channel.TICKER] or not (ticker.bid and ticker.ask):
            return False
        return any(mine and mine != its for mine, its in ((bid, ticker.bid), (ask, ticker.ask)))

    @property
    def ticker_lacks_a_trade(self) -> bool:
        """Whether there was a trade after the newest ticker: each brings one."""
        if self._trade is None or self._ticker_at is None:
            return self._trade is not None
        return self._trade.at > self._ticker_at + BEHIND[Channel.TICKER]

    def evaluate(self, channel: Channel, now: Nanoseconds, *, against: bool) -> bool:
        """Whether a channel is silent: something has been held against it for long enough, and still is."""
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
        """Its book was withdrawn for what is held against it: the snapshot that follows may be no newer."""
        self._silent[Channel.BOOK] = now

    def crossed(self, now: Nanoseconds, *, is_so: bool) -> bool:
        """Whether its book is crossed for long enough; then the time begins anew."""
        if not is_so:
            self._crossed_since = None
            return False
        if self._crossed_since is not None and now - self._crossed_since < CROSSED_FOR:
            return False
        first, self._crossed_since = self._crossed_since is None, now
        return not first

    def trades_missed(self, trades: Sequence[Trade], now: Nanoseconds) -> bool:
        """Whether the channel of trades is silent: the venue's REST told trades, in order, that it left out.

        What has just happened may be on its way, so the oldest of them counts.
        """
        if now - trades[0].at < SUBSCRIBED_FOR:
            return False
        self._silent[Channel.TRADE] = now
        return True

    def trades_confirmed(self, now: Nanoseconds) -> None:
        """The venue's REST told no trade that was left out."""
        if now - self._silent.get(Channel.TRADE, now) >= CLEARED_AFTER:
            del self._silent[Channel.TRADE]


def silent(market: Market, now: Nanoseconds, *, ticker_subscribed_for: Nanoseconds | None) -> Iterator[Channel]:
    """Those of a market's channels that are silent now by what its other channels say.

    Args:
        market: It.
        now: The time.
        ticker_subscribed_for: For how long its ticker has been subscribed to; nothing where it is not.
    """
    one, book, at = market.liveness, market.book, market.writer.at
    top = book.top if book is not None and market.usable else None
    contradicted = top is not None and at is not None and one.contradicts(at, *top)
    if one.evaluate(Channel.BOOK, now, against=contradicted):
        yield Channel.BOOK
    elif market.usable and not contradicted and market.verified_at > market.snapshot_at:
        one.update_received(Channel.BOOK)  # what one that is withdrawn was told before proves nothing
    lacking = ticker_subscribed_for is not None and ticker_subscribed_for >= SUBSCRIBED_FOR and one.ticker_lacks_a_trade
    if one.evaluate(Channel.TICKER, now, against=lacking):
        yield Channel.TICKER


def crossed_for_long(market: Market, now: Nanoseconds) -> bool:
    """Whether a book is crossed for so long that it is to be asked for anew; the next time is as long after that."""
    return market.liveness.crossed(
        now, is_so=market.book is not None and market.book.unusable is UnusableReason.CROSSED
    )
