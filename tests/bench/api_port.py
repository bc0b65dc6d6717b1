"""The cost of the port proxy: the same request from the machine, and from inside the namespaces."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from aether_cli import processes, progress
from aether_cli.local import networks, supervisor_process
from aether_testing.bench import benchmarks
from aether_testing.cluster import clusters

if TYPE_CHECKING:
    from collections.abc import Iterator

# Requests over one persistent connection; prints the seconds of each.
REQUESTS = """
import http.client, json, ssl, sys, time
port, pki = int(sys.argv[1]), sys.argv[2]
context = ssl.create_default_context(cafile=f"{pki}/ca.crt")
context.load_cert_chain(f"{pki}/admin.crt", f"{pki}/admin.key")
connection = http.client.HTTPSConnection("127.0.0.1", port, context=context)
took = []
for _ in range(2000):
    began = time.perf_counter()
    connection.request("GET", "/api/v1/namespaces/default")
    connection.getresponse().read()
    took.append(time.perf_counter() - began)
print(json.dumps(took[200:]))
"""


def figures() -> Iterator[benchmarks.Figure]:
    with tempfile.TemporaryDirectory() as folder:
        at = clusters.unique_paths(Path(folder))
        with clusters.running(clusters.CONTROL_PLANE, at, progress.SilentReporter()):
            holder = supervisor_process.require(at)
            ask = [sys.executable, "-c", REQUESTS]
            outside, inside = list[float](), list[float]()
            for _ in range(3):
                outside += json.loads(processes.run([*ask, str(holder.port), at.state / "pki"]))
                inside += json.loads(
                    processes.run([*supervisor_process.nsenter(holder), *ask, str(networks.API_PORT), at.state / "pki"])
                )
        yield from benchmarks.latencies("api-port", outside, "the same inside the namespaces", inside)
