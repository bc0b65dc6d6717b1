"""What the simulated venue takes of a core, and what a client gets of it, at its usual speed and at ten times that."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from aether_services.exchange_sim.core import markets
from aether_testing.bench.benchmarks import Figure
from aether_testing.processes import venues

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 20.0


def _used(pid: int) -> float:
    """Seconds of a core that a process has had."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def figures() -> Iterator[Figure]:
    """Measure, with one client that has all books at depth 10, all trades and all tickers."""
    for speed in (1, 10):
        with (
            tempfile.TemporaryDirectory() as folder,
            venues.venue(Path(folder), speed=speed) as venue,
            venues.Client(venue.ws) as client,
        ):
            assert venue.process is not None
            for channel in ("book", "trade", "ticker"):
                client.send({"method": "subscribe", "params": {"channel": channel, "symbol": list(markets.MARKETS)}})
            client.collect(2.0)
            before, began = _used(venue.process.pid), time.monotonic()
            received = client.collect(SECONDS)
            used, elapsed = _used(venue.process.pid) - before, time.monotonic() - began
            yield Figure(name=f"venue-load-cpu-{speed}x", value=100 * used / elapsed, unit="% of a core")
            yield Figure(
                name=f"venue-load-messages-{speed}x", value=len(received) / elapsed, unit="1/s", less_is_better=False
            )
