"""What a person waits for who edits a platform that runs: from the patch to the new market's book, to two replicas."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from aether_cli import progress
from aether_cli.local import startup
from aether_testing import benchmarks, clusters, e2e_platform

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aether_testing.e2e_platform import Desk

MORE = ("XRP/USD", "ADA/USD", "DOGE/USD", "LTC/USD", "LINK/USD")
ROUNDS = 3


def _with_one_more(desk: Desk) -> Iterator[float]:
    pairs = tuple(desk.platform()["spec"]["pairs"])
    for one in MORE:
        yield desk.with_pairs(*pairs, one)
        desk.until_ready()
        desk.with_pairs(*pairs)
        desk.until_ready()


def _with_a_second_replica(desk: Desk) -> Iterator[float]:
    pods = desk.pods().keys()
    for _ in range(ROUNDS):
        yield desk.with_replicas(2)
        desk.until_ready()
        desk.with_replicas(1)
        desk.until(lambda: desk.pods().keys() == pods, "the second pod is gone")
        desk.until_ready()


def figures() -> Iterator[benchmarks.Figure]:
    """Measure."""
    with tempfile.TemporaryDirectory(prefix="aether-bench-", dir=Path.home()) as folder:
        at = clusters.some_places(Path(folder))
        try:
            desk = e2e_platform.up(at, Path(folder))
            for name, found in (("pair", _with_one_more(desk)), ("replica", _with_a_second_replica(desk))):
                value = benchmarks.percentile(list(found), 0.5)
                yield benchmarks.Figure(name=f"platform-edit-{name}", value=value, unit="s")
        finally:
            startup.down(at, progress.ToNobody(), purge=True)
