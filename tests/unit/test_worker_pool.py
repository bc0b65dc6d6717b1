"""The workers and namespaces to which the API server denies access."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from aether_operator.controllers import worker_pool
from aether_operator.controllers.worker_pool import WorkerPool
from aether_operator.controllers.workqueue import Key, Queue
from aether_operator.kube import api_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OURS, THEIRS = Key("TradingPlatform", "ours", "paper"), Key("TradingPlatform", "theirs", "paper")
WIDGET = Key("Widget", "theirs", "small")
FORBIDDEN = api_client.ApiError(403, "Forbidden", "you may not")


@dataclass
class Controller:
    """Succeeds, after it raised each of `errors` in one reconcile."""

    errors: list[Exception] = field(default_factory=list)
    reconciled: list[Key] = field(default_factory=list)
    forgotten: list[Key] = field(default_factory=list)
    reported: list[tuple[Key, str]] = field(default_factory=list)

    async def reconcile(self, key: Key) -> float | None:
        self.reconciled.append(key)
        if self.errors:
            raise self.errors.pop()
        return 600.0

    async def report_failure(self, key: Key, cause: str) -> None:
        self.reported.append((key, cause))

    def forget(self, key: Key) -> None:
        self.forgotten.append(key)


@dataclass
class NamespaceAccess:
    """What is denied, as namespace and kind: `denied`, and in `known` what a check found to be so."""

    denied: set[tuple[str, str]]
    known: set[tuple[str, str]] = field(default_factory=set)
    checked: list[str] = field(default_factory=list)
    silent: bool = False

    def inaccessible(self, namespace: str, kind: str) -> bool:
        return (namespace, kind) in self.known

    async def check_access(self, namespace: str) -> bool:
        self.checked.append(namespace)
        if self.silent:
            raise api_client.Unavailable("no answer")
        self.known = set(self.denied)
        return namespace not in {one for one, _ in self.known}


@contextlib.asynccontextmanager
async def running(controller: Controller, access: NamespaceAccess, *keys: Key) -> AsyncIterator[Queue]:
    """The queue of a running pool, each of these keys reconciled once."""
    queue = Queue(random=lambda: 0.5)
    for key in keys:
        queue.add(key)
    workers = WorkerPool(
        queue=queue, controllers=dict.fromkeys(("TradingPlatform", "Widget"), controller), namespaces=access,
        guard=lambda: None, random=lambda: 0.5, new_id=lambda: "id",
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


async def test_key_of_an_inaccessible_kind_is_dropped() -> None:
    controller, access = Controller(), NamespaceAccess(set(), known={("theirs", "TradingPlatform")})
    async with running(controller, access, THEIRS, WIDGET, OURS) as queue:
        assert (controller.reconciled, controller.forgotten) == ([WIDGET, OURS], [THEIRS])
        assert queue.keys() == {WIDGET, OURS}
        assert access.checked == []


async def test_forbidden_reconcile_detects_that_its_namespace_is_inaccessible() -> None:
    controller, access = Controller(errors=[FORBIDDEN]), NamespaceAccess({("theirs", "TradingPlatform")})
    async with running(controller, access, THEIRS, OURS) as queue:
        assert (controller.reconciled, controller.forgotten) == ([THEIRS, OURS], [THEIRS])
        assert queue.keys() == {OURS}
        assert access.checked == ["theirs"]


@pytest.mark.parametrize(
    ("error", "silent"),
    [(FORBIDDEN, False), (FORBIDDEN, True), (api_client.ApiError(422, "Invalid", "a field is wrong"), False)],
)
async def test_single_forbidden_request_is_retried_later(error: Exception, *, silent: bool) -> None:
    controller, access = Controller(errors=[error]), NamespaceAccess(set(), silent=silent)
    async with running(controller, access, THEIRS) as queue:
        assert (controller.reconciled, controller.forgotten) == ([THEIRS], [])
        assert queue.keys() == {THEIRS}


@pytest.mark.parametrize(("failures", "level"), [(0, "INFO"), (worker_pool.REPORT_AFTER, "WARNING")])
async def test_temporary_failure_is_a_warning_only_if_it_lasts(
    failures: int, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    controller = Controller(errors=[api_client.Unavailable("no response")])
    queue = Queue(random=lambda: 0.5)
    queue.add(OURS)
    for _ in range(failures):
        await queue.get()
        queue.failed(OURS)
        queue.add(OURS)
    workers = WorkerPool(
        queue=queue, controllers={"TradingPlatform": controller}, namespaces=NamespaceAccess(set()),
        guard=lambda: None, random=lambda: 0.5, new_id=lambda: "id",
    )  # fmt: skip
    task = asyncio.create_task(workers.run(1))
    for _ in range(20):
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert [one.levelname for one in caplog.records if one.getMessage() == "reconcile_requeued"] == [level]
