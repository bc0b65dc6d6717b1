"""cryptofeed on the same messages in the form of Kraken's v1, which it speaks, its checksum check on."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from cryptofeed.defines import L2_BOOK
from cryptofeed.exchanges import Kraken
from cryptofeed.symbols import Symbols


def v1(line: bytes) -> str:
    """A message of v2 in the form of v1."""
    message = json.loads(line, parse_float=str)
    (data,) = message["data"]
    asks, bids = ([[one["price"], one["qty"], "1690731000.000000"] for one in data[side]] for side in ("asks", "bids"))
    if message["type"] == "snapshot":
        body = {"as": asks, "bs": bids}
    else:
        # In one part: it looks for the checksum in the first only.
        body = {**({"a": asks} if asks else {}), **({"b": bids} if bids else {}), "c": str(data["checksum"])}
    return json.dumps([336, body, "book-10", "XBT/USD"])


async def main(frames: list[bytes]) -> None:
    messages = [v1(line) for line in frames]
    rounds, repeats = int(sys.argv[2]), int(sys.argv[3])
    Symbols.set("KRAKEN", {"BTC-USD": "XBT/USD"}, {"tick_size": {}, "instrument_type": {"BTC-USD": "spot"}})
    count = 0

    async def on_book(_: object, __: float) -> None:
        nonlocal count
        count += 1

    feed = Kraken(
        symbols=["BTC-USD"], channels=[L2_BOOK], callbacks={L2_BOOK: on_book}, checksum_validation=True, max_depth=10
    )
    rates = []
    for _ in range(rounds):
        count, began = 0, time.perf_counter()
        for _ in range(repeats):
            for message in messages:
                await feed.message_handler(message, None, 0.0)
        rates.append(repeats * len(messages) / (time.perf_counter() - began))
        if count != repeats * len(messages):
            raise SystemExit(f"only {count} of {repeats * len(messages)} updates were reported")
    print(json.dumps(rates))


asyncio.run(main(Path(sys.argv[1]).read_bytes().splitlines()))
