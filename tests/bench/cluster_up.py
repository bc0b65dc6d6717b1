"""A whole cluster, warm: programs and images are in the cache, and the node is new, so it loads its images."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from aether_cli import telling
from aether_cli.local import starting
from aether_cli.local.settings import Settings
from aether_testing import benching, clusters

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 5


def figures() -> Iterator[benching.Figure]:
    first, again, down = list[float](), list[float](), list[float]()
    quiet, chosen = telling.ToNobody(), Settings(port=0)
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            at = clusters.some_places(Path(folder))
            first.append(starting.up(at, chosen, quiet).seconds)
            for _ in range(2):
                began = time.monotonic()
                starting.down(at, quiet)
                down.append(time.monotonic() - began)
                again.append(starting.up(at, chosen, quiet).seconds)
            starting.down(at, quiet, purge=True)
    yield from benching.latencies("cluster-up", again)
    yield from benching.latencies("cluster-up-first", first)
    yield from benching.latencies("cluster-up-down", down)
