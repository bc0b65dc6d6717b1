"""The ports of the venue: its journal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from aether_services.exchange_sim.core.orders import FIRST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aether_services.domain.instruments import Symbol
    from aether_services.domain.times import Nanoseconds
    from aether_services.exchange_sim.core.batches import Batch
    from aether_services.exchange_sim.core.candles import Candle
    from aether_services.exchange_sim.core.orders import Opened, OrderId, Traded


class JournalError(Exception):
    """The journal cannot be read or written; the venue must stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LastTrade:
    """A market's last trade, from which ids, times and prices continue."""

    trade_id: int
    at: Nanoseconds
    price: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalState:
    """The state that the journal restores when the venue starts."""

    next_order_id: OrderId = FIRST
    last: dict[Symbol, LastTrade] = field(default_factory=dict)
    orders: Sequence[Opened] = ()
    """Open orders, by ascending id."""
    candles: Sequence[Candle] = ()
    """Candles with trades, the oldest first."""
    trades: dict[Symbol, Sequence[Traded]] = field(default_factory=dict)
    """The newest trades of each market, the oldest first."""


class Journal(Protocol):
    """The venue's durable record of orders, trades and candles."""

    def load(self, recent: int) -> JournalState:
        """The stored state, with the `recent` newest trades of each market."""
        ...

    async def write(self, batch: Batch) -> None:
        """Store a batch durably and atomically."""
        ...

    async def since(self, symbol: Symbol, after: Nanoseconds, count: int) -> Sequence[Traded]:
        """The first `count` trades of a market after a time, the oldest first."""
        ...

    async def newest(self, symbol: Symbol, count: int) -> Sequence[Traded]:
        """The last `count` trades of a market, the oldest first."""
        ...

    async def following(self, symbol: Symbol, trade_id: int, count: int) -> Sequence[Traded]:
        """The first `count` trades of a market after a trade, the oldest first."""
        ...

    async def prune(self, before: Nanoseconds) -> int:
        """Delete trades before a time, and candles that REST no longer serves; returns the number of trades left."""
        ...

    def close(self) -> None: ...
