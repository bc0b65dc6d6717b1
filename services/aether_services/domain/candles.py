"""The time intervals of candles."""

from __future__ import annotations

from aether_services.domain import times
from aether_services.domain.times import Nanoseconds


def begin_of(at: Nanoseconds, interval: int = times.MINUTE) -> Nanoseconds:
    """The start of the interval that contains a time; intervals are aligned to 1970."""
    return Nanoseconds(at - at % interval)
