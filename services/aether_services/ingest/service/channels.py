"""Channels: which of them are silent, and when the venue is asked over REST whether one is."""

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
"""Between looks at all of them."""
QUIET_AFTER: Final = 60 * times.SECOND
"""A lost trade is known by the next one; where none comes for so long, the venue is asked over REST."""
SILENT_QUIET_AFTER: Final = 10 * times.SECOND
"""The same where the channel of trades is known to be silent, so that its trades come by REST alone."""
QUERY_SHARE: Final = 2
"""Of so many calls that the venue bears one is about a quiet market: trades that are known to be missing come first."""
MARKET_CHANNELS: Final = (Channel.BOOK, Channel.TICKER, Channel.TRADE)


class ChannelMonitor:
    """The channels of all markets that are served.

    Args:
        markets: Those.
    """

    def __init__(self, markets: Markets) -> None:
        self._markets = markets
        self._checked_at = Nanoseconds(0)
        self._subscribed_since: dict[Key, Nanoseconds] = {}
        """Since when a subscription is held."""
        self._queried_at: dict[Symbol, Nanoseconds] = {}
        """Market → when the venue was last asked over REST whether it has traded."""
        self._missed: set[Symbol] = set()
        """Markets whose channel of trades left some out, and is to be subscribed to anew."""
        self._silent: set[Key] = set()

    def connection_opened(self) -> None:
        """There is a new connection, without a subscription."""
        self._subscribed_since.clear()

    def check(self, subscriptions: Subscriptions, now: Nanoseconds, elapsed: float) -> None:
        """Have what is silent subscribed to anew, and withdraw the books that cannot be what their markets are."""
        if now - self._checked_at < CHECK_INTERVAL:
            return
        self._checked_at, markets = now, self._markets.all()
        keys = [(channel, market.symbol) for market in markets for channel in MARKET_CHANNELS]
        self._subscribed_since = {
            key: self._subscribed_since.get(key, now) for key in keys if subscriptions.state(key) is State.SUBSCRIBED
        }
        for market in markets:
            since = self._subscribed_since.get((Channel.TICKER, market.symbol))
            for channel in liveness.silent(
                market, now, ticker_subscribed_for=None if since is None else Nanoseconds(now - since)
            ):
                if channel is Channel.BOOK:
                    self._markets.withdraw_contradicted(market, now)
                else:
                    subscriptions.resubscribe((channel, market.symbol), elapsed)
            if liveness.crossed_for_long(market, now):
                self._markets.resubscribe.add(market.symbol)
        while self._missed:
            subscriptions.resubscribe((Channel.TRADE, self._missed.pop()), elapsed)
        self._report(subscriptions)

    def _report(self, subscriptions: Subscriptions) -> None:
        silent: set[Key] = {(one, market.symbol) for market in self._markets.all() for one in market.liveness.silent}
        for key in silent - self._silent:
            log.warning("channel_silent", extra={"channel": key[0], "symbol": key[1]})
        for key in self._silent - silent:
            log.info("channel_heard", extra={"channel": key[0], "symbol": key[1]})
            if key[0] is not Channel.BOOK:  # of a book verified updates count
                subscriptions.mark_stable(key)
        self._silent = silent

    # Over REST.

    def next_to_query(self, now: Nanoseconds) -> Market | None:
        """The market that the venue is to be asked about over REST, since it was quiet for longest.

        As measured by how often each is to be asked about: many quiet ones keep no silent one from its turn.
        """
        shares = {market.symbol: self._quiet_share(market, now) for market in self._markets.all()}
        symbol = max(shares, key=lambda one: (shares[one], one), default=None)
        if symbol is None or shares[symbol] < 1:
            return None
        self._queried_at[symbol] = now
        return self._markets[symbol]

    def _quiet_share(self, market: Market, now: Nanoseconds) -> float:
        """For how long a market has been quiet: 1 when it is to be asked about.

        0 while its trades are asked for anyway, or not subscribed to.
        """
        if market.trade_log.has_gap or (market.withheld and market.trade_log.last):
            return 0
        queried, received = self._queried_at.get(market.symbol, Nanoseconds(0)), market.trade_log.last_received_at
        if market.trade_log.last is None:
            # A snapshot brings the last trades at once, if there ever was one.
            since = self._subscribed_since.get((Channel.TRADE, market.symbol))
            if since is None:
                return 0
            return (now - queried) / QUIET_AFTER if queried > since else (now - since) / liveness.SUBSCRIBED_FOR
        silent = Channel.TRADE in market.liveness.silent
        return (now - max(queried, received)) / (SILENT_QUIET_AFTER if silent else QUIET_AFTER)

    def query_answered(self, market: Market, missed: Sequence[Trade], now: Nanoseconds) -> None:
        """The venue told over REST, in order, what a market's channel of trades had not; nothing where that was all."""
        since = self._subscribed_since.get((Channel.TRADE, market.symbol), now)
        if not missed:
            market.liveness.trades_confirmed(now)
        elif now - since >= liveness.SUBSCRIBED_FOR and market.liveness.trades_missed(missed, now):
            self._missed.add(market.symbol)
