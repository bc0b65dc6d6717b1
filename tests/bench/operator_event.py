"""Latency from an edit of a platform to the first write that results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aether_operator.observed import kinds
from aether_testing.bench import benchmarks, operator_benches
from aether_testing.processes import planes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aether_testing.bench.benchmarks import Figure

EDITS = 50


def _limit(workload: dict[str, object]) -> str:
    spec: dict[str, dict[str, dict[str, list[dict[str, dict[str, dict[str, str]]]]]]] = workload["spec"]  # type: ignore[assignment]
    return spec["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]


async def _edits(user: operator_benches.Client) -> list[float]:
    found = []
    for nth in range(EDITS):
        limit = f"{600 + nth}Mi"
        patch = {"spec": {"dataPlane": {"redis": {"managed": {"resources": {"limits": {"memory": limit}}}}}}}
        await user.edit(kinds.PLATFORMS, "paper", patch)
        found.append(
            await user.until(kinds.STATEFUL_SETS, "paper-redis", lambda one, limit=limit: _limit(one) == limit)  # type: ignore[misc]
        )
    return found


def figures() -> Iterator[Figure]:
    """Measure."""
    with (
        operator_benches.set_up() as bench,
        bench.installation.operator(managedAddresses=bench.plane.addresses(), resyncSeconds=600),
    ):
        planes.apply(bench.namespace, planes.a_platform(bench.plane.mixed()))
        planes.until(bench.namespace, "Ready", "True")
        yield from benchmarks.latencies("operator-event", bench.run(_edits))
