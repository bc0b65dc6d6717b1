"""Probes and metrics over HTTP. The process is alive while its event loop is on time and its watches receive data."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import prometheus_client
from aiohttp import web

from aether_operator.controllers import metrics
from aether_runtime import listening_sockets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aether_operator.kube.sessions import Freshness

MAX_SILENCE: Final = 75.0
"""Seconds without data from a watch: the API server sends a bookmark every 60."""
MAX_LAG: Final = 10.0
"""Seconds by which the event loop may be late."""
MEASURE_INTERVAL: Final = 0.5


@dataclass(slots=True, kw_only=True)
class Health:
    """Answers the probes.

    Args:
        freshness: When each watch last received data.
        leading: Whether this replica holds the Lease.
    """

    freshness: Freshness
    leading: Callable[[], bool]
    worst_lag: float = 0.0
    _reported: set[str] = field(default_factory=set)
    """The paths that the metric of watch ages has."""

    def problems(self) -> list[str]:
        """Why the kubelet should restart the process; empty while it is healthy."""
        ages = self.freshness.ages() if self.leading() else {}
        problems = [f"loop: {self.worst_lag:.1f} s late"] if self.worst_lag > MAX_LAG else []
        return problems + [
            f"watch {path}: silent for {age:.0f} s" for path, age in sorted(ages.items()) if age > MAX_SILENCE
        ]

    async def measure(self) -> None:
        """Measure twice a second how late the event loop is; `worst_lag` decays slowly, so that probes see a peak."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(MEASURE_INTERVAL)
            lag = time.monotonic() - began - MEASURE_INTERVAL
            metrics.LOOP_LAG.set(lag)
            self.worst_lag = max(lag, self.worst_lag * 0.8)
            self.update_watch_ages()

    def update_watch_ages(self) -> None:
        """Set the metric of watch ages, without paths that are not watched any more."""
        ages = self.freshness.ages()
        for path in self._reported - ages.keys():
            metrics.WATCH_AGE.remove(path)
        for path, age in ages.items():
            metrics.WATCH_AGE.labels(path).set(age if self.leading() else 0)
        self._reported = set(ages)

    @contextlib.asynccontextmanager
    async def serve(self, port: int) -> AsyncIterator[int]:
        """Serve on a port of every address of both families. Yields the port; with 0 the kernel chooses one."""
        app = web.Application()
        app.router.add_get("/livez", self._live)
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            sockets = listening_sockets.bind(port)
            for listener in sockets:
                await web.SockSite(runner, listener).start()
            yield sockets[0].getsockname()[1]
        finally:
            await runner.cleanup()

    async def _live(self, _: web.Request) -> web.Response:
        problems = self.problems()
        return web.Response(status=503 if problems else 200, text="\n".join(problems or ["ok"]) + "\n")

    async def _ready(self, _: web.Request) -> web.Response:
        # A standby replica is ready as well: it can take over.
        return web.Response(text=("leading" if self.leading() else "standing by") + "\n")

    async def _metrics(self, _: web.Request) -> web.Response:
        body = prometheus_client.generate_latest()
        return web.Response(body=body, headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST})
