"""Serves an app on a port until SIGTERM or SIGINT, then shuts down in order: drain first, then close the port."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
from typing import TYPE_CHECKING, Protocol

import uvicorn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
            sockets = listening_sockets(self.config.port)
        await super().startup(sockets)


def listening_sockets(port: int, create_socket: Callable[[int], socket.socket] = socket.socket) -> list[socket.socket]:
    """One bound socket for each of IPv4 and IPv6 that the kernel supports, on all addresses.

    Two sockets rather than one dual-stack socket, so that IPv4 clients keep their addresses instead of appearing as
    IPv4-mapped IPv6.

    Args:
        port: The port of both; with 0 the kernel chooses one, the same for both.
        create_socket: Creates the socket of a family.

    Raises:
        OSError: The port is in use.
    """
    bound: list[socket.socket] = []
    try:
        for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):  # noqa: S104 - within a pod
            try:
                sock = create_socket(family)
            except OSError:
                continue  # the kernel does not support this family
            bound.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind((any_address, port))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
                bound.pop().close()  # supported by the kernel, but disabled
                continue
            port = sock.getsockname()[1]
    except OSError:
        for sock in bound:
            sock.close()
        raise
    return bound


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
