"""The polling loop of tests: what it returns, and what its error says."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from aether_testing import wait
from aether_testing.values.clocks import Clock


def test_true_condition_returns_its_value_without_waiting() -> None:
    assert wait.until(lambda: [7], "a seven", interval=3600) == [7]


def test_condition_is_evaluated_until_it_is_true() -> None:
    numbers = itertools.count()
    assert wait.until(lambda: next(numbers) == 3, "three", interval=0)
    assert next(numbers) == 4


def test_error_says_what_was_awaited_and_the_last_value() -> None:
    with pytest.raises(AssertionError) as failed:
        wait.until(dict, "the pods run", seconds=0.01, interval=0.001, detail=lambda: "its log")
    assert str(failed.value) == "the pods run: not within 0.01 s; the last value is {}\nits log"


def test_detail_is_evaluated_only_for_the_error() -> None:
    assert wait.until(lambda: True, "it", detail=lambda: pytest.fail("there is no error"))


def test_error_in_the_condition_ends_the_wait() -> None:
    def ended() -> bool:
        raise AssertionError("the process ended by itself")

    with pytest.raises(AssertionError, match=r"^the process ended by itself$"):
        wait.until(ended, "it is ready")


async def test_other_tasks_run_while_a_condition_is_awaited() -> None:
    event = asyncio.Event()
    setting = asyncio.create_task(asyncio.to_thread(str))
    setting.add_done_callback(lambda _: event.set())
    await wait.until_async(event.is_set, "the event", interval=0)
    assert setting.done()


async def test_coroutine_function_can_be_a_condition() -> None:
    numbers = itertools.count()

    async def third() -> bool:
        return next(numbers) == 3

    await wait.until_async(third, "three", interval=0)
    assert next(numbers) == 4


async def test_deadline_may_be_of_a_virtual_clock() -> None:
    clock = Clock()

    async def never() -> int:
        await clock.sleep(60)
        return 0

    with pytest.raises(AssertionError, match="it: not within 3600 s; the last value is 0"):
        await wait.until_async(never, "it", seconds=3600, interval=0, clock=clock.elapsed)
    assert clock.elapsed() == Clock().elapsed() + 3600
