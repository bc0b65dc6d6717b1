"""Health and metrics over HTTP: alive while the loop turns and, as the leader, while the watches are heard of."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import prometheus_client
from aiohttp import web

from aether_operator.controllers import metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aether_operator.kube.sessions import Freshness

SILENCE: Final = 75.0
"""Seconds: the API server sends a bookmark every 60."""
LAG: Final = 10.0
"""Seconds by which the event loop may be late."""
TICK: Final = 0.5


@dataclass(slots=True, kw_only=True)
class Health:
    """What the probes ask.

    Args:
        fresh: How long ago each watch was heard of.
        leading: Whether this replica holds the Lease.
    """

    freshness: Freshness
    leading: Callable[[], bool]
    worst_lag: float = 0.0
    _told: set[str] = field(default_factory=set)
    """The watches whose age the metrics have."""

    def problems(self) -> list[str]:
        """Why the process should be ended; none is a yes."""
        ages = self.freshness.ages() if self.leading() else {}
        late = [f"loop: {self.worst_lag:.1f} s late"] if self.worst_lag > LAG else []
        return late + [f"watch {path}: silent for {age:.0f} s" for path, age in sorted(ages.items()) if age > SILENCE]

    async def measure(self) -> None:
        """Ask the loop, twice a second, how late it is; the probes see the worst of the last moments."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(TICK)
            lag = time.monotonic() - began - TICK
            metrics.LOOP_LAG.set(lag)
            self.worst_lag = max(lag, self.worst_lag * 0.8)
            self.update_watch_ages()

    def update_watch_ages(self) -> None:
        """The age of each watch for the metrics, and of no other."""
        ages = self.freshness.ages()
        for path in self._told - ages.keys():
            metrics.WATCH_AGE.remove(path)
        for path, age in ages.items():
            metrics.WATCH_AGE.labels(path).set(age if self.leading() else 0)
        self._told = set(ages)

    @contextlib.asynccontextmanager
    async def serve(self, port: int) -> AsyncIterator[int]:
        """Answer on this port, of every address of both families; gives the port, which 0 lets the machine choose."""
        app = web.Application()
        app.router.add_get("/livez", self._live)
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            sockets = listening_sockets(port)
            for one in sockets:
                await web.SockSite(runner, one).start()
            yield sockets[0].getsockname()[1]
        finally:
            await runner.cleanup()

    async def _live(self, _: web.Request) -> web.Response:
        wrong = self.problems()
        return web.Response(status=503 if wrong else 200, text="\n".join(wrong or ["ok"]) + "\n")

    async def _ready(self, _: web.Request) -> web.Response:
        # A candidate is as ready as the leader: it stands by.
        return web.Response(text=("leading" if self.leading() else "standing by") + "\n")

    async def _metrics(self, _: web.Request) -> web.Response:
        body = prometheus_client.generate_latest()
        return web.Response(body=body, headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST})


def listening_sockets(port: int, make: Callable[[int], socket.socket] = socket.socket) -> list[socket.socket]:
    """A socket of each family that this kernel has, on every address and on one port, which 0 lets it choose.

    A host without IPv6 still has the probes answered.

    Raises:
        OSError: The port is taken.
    """
    bound: list[socket.socket] = []
    try:
        for family, everywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):  # noqa: S104 - a pod's own
            try:
                one = make(family)
            except OSError:
                continue  # not in this kernel
            bound.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                one.bind((everywhere, port))
            except OSError as fault:
                if fault.errno != errno.EADDRNOTAVAIL:
                    raise
                bound.pop().close()  # in the kernel, and switched off
                continue
            port = one.getsockname()[1]
    except OSError:
        for one in bound:
            one.close()
        raise
    return bound
