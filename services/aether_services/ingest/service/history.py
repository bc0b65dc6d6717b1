"""Trades that were missed, asked of the venue again."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aether_services.domain import times

if TYPE_CHECKING:
    from aether_services.domain.instruments import Symbol
    from aether_services.domain.trades import Trade
    from aether_services.ingest.core.tapes import Place
    from aether_services.ingest.ports import Venue
    from aether_services.kit.clocks import Clock

log = logging.getLogger(__name__)


class IdsWentBack(Exception):
    """After a place the venue has trades with ids before it: it counts anew, and nobody knows what is missing."""


TRIES: Final = 3
"""Times that the venue must leave out an id, a second apart, until it counts as one that does not exist."""


@dataclass(frozen=True, slots=True)
class History:
    """The venue's trades over REST."""

    venue: Venue
    clock: Clock

    async def after(self, symbol: Symbol, place: Place) -> list[Trade]:
        """The trades after a place, in order and without a gap but for ids that do not exist; none where it has none.

        Raises:
            VenueAway: It does not say.
            IdsWentBack: Its ids are not those that the place is of.
        """
        trades: list[Trade] = []
        for attempt in range(TRIES):
            if attempt:
                await self.clock.sleep(1)
            said = await self.venue.trades(symbol, place)
            if any(one.trade_id <= place.trade_id and one.at > place.at + times.SECOND for one in said):
                raise IdsWentBack(symbol)
            trades = [one for one in said if one.trade_id > place.trade_id]
            if not trades:
                return []
            if trades[0].trade_id == place.trade_id + 1:
                break
        else:
            log.warning("trades_missing", extra={"symbol": symbol, "after": place.trade_id, "next": trades[0].trade_id})
        whole = [trades[0]]
        for one in trades[1:]:
            if one.trade_id != whole[-1].trade_id + 1:
                break  # the next look begins here
            whole.append(one)
        return whole
