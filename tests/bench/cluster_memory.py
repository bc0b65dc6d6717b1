"""What an idle cluster holds, a minute after it came up: proportional set sizes of all its processes, in MB."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from aether_cli import telling
from aether_cli.local import holding, inspecting
from aether_testing import benching, clusters

if TYPE_CHECKING:
    from collections.abc import Iterator


def figures() -> Iterator[benching.Figure]:
    for name, chosen in (("cluster-memory", clusters.NODE), ("cluster-memory-control-plane", clusters.CONTROL_PLANE)):
        with tempfile.TemporaryDirectory() as folder:
            at = clusters.some_places(Path(folder))
            with clusters.running(chosen, at, telling.ToNobody()):
                time.sleep(60)  # what start-up needed has been given back
                held = inspecting.memory(holding.need(at).pid)
                yield benching.Figure(name=name, value=held / 1e6, unit="MB")
