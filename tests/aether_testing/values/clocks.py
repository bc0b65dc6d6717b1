"""Virtual clocks for tests."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, Final

from aether_services.domain import times
from aether_services.domain.times import Nanoseconds
from aether_testing import wait

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

BEGIN: Final = times.parse("2026-11-26T00:00:00Z")
"""The day at which this clock starts, after everything recorded."""


class Clock:
    """Time advances only when a task sleeps."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> Nanoseconds:
        return Nanoseconds(BEGIN + round(self.seconds * times.SECOND))

    def elapsed(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        """Advance the clock."""
        self.seconds += seconds
        await asyncio.sleep(0)


class _Selector(selectors.DefaultSelector):
    """Instead of waiting for the next timer, advances the clock of its loop to it."""

    elapsed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "every task waits, and no timer is set"
        self.elapsed += max(timeout, 0)
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose timers are due at once, in order: hours pass in seconds. For tests without network."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.elapsed


async def run_until(
    clock: Clock,
    work: Coroutine[Any, Any, Any],
    holds: Callable[[], bool],
    seconds: float,
    detail: Callable[[], object] | None = None,
) -> None:
    """Run endless work until a condition holds, within so many virtual seconds; `detail` is shown by the error."""
    task = asyncio.create_task(work)

    def holds_while_it_runs() -> bool:
        if holds():
            return True
        assert not task.done(), task.result()
        return False

    try:
        await wait.until_async(
            holds_while_it_runs, "it holds", seconds=seconds, interval=0, clock=clock.elapsed, detail=detail
        )
    finally:
        task.cancel()
        await asyncio.wait([task])
