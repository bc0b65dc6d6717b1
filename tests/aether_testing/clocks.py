"""A clock that a test owns."""

from __future__ import annotations

import asyncio

from aether_services.domain import times
from aether_services.domain.times import Nanoseconds


class Clock:
    """Time passes when somebody sleeps, and only then."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> Nanoseconds:
        """The time of day."""
        return Nanoseconds(round(self.seconds * times.SECOND))

    def elapsed(self) -> float:
        """Seconds."""
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        """Let that much pass."""
        self.seconds += seconds
        await asyncio.sleep(0)
