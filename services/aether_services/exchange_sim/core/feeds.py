"""What makes the market move: made-up orders through the engine, or a recording. A step of time gives a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from aether_services.exchange_sim.core import order_flow
from aether_services.exchange_sim.core.batches import Batch, Batching, Outcome
from aether_services.exchange_sim.core.recordings import Replayed

if TYPE_CHECKING:
    from aether_services.domain.times import Nanoseconds
    from aether_services.exchange_sim.core.engines import Engine
    from aether_services.exchange_sim.core.recordings import Recording

BLINK: Final = 0.1
"""Seconds of the flow within which its traders do not see what the others do."""


class Feed(Protocol):
    """What makes the market move."""

    def step(self, seconds: float, now: Nanoseconds) -> Batch:
        """What comes of the next so many seconds, as of now."""
        ...


class Synthetic:
    """Made-up orders, matched by the engine."""

    def __init__(self, engine: Engine, batching: Batching, seed: str) -> None:
        self._engine, self._batching = engine, batching
        self._flow = order_flow.Flow(engine.books, seed)

    def step(self, seconds: float, now: Nanoseconds) -> Batch:
        """What comes of the next so many seconds, as of now."""
        batch = Batch()
        while seconds > 0:
            some, seconds = min(seconds, BLINK), seconds - BLINK
            for symbol, commands in zip(self._engine.books, self._flow.step(some), strict=True):
                for command in commands:
                    self._batching.add(batch, symbol, self._engine.handle(command, now))
        batch.next_order_id = self._engine.next_order_id
        return batch


class Replay:
    """A recorded book, at the pace that it had; after its end it begins again."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._book = Replayed(recording.symbol, recording.depth)
        self._waited, self._next = 0.0, 0

    def step(self, seconds: float, now: Nanoseconds) -> Batch:
        """What comes of the next so many seconds; at most once through the recording."""
        del now  # a recording has no trades, and levels have no time
        batch = Batch()
        self._waited += seconds
        for _ in self._recording.moments:
            moment = self._recording.moments[self._next]
            if self._waited < moment.seconds:
                break
            self._waited -= moment.seconds
            self._next = (self._next + 1) % len(self._recording.moments)
            batch.outcomes.append(Outcome(self._recording.symbol, levels=list(self._book.apply(moment))))
        return batch
