"""The duration of edits of a running platform: from the patch to the new market's book, and to two replicas."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from aether_cli import progress
from aether_cli.local import startup
from aether_testing.bench import benchmarks
from aether_testing.cluster import clusters, e2e_platform

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aether_testing.cluster.e2e_platform import E2EPlatform

MORE = ("XRP/USD", "ADA/USD", "DOGE/USD", "LTC/USD", "LINK/USD")
ROUNDS = 3


def _with_one_more(e2e: E2EPlatform) -> Iterator[float]:
    pairs = tuple(e2e.platform()["spec"]["pairs"])
    for one in MORE:
        yield e2e.set_pairs(*pairs, one)
        e2e.until_ready()
        e2e.set_pairs(*pairs)
        e2e.until_ready()


def _with_a_second_replica(e2e: E2EPlatform) -> Iterator[float]:
    pods = e2e.pods().keys()
    for _ in range(ROUNDS):
        yield e2e.set_replicas(2)
        e2e.until_ready()
        e2e.set_replicas(1)
        e2e.until(lambda: e2e.pods().keys() == pods, "the second pod is deleted")
        e2e.until_ready()


def figures() -> Iterator[benchmarks.Figure]:
    """Measure."""
    with tempfile.TemporaryDirectory(prefix="aether-bench-", dir=Path.home()) as folder:
        at = clusters.unique_paths(Path(folder))
        try:
            e2e = e2e_platform.up(at, Path(folder))
            for name, found in (("pair", _with_one_more(e2e)), ("replica", _with_a_second_replica(e2e))):
                value = benchmarks.percentile(list(found), 0.5)
                yield benchmarks.Figure(name=f"platform-edit-{name}", value=value, unit="s")
        finally:
            startup.down(at, progress.SilentReporter(), purge=True)
