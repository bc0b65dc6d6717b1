"""ccxt.pro, as it comes, on a venue's WebSocket: python ccxt_streams.py REST_URL WS_URL UPDATES. Prints JSON lines."""

from __future__ import annotations

import asyncio
import json
import sys

import ccxt.pro


async def main(rest: str, ws: str, updates: str) -> None:
    venue = ccxt.pro.kraken(
        {"urls": {"api": {"public": rest, "ws": {"publicV2": ws}}}, "enableRateLimit": False, "newUpdates": True}
    )

    def say(what: str, **values: object) -> None:
        print(json.dumps({"what": what, **values}), flush=True)

    async def books() -> None:
        for _ in range(int(updates)):
            book = await venue.watch_order_book("BTC/USD", 25)
            say("book", bids=book["bids"][:25], asks=book["asks"][:25])

    async def trades() -> None:
        seen = 0
        while seen < 20:
            some = await venue.watch_trades("BTC/USD")
            seen += len(some)
            say("trades", trades=[{name: one[name] for name in ("id", "side", "price", "amount")} for one in some])

    async def tickers() -> None:
        for _ in range(5):
            ticker = await venue.watch_ticker("BTC/USD")
            say("ticker", **{name: ticker[name] for name in ("bid", "ask", "last")})

    async def candles() -> None:
        for _ in range(5):
            (*_, candle) = await venue.watch_ohlcv("BTC/USD", "1m")
            say("candle", candle=candle)

    try:
        await venue.load_markets()
        await asyncio.gather(books(), trades(), tickers(), candles())
    finally:
        await venue.close()


asyncio.run(main(*sys.argv[1:]))
