"""What becomes of a visit that fails: a person is told, the key is tried again, and the others are not held up."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import psycopg
import pytest

from aether_operator.controllers import worker_pool
from aether_operator.controllers.workqueue import Key, Queue
from aether_operator.database import fence
from aether_operator.kube import api_client, leader_election

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY: Final = Key("Kind", "desk", "paper")
SECRET: Final = "canary-4c1d"  # noqa: S105 - to see that nobody tells it


@dataclass
class FailingController:
    """Fails with these, one visit after the other, then does well; `untold` is what telling of it fails with."""

    faults: Iterator[BaseException]
    untold: Exception | None = None
    told: list[str] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def reconcile(self, key: Key) -> float | None:
        assert key == KEY
        for fault in self.faults:
            raise fault
        self.ended.set()
        return None

    async def report_failure(self, key: Key, cause: str) -> None:
        assert key == KEY
        self.told.append(cause)
        if self.untold is not None:
            raise self.untold

    def forget(self, key: Key) -> None:
        raise AssertionError(key)


class _Open:
    """Every namespace may be looked at."""

    def inaccessible(self, namespace: str) -> bool:
        assert namespace == KEY.namespace
        return False

    async def check_access(self, namespace: str) -> bool:
        return not self.inaccessible(namespace)


class _Impatient(Queue):
    """What failed is visited again at once."""

    def failed(self, key: Key, *, at_least: float = 0) -> float:
        wait = super().failed(key, at_least=at_least)
        self.add(key)
        return wait


async def _worked(controller: FailingController) -> FailingController:
    """Work until a visit does well, or the work ends."""
    queue = _Impatient(random=lambda: 0.5)
    workers = worker_pool.WorkerPool(
        queue=queue,
        controllers={"Kind": controller},
        namespaces=_Open(),
        guard=lambda: None,
        random=lambda: 0.5,
        new_id=lambda: "w",
    )
    queue.add(KEY)
    task = asyncio.create_task(workers.run(1))
    done = asyncio.create_task(controller.ended.wait())
    async with asyncio.timeout(30):
        await asyncio.wait({task, done}, return_when=asyncio.FIRST_COMPLETED)
    for one in (task, done):
        one.cancel()
    if not controller.ended.is_set():
        await task
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return controller


async def test_failed_reconcile_is_reported_with_error_and_location() -> None:
    refused = api_client.ApiError(422, "Invalid", "status.x: must be of type object")
    controller = await _worked(FailingController(iter([KeyError("spec"), refused])))
    assert controller.told[0].startswith("KeyError: 'spec' at test_reconcile_failures.py:")
    assert controller.told[1].startswith(
        "ApiError: 422 Invalid: status.x: must be of type object at test_reconcile_failures.py:"
    )


async def test_library_messages_are_not_reported() -> None:
    controller = await _worked(FailingController(iter([psycopg.OperationalError(f'user "{SECRET}"')])))
    assert controller.told[0].startswith("OperationalError at test_reconcile_failures.py:")
    assert SECRET not in controller.told[0]


@pytest.mark.parametrize("fault", [api_client.Unavailable("PATCH /x: 500"), fence.FencedOff("led by another")])
async def test_transient_failure_is_reported_only_once_it_persists(fault: Exception) -> None:
    controller = await _worked(FailingController(iter([fault] * worker_pool.REPORT_AFTER)))
    assert controller.told == []
    controller = await _worked(FailingController(iter([fault] * (worker_pool.REPORT_AFTER + 2))))
    assert controller.told == [str(fault)] * 2


async def test_key_whose_failure_cannot_be_reported_is_retried() -> None:
    controller = await _worked(FailingController(iter([ValueError("x")] * 3), untold=api_client.Unavailable("away")))
    assert len(controller.told) == 3


async def test_lost_lease_ends_the_work_unreported() -> None:
    controller = FailingController(iter([leader_election.LeaseLost("gone")]))
    with pytest.raises(BaseExceptionGroup) as ended:
        await _worked(controller)
    assert ended.group_contains(leader_election.LeaseLost)
    assert controller.told == []
    controller = FailingController(iter([ValueError("x")]), untold=leader_election.LeaseLost("gone"))
    with pytest.raises(BaseExceptionGroup) as ended:
        await _worked(controller)
    assert ended.group_contains(leader_election.LeaseLost)
