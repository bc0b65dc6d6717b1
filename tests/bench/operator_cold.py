"""A cold start: an operator with a thousand platforms on external servers, the seconds until all are Ready, and memory.

The peer is a plain Kopf operator that writes the same children and contacts no server: the difference is the cost of
checks, of a schema in every database, and of `compute_status`.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aether_operator.kube import api_client
from aether_operator.observed import kinds
from aether_testing import wait
from aether_testing.bench import benchmarks, operator_benches, plain_kopf
from aether_testing.cluster import namespaces
from aether_testing.processes import planes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aether_testing.bench.benchmarks import Figure
    from aether_testing.bench.operator_benches import Client, OperatorBench

COUNT = int(os.environ.get("AETHER_BENCH_PLATFORMS", "1000"))
AT_ONCE = 16
TIMEOUT_SECONDS = 3600.0
TOP = Path(__file__).resolve().parents[2]


async def _create(user: Client, specs: list[dict[str, Any]]) -> None:
    many = asyncio.Semaphore(AT_ONCE)

    async def one(nth: int, spec: dict[str, Any]) -> None:
        async with many:
            body = planes.a_platform(spec, f"p{nth}")
            await user.api.request("POST", api_client.path(kinds.PLATFORMS, user.namespace), body=body)

    await asyncio.gather(*(one(nth, spec) for nth, spec in enumerate(specs)))


def _until_all(
    bench: OperatorBench, namespace: str, kind: kinds.Kind, holds: Callable[[dict[str, Any]], bool]
) -> float:
    began = time.monotonic()

    async def poll(user: Client) -> None:
        async def all_of_them() -> bool:
            return sum(map(holds, await user.api.list(kind, namespace))) >= COUNT

        await wait.until_async(all_of_them, f"{COUNT} {kind.plural}", seconds=TIMEOUT_SECONDS, interval=0.5)

    bench.run(poll)
    return time.monotonic() - began


def _ready(platform: dict[str, Any]) -> bool:
    status = platform.get("status", {})
    assert status.get("state") != "Stalled", f"{platform['metadata']['name']}: {status['conditions']}"
    return bool(status.get("state") == "Ready")


def _peak_megabytes(pid: int) -> float:
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1000


def figures() -> Iterator[Figure]:
    """Measure."""
    with operator_benches.set_up() as bench:
        print(f"{COUNT} databases", file=sys.stderr)
        specs = [bench.plane.external(bench.plane.database()) for _ in range(COUNT)]
        bench.run(lambda user: _create(user, specs))
        with bench.installation.operator(resyncSeconds=3600) as operator:
            ours = _until_all(bench, bench.namespace.name, kinds.PLATFORMS, _ready)
            memory = _peak_megabytes(operator.pid)
        peer, peer_memory = _peer(bench, specs)
    yield benchmarks.Figure(name="operator-cold", value=ours, unit="s", peer="plain Kopf handlers", peer_value=peer)
    yield benchmarks.Figure(
        name="operator-cold-memory", value=memory, unit="MB", peer="plain Kopf handlers", peer_value=peer_memory
    )


def _peer(bench: OperatorBench, specs: list[dict[str, Any]]) -> tuple[float, float]:
    namespace = namespaces.create(bench.cluster, "bench-peer").name

    async def creating(user: Client) -> None:
        await _create(operator_benches.Client(api=user.api, namespace=namespace), specs)

    bench.run(creating)
    command = [sys.executable, "-m", "kopf", "run", "--standalone", f"--namespace={namespace}", plain_kopf.__file__]
    folders = os.pathsep.join(str(TOP / name) for name in ("operator", "tests"))
    env = {**os.environ, "KUBECONFIG": str(bench.cluster.kubeconfig), "PYTHONPATH": folders}
    with subprocess.Popen(
        ["setpriv", "--pdeathsig=KILL", *command], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            seconds = _until_all(bench, namespace, kinds.PLATFORMS, _ready)
            return seconds, _peak_megabytes(process.pid)
        finally:
            process.kill()
