"""What becomes of keys whose namespace the API server refuses."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from aether_operator.controllers.worker_pool import WorkerPool
from aether_operator.controllers.workqueue import Key, Queue
from aether_operator.kube import api_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OURS, THEIRS = Key("TradingPlatform", "ours", "paper"), Key("TradingPlatform", "theirs", "paper")
FORBIDDEN = api_client.ApiError(403, "Forbidden", "you may not")


@dataclass
class Controller:
    """Visits what it may; `refusals` are raised first, one a visit."""

    refusals: list[Exception] = field(default_factory=list)
    reconciled: list[Key] = field(default_factory=list)
    forgotten: list[Key] = field(default_factory=list)
    told: list[tuple[Key, str]] = field(default_factory=list)

    async def reconcile(self, key: Key) -> float | None:
        self.reconciled.append(key)
        if self.refusals:
            raise self.refusals.pop()
        return 600.0

    async def report_failure(self, key: Key, cause: str) -> None:
        self.told.append((key, cause))

    def forget(self, key: Key) -> None:
        self.forgotten.append(key)


@dataclass
class Cluster:
    """Which namespaces are refused, and who asked."""

    refused: set[str]
    known: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    silent: bool = False

    def inaccessible(self, namespace: str) -> bool:
        return namespace in self.known

    async def check_access(self, namespace: str) -> bool:
        self.asked.append(namespace)
        if self.silent:
            raise api_client.Unavailable("no answer")
        self.known = set(self.refused)
        return namespace not in self.known


@contextlib.asynccontextmanager
async def at_work(controller: Controller, cluster: Cluster, *keys: Key) -> AsyncIterator[Queue]:
    """These keys, each taken once when this begins."""
    queue = Queue(random=lambda: 0.5)
    for key in keys:
        queue.add(key)
    workers = WorkerPool(
        queue=queue, controllers={"TradingPlatform": controller}, namespaces=cluster, guard=lambda: None,
        random=lambda: 0.5, new_id=lambda: "word",
    )  # fmt: skip
    task = asyncio.create_task(workers.run(1))
    for _ in range(20):
        await asyncio.sleep(0)
    try:
        yield queue
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_what_is_in_a_closed_namespace_is_dropped_unseen() -> None:
    controller, cluster = Controller(), Cluster({"theirs"}, known={"theirs"})
    async with at_work(controller, cluster, THEIRS, OURS) as queue:
        assert (controller.reconciled, controller.forgotten) == ([OURS], [THEIRS])
        assert queue.keys() == {OURS}
        assert cluster.asked == []


async def test_forbidden_reconcile_detects_that_its_namespace_is_closed() -> None:
    controller, cluster = Controller(refusals=[FORBIDDEN]), Cluster({"theirs"})
    async with at_work(controller, cluster, THEIRS, OURS) as queue:
        assert (controller.reconciled, controller.forgotten) == ([THEIRS, OURS], [THEIRS])
        assert queue.keys() == {OURS}
        assert cluster.asked == ["theirs"]


@pytest.mark.parametrize(
    ("refusal", "silent"),
    [(FORBIDDEN, False), (FORBIDDEN, True), (api_client.ApiError(422, "Invalid", "it may not be so"), False)],
)
async def test_single_forbidden_request_is_retried_later(refusal: Exception, *, silent: bool) -> None:
    controller, cluster = Controller(refusals=[refusal]), Cluster(set(), silent=silent)
    async with at_work(controller, cluster, THEIRS) as queue:
        assert (controller.reconciled, controller.forgotten) == ([THEIRS], [])
        assert queue.keys() == {THEIRS}
