"""The queue of keys to visit."""

from __future__ import annotations

import asyncio

import pytest

from aether_operator.controllers import workqueue
from aether_operator.controllers.workqueue import Key, Lane, Queue

ONE, OTHER, URGENT = (Key("TradingPlatform", "desk", name) for name in ("one", "other", "urgent"))


def a_queue() -> Queue:
    return Queue(random=lambda: 0.5)  # no jitter


async def nobody_can_take(queue: Queue, lane: Lane = Lane.NORMAL) -> bool:
    """Whether a worker that asks now, and lets everybody else run first, gets nothing."""
    taking = asyncio.create_task(queue.get(lane))
    for _ in range(10):
        await asyncio.sleep(0)
    taking.cancel()
    return not taking.done()


async def test_burst_of_a_hundred_events_is_one_reconcile() -> None:
    queue = a_queue()
    for _ in range(100):
        queue.add(ONE)
    assert await queue.get() == ONE
    assert await nobody_can_take(queue)


async def test_key_added_during_its_reconcile_runs_once_more_afterwards() -> None:
    queue = a_queue()
    queue.add(ONE)
    await queue.get()
    for _ in range(100):
        queue.add(ONE)
    assert await nobody_can_take(queue)
    queue.done(ONE, requeue_after=600)
    assert await queue.get() == ONE
    queue.done(ONE, requeue_after=600)
    assert await nobody_can_take(queue)


async def test_who_waits_for_a_key_is_woken_by_it() -> None:
    queue = a_queue()
    taking = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add(ONE)
    async with asyncio.timeout(30):
        assert await taking == ONE


async def test_keys_are_taken_in_order_with_urgent_ones_first() -> None:
    queue = a_queue()
    queue.add(ONE)
    queue.add(OTHER)
    queue.add(URGENT, lane=Lane.URGENT)
    assert [await queue.get() for _ in range(3)] == [URGENT, ONE, OTHER]


async def test_urgent_worker_leaves_other_keys_alone() -> None:
    queue = a_queue()
    queue.add(ONE)
    assert await nobody_can_take(queue, Lane.URGENT)
    queue.add(URGENT, lane=Lane.URGENT)
    assert await queue.get(Lane.URGENT) == URGENT


async def test_failed_key_backs_off_and_a_success_resets_it() -> None:
    queue = a_queue()
    waits = []
    for _ in range(9):
        queue.add(ONE)
        await queue.get()
        waits.append(queue.failed(ONE))
    assert waits == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
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


@pytest.mark.parametrize(("random", "wait"), [(0.0, 0.25), (0.999, 0.7495)])
async def test_waits_are_spread_around_their_time(random: float, wait: float) -> None:
    queue = Queue(random=lambda: random)
    queue.add(ONE)
    await queue.get()
    assert queue.failed(ONE) == wait


async def test_delayed_key_is_taken_at_its_time() -> None:
    queue = a_queue()
    queue.add_later(ONE, 0.01)
    async with asyncio.timeout(30):
        assert await queue.get() == ONE


async def test_an_event_does_not_wait_for_a_later_time() -> None:
    queue = a_queue()
    queue.add_later(ONE, 3600)
    queue.add(ONE)
    assert await queue.get() == ONE
    assert await nobody_can_take(queue)


async def test_of_two_later_times_the_earlier_counts() -> None:
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
