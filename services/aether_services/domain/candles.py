"""Candles: the intervals of time that trades are told by."""

from __future__ import annotations

from aether_services.domain import times
from aether_services.domain.times import Nanoseconds


def begin_of(at: Nanoseconds, interval: int = times.MINUTE) -> Nanoseconds:
    """When the interval began that a time lies in; intervals are counted from 1970."""
    return Nanoseconds(at - at % interval)
