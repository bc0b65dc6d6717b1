"""Queries missed trades over REST, and checks that they are contiguous and plausible."""

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
    """The venue's trade ids started over: after a cursor it has trades with lower ids."""


ATTEMPTS: Final = 3
"""Queries, a second apart, that must leave out an id until it counts as left out."""


class TradeHistory:
    """The venue's trades over REST.

    Args:
        venue: The venue.
        clock: The time.
        reload_instruments: Reloads the instruments when trades do not match them; returns whether they changed.
        rejections: Counts rejected messages and entries.
    """

    def __init__(
        self,
        venue: Venue,
        clock: Clock,
        reload_instruments: Callable[[], Awaitable[bool]] | None = None,
        rejections: Rejections | None = None,
    ) -> None:
        self._venue, self._clock = venue, clock
        self._reload_instruments, self._rejections = reload_instruments, rejections or Rejections()

    async def after(self, symbol: Symbol, cursor: Cursor) -> list[Trade]:
        """The trades after a cursor, in order and contiguous but for ids that do not exist.

        Where one of them is implausible, only those before it. If its time is long before that of its predecessor, the
        predecessor is left out too, since its time may be the wrong one: REST is queried by time, so a cursor with a
        wrong time would skip the trades after it.

        Raises:
            VenueUnavailable: The request fails.
            InvalidTrades: No trade is left, or the first is malformed.
            TradeIdsReset: The venue's ids started over.
        """
        known: dict[int, Trade] = {}
        trades: list[Trade] = []
        for attempt in range(ATTEMPTS):
            if attempt:
                await self._clock.sleep(1)
            # The last query starts earlier, by as much as the times of trades may be out of order.
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
        """The trades after a cursor that may be delivered."""
        contiguous: list[Trade] = []
        for one in trades:
            if contiguous and one.trade_id != contiguous[-1].trade_id + 1:
                break  # the next query begins here
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
            del contiguous[-1]  # its successors may be on the next page, which a cursor after it would skip
        return contiguous

    def _ids_reset(self, cursor: Cursor, answer: Sequence[Trade]) -> bool:
        """Whether a trade with an id up to the cursor is so much later than it that the ids must have started over.

        If the cursor's own trade is unchanged, the ids have not: then times may be out of order by up to MAX_BEFORE.
        """
        same = any(one.trade_id == cursor.trade_id and abs(one.at - cursor.at) <= times.SECOND for one in answer)
        latest = cursor.at + (rejections.MAX_BEFORE if same else times.SECOND)
        now_limit = self._clock.now() + rejections.MAX_AHEAD
        return any(one.trade_id <= cursor.trade_id and latest < one.at <= now_limit for one in answer)

    async def newest(self, symbol: Symbol) -> list[Trade]:
        """The newest trades, in order and contiguous; empty if the market has never traded.

        Where one of them is implausible, only those after it.

        Raises:
            VenueUnavailable: The request fails.
            InvalidTrades: The newest is malformed or implausible.
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
                # The market may have more decimals now.
                if self._reload_instruments is None or not await self._reload_instruments():
                    raise
            return await self._venue.trades(symbol, cursor)
        except VenueUnavailable:
            raise
        except Exception as fault:
            self._rejections.record("Trades", symbol, fault, unexpected=True)
            position = "the newest trades" if cursor is None else f"after trade {cursor.trade_id}"
            raise InvalidTrades(f"{position}: {type(fault).__name__}") from fault
