"""python-kraken-sdk, as it comes, with its own check of checksums: python sdk_books.py REST_URL WS_URL DEPTH UPDATES.

Prints JSON lines. Its order book client takes no addresses, so those of its classes are set.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from typing import Any

from kraken.spot import Market, SpotOrderBookClient

PAIRS = ["BTC/USD", "ETH/USD", "DOGE/USD", "AVAX/USD"]


def say(what: str, **values: object) -> None:
    print(json.dumps({"what": what, **values}), flush=True)


class Books(SpotOrderBookClient):
    """Counts what verifies, and what does not."""

    def __init__(self, depth: int) -> None:
        super().__init__(depth=depth)
        self.updates: Counter[str] = Counter()
        self.mismatches: Counter[str] = Counter()

    async def on_book_update(self, pair: str, message: dict[str, Any]) -> None:
        if "error" in message:
            self.mismatches[pair] += 1
        elif message["type"] == "update":
            self.updates[pair] += 1
            if not self.get(pair)["valid"]:
                self.mismatches[pair] += 1


def market(rest: str) -> None:
    client = Market(url=rest)
    say("assets", names=sorted(client.get_assets()))
    say("pairs", names=sorted(client.get_asset_pairs(pair=["XBTUSD", "DOGE/USD"])))
    say("ticker", ticker=client.get_ticker(pair="XBTUSD")["XXBTZUSD"])
    say("candles", candles=client.get_ohlc(pair="XBTUSD", interval=60)["XXBTZUSD"])
    say("book", book=client.get_order_book(pair="XBTUSD", count=10)["XXBTZUSD"])
    say("trades", trades=client.get_recent_trades(pair="XBTUSD", since="0", count=10))
    say("spreads", spreads=client.get_recent_spreads(pair="XBTUSD")["XXBTZUSD"])
    say("system", system=client.get_system_status())


async def books(rest: str, ws: str, depth: str, updates: str) -> None:
    SpotOrderBookClient.WS_URL = ws.removesuffix("/v2")
    Market.URL = rest
    client = Books(int(depth))
    await client.start()
    await client.add_book(PAIRS)
    # Its callback counts, and its connection may fail: both are looked at.
    while client.updates.total() < int(updates) and not client.exception_occur:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    say("books", updates=client.updates, mismatches=client.mismatches, broken=client.exception_occur)
    await client.remove_book(PAIRS)
    await client.close()


market(sys.argv[1])
asyncio.run(books(*sys.argv[1:]))
