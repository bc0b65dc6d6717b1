"""Ports for servers under test that are started a moment later.

Not from the kernel's ephemeral ports: an outgoing connection of any process may take one of those meanwhile. Each
pytest worker has a range of its own, and takes from it in order, so that a port is not given again soon.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from typing import Final

HOST: Final = "127.0.0.1"
FIRST: Final = 20000
"""Below the kernel's ephemeral ports, which begin at 32768."""
COUNT: Final = 600
"""Of a worker; a multiple of ten."""
WORKERS: Final = 16

_START: Final = FIRST + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS * COUNT
# Two runs of tests at once begin at different places.
_numbers: Final = itertools.islice(itertools.cycle(range(_START, _START + COUNT)), os.getpid() % COUNT, None)


def one() -> int:
    """A port that is free, and is not given to another test soon."""
    return next(port for port in _numbers if _is_free(port))


def consecutive(count: int) -> tuple[str, list[int]]:
    """Consecutive free ports, and the URL of the n-th of them with `{replica}` for n; at most ten."""
    while True:
        ports = [one()]
        if ports[0] % 10:
            continue
        while len(ports) < count and (port := one()) == ports[-1] + 1:
            ports.append(port)
        if len(ports) == count:
            return f"http://{HOST}:{ports[0] // 10}{{replica}}", ports


def _is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind((HOST, port))
        return True
    return False
