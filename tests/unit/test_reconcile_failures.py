"""A failed reconcile: it is reported, and its key is retried."""

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
SECRET: Final = "canary-4c1d"  # noqa: S105 - must not appear in a report


@dataclass
class FailingController:
    """Raises each of `errors` in one reconcile, then succeeds; its reports raise `report_error`."""

    errors: Iterator[BaseException]
    report_error: Exception | None = None
    reported: list[str] = field(default_factory=list)
    succeeded: asyncio.Event = field(default_factory=asyncio.Event)

    async def reconcile(self, key: Key) -> float | None:
        assert key == KEY
        for error in self.errors:
            raise error
        self.succeeded.set()
        return None

    async def report_failure(self, key: Key, cause: str) -> None:
        assert key == KEY
        self.reported.append(cause)
        if self.report_error is not None:
            raise self.report_error

    def forget(self, key: Key) -> None:
        raise AssertionError(key)


class _Accessible:
    """Every namespace is accessible."""

    def inaccessible(self, namespace: str, kind: str) -> bool:
        assert (kind, namespace) == KEY[:2]
        return False

    async def check_access(self, namespace: str) -> bool:
        return namespace == KEY.namespace


class _WithoutBackoff(Queue):
    """A failed key is queued again at once."""

    def failed(self, key: Key, *, at_least: float = 0) -> float:
        delay = super().failed(key, at_least=at_least)
        self.add(key)
        return delay


async def _run(controller: FailingController) -> FailingController:
    """Run workers until a reconcile succeeds or the pool ends."""
    queue = _WithoutBackoff(random=lambda: 0.5)
    workers = worker_pool.WorkerPool(
        queue=queue,
        controllers={"Kind": controller},
        namespaces=_Accessible(),
        guard=lambda: None,
        random=lambda: 0.5,
        new_id=lambda: "id",
    )
    queue.add(KEY)
    task = asyncio.create_task(workers.run(1))
    done = asyncio.create_task(controller.succeeded.wait())
    async with asyncio.timeout(30):
        await asyncio.wait({task, done}, return_when=asyncio.FIRST_COMPLETED)
    for one in (task, done):
        one.cancel()
    if not controller.succeeded.is_set():
        await task
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return controller


async def test_failed_reconcile_is_reported_with_error_and_location() -> None:
    rejected = api_client.ApiError(422, "Invalid", "status.x: must be of type object")
    controller = await _run(FailingController(iter([KeyError("spec"), rejected])))
    assert controller.reported[0].startswith("KeyError: 'spec' at test_reconcile_failures.py:")
    assert controller.reported[1].startswith(
        "ApiError: 422 Invalid: status.x: must be of type object at test_reconcile_failures.py:"
    )


async def test_library_messages_are_not_reported() -> None:
    controller = await _run(FailingController(iter([psycopg.OperationalError(f'user "{SECRET}"')])))
    assert controller.reported[0].startswith("OperationalError at test_reconcile_failures.py:")
    assert SECRET not in controller.reported[0]


@pytest.mark.parametrize("error", [api_client.Unavailable("PATCH /x: 500"), fence.FencedOff("led by another")])
async def test_transient_failure_is_reported_only_once_it_persists(error: Exception) -> None:
    controller = await _run(FailingController(iter([error] * worker_pool.REPORT_AFTER)))
    assert controller.reported == []
    controller = await _run(FailingController(iter([error] * (worker_pool.REPORT_AFTER + 2))))
    assert controller.reported == [str(error)] * 2


async def test_key_whose_failure_cannot_be_reported_is_retried() -> None:
    controller = await _run(
        FailingController(iter([ValueError("x")] * 3), report_error=api_client.Unavailable("no answer"))
    )
    assert len(controller.reported) == 3


async def test_lost_lease_ends_the_work_unreported() -> None:
    controller = FailingController(iter([leader_election.LeaseLost("lost")]))
    with pytest.raises(BaseExceptionGroup) as ended:
        await _run(controller)
    assert ended.group_contains(leader_election.LeaseLost)
    assert controller.reported == []
    controller = FailingController(iter([ValueError("x")]), report_error=leader_election.LeaseLost("lost"))
    with pytest.raises(BaseExceptionGroup) as ended:
        await _run(controller)
    assert ended.group_contains(leader_election.LeaseLost)
