"""What a process costs that has nothing to do: start until ready, resident memory, processor time; there is no peer.

The operator has no platform, ingest no market, and the simulated venue no client; its market is stopped, and once more
running, as on a platform.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aether_testing.bench import benchmarks, operator_benches
from aether_testing.processes import ingests, venues

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aether_testing.bench.benchmarks import Figure
    from aether_testing.processes.ingests import Ingest
    from aether_testing.processes.operators import Operator
    from aether_testing.processes.venues import Venue

STARTS: Final = 3
SETTLED_AFTER: Final = 5.0
"""Seconds after the start when memory and processor time are those of an idle process."""
MEASURED_FOR: Final = 10.0
"""Seconds of processor time that are measured."""
POLL_INTERVAL: Final = 0.005
TIMEOUT: Final = 60.0


def figures() -> Iterator[Figure]:
    """Measure."""
    with (
        tempfile.TemporaryDirectory(prefix="aether-bench-", dir=Path.home()) as folder,
        ingests.plane(Path(folder) / "plane") as plane,
        venues.venue(Path(folder) / "venue", started=False) as venue,
    ):
        yield _ready("exchange_sim", venue.start, venue.end)
        yield from _of_the_venue(venue)
        with ingests.ingest(Path(folder) / "ingest", plane, ws=venue.ws, rest=venue.rest) as ingest:
            ingest.write_live_settings(pairs=())
            yield _ready("ingest", lambda: _start_ingest(ingest), ingest.end)
            yield from _idle("ingest", _pid(ingest))
    with operator_benches.set_up() as bench, bench.installation.operator() as operator:
        operator.kill()
        yield _ready("operator", lambda: _start_operator(operator), operator.kill)
        operator.wait_leading()
        yield from _idle("operator", operator.pid)


def _of_the_venue(venue: Venue) -> Iterator[Figure]:
    venue.admin("/flow", {"flowing": False})
    yield from _idle("exchange_sim", _pid(venue))
    venue.admin("/flow", {"flowing": True})
    yield _processor_time("exchange_sim-market", _pid(venue))


def _ready(name: str, start: Callable[[], None], end: Callable[[], object]) -> Figure:
    """The median of the seconds that a start takes; the last process runs on."""
    seconds = list[float]()
    for nth in range(STARTS):
        if nth:
            end()
        began = time.monotonic()
        start()
        seconds.append(time.monotonic() - began)
    return benchmarks.Figure(
        name=f"service-footprint-{name}-ready", value=benchmarks.percentile(seconds, 0.5), unit="s"
    )


def _idle(name: str, pid: int) -> Iterator[Figure]:
    time.sleep(SETTLED_AFTER)
    resident = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert resident is not None
    yield benchmarks.Figure(name=f"service-footprint-{name}-memory", value=int(resident[1]) * 1024 / 1e6, unit="MB")
    yield _processor_time(name, pid)


def _processor_time(name: str, pid: int) -> Figure:
    """The share of one core that a process uses, in percent."""
    began, before = time.monotonic(), _ticks(pid)
    time.sleep(MEASURED_FOR)
    used = (_ticks(pid) - before) / os.sysconf("SC_CLK_TCK")
    return benchmarks.Figure(
        name=f"service-footprint-{name}-processor", value=100 * used / (time.monotonic() - began), unit="%"
    )


def _ticks(pid: int) -> int:
    """The clock ticks that a process has run, in user and kernel mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _pid(one: Venue | Ingest) -> int:
    assert one.process is not None
    return one.process.pid


def _start_ingest(ingest: Ingest) -> None:
    ingest.start()
    ingest.until(lambda: ingest.get("/readyz") is not None, "it is ready")


def _start_operator(operator: Operator) -> None:
    operator.start()
    _until_ready(f"http://127.0.0.1:{operator.port}/readyz")


def _until_ready(url: str) -> None:
    ends = time.monotonic() + TIMEOUT
    while True:
        try:
            urllib.request.urlopen(url, timeout=TIMEOUT).close()
        except OSError:  # it does not listen yet, or responds 503
            if time.monotonic() > ends:
                raise
            time.sleep(POLL_INTERVAL)
        else:
            return
