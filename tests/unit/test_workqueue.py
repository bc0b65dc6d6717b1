"""The workqueue: deduplication, lanes, backoff, delays."""

from __future__ import annotations

import asyncio

import prometheus_client
import pytest

from aether_operator.controllers import workqueue
from aether_operator.controllers.workqueue import Key, Lane, Queue

ONE, OTHER = (Key("TradingPlatform", "desk", name) for name in ("one", "other"))
URGENT = Key("Switch", "desk", "one")
LANES = {"Switch": Lane.URGENT}


def a_queue() -> Queue:
    return Queue(random=lambda: 0.5, lanes=LANES)  # no jitter


async def is_empty(queue: Queue, lane: Lane = Lane.NORMAL) -> bool:
    """Whether a worker gets no key, even after all other tasks have run."""
    getting = asyncio.create_task(queue.get(lane))
    for _ in range(10):
        await asyncio.sleep(0)
    getting.cancel()
    return not getting.done()


async def test_burst_of_a_hundred_events_is_one_reconcile() -> None:
    queue = a_queue()
    for _ in range(100):
        queue.add(ONE)
    assert await queue.get() == ONE
    assert await is_empty(queue)


async def test_key_added_during_its_reconcile_runs_once_more_afterwards() -> None:
    queue = a_queue()
    queue.add(ONE)
    await queue.get()
    for _ in range(100):
        queue.add(ONE)
    assert await is_empty(queue)
    queue.done(ONE, requeue_after=600)
    assert await queue.get() == ONE
    queue.done(ONE, requeue_after=600)
    assert await is_empty(queue)


async def test_waiting_worker_is_woken_by_a_key() -> None:
    queue = a_queue()
    getting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add(ONE)
    async with asyncio.timeout(30):
        assert await getting == ONE


async def test_keys_are_taken_in_order_by_workers_of_their_lane() -> None:
    queue = a_queue()
    for key in (ONE, URGENT, OTHER):
        queue.add(key)
    async with asyncio.timeout(30):
        assert [await queue.get() for _ in range(2)] == [ONE, OTHER]
        assert await is_empty(queue)
        assert await queue.get(Lane.URGENT) == URGENT
        assert await is_empty(queue, Lane.URGENT)


async def test_key_keeps_its_lane_however_it_is_queued_again() -> None:
    queue = a_queue()
    async with asyncio.timeout(30):
        queue.add_later(URGENT, 0)
        assert await queue.get(Lane.URGENT) == URGENT
        queue.add(URGENT)  # an event during the reconcile
        queue.done(URGENT, requeue_after=None)
        assert await queue.get(Lane.URGENT) == URGENT
        queue.done(URGENT, requeue_after=0)
        assert await queue.get(Lane.URGENT) == URGENT


async def test_failed_key_backs_off_and_a_success_resets_it() -> None:
    queue = a_queue()
    delays = []
    for _ in range(9):
        queue.add(ONE)
        await queue.get()
        delays.append(queue.failed(ONE))
    assert delays == [0.5, 1, 2, 4, 8, 16, 32, 45, 45]
    queue.add(ONE)
    await queue.get()
    queue.done(ONE, requeue_after=None)
    queue.add(ONE)
    await queue.get()
    assert queue.failed(ONE) == workqueue.BASE_DELAY


async def test_requested_delay_bounds_the_backoff_of_normal_keys_only() -> None:
    queue = a_queue()
    queue.add(ONE)
    await queue.get()
    assert queue.failed(ONE, at_least=7) == 7
    queue.add(URGENT)
    await queue.get(queue.lane(URGENT))
    assert queue.failed(URGENT, at_least=7) == workqueue.BASE_DELAY


@pytest.mark.parametrize(("key", "longest"), [(ONE, 60), (URGENT, 1)])
async def test_backoff_never_exceeds_the_cap_of_its_lane(key: Key, longest: float) -> None:
    queue = Queue(random=lambda: 0.999, lanes=LANES)
    delays = []
    for _ in range(20):
        queue.add(key)
        await queue.get(queue.lane(key))
        delays.append(queue.failed(key))
    assert max(delays) == delays[-1] == pytest.approx(longest, rel=0.001)
    assert max(delays) <= longest


async def test_keys_that_fail_together_spread_at_the_cap_too() -> None:
    numbers = iter([0.5] * 9 + [0.0, 0.9])
    queue = Queue(random=lambda: next(numbers))
    delays = []
    for _ in range(11):
        queue.add(ONE)
        await queue.get()
        delays.append(queue.failed(ONE))
    assert delays[-2:] == [30, 57]


@pytest.mark.parametrize(("random", "delay"), [(0.0, 0.25), (0.999, 0.7495)])
async def test_backoff_has_jitter(random: float, delay: float) -> None:
    queue = Queue(random=lambda: random)
    queue.add(ONE)
    await queue.get()
    assert queue.failed(ONE) == delay


async def test_delayed_key_is_taken_at_its_time() -> None:
    queue = a_queue()
    queue.add_later(ONE, 0.01)
    async with asyncio.timeout(30):
        assert await queue.get() == ONE


async def test_event_does_not_wait_for_a_delayed_key() -> None:
    queue = a_queue()
    queue.add_later(ONE, 3600)
    queue.add(ONE)
    assert await queue.get() == ONE
    assert await is_empty(queue)


async def test_earlier_of_two_delays_counts() -> None:
    queue = a_queue()
    queue.add_later(ONE, 3600)
    queue.add_later(ONE, 0.01)
    queue.add_later(ONE, 3600)
    async with asyncio.timeout(30):
        assert await queue.get() == ONE


async def test_deleted_key_leaves_nothing_behind() -> None:
    queue = a_queue()
    queue.add(ONE)
    await queue.get()
    queue.done(ONE, requeue_after=None)
    assert queue.keys() == frozenset()
    assert queue.depth() == 0


async def test_adds_and_retries_are_counted() -> None:
    queue = a_queue()
    before = counted(Lane.NORMAL), counted(Lane.URGENT)
    for _ in range(3):
        queue.add(URGENT)
    await queue.get(queue.lane(URGENT))
    queue.failed(URGENT)
    assert counted(Lane.NORMAL) == before[0]
    assert counted(Lane.URGENT) == [before[1][0] + 1, before[1][1] + 1]


def counted(lane: Lane) -> list[float]:
    """The adds and the retries of a lane."""
    found = [
        prometheus_client.REGISTRY.get_sample_value(f"aether_operator_workqueue_{name}_total", {"lane": lane})
        for name in ("adds", "retries")
    ]
    return [value for value in found if value is not None]


async def test_depth_is_measured_while_no_worker_takes_a_key() -> None:
    def depth() -> float | None:
        return prometheus_client.REGISTRY.get_sample_value("aether_operator_workqueue_depth", {"lane": Lane.NORMAL})

    queue = a_queue()
    assert depth() == 0
    queue.add(ONE)
    queue.add(OTHER)
    assert depth() == 2
    await queue.get()
    assert depth() == 1
