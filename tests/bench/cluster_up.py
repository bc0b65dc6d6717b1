"""The start of a cluster with warm caches; the node is new, so it loads its images."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from aether_cli import progress
from aether_cli.local import startup
from aether_cli.local.settings import Settings
from aether_testing.bench import benchmarks
from aether_testing.cluster import clusters

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 5


def figures() -> Iterator[benchmarks.Figure]:
    first, again, down = list[float](), list[float](), list[float]()
    quiet, chosen = progress.SilentReporter(), Settings(port=0)
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            at = clusters.unique_paths(Path(folder))
            first.append(startup.up(at, chosen, quiet).seconds)
            for _ in range(2):
                began = time.monotonic()
                startup.down(at, quiet)
                down.append(time.monotonic() - began)
                again.append(startup.up(at, chosen, quiet).seconds)
            startup.down(at, quiet, purge=True)
    yield from benchmarks.latencies("cluster-up", again)
    yield from benchmarks.latencies("cluster-up-first", first)
    yield from benchmarks.latencies("cluster-up-down", down)
