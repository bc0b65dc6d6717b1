"""One Kafka, NATS or Redis as many: on each way to it, what is written down of its owner has another name.

A server belongs to one platform. Tests have many platforms, and one real server of each kind: between a platform and
the server lies a way of its own, on which the topic, stream or key of the owner is called otherwise; the names are as
long as the real ones, and all else goes by untouched.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aether_operator.catalog import owners

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

HOST: Final = "127.0.0.1"
PATIENCE: Final = 30.0
NAMES: Final = {owners.TOPIC.name: "owner.{:06}", owners.STREAM: "OWNER_{:06}", owners.KEY: "owner:{:06}"}
"""What the owner stands under → what it does on a way. The subject of the stream is called as the topic is."""


@dataclass(slots=True, kw_only=True)
class Way:
    """A port that leads to a server."""

    server: int
    port: int
    number: int
    """Under which its owner is written down, for connections from now on."""
    frames: bool
    """Whether it is Kafka, which speaks in frames; else it is lines."""


@dataclass(slots=True)
class Ways:
    """All ways, and their thread."""

    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _numbers: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _listening: list[asyncio.Server] = field(default_factory=list)

    def number(self) -> int:
        """One under which nobody's owner is written down."""
        self._numbers += 1
        return self._numbers

    def to(self, server: int, *, frames: bool = False) -> Way:
        """A new way to the server at this port, which is nobody's there."""
        return self._done(self._open(Way(server=server, port=0, number=self.number(), frames=frames)))

    def _done(self, what: Coroutine[None, None, Way]) -> Way:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(PATIENCE)

    async def _open(self, way: Way) -> Way:
        async def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                await _carry(way, reader, writer)
            finally:
                self._tasks.discard(task)

        listening = await asyncio.start_server(met, HOST, 0)
        self._listening.append(listening)
        way.port = listening.sockets[0].getsockname()[1]
        return way

    def run(self) -> None:
        """Until it is stopped."""
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _end(self) -> None:
        for one in self._listening:
            one.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._loop.stop()

    def stop(self) -> None:
        """End all connections and the thread."""
        self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self._end()))


async def _carry(way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Both directions of one connection, until either ends."""
    there = {real.encode(): alias.format(way.number).encode() for real, alias in NAMES.items()}
    back = {alias: real for real, alias in there.items()}
    if way.frames:  # a broker tells its own port, which is not this way
        back |= {_place(way.server): _place(way.port)}
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        server, to_server = await asyncio.open_connection(HOST, way.server)
        parts = _frame if way.frames else _lines
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(parts, reader, to_server, there))
                both.create_task(_pump(parts, server, writer, back))
        except* (OSError, EOFError):
            pass
        finally:
            to_server.close()
    writer.close()


def _place(port: int) -> bytes:
    """A broker's place as Kafka writes it."""
    return len(HOST).to_bytes(2, "big") + HOST.encode() + port.to_bytes(4, "big")


async def _pump(
    parts: Callable[[asyncio.StreamReader], Coroutine[None, None, bytes]],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    names: dict[bytes, bytes],
) -> None:
    while part := await parts(reader):
        for one, other in names.items():
            part = part.replace(one, other)
        writer.write(part)
        await writer.drain()
    raise EOFError  # the other direction ends with it


async def _frame(reader: asyncio.StreamReader) -> bytes:
    size = await reader.readexactly(4)
    return size + await reader.readexactly(int.from_bytes(size, "big"))


async def _lines(reader: asyncio.StreamReader) -> bytes:
    return await reader.readline()


@contextlib.contextmanager
def running() -> Iterator[Ways]:
    """For the length of a block."""
    ways = Ways()
    thread = threading.Thread(target=ways.run, name="apart")
    thread.start()
    try:
        yield ways
    finally:
        ways.stop()
        thread.join(PATIENCE)
        ways._loop.close()  # noqa: SLF001 - of this module
