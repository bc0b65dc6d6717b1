"""The lanes: what hangs in the normal one delays nothing in the urgent one."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pytest
from aiohttp import test_utils, web
from kubernetes.aio import client

from aether_operator.controllers import lanes, workqueue
from aether_operator.controllers.worker_pool import WorkerPool
from aether_operator.controllers.workqueue import Key, Lane, Queue
from aether_operator.kube import api_client, sessions
from aether_testing.values.clocks import VirtualTimeLoop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aether_operator.controllers.worker_pool import Controller

WORKERS: Final = 8
LANES: Final = {"Slow": Lane.NORMAL, "Switch": Lane.URGENT}
SWITCH: Final = Key("Switch", "desk", "one")


class Accessible:
    """Every namespace is accessible."""

    def inaccessible(self, namespace: str, kind: str) -> bool:
        return "" in {namespace, kind}

    async def check_access(self, namespace: str) -> bool:
        return namespace != ""


def a_pool(queue: Queue, controllers: dict[str, Controller]) -> WorkerPool:
    return WorkerPool(
        queue=queue, controllers=controllers, namespaces=Accessible(), guard=lambda: None, random=lambda: 0.5,
        new_id=lambda: "id",
    )  # fmt: skip


@dataclass
class ApiServer:
    """Answers at once; requests of /slow are held until `release` is set."""

    release: asyncio.Event = field(default_factory=asyncio.Event)
    held: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[client.Configuration]:
        app = web.Application()
        app.router.add_get("/{name}", self._respond)
        async with test_utils.TestServer(app) as server:
            yield client.Configuration(
                host=str(server.make_url("")).rstrip("/"), connection_pool_maxsize=sessions.CONNECTIONS
            )

    async def _respond(self, request: web.Request) -> web.Response:
        if request.match_info["name"] == "slow":
            self.held.put_nowait(request.path)
            await self.release.wait()
        return web.json_response({})


@dataclass
class LaneController:
    """Reconciles by requests of `path` and by `call` in a thread, with what its lane has."""

    resources: lanes.LaneResources
    path: str
    requests: int
    call: Callable[[], object]
    in_threads: asyncio.Queue[Key] = field(default_factory=asyncio.Queue)
    reconciled: asyncio.Queue[Key] = field(default_factory=asyncio.Queue)

    async def reconcile(self, key: Key) -> None:
        loop = asyncio.get_running_loop()

        def in_thread() -> None:
            loop.call_soon_threadsafe(self.in_threads.put_nowait, key)
            self.call()

        await asyncio.gather(
            loop.run_in_executor(self.resources.threads, in_thread),
            *(self.resources.api.request("GET", self.path) for _ in range(self.requests)),
        )
        self.reconciled.put_nowait(key)

    async def report_failure(self, key: Key, cause: str) -> None:
        raise AssertionError(key, cause)

    def forget(self, key: Key) -> None:
        raise AssertionError(key)


async def test_urgent_key_completes_while_the_normal_lane_is_blocked() -> None:
    server, queue, gate = ApiServer(), Queue(random=lambda: 0.5, lanes=LANES), threading.Event()
    async with asyncio.timeout(30), server.serve() as configuration:
        normal, urgent = (
            lanes.create(lane, configuration=configuration, guard=lambda: 1.0, on_write=print, instance="pod")
            for lane in (Lane.NORMAL, Lane.URGENT)
        )
        slow = LaneController(normal, "/slow", sessions.CONNECTIONS // WORKERS, gate.wait)
        switch = LaneController(urgent, "/fast", 1, bool)
        working = asyncio.create_task(a_pool(queue, {"Slow": slow, "Switch": switch}).run(WORKERS))
        try:
            for number in range(2 * WORKERS):  # half of them wait for a worker
                queue.add(Key("Slow", "desk", f"slow-{number}"))
            for _ in range(sessions.CONNECTIONS):
                await server.held.get()
            for _ in range(lanes.THREADS[Lane.NORMAL]):
                await slow.in_threads.get()

            queue.add(SWITCH)
            assert await switch.reconciled.get() == SWITCH
            assert slow.reconciled.empty()
            assert queue.depth() == WORKERS

            gate.set()
            server.release.set()
            for _ in range(2 * WORKERS):
                await slow.reconciled.get()
        finally:
            gate.set()
            server.release.set()
            working.cancel()
            await asyncio.wait([working])
            await normal.close()
            await urgent.close()


@dataclass
class FailingController:
    """Fails each time, as when the API server asks to wait half a minute; notes when."""

    times: list[float] = field(default_factory=list)

    async def reconcile(self, key: Key) -> None:
        assert key == SWITCH
        self.times.append(asyncio.get_running_loop().time())
        raise api_client.Unavailable("overloaded", after=30)

    async def report_failure(self, key: Key, cause: str) -> None:
        assert (key, cause) == (SWITCH, "overloaded")

    def forget(self, key: Key) -> None:
        raise AssertionError(key)


def test_failing_urgent_key_is_retried_within_a_second_each_time() -> None:
    controller = FailingController()

    async def lead() -> None:
        queue = Queue(random=lambda: 0.999, lanes=LANES)
        queue.add(SWITCH)
        async with asyncio.timeout(60):
            await a_pool(queue, {"Switch": controller}).run(1)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner, pytest.raises(TimeoutError):
        runner.run(lead())
    gaps = [later - earlier for earlier, later in zip(controller.times, controller.times[1:], strict=False)]
    assert len(gaps) >= 58
    assert max(gaps) == pytest.approx(workqueue.MAX_DELAY[Lane.URGENT], rel=0.001)
