"""Trades that were missed, asked of the venue again."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from aether_services.domain import times
from aether_services.ingest.core import refusals
from aether_services.ingest.core.refusals import Refusals, Refused, Why
from aether_services.ingest.core.trade_log import Place
from aether_services.ingest.ports import NotTold, VenueAway

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aether_services.domain.instruments import Symbol
    from aether_services.domain.trades import Trade
    from aether_services.ingest.ports import Venue
    from aether_services.kit.clocks import Clock

log = logging.getLogger(__name__)


class IdsWentBack(Exception):
    """After a place the venue has trades with ids before it: it counts anew, and nobody knows what is missing."""


TRIES: Final = 3
"""Times that the venue must leave out an id, a second apart, until it counts as left out."""


class History:
    """The venue's trades over REST.

    Args:
        venue: It.
        clock: The time.
        anew: Reads the venue's markets anew, for trades that do not fit them; whether that told anything new.
        refused: Counts what is not taken.
    """

    def __init__(
        self,
        venue: Venue,
        clock: Clock,
        anew: Callable[[], Awaitable[bool]] | None = None,
        refused: Refusals | None = None,
    ) -> None:
        self._venue, self._clock, self._anew, self._refused = venue, clock, anew, refused or Refusals()

    async def after(self, symbol: Symbol, place: Place) -> list[Trade]:
        """The trades after a place, in order and without a gap but for ids that do not exist; none where it has none.

        Where one of them cannot be so, those before it; where it is long before the one before it, without that one,
        whose time may be the wrong one: after it the venue, which is asked by time, would leave out what follows.

        Raises:
            VenueAway: It does not say.
            NotTold: There are none of those, or the first is not understood.
            IdsWentBack: Its ids are not those that the place is of.
        """
        told: dict[int, Trade] = {}
        trades: list[Trade] = []
        for attempt in range(TRIES):
            if attempt:
                await self._clock.sleep(1)
            # The last time from earlier on, by as much as what follows the place may be before it.
            early = refusals.BEFORE if attempt == TRIES - 1 else 0
            said = await self._ask(symbol, Place(trade_id=place.trade_id, at=times.Nanoseconds(place.at - early)))
            if self._went_back(place, said):
                raise IdsWentBack(symbol)
            told |= {one.trade_id: one for one in said if one.trade_id > place.trade_id}
            trades = [told[trade_id] for trade_id in sorted(told)]
            if not trades:
                return []
            if trades[0].trade_id == place.trade_id + 1:
                break
        else:
            log.warning("trades_missing", extra={"symbol": symbol, "after": place.trade_id, "next": trades[0].trade_id})
        return self._whole(symbol, place, trades)

    def _whole(self, symbol: Symbol, place: Place, trades: Sequence[Trade]) -> list[Trade]:
        """Those of the trades after a place that may be handed on."""
        whole: list[Trade] = []
        for one in trades:
            if whole and one.trade_id != whole[-1].trade_id + 1:
                break  # the next look begins here
            try:
                refusals.in_time(one.at, self._clock.now())
                refusals.in_order(one.at, whole[-1].at if whole else place.at)
            except Refused as fault:
                self._refused.note("Trades", symbol, fault)
                if whole and fault.why is Why.TIME_BEFORE:
                    del whole[-1]
                if not whole:
                    raise NotTold(f"Trades: {fault}") from fault
                return whole
            whole.append(one)
        if len(whole) > 1 and whole[-1].at - whole[-2].at > refusals.BEFORE:
            del whole[-1]  # what follows it may be on the next page: the next question begins before it
        return whole

    def _went_back(self, place: Place, said: Sequence[Trade]) -> bool:
        """Whether a trade up to a place is told as later than it, which is more than a time out of order.

        While the venue has the place's own trade as it was, its ids are the same, and a time may be out of order by as
        much as is taken of any trade.
        """
        same = any(one.trade_id == place.trade_id and abs(one.at - place.at) <= times.SECOND for one in said)
        bearable = place.at + (refusals.BEFORE if same else times.SECOND)
        possible = self._clock.now() + refusals.AHEAD
        return any(one.trade_id <= place.trade_id and bearable < one.at <= possible for one in said)

    async def newest(self, symbol: Symbol) -> list[Trade]:
        """The newest trades, in order and without a gap; none where the market has never traded.

        Where one of them cannot be so, those after it.

        Raises:
            VenueAway: It does not say.
            NotTold: The newest is not understood, or cannot be so.
        """
        whole: list[Trade] = []
        for one in reversed(await self._ask(symbol, None)):
            if whole and one.trade_id != whole[-1].trade_id - 1:
                break
            try:
                refusals.in_time(one.at, self._clock.now())
                if whole:
                    refusals.in_order(whole[-1].at, one.at)
            except Refused as fault:
                self._refused.note("Trades", symbol, fault)
                if not whole:
                    raise NotTold(f"Trades: {fault}") from fault
                break
            whole.append(one)
        return whole[::-1]

    async def _ask(self, symbol: Symbol, place: Place | None) -> Sequence[Trade]:
        try:
            try:
                return await self._venue.trades(symbol, place)
            except NotTold:
                # It may have more decimals since its market was read.
                if self._anew is None or not await self._anew():
                    raise
            return await self._venue.trades(symbol, place)
        except VenueAway:
            raise
        except Exception as fault:
            self._refused.note("Trades", symbol, fault, unexpected=True)
            where = "the newest trades" if place is None else f"after trade {place.trade_id}"
            raise NotTold(f"{where}: {type(fault).__name__}") from fault
