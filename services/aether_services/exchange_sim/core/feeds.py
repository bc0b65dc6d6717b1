"""What makes the market move: made-up orders through the engine, or a recording. A step of time gives a batch."""

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
"""Seconds of the flow within which its traders do not see what the others do."""


class Feed(Protocol):
    """What makes the market move."""

    def step(self, seconds: float, now: Nanoseconds) -> Batch:
        """What comes of the next so many seconds, as of now."""
        ...


class Synthetic:
    """Made-up orders, matched by the engine."""

    def __init__(self, engine: Engine, batch_builder: BatchBuilder, seed: str) -> None:
        self._engine, self._batch_builder = engine, batch_builder
        self._flow = order_flow.Flow(engine.books, seed)

    def step(self, seconds: float, now: Nanoseconds) -> Batch:
        """What comes of the next so many seconds, as of now."""
        batch = Batch()
        while seconds > 0:
            part, seconds = min(seconds, SUBSTEP), seconds - SUBSTEP
            for symbol, commands in zip(self._engine.books, self._flow.step(part), strict=True):
                for command in commands:
                    self._batch_builder.add(batch, symbol, self._engine.handle(command, now))
        batch.next_order_id = self._engine.next_order_id
        return batch


class Replay:
    """A recorded book, at the pace that it had; after its end it begins again."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._book = ReplayedBook(recording.symbol, recording.depth)
        self._elapsed, self._next = 0.0, 0

    def step(self, seconds: float, now: Nanoseconds) -> Batch:
        """What comes of the next so many seconds; at most once through the recording."""
        del now  # a recording has no trades, and levels have no time
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
