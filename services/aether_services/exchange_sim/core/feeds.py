"""The sources of market movement: a synthetic order flow through the engine, or a recording."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from aether_services.exchange_sim.core import order_flow
from aether_services.exchange_sim.core.batches import Batch, BatchBuilder, Outcome
from aether_services.exchange_sim.core.recordings import ReplayedBook

if TYPE_CHECKING:
    from aether_services.domain.times import Nanoseconds
    from aether_services.exchange_sim.core.engines import Engine
    from aether_services.exchange_sim.core.recordings import Recording

SUBSTEP: Final = 0.1
"""Seconds of the order flow within which orders are generated from the same state of the book."""


class Feed(Protocol):
    """A source of market movement."""

    def step(self, seconds: float, now: Nanoseconds) -> Batch:
        """Advance the market by some seconds; events get the time `now`."""
        ...


class Synthetic:
    """A generated order flow, matched by the engine."""

    def __init__(self, engine: Engine, batch_builder: BatchBuilder, seed: str) -> None:
        self._engine, self._batch_builder = engine, batch_builder
        self._flow = order_flow.Flow(engine.books, seed)

    def step(self, seconds: float, now: Nanoseconds) -> Batch:
        batch = Batch()
        while seconds > 0:
            part, seconds = min(seconds, SUBSTEP), seconds - SUBSTEP
            for symbol, commands in zip(self._engine.books, self._flow.step(part), strict=True):
                for command in commands:
                    self._batch_builder.add(batch, symbol, self._engine.handle(command, now))
        batch.next_order_id = self._engine.next_order_id
        return batch


class Replay:
    """Replays a recorded book at its original pace, in a loop."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._book = ReplayedBook(recording.symbol, recording.depth)
        self._elapsed, self._next = 0.0, 0

    def step(self, seconds: float, now: Nanoseconds) -> Batch:
        """Advance by some seconds, at most once through the recording."""
        del now  # a recording has no trades, and level changes have no time
        batch = Batch()
        self._elapsed += seconds
        for _ in self._recording.updates:
            update = self._recording.updates[self._next]
            if self._elapsed < update.seconds:
                break
            self._elapsed -= update.seconds
            self._next = (self._next + 1) % len(self._recording.updates)
            batch.outcomes.append(Outcome(self._recording.symbol, levels=list(self._book.apply(update))))
        return batch
