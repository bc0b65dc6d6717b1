"""Which replica serves which market: the first in the market's own order of replicas that does.

Rendezvous hashing: each market orders the replicas by a hash of both, so a replica more or less moves only the markets
that it gains or loses. A replica serves a market also while none before it in that order says that it has a usable
book: handover with overlap, and takeover, by one rule and without anybody who coordinates.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from aether_services.domain.instruments import Symbol

TAKE_AFTER: Final = 4
"""Times in a row that those before must be without a usable book until another takes a market."""
LEAVE_AFTER: Final = 2
"""Times in a row that one before must have it until another leaves it."""


def order(symbol: Symbol, replicas: Iterable[int]) -> list[int]:
    """The replicas as a market prefers them."""
    return sorted(replicas, key=lambda replica: hashlib.sha256(f"{symbol} {replica}".encode()).digest(), reverse=True)


class ShardAssignment:
    """The markets that one replica serves. It is asked after each look at the others."""

    def __init__(self, me: int) -> None:
        self._me = me
        self._served: set[Symbol] = set()
        self._contrary_checks: dict[Symbol, int] = {}
        """Looks in a row that spoke for the other answer."""

    def assign(
        self,
        symbols: Collection[Symbol],
        replicas: int,
        usable: Mapping[int, Collection[Symbol]],
        *,
        leaving: bool = False,
    ) -> frozenset[Symbol]:
        """What to serve from now on.

        Args:
            symbols: All markets.
            replicas: How many replicas there should be.
            usable: Replica → markets that it has a usable book of, for those that answered just now.
            leaving: Whether this replica is about to end: then every other comes before it.
        """
        last = leaving or self._me >= replicas
        for symbol in symbols:
            others = [one for one in range(replicas) if one != self._me]
            before = others if last else order(symbol, [*others, self._me])
            if not last:
                before = before[: before.index(self._me)]
            if not before:
                self._served.add(symbol)
                self._contrary_checks.pop(symbol, None)
                continue
            had = any(symbol in usable.get(one, ()) for one in before)
            mine = symbol in self._served
            if had != mine:  # one of us has it: as it should be
                self._contrary_checks.pop(symbol, None)
                continue
            checks = self._contrary_checks[symbol] = self._contrary_checks.get(symbol, 0) + 1
            if checks >= (LEAVE_AFTER if mine else TAKE_AFTER):
                self._contrary_checks.pop(symbol)
                (self._served.discard if mine else self._served.add)(symbol)
        removed = self._served - set(symbols)
        self._served -= removed
        for symbol in set(self._contrary_checks) - set(symbols):
            del self._contrary_checks[symbol]
        return frozenset(self._served)
