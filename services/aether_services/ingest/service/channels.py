"""Channels: which of them are silent, and when the venue is asked over REST whether one is."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from aether_services.domain import times
from aether_services.domain.times import Nanoseconds
from aether_services.ingest.core import liveness
from aether_services.ingest.core.subscriptions import Step
from aether_services.ingest.core.wire import Channel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aether_services.domain.instruments import Symbol
    from aether_services.domain.trades import Trade
    from aether_services.ingest.core.market import Market
    from aether_services.ingest.core.markets import Markets
    from aether_services.ingest.core.subscriptions import Key, Subscriptions

log = logging.getLogger(__name__)

LOOK: Final = times.SECOND // 4
"""Between looks at all of them."""
CONFIRMED_EVERY: Final = 60 * times.SECOND
"""A lost trade is known by the next one; where none comes for so long, the venue is asked over REST."""
SILENT_CONFIRMED_EVERY: Final = 10 * times.SECOND
"""The same where the channel of trades is known to be silent, so that its trades come by REST alone."""
SHARE: Final = 2
"""Of so many calls that the venue bears one is about a quiet market: trades that are known to be missing come first."""
OF_MARKETS: Final = (Channel.BOOK, Channel.TICKER, Channel.TRADE)


class Channels:
    """The channels of all markets that are served.

    Args:
        markets: Those.
    """

    def __init__(self, markets: Markets) -> None:
        self._markets = markets
        self._looked = Nanoseconds(0)
        self._held: dict[Key, Nanoseconds] = {}
        """Since when a subscription is held."""
        self._confirmed: dict[Symbol, Nanoseconds] = {}
        """Market → when the venue was last asked over REST whether it has traded."""
        self._missed: set[Symbol] = set()
        """Markets whose channel of trades left some out, and is to be subscribed to anew."""
        self._silent: set[Key] = set()

    def begin(self) -> None:
        """There is a new connection, without a subscription."""
        self._held.clear()

    def look(self, asked: Subscriptions, now: Nanoseconds, elapsed: float) -> None:
        """Have what is silent subscribed to anew, and withdraw the books that cannot be what their markets are."""
        if now - self._looked < LOOK:
            return
        self._looked, markets = now, self._markets.all()
        keys = [(channel, market.symbol) for market in markets for channel in OF_MARKETS]
        self._held = {key: self._held.get(key, now) for key in keys if asked.step(key) is Step.HELD}
        for market in markets:
            held = self._held.get((Channel.TICKER, market.symbol))
            for channel in liveness.silent(market, now, ticker_held=None if held is None else Nanoseconds(now - held)):
                if channel is Channel.BOOK:
                    self._markets.contradict(market, now)
                else:
                    asked.renew((channel, market.symbol), elapsed)
            if liveness.crossed_for_long(market, now):
                self._markets.renew.add(market.symbol)
        while self._missed:
            asked.renew((Channel.TRADE, self._missed.pop()), elapsed)
        self._report(asked)

    def _report(self, asked: Subscriptions) -> None:
        silent: set[Key] = {(one, market.symbol) for market in self._markets.all() for one in market.liveness.silent}
        for key in silent - self._silent:
            log.warning("channel_silent", extra={"channel": key[0], "symbol": key[1]})
        for key in self._silent - silent:
            log.info("channel_heard", extra={"channel": key[0], "symbol": key[1]})
            if key[0] is not Channel.BOOK:  # of a book verified updates count
                asked.steady(key)
        self._silent = silent

    # Over REST.

    def unconfirmed(self, now: Nanoseconds) -> Market | None:
        """The market that the venue is to be asked about over REST, since it was quiet for longest.

        As measured by how often each is to be asked about: many quiet ones keep no silent one from its turn.
        """
        waited = {market.symbol: self._waited(market, now) for market in self._markets.all()}
        symbol = max(waited, key=lambda one: (waited[one], one), default=None)
        if symbol is None or waited[symbol] < 1:
            return None
        self._confirmed[symbol] = now
        return self._markets[symbol]

    def _waited(self, market: Market, now: Nanoseconds) -> float:
        """For how long a market has been quiet: 1 when it is to be asked about.

        0 while its trades are asked for anyway, or not subscribed to.
        """
        if market.tape.gap or (market.doubt and market.tape.last):
            return 0
        confirmed, heard = self._confirmed.get(market.symbol, Nanoseconds(0)), market.tape.heard
        if market.tape.last is None:
            # A snapshot brings the last trades at once, if there ever was one.
            held = self._held.get((Channel.TRADE, market.symbol))
            if held is None:
                return 0
            return (now - confirmed) / CONFIRMED_EVERY if confirmed > held else (now - held) / liveness.HELD
        silent = Channel.TRADE in market.liveness.silent
        return (now - max(confirmed, heard)) / (SILENT_CONFIRMED_EVERY if silent else CONFIRMED_EVERY)

    def confirmed(self, market: Market, missed: Sequence[Trade], now: Nanoseconds) -> None:
        """The venue told over REST, in order, what a market's channel of trades had not; nothing where that was all."""
        held = self._held.get((Channel.TRADE, market.symbol), now)
        if not missed:
            market.liveness.confirmed(now)
        elif now - held >= liveness.HELD and market.liveness.missed(missed, now):
            self._missed.add(market.symbol)
