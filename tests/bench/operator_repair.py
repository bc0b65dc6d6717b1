"""How long an edit of somebody else's lasts: from the edit of a field that is ours to its repair, on two kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aether_operator.observed import kinds
from aether_testing import benchmarks, operator_benches, planes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aether_testing.benchmarks import Figure

EDITS = 50


async def _repairs(person: operator_benches.Person) -> list[float]:
    found = []
    for _ in range(EDITS):
        await person.edit(kinds.SERVICES, "paper-redis", {"spec": {"selector": {"app": "theirs"}}})
        found.append(
            await person.until(kinds.SERVICES, "paper-redis", lambda one: "app" not in one["spec"]["selector"])
        )
        await person.edit(kinds.STATEFUL_SETS, "paper-nats", {"spec": {"replicas": 0}})
        found.append(await person.until(kinds.STATEFUL_SETS, "paper-nats", lambda one: one["spec"]["replicas"] == 1))
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
