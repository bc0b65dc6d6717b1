"""Serving: an app on a port until the process is told to end, and then the way out in order."""

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
    """What works while it is served, and ends in order."""

    async def run(self) -> None:
        """Work until cancelled."""
        ...

    async def drain(self) -> None:
        """Take no more work, and finish or hand over what there is. The app is served until it returns."""
        ...


class _Server(uvicorn.Server):
    """Signals are ours: a drain comes before the end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on both families where no host is said: a host alone gives uvicorn one of them."""
        if not self.config.host:
            sockets = listening_sockets(self.config.port)
        await super().startup(sockets)


def listening_sockets(port: int, create_socket: Callable[[int], socket.socket] = socket.socket) -> list[socket.socket]:
    """A socket of each family that this kernel has, on every address and on one port, which 0 lets it choose.

    Two sockets, so that an IPv4 client has its own address, and not sock of IPv6's that stands for it.

    Raises:
        OSError: The port is taken.
    """
    bound: list[socket.socket] = []
    try:
        for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):  # noqa: S104 - a pod's own
            try:
                sock = create_socket(family)
            except OSError:
                continue  # not in this kernel
            bound.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind((any_address, port))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
                bound.pop().close()  # in the kernel, and switched off
                continue
            port = sock.getsockname()[1]
    except OSError:
        for sock in bound:
            sock.close()
        raise
    return bound


def server(app: fastapi.FastAPI, *, host: str | None, port: int) -> uvicorn.Server:
    """What serves an app on an address, with none of uvicorn's own logging and without its name in the answers.

    Without a host it is every address of this machine, of both families where it has them.
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
        # Compression is per connection: what is encoded once for all would be packed once for each.
        ws_per_message_deflate=False,
    )
    return _Server(config)


async def serve(server: uvicorn.Server, service: Runnable, *, grace: float) -> None:
    """Work and serve until SIGTERM or SIGINT, then drain for at most `grace` seconds, then end.

    Raises:
        Exception: What ended the room's work; a process that only answers would look alive.
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
            log.warning("drain_cut_short", extra={"seconds": grace})
    server.should_exit = True
    for task in (work_task, stop_task):
        task.cancel()
    await asyncio.wait({serve_task, work_task, stop_task})
    log.info("ended")
    for task in (work_task, serve_task):
        if not task.cancelled() and (fault := task.exception()) is not None:
            raise fault
