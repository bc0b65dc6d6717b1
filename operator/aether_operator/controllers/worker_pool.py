"""The workers: each gets a key from the queue, has its controller reconcile it, and requeues it by the result."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from aether_operator.controllers import lanes, metrics
from aether_operator.controllers.resync_schedule import Resync, ResyncSchedule
from aether_operator.controllers.workqueue import Lane
from aether_operator.database import fence
from aether_operator.kube import api_client, leader_election
from aether_runtime import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aether_operator.controllers.workqueue import Key, Queue

log = logging.getLogger(__name__)
JITTER: Final = 0.1
"""Share by which the time of a requeue varies, so that a thousand keys do not come at once."""
REPORT_AFTER: Final = 4
"""Retries in a row after which a temporary failure is reported on the object: some ten seconds."""


class Controller(Protocol):
    """Reconciles the objects of one kind."""

    async def reconcile(self, key: Key) -> float | Resync | None:
        """Returns the seconds until the next reconcile, or None when only an event starts one.

        A steady object's is a Resync: of those there is a cap per second over all kinds.
        """
        ...

    async def report_failure(self, key: Key, cause: str) -> None:
        """Report on the object that its reconcile failed, and why."""
        ...

    def forget(self, key: Key) -> None:
        """Drop what is remembered of an object that is not reconciled any more, until an event adds it again."""
        ...


class NamespaceAccess(Protocol):
    """What the operator may read of a namespace."""

    def inaccessible(self, namespace: str, kind: str) -> bool:
        """Whether the API server denies listing its objects of a kind. Each is queued again once it allows that."""
        ...

    async def check_access(self, namespace: str) -> bool:
        """Query the API server."""
        ...


@dataclass(slots=True, kw_only=True)
class WorkerPool:
    """The workers of one leader.

    Args:
        queue: The keys to reconcile.
        controllers: The controller of each kind.
        namespaces: Keys of what is inaccessible are dropped.
        guard: Raises `LeaseLost` when this process does not lead any more.
        random: Returns a new number from 0 to 1 at each call, for jitter.
        new_id: Makes the id of a reconcile, for its log lines.
    """

    queue: Queue
    controllers: Mapping[str, Controller]
    namespaces: NamespaceAccess
    guard: Callable[[], object]
    random: Callable[[], float]
    new_id: Callable[[], str]
    _resyncs: ResyncSchedule = field(default_factory=ResyncSchedule)

    async def run(self, count: int) -> None:
        """Run `count` workers for normal keys, and others for urgent ones, until cancelled.

        Raises:
            LeaseLost: This process does not lead any more.
        """
        async with asyncio.TaskGroup() as group:
            for lane, workers in ((Lane.NORMAL, count), (Lane.URGENT, lanes.URGENT_WORKERS)):
                for _ in range(workers):
                    group.create_task(self._work(lane))

    async def _work(self, lane: Lane) -> None:
        active = metrics.ACTIVE_WORKERS.labels(lane)
        while True:
            key = await self.queue.get(lane)
            logs.CONTEXT.set({"key": str(key), "reconcile_id": self.new_id()})
            began = time.monotonic()
            with active.track_inprogress():
                inaccessible = self.namespaces.inaccessible(key.namespace, key.kind)
                result = self._drop(key) if inaccessible else await self._reconcile(key)
            metrics.RECONCILES.labels(key.kind.lower(), result).inc()
            metrics.RECONCILE_TIME.labels(key.kind.lower()).observe(time.monotonic() - began)
            logs.CONTEXT.set({})

    async def _reconcile(self, key: Key) -> str:
        """Reconcile a key and requeue it. Returns the result, as the metrics name it."""
        try:
            next_reconcile = await self.controllers[key.kind].reconcile(key)
        except leader_election.LeaseLost:
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Not this worker was cancelled, but something that it awaited: without a retry the key would stay taken.
            await self._report(key, "something that it waited for was cancelled")
            self.queue.failed(key)
            return "error"
        except fence.FencedOff as fenced:
            self.guard()  # whoever still holds the Lease takes the fence anew; who does not ends here
            level = await self._report_if_lasting(key, str(fenced))
            delay = self.queue.failed(key)
            log.log(level, "fenced_off", extra={"cause": str(fenced), "seconds": round(delay, 2)})
            return "requeue"
        except api_client.Unavailable as unavailable:
            level = await self._report_if_lasting(key, str(unavailable))
            delay = self.queue.failed(key, at_least=unavailable.after)
            log.log(level, "reconcile_requeued", extra={"cause": str(unavailable), "seconds": round(delay, 2)})
            return "requeue"
        except Exception as error:
            if await self._access_denied(key, error):
                return self._drop(key)
            # One object that cannot be reconciled must not stop the others: it is reported in log, metric and status,
            # and retried with backoff.
            await self._report(key, logs.summary(error))
            delay = self.queue.failed(key)
            log.exception("reconcile_failed", extra={"seconds": round(delay, 2)})
            return "error"
        self.queue.done(key, requeue_after=self._requeue_after(key, next_reconcile))
        return "success"

    def _requeue_after(self, key: Key, next_reconcile: float | Resync | None) -> float | None:
        """The seconds after which to queue a key again; None when only an event does."""
        if next_reconcile is None:
            self._resyncs.forget(key)
            return None
        if isinstance(next_reconcile, Resync):
            if self.queue.lane(key) is Lane.NORMAL:  # without jitter: each has a slot of its own
                return self._resyncs.next(key, next_reconcile, now=asyncio.get_running_loop().time())
            next_reconcile = next_reconcile.seconds  # urgent objects are few, and do not wait for slots of others
        return next_reconcile * (1 + JITTER * (2 * self.random() - 1))

    async def _access_denied(self, key: Key, error: Exception) -> bool:
        """Whether the API server denies the whole kind in the namespace, and not one request: it is queried."""
        if not isinstance(error, api_client.ApiError) or error.code != api_client.FORBIDDEN:
            return False
        try:
            await self.namespaces.check_access(key.namespace)
        except (api_client.Unavailable, api_client.ApiError) as unknown:
            log.warning("access_check_failed", extra={"namespace": key.namespace, "cause": str(unknown)})
        return self.namespaces.inaccessible(key.namespace, key.kind)

    def _drop(self, key: Key) -> str:
        """The watcher logs that the namespace is inaccessible, and queues all its objects when it is not any more."""
        self.controllers[key.kind].forget(key)
        self._resyncs.forget(key)
        self.queue.done(key, requeue_after=None)
        return "not_watched"

    async def _report_if_lasting(self, key: Key, cause: str) -> int:
        """Report a failure that usually passes by itself, once it has not for a while. Returns the level to log it."""
        if self.queue.failures(key) < REPORT_AFTER:
            return logging.INFO
        await self._report(key, cause)
        return logging.WARNING

    async def _report(self, key: Key, cause: str) -> None:
        """Called before the key is requeued, so that no other worker reconciles the object meanwhile."""
        try:
            await self.controllers[key.kind].report_failure(key, cause)
        except leader_election.LeaseLost:
            raise
        except Exception as error:  # noqa: BLE001 - the reconcile is retried, and so is the report
            log.warning("failure_not_reported", extra={"cause": logs.summary(error)})
