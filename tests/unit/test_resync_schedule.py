"""The cap on periodic reconciles, with virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import random
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pytest

from aether_operator.controllers.resync_schedule import RESYNCS_PER_SECOND, Resync, ResyncSchedule
from aether_operator.controllers.worker_pool import WorkerPool
from aether_operator.controllers.workqueue import Key, Queue
from aether_testing.values.clocks import VirtualTimeLoop

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MINUTE, HOUR = 60.0, 3600.0
STEADY: Final = Resync(MINUTE)
ROUND: Final = 3000 / RESYNCS_PER_SECOND
"""Seconds in which 3,000 objects are resynced."""


def keys(count: int) -> list[Key]:
    return [Key("Kind", "desk", f"paper-{number}") for number in range(count)]


def after_failover(steady: list[Key]) -> dict[Key, float]:
    """When each is reconciled by the new leader: all within the first minute."""
    return {key: MINUTE * number / len(steady) for number, key in enumerate(steady)}


def simulate(first: Mapping[Key, float], events: Mapping[Key, list[float]], until: float) -> dict[Key, list[float]]:
    """The times of each key's periodic reconciles; events start further ones, as in the workqueue."""
    schedule, resyncs, due = ResyncSchedule(), defaultdict[Key, list[float]](list), dict[Key, float]()
    timeline = [(at, key, False) for key, at in first.items()]
    timeline += [(at, key, False) for key, times in events.items() for at in times]
    heapq.heapify(timeline)
    while timeline and timeline[0][0] <= until:
        now, key, periodic = heapq.heappop(timeline)
        if periodic:
            if due[key] != now:  # an event came first, and gave the key another time
                continue
            resyncs[key].append(now)
        due[key] = now + schedule.next(key, STEADY, now=now)
        heapq.heappush(timeline, (due[key], key, True))
    return resyncs


def assert_cap_is_kept(times: Iterable[float]) -> None:
    """At most five per second, over every ten seconds; one more where these begin and end with one."""
    ordered = sorted(times)
    within = max(bisect_left(ordered, begin + 10) - index for index, begin in enumerate(ordered))
    assert within <= 10 * RESYNCS_PER_SECOND + 1


def longest_gap(times: Iterable[float]) -> float:
    return max(later - earlier for earlier, later in itertools.pairwise(sorted(times)))


def test_cap_is_kept_after_a_failover_whatever_events_come() -> None:
    steady, numbers = keys(3000), random.Random(14)
    events = defaultdict[Key, list[float]](list)
    for at in range(60, 3600):
        for key in numbers.choices(steady, k=5):
            events[key].append(at + numbers.random())
    resyncs = simulate(after_failover(steady), events, HOUR)
    assert_cap_is_kept(at for times in resyncs.values() for at in times)
    for key in steady:
        assert longest_gap([0, *resyncs[key], *events[key], HOUR]) <= ROUND + MINUTE


def test_frequent_events_do_not_put_off_a_resync() -> None:
    (key,) = keys(1)
    resyncs = simulate({key: 0.0}, {key: [at + 0.5 for at in range(3600)]}, HOUR)
    assert longest_gap([0, *resyncs[key], HOUR]) <= MINUTE + 1


def test_few_objects_are_resynced_every_minute() -> None:
    steady = keys(20)
    resyncs = simulate(dict.fromkeys(steady, 0.0), {}, HOUR)
    for key in steady:
        assert len(resyncs[key]) in {59, 60}
        assert longest_gap([0, *resyncs[key]]) <= MINUTE + len(steady) / RESYNCS_PER_SECOND


def test_slot_of_a_deleted_object_is_free_again() -> None:
    schedule, (one, other) = ResyncSchedule(), keys(2)
    slot = schedule.next(one, STEADY, now=0)
    schedule.forget(one)
    schedule.forget(one)
    assert schedule.next(other, STEADY, now=0) == slot


@dataclass
class SteadyController:
    """Every object is steady until it is deleted; notes when each was reconciled."""

    seconds: float = 0.1
    times: dict[Key, list[float]] = field(default_factory=lambda: defaultdict(list))
    deleted: set[Key] = field(default_factory=set)

    async def reconcile(self, key: Key) -> Resync | None:
        self.times[key].append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.seconds)
        return None if key in self.deleted else STEADY

    async def report_failure(self, key: Key, cause: str) -> None:
        raise AssertionError(key, cause)

    def forget(self, key: Key) -> None:
        assert key.namespace == "theirs"


@dataclass
class Access:
    """The namespaces that the operator may not read."""

    denied: set[str] = field(default_factory=set)

    def inaccessible(self, namespace: str, kind: str) -> bool:
        assert kind == "Kind"
        return namespace in self.denied

    async def check_access(self, namespace: str) -> bool:
        return namespace not in self.denied


async def lead(queue: Queue, controller: SteadyController, access: Access, seconds: float) -> None:
    workers = WorkerPool(
        queue=queue, controllers={"Kind": controller}, namespaces=access, guard=lambda: None, random=lambda: 0.5,
        new_id=lambda: "id",
    )  # fmt: skip
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await workers.run(8)


def test_workers_keep_the_cap_after_a_failover() -> None:
    steady, controller = keys(3000), SteadyController()

    async def after_failover() -> None:
        queue = Queue(random=lambda: 0.5)
        for key in steady:
            queue.add(key)
        await lead(queue, controller, Access(), HOUR / 2)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(after_failover())
    assert max(times[0] for times in controller.times.values()) < MINUTE
    assert_cap_is_kept(at for times in controller.times.values() for at in times[1:])
    for key in steady:
        assert longest_gap([*controller.times[key], HOUR / 2]) <= ROUND + MINUTE


@pytest.mark.parametrize("namespace", ["ours", "theirs"])
def test_slot_is_free_once_its_object_cannot_be_reconciled(namespace: str) -> None:
    gone, key = Key("Kind", namespace, "gone"), Key("Kind", "ours", "one")
    controller, access = SteadyController(seconds=0.01), Access()

    async def lose_one() -> None:
        queue = Queue(random=lambda: 0.5)
        leading = asyncio.create_task(lead(queue, controller, access, 2 * MINUTE))
        queue.add(gone)
        await asyncio.sleep(0.02)
        controller.deleted.add(gone)
        access.denied.add("theirs")
        queue.add(gone)
        await asyncio.sleep(0.02)
        queue.add(key)
        await leading

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(lose_one())
    assert controller.times[key][1] == pytest.approx(MINUTE + 1 / RESYNCS_PER_SECOND)
