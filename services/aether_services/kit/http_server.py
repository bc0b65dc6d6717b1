"""Serves an app on a port until SIGTERM or SIGINT, then shuts down in order: drain first, then close the port."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from typing import TYPE_CHECKING, Protocol

import uvicorn

from aether_runtime import listening_sockets

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    import fastapi

log = logging.getLogger(__name__)


class Runnable(Protocol):
    """A service's own work, which runs beside the HTTP server."""

    async def run(self) -> None:
        """Work until cancelled."""
        ...

    async def drain(self) -> None:
        """Take no more work, and finish or hand over what is in progress. The app is served until this returns."""
        ...


class _Server(uvicorn.Server):
    """Leaves the signal handlers to `serve`, which drains the service before it stops the server."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on IPv4 and IPv6 where no host is given: for a host, uvicorn opens a socket of one family only."""
        if not self.config.host:
            sockets = listening_sockets.bind(self.config.port)
        await super().startup(sockets)


def server(app: fastapi.FastAPI, *, host: str | None, port: int) -> uvicorn.Server:
    """A server for an app, without uvicorn's logging and without a Server header.

    Without a host it listens on all addresses, IPv4 and IPv6.
    """
    config = uvicorn.Config(
        app,
        host=host or "",
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        ws="websockets-sansio",
        # Compression is per connection: a message that is encoded once would be compressed once for each subscriber.
        ws_per_message_deflate=False,
    )
    return _Server(config)


async def serve(server: uvicorn.Server, service: Runnable, *, grace: float) -> None:
    """Run the service and the server until SIGTERM or SIGINT, then drain for at most `grace` seconds, then stop.

    Raises:
        Exception: The error that ended the service's work: a process that only answered requests would look alive.
    """
    stop_requested = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop_requested.set)
    serve_task = asyncio.create_task(server.serve())
    work_task = asyncio.create_task(service.run())
    stop_task = asyncio.create_task(stop_requested.wait())
    await asyncio.wait({serve_task, work_task, stop_task}, return_when=asyncio.FIRST_COMPLETED)
    if not work_task.done() and stop_task.done():
        log.info("draining")
        try:
            async with asyncio.timeout(grace):
                await service.drain()
        except TimeoutError:
            log.warning("drain_timeout", extra={"seconds": grace})
    server.should_exit = True
    for task in (work_task, stop_task):
        task.cancel()
    await asyncio.wait({serve_task, work_task, stop_task})
    log.info("stopped")
    for task in (work_task, serve_task):
        if not task.cancelled() and (fault := task.exception()) is not None:
            raise fault
