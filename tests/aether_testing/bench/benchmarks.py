"""Runs one benchmark: `make bench B=name` prints a JSON line per figure on standard output, and nothing else there."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BENCHES = Path(__file__).parents[2] / "bench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A measurement, with the same measurement of a peer in the same run, if there is a peer.

    `less_is_better` says which way the ratio goes: it is how many times better than the peer we are. `data` says what
    it was measured on, where that may be one thing here and another elsewhere.
    """

    name: str
    value: float
    unit: str
    peer: str | None = None
    peer_value: float | None = None
    less_is_better: bool = True
    data: str | None = None

    def line(self) -> str:
        """The figure as one JSON line."""
        ratio = None
        if self.peer_value:
            ratio = self.peer_value / self.value if self.less_is_better else self.value / self.peer_value
        return json.dumps(
            {
                "name": self.name,
                "value": round(self.value, 3),
                "unit": self.unit,
                "peer": self.peer,
                "peer_value": None if self.peer_value is None else round(self.peer_value, 3),
                "ratio": None if ratio is None else round(ratio, 3),
                **({} if self.data is None else {"data": self.data}),
            }
        )


class Bench(Protocol):
    """The interface of a module in tests/bench/."""

    def figures(self) -> Iterator[Figure]:
        """Measure; yields each figure as soon as it is known."""
        ...


def percentile(samples: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: one of the samples."""
    return sorted(samples)[max(0, math.ceil(share * len(samples)) - 1)]


def latencies(
    name: str, seconds: Sequence[float], peer: str | None = None, peer_seconds: Sequence[float] = ()
) -> Iterator[Figure]:
    """The two figures of a latency, in milliseconds."""
    for suffix, share in (("p50", 0.5), ("p99", 0.99)):
        yield Figure(
            name=f"{name}-{suffix}",
            value=percentile(seconds, share) * 1000,
            unit="ms",
            peer=peer,
            peer_value=percentile(peer_seconds, share) * 1000 if peer_seconds else None,
        )


def names() -> list[str]:
    """Every benchmark, as `make bench B=…` names it."""
    return sorted(path.stem.replace("_", "-") for path in BENCHES.glob("*.py"))


def load(name: str) -> Bench:
    """Import a benchmark's module; `names` has the names."""
    path = BENCHES / f"{name.replace('-', '_')}.py"
    spec = importlib.util.spec_from_file_location(f"bench_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise LookupError(name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return cast("Bench", module)


def main(arguments: list[str]) -> int:
    """Run the benchmark that the only argument names; returns the exit code."""
    if len(arguments) != 1 or arguments[0] not in names():
        print(f"name one benchmark: make bench B=name, of {', '.join(names())}", file=sys.stderr)
        return 2
    bench = load(arguments[0])
    # Servers that a benchmark started end with its blocks, which a signal would otherwise skip.
    signal.signal(signal.SIGTERM, lambda signum, _: sys.exit(128 + signum))
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # other output goes there
        for figure in bench.figures():
            if not figure.name.startswith(arguments[0]):
                raise ValueError(f"{figure.name} does not bear the name of {arguments[0]}")
            print(figure.line(), file=out, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
