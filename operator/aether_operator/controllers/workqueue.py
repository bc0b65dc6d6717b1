"""The workqueue: each key at most once, never two reconciles of one key at a time, backoff after failures, lanes."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from aether_operator.controllers import metrics

if TYPE_CHECKING:
    from collections.abc import Callable

BASE_DELAY: Final = 0.5
"""Seconds before the first retry; each further failure doubles them."""
MAX_DELAY: Final = 60.0
"""Seconds between retries at most."""
_MAX_FAILURES: Final = 16
"""Failures that are counted: enough for `MAX_DELAY`, and `1 << failures` stays small."""


class Lane(IntEnum):
    """Priority: a worker of a lane takes keys of its own lane and of more urgent ones."""

    URGENT = 0
    NORMAL = 1


class Key(NamedTuple):
    """The object to reconcile."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


@dataclass(slots=True)
class _Entry:
    lane: Lane
    queued: bool = False
    """In a lane: a worker may get it."""
    processing: bool = False
    """A worker has it."""
    dirty: bool = False
    """Added while a worker had it: it is queued again when the worker is done."""
    failures: int = 0
    timer: asyncio.TimerHandle | None = None
    due: float = 0.0


@dataclass(slots=True, kw_only=True)
class Queue:
    """Keys to reconcile.

    Args:
        random: Returns a new number from 0 to 1 at each call, for jitter.
    """

    random: Callable[[], float]
    _entries: dict[Key, _Entry] = field(default_factory=dict)
    _lanes: dict[Lane, deque[Key]] = field(default_factory=lambda: {lane: deque() for lane in Lane})
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)
    _wakers: set[asyncio.Task[None]] = field(default_factory=set)

    def add(self, key: Key, *, lane: Lane = Lane.NORMAL) -> None:
        """Queue a key for the next free worker."""
        entry = self._entries.setdefault(key, _Entry(lane))
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
        if entry.processing:
            entry.dirty = True
        elif not entry.queued:
            entry.queued = True
            self._lanes[entry.lane].append(key)
            metrics.WORKQUEUE_ADDS.inc()
            self._wake()

    def add_later(self, key: Key, seconds: float, *, lane: Lane = Lane.NORMAL) -> None:
        """Queue a key after this time, unless it is queued earlier; of two times the earlier counts."""
        loop = asyncio.get_running_loop()
        entry = self._entries.setdefault(key, _Entry(lane))
        due = loop.time() + seconds
        if entry.queued or entry.dirty or (entry.timer is not None and entry.due <= due):
            return
        if entry.timer is not None:
            entry.timer.cancel()
        entry.due = due
        entry.timer = loop.call_at(due, self._due, key)

    async def get(self, lane: Lane = Lane.NORMAL) -> Key:
        """Wait for the next key, the most urgent first. No other worker gets it until `done` or `failed`."""
        async with self._arrived:
            while True:
                for one in Lane:
                    if one <= lane and self._lanes[one]:
                        key = self._lanes[one].popleft()
                        entry = self._entries[key]
                        entry.queued, entry.processing = False, True
                        return key
                await self._arrived.wait()

    def done(self, key: Key, *, requeue_after: float | None) -> None:
        """Its reconcile succeeded. Queue it again after so many seconds; with None only an event does."""
        entry = self._entries[key]
        entry.failures = 0
        self._release(key, entry, requeue_after)

    def failed(self, key: Key, *, at_least: float = 0) -> float:
        """Its reconcile failed: queue it again with exponential backoff and jitter. Returns the seconds."""
        entry = self._entries[key]
        delay = min(MAX_DELAY, BASE_DELAY * float(1 << entry.failures)) * (0.5 + self.random())
        delay = max(delay, at_least)
        entry.failures = min(entry.failures + 1, _MAX_FAILURES)
        entry.dirty = False  # an event during the reconcile waits as well: a failing key must not spin
        metrics.WORKQUEUE_RETRIES.inc()
        self._release(key, entry, delay)
        return delay

    def failures(self, key: Key) -> int:
        """How many of its latest reconciles failed in a row."""
        return self._entries[key].failures

    def depth(self) -> int:
        """How many keys wait for a worker."""
        return sum(map(len, self._lanes.values()))

    def keys(self) -> frozenset[Key]:
        """Every key that is queued, with a worker, or due later."""
        return frozenset(self._entries)

    def _release(self, key: Key, entry: _Entry, requeue_after: float | None) -> None:
        entry.processing = False
        if entry.dirty:
            entry.dirty = False
            self.add(key)
        elif requeue_after is not None:
            self.add_later(key, requeue_after)
        elif entry.timer is None:
            del self._entries[key]

    def _due(self, key: Key) -> None:
        self._entries[key].timer = None
        self.add(key)

    def _wake(self) -> None:
        task = asyncio.get_running_loop().create_task(self._notify())
        self._wakers.add(task)
        task.add_done_callback(self._wakers.discard)

    async def _notify(self) -> None:
        async with self._arrived:
            self._arrived.notify_all()
