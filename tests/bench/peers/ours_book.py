"""Ingest's own way with a book message: decode, apply, verify, normalise, encode. Prints updates a second, by round."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

from aether_services.domain.instruments import Symbol
from aether_services.domain.times import Nanoseconds
from aether_services.ingest.core.markets import Markets
from aether_testing.values import recordings

if TYPE_CHECKING:
    from collections.abc import Callable

    from aether_services.ingest.core.outboxes import EncodedMessage


def main() -> None:
    frames, rounds, repeats = Path(sys.argv[1]).read_text().splitlines(), int(sys.argv[2]), int(sys.argv[3])
    newest: list[EncodedMessage | None] = [None]
    count = 0

    def post(message: EncodedMessage) -> None:
        nonlocal count
        newest[0] = message
        count += 1

    markets = Markets(writer="bench", depth=recordings.DEPTH, trade_log_length=10, publish=post)
    markets.serve([Symbol(recordings.SYMBOL)])
    markets.receive(recordings.INSTRUMENT.decode(), Nanoseconds(0))
    rates, now = [], cast("Callable[[], Nanoseconds]", time.time_ns)
    for _ in range(rounds):
        count, began = 0, time.perf_counter()
        for _ in range(repeats):
            for frame in frames:
                markets.receive(frame, now())
        rates.append(repeats * len(frames) / (time.perf_counter() - began))
        if count != repeats * len(frames):
            raise SystemExit(f"only {count} of {repeats * len(frames)} updates were published")
    print(json.dumps(rates))


main()
