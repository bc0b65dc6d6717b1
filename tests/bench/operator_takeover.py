"""Latency from a kill -9 of the leader until an edit of the same moment has been applied by the next leader."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from aether_testing.bench import benchmarks, operator_benches
from aether_testing.processes import installations, planes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aether_testing.bench.benchmarks import Figure

ROUNDS = 10


def figures() -> Iterator[Figure]:
    """Measure."""
    with (
        operator_benches.set_up() as bench,
        bench.installation.operator("operator-a", supervised=True) as first,
        bench.installation.operator("operator-b", supervised=True) as second,
    ):
        both = {"operator-a": first, "operator-b": second}
        spec = bench.plane.external(bench.plane.database())
        planes.apply(bench.namespace, planes.a_platform(spec))
        planes.until(bench.namespace, "Ready", "True")
        found = []
        for nth in range(ROUNDS):
            lease = bench.namespace.get("lease", installations.NAME)
            leader = both[str(lease["spec"]["holderIdentity"]).rpartition("_")[0]]
            began = time.monotonic()
            leader.kill()
            planes.apply(bench.namespace, planes.a_platform(spec | {"retention": {"tradesDays": 100 + nth}}))
            planes.until(bench.namespace, "Ready", "True")  # of this generation: the next leader has written it
            found.append(time.monotonic() - began)
        yield from benchmarks.latencies("operator-takeover", found)
