"""The workqueue: deduplication, lanes, backoff, delays."""

from __future__ import annotations

import asyncio

import prometheus_client
import pytest

from aether_operator.controllers import workqueue
from aether_operator.controllers.workqueue import Key, Lane, Queue

ONE, OTHER, URGENT = (Key("TradingPlatform", "desk", name) for name in ("one", "other", "urgent"))


def a_queue() -> Queue:
    return Queue(random=lambda: 0.5)  # no jitter


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


async def test_keys_are_taken_in_order_with_urgent_ones_first() -> None:
    queue = a_queue()
    queue.add(ONE)
    queue.add(OTHER)
    queue.add(URGENT, lane=Lane.URGENT)
    assert [await queue.get() for _ in range(3)] == [URGENT, ONE, OTHER]


async def test_urgent_worker_leaves_other_keys_alone() -> None:
    queue = a_queue()
    queue.add(ONE)
    assert await is_empty(queue, Lane.URGENT)
    queue.add(URGENT, lane=Lane.URGENT)
    assert await queue.get(Lane.URGENT) == URGENT


async def test_failed_key_backs_off_and_a_success_resets_it() -> None:
    queue = a_queue()
    delays = []
    for _ in range(9):
        queue.add(ONE)
        await queue.get()
        delays.append(queue.failed(ONE))
    assert delays == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    queue.add(ONE)
    await queue.get()
    queue.done(ONE, requeue_after=None)
    queue.add(ONE)
    await queue.get()
    assert queue.failed(ONE) == workqueue.BASE_DELAY


async def test_requested_delay_is_a_lower_bound_of_the_backoff() -> None:
    queue = a_queue()
    queue.add(ONE)
    await queue.get()
    assert queue.failed(ONE, at_least=7) == 7


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
    def counted() -> list[float]:
        names = ("adds", "retries")
        found = [prometheus_client.REGISTRY.get_sample_value(f"aether_operator_workqueue_{one}_total") for one in names]
        return [value for value in found if value is not None]

    adds, retries = counted()
    queue = a_queue()
    for _ in range(3):
        queue.add(ONE)
    await queue.get()
    queue.failed(ONE)
    assert counted() == [adds + 1, retries + 1]
