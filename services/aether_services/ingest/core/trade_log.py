"""A market's trades in order and without a gap, as far back as memory is given to them."""

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
class Place:
    """A place in a market's trades: after the trade of this id, which happened at this time."""

    trade_id: int
    at: Nanoseconds


@dataclass(frozen=True, slots=True)
class Received:
    """A trade, and when it was received."""

    trade: Trade
    received: Nanoseconds


class Tape:
    """The trades of one market.

    `trade_id` is contiguous within a market, so the next trade is the one after the last. A later one waits in
    `beyond` until those between are brought by `fill`.
    """

    def __init__(self, length: int) -> None:
        self._trades: deque[Received] = deque(maxlen=length)
        self._beyond: dict[int, Received] = {}
        self._length = length
        self.holes = 0
        """Ids that do not exist."""

    @property
    def last(self) -> Place | None:
        """The newest trade up to which there is no gap."""
        return place_of(self._trades[-1].trade) if self._trades else None

    @property
    def heard(self) -> Nanoseconds:
        """When the newest of those was received."""
        return self._trades[-1].received if self._trades else times.Nanoseconds(0)

    @property
    def first(self) -> Place | None:
        """Before the oldest trade that is remembered."""
        if not self._trades:
            return None
        oldest = self._trades[0].trade
        return Place(trade_id=oldest.trade_id - 1, at=oldest.at)

    @property
    def gap(self) -> bool:
        """Whether trades are missing before one that is there."""
        return bool(self._beyond)

    def add(self, trades: Iterable[Received]) -> int:
        """Add trades in any order, once or often; how many were new."""
        new = 0
        for one in trades:
            wanted = self._trades[-1].trade.trade_id + 1 if self._trades else one.trade.trade_id
            trade_id = one.trade.trade_id
            if trade_id < wanted or trade_id in self._beyond:
                continue
            new += 1
            if trade_id == wanted:
                self._trades.append(one)
                if self._beyond:
                    self._join()
            elif len(self._beyond) < self._length:
                self._beyond[trade_id] = one  # else it is asked for with those before it
        return new

    def fill(self, trades: Sequence[Received]) -> None:
        """Add what the venue has after `last`, in order: an id that it leaves out does not exist."""
        for one in trades:
            if self.last is not None and one.trade.trade_id > self.last.trade_id + 1:
                self.holes += one.trade.trade_id - self.last.trade_id - 1
                self._trades.append(one)
                self._join()
            else:
                self.add([one])

    def following(self, trade_id: int) -> Trade | None:
        """The trade after one that is missing, where it is there."""
        waiting = self._beyond.get(trade_id + 1)
        return None if waiting is None else waiting.trade

    def take_back(self) -> None:
        """Forget the newest trade up to which there is no gap: it is asked for again."""
        self._trades.pop()

    def forget_beyond(self) -> None:
        """Forget those after a gap: they are asked for again, if they are any."""
        self._beyond.clear()

    def _join(self) -> None:
        last = self._trades[-1].trade.trade_id
        for trade_id in [known for known in self._beyond if known <= last]:
            del self._beyond[trade_id]
        while (following := self._beyond.pop(self._trades[-1].trade.trade_id + 1, None)) is not None:
            self._trades.append(following)

    def after(self, place: Place, limit: int) -> list[Received] | None:
        """The trades after a place, at most so many; nothing where they are not remembered any more."""
        if not self._trades:
            return []
        oldest = self._trades[0].trade.trade_id
        if place.trade_id < oldest - 1:
            return None
        # Ids may have holes, so the place in the deque is at most this, and never before it.
        skip = max(0, place.trade_id - oldest + 1 - self.holes)
        found = islice(self._trades, skip, None)
        return list(islice((one for one in found if one.trade.trade_id > place.trade_id), limit))

    def contradicts(self, place: Place) -> bool:
        """Whether ids began anew since a place: its trade is another one here, or later ones have ids before it."""
        last = self.last
        if last is None:
            return False
        if last.trade_id <= place.trade_id:
            return last.at > place.at + times.SECOND
        same = self.after(Place(trade_id=place.trade_id - 1, at=place.at), 1) or ()
        return any(one.trade.trade_id == place.trade_id and abs(one.trade.at - place.at) > times.SECOND for one in same)

    def oldest_after(self, place: Place) -> Received | None:
        """The first trade after a place, of those that are remembered."""
        found = self.after(place, 1)
        if found is None:
            return self._trades[0]
        return found[0] if found else None

    def count_after(self, place: Place) -> int:
        """How many trades are after a place, as far as is known here."""
        return max(0, self._trades[-1].trade.trade_id - place.trade_id) if self._trades else 0


def place_of(trade: Trade) -> Place:
    """The place after a trade."""
    return Place(trade_id=trade.trade_id, at=trade.at)


def since(place: Place) -> Nanoseconds:
    """From when on the venue is asked for what follows: a little before, since its times over REST are rounded."""
    return times.Nanoseconds(place.at - times.SECOND)
