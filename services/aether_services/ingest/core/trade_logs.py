"""The recent trades of a market, in order and without gaps, in a bounded buffer."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from aether_services.domain import times

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aether_services.domain.times import Nanoseconds
    from aether_services.domain.trades import Trade


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """A position in a market's trades: after the trade with this id and time."""

    trade_id: int
    at: Nanoseconds


@dataclass(frozen=True, slots=True)
class ReceivedTrade:
    """A trade and its time of receipt."""

    trade: Trade
    received: Nanoseconds


class TradeLog:
    """The trades of one market.

    `trade_id` is contiguous within a market. A trade after a gap is kept aside until `backfill` adds those between.
    """

    def __init__(self, length: int) -> None:
        self._trades: deque[ReceivedTrade] = deque(maxlen=length)
        self._after_gap: dict[int, ReceivedTrade] = {}
        self._length = length
        self.absent_ids = 0
        """The number of ids within the log that do not exist at the venue."""

    @property
    def last(self) -> Cursor | None:
        """The newest trade before any gap."""
        return cursor_after(self._trades[-1].trade) if self._trades else None

    @property
    def last_received_at(self) -> Nanoseconds:
        """When that trade was received."""
        return self._trades[-1].received if self._trades else times.Nanoseconds(0)

    @property
    def first(self) -> Cursor | None:
        """The position before the oldest trade in the buffer."""
        if not self._trades:
            return None
        oldest = self._trades[0].trade
        return Cursor(trade_id=oldest.trade_id - 1, at=oldest.at)

    @property
    def has_gap(self) -> bool:
        """Whether trades are missing before one that was received."""
        return bool(self._after_gap)

    def add(self, trades: Iterable[ReceivedTrade]) -> int:
        """Add trades in any order, duplicates included; returns the number of new ones."""
        new = 0
        for item in trades:
            expected_id = self._trades[-1].trade.trade_id + 1 if self._trades else item.trade.trade_id
            trade_id = item.trade.trade_id
            if trade_id < expected_id or trade_id in self._after_gap:
                continue
            new += 1
            if trade_id == expected_id:
                self._trades.append(item)
                if self._after_gap:
                    self._join()
            elif len(self._after_gap) < self._length:
                self._after_gap[trade_id] = item  # otherwise it is queried together with those before it
        return new

    def backfill(self, trades: Sequence[ReceivedTrade]) -> None:
        """Add the venue's trades after `last`, in order: ids that they leave out do not exist."""
        for item in trades:
            if self.last is not None and item.trade.trade_id > self.last.trade_id + 1:
                self.absent_ids += item.trade.trade_id - self.last.trade_id - 1
                self._trades.append(item)
                self._join()
            else:
                self.add([item])

    def next_after(self, trade_id: int) -> Trade | None:
        """The successor of a missing trade, if it was received."""
        waiting = self._after_gap.get(trade_id + 1)
        return None if waiting is None else waiting.trade

    def remove_last(self) -> None:
        """Remove the newest trade before any gap; it will be queried again."""
        self._trades.pop()

    def discard_after_gap(self) -> None:
        """Remove the trades after a gap; if they exist, they will be queried again."""
        self._after_gap.clear()

    def _join(self) -> None:
        last = self._trades[-1].trade.trade_id
        for trade_id in [known for known in self._after_gap if known <= last]:
            del self._after_gap[trade_id]
        while (next_after := self._after_gap.pop(self._trades[-1].trade.trade_id + 1, None)) is not None:
            self._trades.append(next_after)

    def after(self, cursor: Cursor, limit: int) -> list[ReceivedTrade] | None:
        """The trades after a cursor, at most `limit`; None where the buffer no longer has them."""
        if not self._trades:
            return []
        oldest = self._trades[0].trade.trade_id
        if cursor.trade_id < oldest - 1:
            return None
        # With absent ids the index is smaller than the difference of the ids, but never below this.
        skip = max(0, cursor.trade_id - oldest + 1 - self.absent_ids)
        found = islice(self._trades, skip, None)
        return list(islice((item for item in found if item.trade.trade_id > cursor.trade_id), limit))

    def contradicts(self, cursor: Cursor) -> bool:
        """Whether the venue's ids started over: the cursor's id has another trade, or later trades have lower ids."""
        last = self.last
        if last is None:
            return False
        if last.trade_id <= cursor.trade_id:
            return last.at > cursor.at + times.SECOND
        same = self.after(Cursor(trade_id=cursor.trade_id - 1, at=cursor.at), 1) or ()
        return any(
            item.trade.trade_id == cursor.trade_id and abs(item.trade.at - cursor.at) > times.SECOND for item in same
        )

    def oldest_after(self, cursor: Cursor) -> ReceivedTrade | None:
        """The first trade after a cursor in the buffer."""
        found = self.after(cursor, 1)
        if found is None:
            return self._trades[0]
        return found[0] if found else None

    def count_after(self, cursor: Cursor) -> int:
        """The number of trades after a cursor, up to `last`."""
        return max(0, self._trades[-1].trade.trade_id - cursor.trade_id) if self._trades else 0


def cursor_after(trade: Trade) -> Cursor:
    """The cursor after a trade."""
    return Cursor(trade_id=trade.trade_id, at=trade.at)


def query_start(cursor: Cursor) -> Nanoseconds:
    """The `since` time of a REST query after a cursor: a second earlier, since REST rounds times."""
    return times.Nanoseconds(cursor.at - times.SECOND)
