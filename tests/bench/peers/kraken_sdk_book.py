"""python-kraken-sdk's book client, its checksum check on; what it asks Kraken's REST for is given to it."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from kraken.spot import SpotOrderBookClient


class Market:
    """What it knows of a market."""

    def get_asset_pairs(self, pair: str) -> dict[str, Any]:
        """As REST would return it."""
        return {pair: {"pair_decimals": 1, "lot_decimals": 8}}


class Books(SpotOrderBookClient):
    """Counts updates."""

    def __init__(self) -> None:
        super().__init__(depth=10)
        self._SpotOrderBookClient__market = Market()
        self.count = 0

    async def on_book_update(self, pair: str, message: dict[str, Any]) -> None:
        """Called after each update."""
        del pair
        if "error" in message:
            raise SystemExit(message["error"])
        self.count += 1


async def main(frames: list[str]) -> None:
    rounds, repeats = int(sys.argv[2]), int(sys.argv[3])
    books, rates = Books(), []
    for _ in range(rounds):
        books.count, began = 0, time.perf_counter()
        for _ in range(repeats):
            books._SpotOrderBookClient__book.clear()  # noqa: SLF001 - it does not take a second snapshot for a new beginning
            for frame in frames:
                await books.on_message(json.loads(frame))
        rates.append(repeats * len(frames) / (time.perf_counter() - began))
        if books.count != repeats * len(frames):
            raise SystemExit("not all updates were reported")
    print(json.dumps(rates))


asyncio.run(main(Path(sys.argv[1]).read_text().splitlines()))
