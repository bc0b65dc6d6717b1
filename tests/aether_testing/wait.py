"""Polls until a condition holds, with a deadline: the one polling loop of the tests, the harness and the benchmarks.

Not for Kubernetes objects: `Namespace.until` and `planes.until` watch those, and need no interval.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
SECONDS: Final = 120.0
"""Enough for a busy machine: tests assert behaviour, and benchmarks measure speed."""
INTERVAL: Final = 0.02
"""Seconds between two evaluations of a condition."""


def until(
    condition: Callable[[], T | None],
    what: str,
    *,
    seconds: float = SECONDS,
    interval: float = INTERVAL,
    detail: Callable[[], object] | None = None,
) -> T:
    """Evaluate a condition until it is true, and return its value.

    Args:
        condition: Evaluated at once, then at intervals. What it raises ends the wait: `assert` in it what must stay
            true meanwhile, such as that a process is alive.
        what: The condition in words, for the error.
        seconds: The deadline.
        interval: Seconds between two evaluations.
        detail: More for the error, such as a log; evaluated only then.

    Raises:
        AssertionError: It was not true within the deadline; says what was awaited, how long, and the last value.
    """
    ends = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < ends, _failure(what, seconds, value, detail)
        time.sleep(interval)
    return value


async def until_async(  # noqa: PLR0913 - each has a default
    condition: Callable[[], object],
    what: str,
    *,
    seconds: float = SECONDS,
    interval: float = INTERVAL,
    detail: Callable[[], object] | None = None,
    clock: Callable[[], float] | None = None,
) -> None:
    """The same in an event loop: other tasks run meanwhile, and the condition may be a coroutine function.

    Args:
        condition: As for `until`, or a function whose result is awaited.
        what: As for `until`.
        seconds: As for `until`; of `clock`.
        interval: As for `until`; 0 lets every other task run once.
        detail: As for `until`.
        clock: The seconds that count for the deadline, such as `Clock.elapsed` in virtual time; by default the loop's.
    """
    now = clock or asyncio.get_running_loop().time
    ends = now() + seconds
    while True:
        found = condition()
        value = await found if inspect.isawaitable(found) else found
        if value:
            return
        assert now() < ends, _failure(what, seconds, value, detail)
        await asyncio.sleep(interval)


def _failure(what: str, seconds: float, value: object, detail: Callable[[], object] | None) -> str:
    more = f"\n{detail()}" if detail is not None else ""
    return f"{what}: not within {seconds:g} s; the last value is {value!r}{more}"
