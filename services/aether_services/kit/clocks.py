"""Clocks. A service is given one, so that tests can use virtual time."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from aether_services.domain.times import Nanoseconds


class Clock(Protocol):
    """The time, as a service needs it."""

    def now(self) -> Nanoseconds:
        """The wall-clock time."""
        ...

    def elapsed(self) -> float:
        """Monotonic seconds since an arbitrary point."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The clock of the machine."""

    def now(self) -> Nanoseconds:
        return Nanoseconds(time.time_ns())

    def elapsed(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
