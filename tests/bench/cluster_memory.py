"""The memory of an idle cluster, a minute after its start: proportional set sizes of all its processes, in MB."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from aether_cli import progress
from aether_cli.local import inspection, supervisor_process
from aether_testing.bench import benchmarks
from aether_testing.cluster import clusters

if TYPE_CHECKING:
    from collections.abc import Iterator


def figures() -> Iterator[benchmarks.Figure]:
    for name, chosen in (("cluster-memory", clusters.NODE), ("cluster-memory-control-plane", clusters.CONTROL_PLANE)):
        with tempfile.TemporaryDirectory() as folder:
            at = clusters.unique_paths(Path(folder))
            with clusters.running(chosen, at, progress.SilentReporter()):
                time.sleep(60)  # until memory used for start-up has been released
                held = inspection.memory(supervisor_process.require(at).pid)
                yield benchmarks.Figure(name=name, value=held / 1e6, unit="MB")
