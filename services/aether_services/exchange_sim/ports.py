"""What the venue needs of the world, in its own words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from aether_services.exchange_sim.core.orders import FIRST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aether_services.domain.instruments import Symbol
    from aether_services.domain.times import Nanoseconds
    from aether_services.exchange_sim.core.bars import Bar
    from aether_services.exchange_sim.core.batches import Batch
    from aether_services.exchange_sim.core.orders import Opened, OrderId, Traded


class JournalError(Exception):
    """The journal cannot be read or written; the venue must not go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LastTrade:
    """A market's last trade: what the next one follows."""

    trade_id: int
    at: Nanoseconds
    price: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalState:
    """What a journal knows when the venue starts."""

    next_order_id: OrderId = FIRST
    last: dict[Symbol, LastTrade] = field(default_factory=dict)
    orders: Sequence[Opened] = ()
    """Those that are open, in the order of their ids."""
    bars: Sequence[Bar] = ()
    """The oldest first."""
    trades: dict[Symbol, Sequence[Traded]] = field(default_factory=dict)
    """The newest of each market, the oldest first."""


class Journal(Protocol):
    """What happened, on a volume."""

    def load(self, recent: int) -> JournalState:
        """What is known; of each market so many trades."""
        ...

    async def write(self, batch: Batch) -> None:
        """Have a batch there for good, or nothing of it."""
        ...

    async def since(self, symbol: Symbol, after: Nanoseconds, count: int) -> Sequence[Traded]:
        """The first trades of a market after a time, the oldest first."""
        ...

    async def newest(self, symbol: Symbol, count: int) -> Sequence[Traded]:
        """The last trades of a market, the oldest first."""
        ...

    async def following(self, symbol: Symbol, trade_id: int, count: int) -> Sequence[Traded]:
        """The first trades of a market after one, the oldest first."""
        ...

    async def prune(self, before: Nanoseconds) -> int:
        """Drop trades of before a time, and candles that nobody can ask for; how many trades are left."""
        ...

    def close(self) -> None:
        """Let go of it; nothing that was written is lost."""
        ...
