"""The connection checks of Kafka, NATS and Redis, asked as the operator asks; and somebody who only has their words."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from aether_operator import brokers
from aether_operator.observed.owners import Owner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from aether_operator.api.platforms import Server
    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.reports import ServerReport

PASSWORD = "t0p-Secret-word"  # noqa: S105 - of servers that this test starts
PAPER = Owner(namespace="desk", uid="5d8f", name="paper", venue="Simulated")


async def asked(server: Server, endpoint: Endpoint, *, deadline: float = 20) -> ServerReport:
    """Ask; whatever the answer is, it keeps the password to itself and leaves no task and no connection behind."""
    return await kept_to_itself(server, endpoint, brokers.check(server, endpoint, PAPER, deadline=deadline))


async def claimed(server: Server, endpoint: Endpoint, owner: Owner, guard: Callable[[], object] = str) -> ServerReport:
    """The same, and take it where it is nobody's."""
    return await kept_to_itself(server, endpoint, brokers.claim(server, endpoint, owner, guard, deadline=20))


async def kept_to_itself(server: Server, endpoint: Endpoint, asking: Awaitable[ServerReport]) -> ServerReport:
    report = await asking
    assert report.server is server
    assert report.ok == (report.message == "")
    assert not [one for one in endpoint.hidden if one and one in repr(report)], report
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert endpoint.port not in set(_connected()), report
    return report


def _connected() -> Iterator[int]:
    """The ports that this process is connected to."""
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # it is closed by now, or listens
            if file.is_socket():
                with socket.socket(fileno=os.dup(int(file.name))) as one:
                    if one.family == socket.AF_INET:
                        yield one.getpeername()[1]


def another(**other: str) -> Owner:
    return dataclasses.replace(PAPER, **other)


def runs(command: str) -> str:
    """The command that a refusal ends with, run as a person does; what it is told where nothing is written down yet."""
    return command.partition("where nothing is written down yet: ")[2]


async def shell(command: str) -> None:
    done = await asyncio.create_subprocess_shell(command, stdout=asyncio.subprocess.DEVNULL)
    assert await done.wait() == 0


@contextlib.contextmanager
def somebody(greeting: bytes, *answers: bytes, ends: bool = False) -> Iterator[int]:
    """Listens, says the greeting, then an answer to each thing it is told; then it is mute, or ends the connection."""
    taken: list[socket.socket] = []

    def talk(one: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the other side need not hear it out
            for answer in (greeting, *answers):
                one.sendall(answer)
                if not ends and not one.recv(4096):
                    return
            if ends:
                one.shutdown(socket.SHUT_WR)

    def listen() -> None:
        with contextlib.suppress(OSError):  # the end of the block
            while True:
                one, _ = listener.accept()
                taken.append(one)
                talkers.append(threading.Thread(target=talk, args=(one,)))
                talkers[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        talkers = [threading.Thread(target=listen)]
        talkers[0].start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            talkers[0].join()
            for one in taken:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            for talker in talkers:
                talker.join()
            for one in taken:
                one.close()
