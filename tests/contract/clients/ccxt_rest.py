"""ccxt, as it comes, against the REST of a venue: python ccxt_rest.py REST_URL. Prints JSON lines."""

from __future__ import annotations

import json
import sys

import ccxt


def main(rest: str) -> None:
    venue = ccxt.kraken({"urls": {"api": {"public": rest}}, "enableRateLimit": False})

    def say(what: str, **values: object) -> None:
        print(json.dumps({"what": what, **values}), flush=True)

    markets = venue.load_markets()
    say(
        "markets",
        markets={
            symbol: {"id": one["id"], "precision": one["precision"], "least": one["limits"]["amount"]["min"]}
            for symbol, one in markets.items()
        },
    )
    for symbol in ("BTC/USD", "DOGE/USD"):
        ticker = venue.fetch_ticker(symbol)
        say("ticker", symbol=symbol, **{name: ticker[name] for name in ("bid", "ask", "last", "high", "low")})
        book = venue.fetch_order_book(symbol, 100)
        say("book", symbol=symbol, bids=book["bids"], asks=book["asks"])
        candles = venue.fetch_ohlcv(symbol, "5m")
        say("candles", symbol=symbol, candles=candles)
    say("tickers", symbols=sorted(venue.fetch_tickers()))
    # Page by page, as its users read history; its cursor is in whole seconds, so a page has room for more than one.
    trades, since = [], 0
    while page := venue.fetch_trades("BTC/USD", since, 200):
        fresh = [one for one in page if one["id"] not in {known["id"] for known in trades}]
        if not fresh:
            break
        trades += fresh
        since = page[-1]["timestamp"]
    say("trades", trades=[{name: one[name] for name in ("id", "side", "price", "amount", "type")} for one in trades])
    try:
        venue.public_get_ticker({"pair": "NOPE"})
    except ccxt.ExchangeError as error:
        say("rejected", error=str(error))


main(*sys.argv[1:])
