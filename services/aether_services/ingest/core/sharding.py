"""Assigns markets to replicas by rendezvous hashing, without a coordinator.

Each market orders the replicas by a hash of both, so adding or removing a replica moves only the markets that it gains
or loses. A replica serves a market if it is the first in this order, and also while no replica before it reports a
usable book: the same rule gives handover with overlap, and takeover.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from aether_services.domain.instruments import Symbol

TAKE_AFTER: Final = 4
"""Consecutive checks without a usable book in the preceding replicas until this one takes a market."""
LEAVE_AFTER: Final = 2
"""Consecutive checks with a usable book in a preceding replica until this one leaves a market."""


def order(symbol: Symbol, replicas: Iterable[int]) -> list[int]:
    """The replicas in a market's order of preference."""
    return sorted(replicas, key=lambda replica: hashlib.sha256(f"{symbol} {replica}".encode()).digest(), reverse=True)


class ShardAssignment:
    """The markets that one replica serves, updated after each query of the others."""

    def __init__(self, me: int) -> None:
        self._me = me
        self._served: set[Symbol] = set()
        self._contrary_checks: dict[Symbol, int] = {}
        """Market → consecutive checks that were in favour of changing its assignment."""

    def assign(
        self,
        symbols: Collection[Symbol],
        replicas: int,
        usable: Mapping[int, Collection[Symbol]],
        *,
        leaving: bool = False,
    ) -> frozenset[Symbol]:
        """The markets to serve from now on.

        Args:
            symbols: All markets.
            replicas: The configured number of replicas.
            usable: Replica → markets with a usable book there, for the replicas that answered.
            leaving: Whether this replica is shutting down: then all others precede it.
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
            if had != mine:  # exactly one of them serves it
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
