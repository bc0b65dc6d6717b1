"""From the death of the leader (kill -9) to the first write of the next: an edit of the same moment takes effect."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from aether_testing import benchmarks, operator_benches, operators, planes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aether_testing.benchmarks import Figure

ROUNDS = 10


def figures() -> Iterator[Figure]:
    """Measure."""
    with (
        operator_benches.set_up() as stage,
        stage.place.operator("operator-a", supervised=True) as first,
        stage.place.operator("operator-b", supervised=True) as second,
    ):
        both = {"operator-a": first, "operator-b": second}
        spec = stage.plane.external(stage.plane.database())
        planes.apply(stage.namespace, planes.a_platform(spec))
        planes.until(stage.namespace, "Ready", "True")
        found = []
        for nth in range(ROUNDS):
            lease = stage.namespace.get("lease", operators.NAME)
            leader = both[str(lease["spec"]["holderIdentity"]).rpartition("_")[0]]
            began = time.monotonic()
            leader.kill()
            planes.apply(stage.namespace, planes.a_platform(spec | {"retention": {"tradesDays": 100 + nth}}))
            planes.until(stage.namespace, "Ready", "True")  # of this generation: the next leader has written it
            found.append(time.monotonic() - began)
        yield from benchmarks.latencies("operator-takeover", found)
