"""Serving: an app on a port until the process is told to end, and then the way out in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from typing import TYPE_CHECKING, Protocol

import uvicorn

if TYPE_CHECKING:
    from collections.abc import Iterator

    import fastapi

log = logging.getLogger(__name__)


class Working(Protocol):
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


def server(app: fastapi.FastAPI, *, host: str, port: int) -> uvicorn.Server:
    """What serves an app on an address, with none of uvicorn's own logging and without its name in the answers."""
    config = uvicorn.Config(
        app,
        host=host,
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


async def serve(server: uvicorn.Server, room: Working, *, grace: float) -> None:
    """Work and serve until SIGTERM or SIGINT, then drain for at most `grace` seconds, then end.

    Raises:
        Exception: What ended the room's work; a process that only answers would look alive.
    """
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for which in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(which, asked.set)
    serving = asyncio.create_task(server.serve())
    working = asyncio.create_task(room.run())
    waiting = asyncio.create_task(asked.wait())
    await asyncio.wait({serving, working, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if not working.done() and waiting.done():
        log.info("draining")
        try:
            async with asyncio.timeout(grace):
                await room.drain()
        except TimeoutError:
            log.warning("drain_cut_short", extra={"seconds": grace})
    server.should_exit = True
    for task in (working, waiting):
        task.cancel()
    await asyncio.wait({serving, working, waiting})
    log.info("ended")
    for task in (working, serving):
        if not task.cancelled() and (fault := task.exception()) is not None:
            raise fault
