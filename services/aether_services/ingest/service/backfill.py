"""Trades that were missed, asked of the venue again."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from aether_services.domain import times
from aether_services.ingest.core import rejections
from aether_services.ingest.core.rejections import RejectedValue, RejectionReason, Rejections
from aether_services.ingest.core.trade_logs import Cursor
from aether_services.ingest.ports import InvalidTrades, VenueUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aether_services.domain.instruments import Symbol
    from aether_services.domain.trades import Trade
    from aether_services.ingest.ports import Venue
    from aether_services.kit.clocks import Clock

log = logging.getLogger(__name__)


class TradeIdsReset(Exception):
    """After a place the venue has trades with ids before it: it counts anew, and nobody knows what is missing."""


ATTEMPTS: Final = 3
"""Times that the venue must leave out an id, a second apart, until it counts as left out."""


class TradeHistory:
    """The venue's trades over REST.

    Args:
        venue: It.
        clock: The time.
        anew: Reads the venue's markets anew, for trades that do not fit them; whether that told anything new.
        rejections: Counts what is not taken.
    """

    def __init__(
        self,
        venue: Venue,
        clock: Clock,
        reload_instruments: Callable[[], Awaitable[bool]] | None = None,
        rejections: Rejections | None = None,
    ) -> None:
        self._venue, self._clock, self._reload_instruments, self._rejections = (
            venue,
            clock,
            reload_instruments,
            rejections or Rejections(),
        )

    async def after(self, symbol: Symbol, cursor: Cursor) -> list[Trade]:
        """The trades after a place, in order and without a gap but for ids that do not exist; none where it has none.

        Where one of them cannot be so, those before it; where it is long before the one before it, without that one,
        whose time may be the wrong one: after it the venue, which is asked by time, would leave out what follows.

        Raises:
            VenueAway: It does not say.
            NotTold: There are none of those, or the first is not understood.
            IdsWentBack: Its ids are not those that the place is of.
        """
        known: dict[int, Trade] = {}
        trades: list[Trade] = []
        for attempt in range(ATTEMPTS):
            if attempt:
                await self._clock.sleep(1)
            # The last time from earlier on, by as much as what follows the place may be before it.
            earlier = rejections.MAX_BEFORE if attempt == ATTEMPTS - 1 else 0
            answer = await self._query(
                symbol, Cursor(trade_id=cursor.trade_id, at=times.Nanoseconds(cursor.at - earlier))
            )
            if self._ids_reset(cursor, answer):
                raise TradeIdsReset(symbol)
            known |= {one.trade_id: one for one in answer if one.trade_id > cursor.trade_id}
            trades = [known[trade_id] for trade_id in sorted(known)]
            if not trades:
                return []
            if trades[0].trade_id == cursor.trade_id + 1:
                break
        else:
            log.warning(
                "trades_missing", extra={"symbol": symbol, "after": cursor.trade_id, "next": trades[0].trade_id}
            )
        return self._contiguous(symbol, cursor, trades)

    def _contiguous(self, symbol: Symbol, cursor: Cursor, trades: Sequence[Trade]) -> list[Trade]:
        """Those of the trades after a place that may be handed on."""
        contiguous: list[Trade] = []
        for one in trades:
            if contiguous and one.trade_id != contiguous[-1].trade_id + 1:
                break  # the next look begins here
            try:
                rejections.check_time(one.at, self._clock.now())
                rejections.check_sequence(one.at, contiguous[-1].at if contiguous else cursor.at)
            except RejectedValue as fault:
                self._rejections.record("Trades", symbol, fault)
                if contiguous and fault.reason is RejectionReason.TIME_BEFORE:
                    del contiguous[-1]
                if not contiguous:
                    raise InvalidTrades(f"Trades: {fault}") from fault
                return contiguous
            contiguous.append(one)
        if len(contiguous) > 1 and contiguous[-1].at - contiguous[-2].at > rejections.MAX_BEFORE:
            del contiguous[-1]  # what follows it may be on the next page: the next question begins before it
        return contiguous

    def _ids_reset(self, cursor: Cursor, answer: Sequence[Trade]) -> bool:
        """Whether a trade up to a place is told as later than it, which is more than a time out of order.

        While the venue has the place's own trade as it was, its ids are the same, and a time may be out of order by as
        much as is taken of any trade.
        """
        same = any(one.trade_id == cursor.trade_id and abs(one.at - cursor.at) <= times.SECOND for one in answer)
        latest = cursor.at + (rejections.MAX_BEFORE if same else times.SECOND)
        now_limit = self._clock.now() + rejections.MAX_AHEAD
        return any(one.trade_id <= cursor.trade_id and latest < one.at <= now_limit for one in answer)

    async def newest(self, symbol: Symbol) -> list[Trade]:
        """The newest trades, in order and without a gap; none where the market has never traded.

        Where one of them cannot be so, those after it.

        Raises:
            VenueAway: It does not say.
            NotTold: The newest is not understood, or cannot be so.
        """
        contiguous: list[Trade] = []
        for one in reversed(await self._query(symbol, None)):
            if contiguous and one.trade_id != contiguous[-1].trade_id - 1:
                break
            try:
                rejections.check_time(one.at, self._clock.now())
                if contiguous:
                    rejections.check_sequence(contiguous[-1].at, one.at)
            except RejectedValue as fault:
                self._rejections.record("Trades", symbol, fault)
                if not contiguous:
                    raise InvalidTrades(f"Trades: {fault}") from fault
                break
            contiguous.append(one)
        return contiguous[::-1]

    async def _query(self, symbol: Symbol, cursor: Cursor | None) -> Sequence[Trade]:
        try:
            try:
                return await self._venue.trades(symbol, cursor)
            except InvalidTrades:
                # It may have more decimals since its market was read.
                if self._reload_instruments is None or not await self._reload_instruments():
                    raise
            return await self._venue.trades(symbol, cursor)
        except VenueUnavailable:
            raise
        except Exception as fault:
            self._rejections.record("Trades", symbol, fault, unexpected=True)
            where = "the newest trades" if cursor is None else f"after trade {cursor.trade_id}"
            raise InvalidTrades(f"{where}: {type(fault).__name__}") from fault
