"""The duration of `aether up` with warm caches, from no cluster to a platform that is Ready."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from aether_cli import processes
from aether_testing.bench import benchmarks

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 3
AETHER = Path(sys.executable).parent / "aether"


def figures() -> Iterator[benchmarks.Figure]:
    """Measure."""
    found = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(prefix="aether-bench-", dir=Path.home()) as folder:
            env = dict(os.environ) | {"XDG_STATE_HOME": f"{folder}/state", "XDG_DATA_HOME": f"{folder}/data"}
            name = f"b-{secrets.token_hex(4)}"
            began = time.monotonic()
            try:
                processes.run([AETHER, "up", "--name", name, "--port", "0", "--json"], env=env, deadline=900)
                found.append(time.monotonic() - began)
            finally:
                processes.run([AETHER, "down", "--name", name, "--purge"], env=env, deadline=120)
    yield benchmarks.Figure(name="platform-up", value=benchmarks.percentile(found, 0.5), unit="s")
