"""A batch: the outcomes of one step's commands, and what the journal must store of them before they are broadcast."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aether_services.exchange_sim.core import candles
from aether_services.exchange_sim.core.orders import FIRST, Closed, LevelSet, Opened, OrderRejected, Reduced, Traded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aether_services.domain.instruments import Symbol
    from aether_services.exchange_sim.core.candles import Candle
    from aether_services.exchange_sim.core.orders import Event, OrderId


@dataclass(slots=True)
class Outcome:
    """What clients receive of one command: its level changes, trades and candles, each in order."""

    symbol: Symbol
    levels: list[LevelSet] = field(default_factory=list)
    trades: list[Traded] = field(default_factory=list)
    candles: list[Candle] = field(default_factory=list)


@dataclass(slots=True)
class Batch:
    """What is stored in one transaction, and then broadcast."""

    outcomes: list[Outcome] = field(default_factory=list)
    trades: list[Traded] = field(default_factory=list)
    opened: dict[OrderId, Opened] = field(default_factory=dict)
    reduced: dict[OrderId, int] = field(default_factory=dict)
    closed: set[OrderId] = field(default_factory=set)
    candles: dict[tuple[Symbol, int, int], Candle] = field(default_factory=dict)
    next_order_id: OrderId = FIRST

    def __bool__(self) -> bool:
        return bool(self.outcomes or self.opened or self.reduced or self.closed)


class BatchBuilder:
    """Builds batches from the engine's events; keeps the newest candle of each market and interval."""

    def __init__(self, newest: Iterable[Candle]) -> None:
        self._newest = {(candle.symbol, candle.interval): candle for candle in newest}

    def add(self, batch: Batch, symbol: Symbol, events: Iterable[Event]) -> None:
        """Add the events of one command to a batch."""
        outcome = Outcome(symbol)
        for event in events:
            match event:
                case LevelSet():
                    outcome.levels.append(event)
                case Traded():
                    outcome.trades.append(event)
                    batch.trades.append(event)
                    self._candles(event, batch, outcome)
                case Opened():
                    batch.opened[event.order_id] = event
                case Reduced():
                    self._reduce(batch, event)
                case Closed():
                    if batch.opened.pop(event.order_id, None) is None and event.rested:
                        batch.reduced.pop(event.order_id, None)
                        batch.closed.add(event.order_id)
                case OrderRejected():
                    pass
        if outcome.levels:
            batch.outcomes.append(outcome)

    def _reduce(self, batch: Batch, event: Reduced) -> None:
        opened = batch.opened.get(event.order_id)
        if opened is None:
            batch.reduced[event.order_id] = event.remaining
        else:
            batch.opened[event.order_id] = opened._replace(remaining=event.remaining)

    def _candles(self, trade: Traded, batch: Batch, outcome: Outcome) -> None:
        for interval in candles.INTERVALS:
            key = trade.symbol, interval
            candle = self._newest[key] = candles.with_trade(self._newest.get(key), trade, interval)
            batch.candles[trade.symbol, interval, candle.begin] = candle
            outcome.candles.append(candle)
