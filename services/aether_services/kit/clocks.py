"""Clocks: a room is given one, so that a test may own the time."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from aether_services.domain.times import Nanoseconds


class Clock(Protocol):
    """What a room needs of time."""

    def now(self) -> Nanoseconds:
        """The time of day."""
        ...

    def elapsed(self) -> float:
        """Seconds since some moment; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let that much time pass."""
        ...


class SystemClock:
    """The machine's."""

    def now(self) -> Nanoseconds:
        """The time of day."""
        return Nanoseconds(time.time_ns())

    def elapsed(self) -> float:
        """Seconds since some moment; never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Let that much time pass."""
        await asyncio.sleep(seconds)
