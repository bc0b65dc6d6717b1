"""Monitors the channels of all markets: resubscribes silent ones, and schedules REST queries for quiet markets."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from aether_services.domain import times
from aether_services.domain.times import Nanoseconds
from aether_services.ingest.core import liveness
from aether_services.ingest.core.subscriptions import State
from aether_services.ingest.core.wire import Channel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aether_services.domain.instruments import Symbol
    from aether_services.domain.trades import Trade
    from aether_services.ingest.core.market import Market
    from aether_services.ingest.core.markets import Markets
    from aether_services.ingest.core.subscriptions import Key, Subscriptions

log = logging.getLogger(__name__)

CHECK_INTERVAL: Final = times.SECOND // 4
"""The time between two checks of all channels."""
QUIET_AFTER: Final = 60 * times.SECOND
"""A market without a trade for this time is queried over REST: a lost trade shows only when the next one comes."""
SILENT_QUIET_AFTER: Final = 10 * times.SECOND
"""The same for a market whose trade channel is silent, so that its trades come over REST only."""
QUERY_SHARE: Final = 2
"""One of this many REST calls may be for a quiet market; the others are reserved for trades known to be missing."""
MARKET_CHANNELS: Final = (Channel.BOOK, Channel.TICKER, Channel.TRADE)


class ChannelMonitor:
    """Monitors the channels of the served markets.

    Args:
        markets: The served markets.
    """

    def __init__(self, markets: Markets) -> None:
        self._markets = markets
        self._checked_at = Nanoseconds(0)
        self._subscribed_since: dict[Key, Nanoseconds] = {}
        """Since when a subscription exists."""
        self._queried_at: dict[Symbol, Nanoseconds] = {}
        """Market → when REST was last queried about it."""
        self._missed: set[Symbol] = set()
        """Markets whose trade channel is silent and must be subscribed to again."""
        self._silent: set[Key] = set()

    def connection_opened(self) -> None:
        """Reset for a new connection, which has no subscriptions."""
        self._subscribed_since.clear()

    def check(self, subscriptions: Subscriptions, now: Nanoseconds, elapsed: float) -> None:
        """Subscribe to silent channels again, and withdraw contradicted books."""
        if now - self._checked_at < CHECK_INTERVAL:
            return
        self._checked_at, markets = now, self._markets.all()
        keys = [(channel, market.symbol) for market in markets for channel in MARKET_CHANNELS]
        self._subscribed_since = {
            key: self._subscribed_since.get(key, now) for key in keys if subscriptions.state(key) is State.SUBSCRIBED
        }
        for market in markets:
            since = self._subscribed_since.get((Channel.TICKER, market.symbol))
            subscribed_for = None if since is None else Nanoseconds(now - since)
            for channel in self._markets.check_channels(market, now, ticker_subscribed_for=subscribed_for):
                subscriptions.resubscribe((channel, market.symbol), elapsed)
        while self._missed:
            subscriptions.resubscribe((Channel.TRADE, self._missed.pop()), elapsed)
        self._report(subscriptions)

    def _report(self, subscriptions: Subscriptions) -> None:
        silent: set[Key] = {(one, market.symbol) for market in self._markets.all() for one in market.liveness.silent}
        for key in silent - self._silent:
            log.warning("channel_silent", extra={"channel": key[0], "symbol": key[1]})
        for key in self._silent - silent:
            log.info("channel_recovered", extra={"channel": key[0], "symbol": key[1]})
            if key[0] is not Channel.BOOK:  # books are marked stable by verified updates
                subscriptions.mark_stable(key)
        self._silent = silent

    # REST queries.

    def next_to_query(self, now: Nanoseconds) -> Market | None:
        """The market to query over REST: the most overdue one, if any is due.

        Relative to each market's own interval, so that many quiet markets do not delay a silent one.
        """
        overdue = {market.symbol: self._overdue(market, now) for market in self._markets.all()}
        symbol = max(overdue, key=lambda one: (overdue[one], one), default=None)
        if symbol is None or overdue[symbol] < 1:
            return None
        self._queried_at[symbol] = now
        return self._markets[symbol]

    def _overdue(self, market: Market, now: Nanoseconds) -> float:
        """How long a market has been quiet, relative to its interval: 1 when a query is due.

        0 while its trades are queried anyway, or are not subscribed to.
        """
        if market.trade_log.has_gap or (market.withheld and market.trade_log.last):
            return 0
        queried, received = self._queried_at.get(market.symbol, Nanoseconds(0)), market.trade_log.last_received_at
        if market.trade_log.last is None:
            # If the market has ever traded, the snapshot has its last trades.
            since = self._subscribed_since.get((Channel.TRADE, market.symbol))
            if since is None:
                return 0
            return (now - queried) / QUIET_AFTER if queried > since else (now - since) / liveness.SUBSCRIBED_FOR
        silent = Channel.TRADE in market.liveness.silent
        return (now - max(queried, received)) / (SILENT_QUIET_AFTER if silent else QUIET_AFTER)

    def query_answered(self, market: Market, missed: Sequence[Trade], now: Nanoseconds) -> None:
        """Apply the result of a REST query: `missed` are the trades, in order, that the channel did not send."""
        since = self._subscribed_since.get((Channel.TRADE, market.symbol), now)
        if self._markets.quiet_market_queried(market, missed, now, subscribed_for=Nanoseconds(now - since)):
            self._missed.add(market.symbol)
