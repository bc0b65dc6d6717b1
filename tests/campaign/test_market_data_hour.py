"""An hour of a busy market: ten times the normal speed, all ten pairs; memory does not grow, and nothing is late."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from aether_services.contracts.statuses import Output
from aether_testing.processes import ingests, pipelines, venues

if TYPE_CHECKING:
    from aether_testing.processes.ingests import DataPlane, Ingest

PAIRS: Final = [f"{base}/USD" for base in ("BTC", "ETH", "SOL", "XRP", "ADA", "DOGE", "LTC", "LINK", "DOT", "AVAX")]
ROUND: Final = 10.0
"""Seconds of a round."""
WARM: Final = 600.0
"""Seconds after which memory must not grow any more."""
MEGABYTE: Final = 1024.0
"""In kB, as the kernel counts."""


@pytest.mark.campaign(full=360)
def test_an_hour_at_ten_times_the_normal_speed(tmp_path: Path, market_plane: DataPlane, rounds: int) -> None:
    plane = market_plane.with_database()
    ingests.new_topics(plane)
    memory: list[tuple[float, float]] = []
    with venues.venue(tmp_path / "venue", speed=10) as venue:
        pipeline = pipelines.Pipeline(plane=plane, venue=venue, folder=tmp_path)
        # Half of the trades that it remembers otherwise: the quietest pair has had so many before memory is measured.
        with pipeline.ingest(PAIRS, tape_length=500) as ingest:
            began = time.monotonic()
            while (elapsed := time.monotonic() - began) < rounds * ROUND:
                if elapsed > min(WARM, rounds * ROUND / 2):
                    memory.append((elapsed, _resident(ingest)))
                time.sleep(0.5)  # a sample
            late = {output: ingest.buckets("aether_ingest_output_delay_seconds", output=output) for output in Output}
            with pipeline.paused():
                pipeline.until_all_has_arrived(ingest)
                pipeline.compare_table(PAIRS)
                pipeline.compare_kafka(PAIRS)
            conflated = sum(state.conflated for state in ingest.status().outputs.values())
    slope = statistics.linear_regression(*zip(*memory, strict=True)).slope * 3600 / MEGABYTE
    p99 = {output.value: _p99(buckets) for output, buckets in late.items()}
    print(
        f"memory {memory[-1][1] / MEGABYTE:.0f} MB, {slope:+.2f} MB an hour; deliveries "
        f"{ {output.value: buckets['+Inf'] for output, buckets in late.items()} }, p99 at most {p99} s; "
        f"conflated {conflated}"
    )
    assert memory[-1][1] < 300 * MEGABYTE
    if memory[-1][0] < 2 * WARM:  # in a shorter run it is not over with growing, and there are others beside it
        assert all(seconds < pipelines.DEADLINE for seconds in p99.values()), p99
    else:
        assert all(seconds <= 1 for seconds in p99.values()), p99
        assert slope < 1


def _p99(buckets: dict[str, float]) -> float:
    """What 99 of 100 deliveries took at most, from the receipt of the oldest in it: the bound of a bucket, seconds."""
    return next(float(bound) for bound, count in buckets.items() if count >= 0.99 * buckets["+Inf"])


def _resident(ingest: Ingest) -> float:
    """Memory of its process, in kB."""
    assert ingest.process is not None
    lines = Path(f"/proc/{ingest.process.pid}/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("VmRSS:")))
