"""The queue of keys to visit: each once, never two visits of one at a time, late after failures, urgent ones first."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

BASE_DELAY: Final = 0.5
MAX_DELAY: Final = 60.0


class Lane(IntEnum):
    """Whose keys go first; a worker of a lane takes keys of it and of the more urgent ones."""

    URGENT = 0
    NORMAL = 1


class Key(NamedTuple):
    """An object to visit."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


@dataclass(slots=True)
class _Entry:
    lane: Lane
    waiting: bool = False
    """In a lane, to be taken."""
    visiting: bool = False
    again: bool = False
    """Asked for while it was being visited."""
    failures: int = 0
    timer: asyncio.TimerHandle | None = None
    due: float = 0.0


@dataclass(slots=True, kw_only=True)
class Queue:
    """Keys to visit.

    Args:
        chance: A number from 0 to 1, anew at each call: the jitter.
    """

    random: Callable[[], float]
    _entries: dict[Key, _Entry] = field(default_factory=dict)
    _lanes: dict[Lane, deque[Key]] = field(default_factory=lambda: {lane: deque() for lane in Lane})
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)
    _wakers: set[asyncio.Task[None]] = field(default_factory=set)

    def add(self, key: Key, *, lane: Lane = Lane.NORMAL) -> None:
        """Visit it as soon as somebody is free."""
        entry = self._entries.setdefault(key, _Entry(lane))
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
        if entry.visiting:
            entry.again = True
        elif not entry.waiting:
            entry.waiting = True
            self._lanes[entry.lane].append(key)
            self._wake()

    def add_later(self, key: Key, seconds: float, *, lane: Lane = Lane.NORMAL) -> None:
        """Visit it after this time, or earlier if it is asked for; the earlier of two times counts."""
        loop = asyncio.get_running_loop()
        entry = self._entries.setdefault(key, _Entry(lane))
        due = loop.time() + seconds
        if entry.waiting or entry.again or (entry.timer is not None and entry.due <= due):
            return
        if entry.timer is not None:
            entry.timer.cancel()
        entry.due = due
        entry.timer = loop.call_at(due, self._due, key)

    async def get(self, lane: Lane = Lane.NORMAL) -> Key:
        """The next key, the most urgent first; it is nobody else's until `done`."""
        async with self._arrived:
            while True:
                for one in Lane:
                    if one <= lane and self._lanes[one]:
                        key = self._lanes[one].popleft()
                        entry = self._entries[key]
                        entry.waiting, entry.visiting = False, True
                        return key
                await self._arrived.wait()

    def done(self, key: Key, *, requeue_after: float | None) -> None:
        """It was visited without a fault; visit it again after this time, or never unless it is asked for."""
        entry = self._entries[key]
        entry.failures = 0
        self._end(key, entry, requeue_after)

    def failed(self, key: Key, *, at_least: float = 0) -> float:
        """Its visit failed: again after a while that doubles, with jitter. Returns the seconds."""
        entry = self._entries[key]
        doubled = BASE_DELAY * float(1 << entry.failures)
        wait = min(MAX_DELAY, doubled) * (0.5 + self.random())
        wait = max(wait, at_least)
        entry.failures = min(entry.failures + 1, 16)
        entry.again = False  # what asked meanwhile waits as well: a failing key must not spin
        self._end(key, entry, wait)
        return wait

    def failures(self, key: Key) -> int:
        """How many of its visits failed in a row, up to the last."""
        return self._entries[key].failures

    def depth(self) -> int:
        """How many wait to be taken."""
        return sum(map(len, self._lanes.values()))

    def keys(self) -> frozenset[Key]:
        """Every key that is waiting, under way or due."""
        return frozenset(self._entries)

    def _end(self, key: Key, entry: _Entry, requeue_after: float | None) -> None:
        entry.visiting = False
        if entry.again:
            entry.again = False
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
