"""What each lane has of its own, so that reconciles that hang in one do not delay those of another.

A lane has workers (`worker_pool`), a queue and a cap on its backoff (`workqueue`), and here a client of the API server
with its connections, an event recorder and threads for databases. What the lanes still share:

- the event loop, which nothing may block;
- `fence.Fences`, whose lock is held for access to dicts only;
- the loop's default executor, in which names are resolved: servers whose names do not resolve may occupy its threads.
  That does not affect the API server while its address is an IP. So it is in a pod (KUBERNETES_SERVICE_HOST), unless a
  provider sets a host name there; then it is resolved for new connections, also of the client that renews the Lease.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aether_operator.controllers.workqueue import Lane
from aether_operator.kube import api_client, events

if TYPE_CHECKING:
    from collections.abc import Callable

URGENT_WORKERS: Final = 4
"""Urgent kinds have few objects, but several may change at once, and one may wait for a deadline meanwhile."""
THREADS: Final = {Lane.NORMAL: 8, Lane.URGENT: URGENT_WORKERS}
"""One for each worker (by default, in the normal lane): a reconcile uses one at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneResources:
    """The clients and threads that the controllers of one lane use, and no other."""

    api: api_client.Api
    events: events.EventRecorder
    threads: ThreadPoolExecutor

    async def close(self) -> None:
        """Close the connections and shut down the threads, without waiting for what they execute."""
        self.threads.shutdown(wait=False, cancel_futures=True)
        await self.api.close()


def create(
    lane: Lane,
    *,
    configuration: Any,
    guard: Callable[[], float],
    on_write: Callable[[str, str], None],
    instance: str,
) -> LaneResources:
    """The resources of a lane: `configuration`, `guard` and `on_write` as for `Api`, `instance` as for its events."""
    api = api_client.Api(configuration=configuration, guard=guard, on_write=on_write)
    return LaneResources(
        api=api,
        events=events.EventRecorder(api=api, instance=instance),
        threads=ThreadPoolExecutor(THREADS[lane], thread_name_prefix=f"database-{lane}"),
    )
