"""Takes keys from the queue and has them visited: the workers, the outcomes, the clock of each key."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from aether_operator.controllers import logs, metrics
from aether_operator.controllers.workqueue import Lane
from aether_operator.database import fence
from aether_operator.kube import api_client, leader_election

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aether_operator.controllers.workqueue import Key, Queue

log = logging.getLogger(__name__)
JITTER: Final = 0.1
"""Share of a resync's time by which it may come early or late, so that a thousand keys do not come at once."""
REPORT_AFTER: Final = 4
"""Visits that are put off in a row before a person is told: some ten seconds."""


class Controller(Protocol):
    """Who visits one kind."""

    async def reconcile(self, key: Key) -> float | None:
        """Returns after how many seconds the next visit is due."""
        ...

    async def report_failure(self, key: Key, cause: str) -> None:
        """Tell a person that a visit of it failed, and why."""
        ...

    def forget(self, key: Key) -> None:
        """It is not visited any more, until an event asks for it again."""
        ...


class NamespaceAccess(Protocol):
    """Who knows the namespaces that we may look at."""

    def inaccessible(self, namespace: str) -> bool:
        """Whether the API server refuses its objects; when it does not any more, each is put into the queue again."""
        ...

    async def check_access(self, namespace: str) -> bool:
        """Ask the API server."""
        ...


@dataclass(slots=True, kw_only=True)
class WorkerPool:
    """The workers of one leader.

    Args:
        queue: Where keys come from.
        visitors: Kind → who visits it.
        namespaces: What is in one that is closed is not visited.
        guard: Raises when we do not lead any more.
        chance: A number from 0 to 1, anew at each call.
        word: Makes the id of a visit.
    """

    queue: Queue
    controllers: Mapping[str, Controller]
    namespaces: NamespaceAccess
    guard: Callable[[], object]
    random: Callable[[], float]
    new_id: Callable[[], str]

    async def run(self, count: int) -> None:
        """Visit for ever, so many at once; one more serves urgent keys alone.

        Raises:
            LeaseLost: Somebody else acts now.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._serve(Lane.URGENT))
            for _ in range(count):
                group.create_task(self._serve(Lane.NORMAL))

    async def _serve(self, lane: Lane) -> None:
        while True:
            key = await self.queue.get(lane)
            metrics.WORKQUEUE_DEPTH.set(self.queue.depth())
            logs.CONTEXT.set({"key": str(key), "reconcile_id": self.new_id()})
            began = time.monotonic()
            with metrics.ACTIVE_WORKERS.track_inprogress():
                inaccessible = self.namespaces.inaccessible(key.namespace)
                result = self._drop(key) if inaccessible else await self._reconcile(key)
            metrics.RECONCILES.labels(key.kind.lower(), result).inc()
            metrics.RECONCILE_TIME.labels(key.kind.lower()).observe(time.monotonic() - began)
            logs.CONTEXT.set({})

    async def _reconcile(self, key: Key) -> str:
        try:
            due = await self.controllers[key.kind].reconcile(key)
        except leader_election.LeaseLost:
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Not we were cancelled but something that the visit waited for: the key must not stay taken for ever.
            await self._tell(key, "something that it waited for was cancelled")
            self.queue.failed(key)
            return "error"
        except fence.FencedOff as fenced:
            self.guard()  # whoever still holds the Lease takes the fence anew; who does not ends here
            await self._put_off(key, str(fenced))
            wait = self.queue.failed(key)
            log.warning("fenced_off", extra={"cause": str(fenced), "seconds": round(wait, 2)})
            return "requeue"
        except api_client.Unavailable as later:
            await self._put_off(key, str(later))
            wait = self.queue.failed(key, at_least=later.after)
            log.warning("reconcile_requeued", extra={"cause": str(later), "seconds": round(wait, 2)})
            return "requeue"
        except Exception as fault:
            if await self._closes(key, fault):
                return self._drop(key)
            # One object that we cannot cope with must not stop the others; it is told by log, metric and status, and
            # tried again ever more rarely.
            await self._tell(key, logs.summary(fault))
            wait = self.queue.failed(key)
            log.exception("reconcile_failed", extra={"seconds": round(wait, 2)})
            return "error"
        if due is not None:
            due *= 1 + JITTER * (2 * self.random() - 1)
        self.queue.done(key, requeue_after=due)
        return "success"

    async def _closes(self, key: Key, fault: Exception) -> bool:
        """Whether it is the whole namespace that is refused, and not one thing in it: the API server is asked."""
        if not isinstance(fault, api_client.ApiError) or fault.code != api_client.FORBIDDEN:
            return False
        try:
            await self.namespaces.check_access(key.namespace)
        except (api_client.Unavailable, api_client.ApiError) as unknown:
            log.warning("namespace_not_asked", extra={"namespace": key.namespace, "cause": str(unknown)})
        return self.namespaces.inaccessible(key.namespace)

    def _drop(self, key: Key) -> str:
        """Whoever watches the namespace says that it is closed, and lists everything when it is open again."""
        self.controllers[key.kind].forget(key)
        self.queue.done(key, requeue_after=None)
        return "not_watched"

    async def _put_off(self, key: Key, cause: str) -> None:
        """Tell of what usually passes by itself, once it has not for a while."""
        if self.queue.failures(key) >= REPORT_AFTER:
            await self._tell(key, cause)

    async def _tell(self, key: Key, cause: str) -> None:
        """While the key is still ours: nobody else visits it."""
        try:
            await self.controllers[key.kind].report_failure(key, cause)
        except leader_election.LeaseLost:
            raise
        except Exception as fault:  # noqa: BLE001 - the visit is tried again, and so is this
            log.warning("failure_not_reported", extra={"cause": logs.summary(fault)})
