"""Latency from a foreign edit of a field of ours to its repair, on two kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aether_operator.observed import kinds
from aether_testing.bench import benchmarks, operator_benches
from aether_testing.processes import planes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aether_testing.bench.benchmarks import Figure

EDITS = 50


async def _repairs(user: operator_benches.Client) -> list[float]:
    found = []
    for _ in range(EDITS):
        await user.edit(kinds.SERVICES, "paper-redis", {"spec": {"selector": {"app": "theirs"}}})
        found.append(await user.until(kinds.SERVICES, "paper-redis", lambda one: "app" not in one["spec"]["selector"]))
        await user.edit(kinds.STATEFUL_SETS, "paper-nats", {"spec": {"replicas": 0}})
        found.append(await user.until(kinds.STATEFUL_SETS, "paper-nats", lambda one: one["spec"]["replicas"] == 1))
    return found


def figures() -> Iterator[Figure]:
    """Measure."""
    with (
        operator_benches.set_up() as bench,
        bench.installation.operator(managedAddresses=bench.plane.addresses(), resyncSeconds=600),
    ):
        planes.apply(bench.namespace, planes.a_platform(bench.plane.mixed()))
        planes.until(bench.namespace, "Ready", "True")
        yield from benchmarks.latencies("operator-repair", bench.run(_repairs))
