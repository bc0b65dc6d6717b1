"""The workqueue: each key at most once, never two reconciles of one key at a time, backoff after failures, lanes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from aether_operator.controllers import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aether_operator.api.definition import Definition

BASE_DELAY: Final = 0.5
"""Seconds before the first retry; each further failure doubles them."""
_MAX_FAILURES: Final = 16
"""Failures that are counted: enough for `MAX_DELAY`, and `1 << failures` stays small."""


class Lane(StrEnum):
    """A queue with workers of its own, which take no keys of another lane."""

    NORMAL = "normal"
    URGENT = "urgent"

    @classmethod
    def of(cls, definition: Definition) -> Lane:
        """The lane of a kind's objects."""
        return cls.URGENT if definition.urgent else cls.NORMAL


MAX_DELAY: Final = {Lane.NORMAL: 60.0, Lane.URGENT: 1.0}
"""Seconds between retries at most."""


class Key(NamedTuple):
    """The object to reconcile."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


@dataclass(slots=True)
class _Entry:
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
        lanes: The lane of a kind; of those that it does not have, the normal one.
    """

    random: Callable[[], float]
    lanes: Mapping[str, Lane] = field(default_factory=dict)
    _entries: dict[Key, _Entry] = field(default_factory=dict)
    _waiting: dict[Lane, asyncio.Queue[Key]] = field(default_factory=lambda: {lane: asyncio.Queue() for lane in Lane})

    def __post_init__(self) -> None:
        """Create the metrics of each lane, so that one without keys is 0 and not missing."""
        for lane in Lane:
            metrics.WORKQUEUE_DEPTH.labels(lane).set(0)
            metrics.WORKQUEUE_ADDS.labels(lane)
            metrics.WORKQUEUE_RETRIES.labels(lane)

    def lane(self, key: Key) -> Lane:
        """The lane of a key, which its kind decides."""
        return self.lanes.get(key.kind, Lane.NORMAL)

    def add(self, key: Key) -> None:
        """Queue a key for the next free worker of its lane."""
        entry = self._entries.setdefault(key, _Entry())
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
        if entry.processing:
            entry.dirty = True
        elif not entry.queued:
            entry.queued = True
            lane = self.lane(key)
            self._waiting[lane].put_nowait(key)
            metrics.WORKQUEUE_ADDS.labels(lane).inc()
            metrics.WORKQUEUE_DEPTH.labels(lane).set(self.depth(lane))

    def add_later(self, key: Key, seconds: float) -> None:
        """Queue a key after this time, unless it is queued earlier; of two times the earlier counts."""
        loop = asyncio.get_running_loop()
        entry = self._entries.setdefault(key, _Entry())
        due = loop.time() + seconds
        if entry.queued or entry.dirty or (entry.timer is not None and entry.due <= due):
            return
        if entry.timer is not None:
            entry.timer.cancel()
        entry.due = due
        entry.timer = loop.call_at(due, self._due, key)

    async def get(self, lane: Lane = Lane.NORMAL) -> Key:
        """Wait for the next key of a lane. No other worker gets it until `done` or `failed`."""
        key = await self._waiting[lane].get()
        metrics.WORKQUEUE_DEPTH.labels(lane).set(self.depth(lane))
        entry = self._entries[key]
        entry.queued, entry.processing = False, True
        return key

    def done(self, key: Key, *, requeue_after: float | None) -> None:
        """Its reconcile succeeded. Queue it again after so many seconds; with None only an event does."""
        entry = self._entries[key]
        entry.failures = 0
        self._release(key, entry, requeue_after)

    def failed(self, key: Key, *, at_least: float = 0) -> float:
        """Its reconcile failed: queue it again with exponential backoff and jitter. Returns the seconds.

        `at_least` is what the API server asks for. An urgent key does not wait for it.
        """
        entry, lane = self._entries[key], self.lane(key)
        random = self.random()  # at the maximum too, else keys that fail together are retried together
        delay = min(BASE_DELAY * float(1 << entry.failures) * (0.5 + random), MAX_DELAY[lane] * (0.5 + random / 2))
        if lane is Lane.NORMAL:
            delay = max(delay, at_least)
        entry.failures = min(entry.failures + 1, _MAX_FAILURES)
        entry.dirty = False  # an event during the reconcile waits as well: a failing key must not spin
        metrics.WORKQUEUE_RETRIES.labels(lane).inc()
        self._release(key, entry, delay)
        return delay

    def failures(self, key: Key) -> int:
        """How many of its latest reconciles failed in a row."""
        return self._entries[key].failures

    def depth(self, lane: Lane = Lane.NORMAL) -> int:
        """How many keys wait for a worker of a lane."""
        return self._waiting[lane].qsize()

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
