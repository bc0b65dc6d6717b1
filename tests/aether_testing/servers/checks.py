"""The connection checks of Kafka, NATS and Redis, run as the operator does; and a server that plays a script."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import re
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from aether_operator import brokers
from aether_operator.observed.server_owners import ServerOwner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from aether_operator.api.platforms import Server
    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.reports import ServerReport

PASSWORD = "t0p-Secret-word"  # noqa: S105 - of servers that this test starts
PAPER = ServerOwner(namespace="desk", uid="5d8f", name="paper", venue="Simulated")


async def check(server: Server, endpoint: Endpoint, *, deadline: float = 20) -> ServerReport:
    """Check a server; the report has no secret, and no task or connection is left behind."""
    return await assert_no_leaks(server, endpoint, brokers.check(server, endpoint, PAPER, deadline=deadline))


async def claim(
    server: Server, endpoint: Endpoint, owner: ServerOwner, guard: Callable[[], object] = str
) -> ServerReport:
    """Check a server and claim it where nobody owns it; the same is asserted."""
    return await assert_no_leaks(server, endpoint, brokers.claim(server, endpoint, owner, guard, deadline=20))


async def assert_no_leaks(server: Server, endpoint: Endpoint, checking: Awaitable[ServerReport]) -> ServerReport:
    """Await a check; its report quotes no secret, and it leaves neither a task nor a connection."""
    report = await checking
    assert report.server is server
    assert report.ok == (report.message == "")
    assert not [one for one in endpoint.secret_values if one and one in repr(report)], report
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert endpoint.port not in set(_connected_ports()), report
    return report


def _connected_ports() -> Iterator[int]:
    """The remote ports that this process is connected to."""
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed by now, or listening
            if file.is_socket():
                with socket.socket(fileno=os.dup(int(file.name))) as one:
                    if one.family == socket.AF_INET:
                        yield one.getpeername()[1]


def another_owner(**other: str) -> ServerOwner:
    return dataclasses.replace(PAPER, **other)


def command_in(command: str) -> str:
    """The command at the end of a message about an owner that is not recorded."""
    return re.split(r"while no owner is recorded, run(?: with [^:]*)?: ", command, maxsplit=1)[1]


async def run_shell(command: str) -> None:
    done = await asyncio.create_subprocess_shell(command, stdout=asyncio.subprocess.DEVNULL)
    assert await done.wait() == 0


@contextlib.contextmanager
def scripted_server(greeting: bytes, *answers: bytes, ends: bool = False) -> Iterator[int]:
    """Listen and send the greeting, then one answer for each message received; then send nothing, or close."""
    taken: list[socket.socket] = []

    def talk(one: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the client may leave earlier
            for answer in (greeting, *answers):
                one.sendall(answer)
                if not ends and not one.recv(4096):
                    return
            if ends:
                one.shutdown(socket.SHUT_WR)

    def listen() -> None:
        with contextlib.suppress(OSError):  # closed at the end of the block
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
