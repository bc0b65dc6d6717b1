"""Proxies that make one Kafka, NATS or Redis look like many: each renames the place where the owner is recorded.

A server belongs to one platform. Tests have many platforms and one real server of each kind, so every platform connects
through a proxy of its own, which renames the topic, stream or key of the owner. The replacements are as long as the
real names, and all other bytes pass unchanged.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aether_operator.catalog import owners

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

HOST: Final = "127.0.0.1"
TIMEOUT: Final = 30.0
NAMES: Final = {owners.TOPIC.name: "owner.{:06}", owners.STREAM: "OWNER_{:06}", owners.KEY: "owner:{:06}"}
"""The real name → its replacement, by the proxy's number. The stream's subject has the same name as the topic."""


@dataclass(slots=True, kw_only=True)
class Proxy:
    """A port that forwards to a server."""

    server: int
    port: int
    owner_number: int
    """The number in the owner's name, for connections from now on."""
    kafka: bool
    """Whether the protocol is Kafka's, with frames; else it has lines."""


@dataclass(slots=True)
class Proxies:
    """All proxies, and their thread."""

    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _last_number: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _listeners: list[asyncio.Server] = field(default_factory=list)
    _transports: weakref.WeakSet[asyncio.WriteTransport] = field(default_factory=weakref.WeakSet)

    def new_owner_number(self) -> int:
        """A number under which no owner is recorded yet."""
        self._last_number += 1
        return self._last_number

    def add(self, server: int, *, kafka: bool = False) -> Proxy:
        """Start a proxy to the server at this port; behind it the server has no owner."""
        return self._call(self._open(Proxy(server=server, port=0, owner_number=self.new_owner_number(), kafka=kafka)))

    def _call(self, coroutine: Coroutine[None, None, Proxy]) -> Proxy:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(TIMEOUT)

    async def _open(self, proxy: Proxy) -> Proxy:
        async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            self._transports.add(writer.transport)
            try:
                await _forward(proxy, reader, writer, self._transports)
            except asyncio.CancelledError:
                pass  # by `_close_all`, and nothing is left to do; asyncio would print a traceback
            finally:
                self._tasks.discard(task)

        listener = await asyncio.start_server(on_connection, HOST, 0)
        self._listeners.append(listener)
        proxy.port = listener.sockets[0].getsockname()[1]
        return proxy

    def run(self) -> None:
        """Run the event loop until `stop`."""
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _close_all(self) -> None:
        for one in self._listeners:
            one.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # One that was closed stays open while its peer does not read what is buffered.
        for transport in self._transports:
            transport.abort()
        await asyncio.sleep(0)
        self._loop.stop()

    def stop(self) -> None:
        """Close all connections and stop the loop."""
        self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self._close_all()))


async def _forward(
    proxy: Proxy,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    transports: weakref.WeakSet[asyncio.WriteTransport],
) -> None:
    """Copy both directions of one connection, until either ends."""
    outbound = {real.encode(): alias.format(proxy.owner_number).encode() for real, alias in NAMES.items()}
    inbound = {alias: real for real, alias in outbound.items()}
    if proxy.kafka:  # a broker advertises its own port, which would bypass the proxy
        inbound |= {_broker_address(proxy.server): _broker_address(proxy.port)}
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        server, to_server = await asyncio.open_connection(HOST, proxy.server)
        transports.add(to_server.transport)
        read_part = _read_frame if proxy.kafka else _read_line
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(read_part, reader, to_server, outbound))
                both.create_task(_copy(read_part, server, writer, inbound))
        except* (OSError, EOFError):
            pass
        finally:
            to_server.close()
    writer.close()


def _broker_address(port: int) -> bytes:
    """A broker's host and port in Kafka's encoding."""
    return len(HOST).to_bytes(2, "big") + HOST.encode() + port.to_bytes(4, "big")


async def _copy(
    read_part: Callable[[asyncio.StreamReader], Coroutine[None, None, bytes]],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    replacements: dict[bytes, bytes],
) -> None:
    while part := await read_part(reader):
        for one, replacement in replacements.items():
            part = part.replace(one, replacement)
        writer.write(part)
        await writer.drain()
    raise EOFError  # the other direction ends, too


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    size = await reader.readexactly(4)
    return size + await reader.readexactly(int.from_bytes(size, "big"))


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    return await reader.readline()


@contextlib.contextmanager
def running() -> Iterator[Proxies]:
    """Proxies for the length of a block."""
    proxies = Proxies()
    thread = threading.Thread(target=proxies.run, name="shared-servers")
    thread.start()
    try:
        yield proxies
    finally:
        proxies.stop()
        thread.join(TIMEOUT)
        proxies._loop.close()  # noqa: SLF001 - of this module
