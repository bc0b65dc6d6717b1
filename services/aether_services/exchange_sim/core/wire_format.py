"""Messages of the WebSocket v2 as text. Numbers have all decimals of their market, as Kraken's do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from aether_services.domain import decimals, times
from aether_services.domain.times import Nanoseconds
from aether_services.exchange_sim.core import markets

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aether_services.domain.instruments import Instrument, TradingStatus
    from aether_services.exchange_sim.core.candles import Candle
    from aether_services.exchange_sim.core.orders import Traded
    from aether_services.exchange_sim.core.views import Market

HEARTBEAT: Final = '{"channel":"heartbeat"}'
SNAPSHOT, UPDATE = "snapshot", "update"


def to_json(value: object) -> str:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":"))


def micros(at: Nanoseconds) -> str:
    """A time with microseconds, truncated."""
    return times.text(at)[:-4] + "Z"


def status(system: TradingStatus, connection_id: int) -> str:
    """A message of the status channel."""
    fields = {"version": "2.0.10", "system": system.value, "api_version": "v2", "connection_id": connection_id}
    return to_json({"channel": "status", "type": UPDATE, "data": [fields]})


def book(  # noqa: PLR0913 - the fields of a message
    market: Market, bids: Iterable[str], asks: Iterable[str], *, kind: str, checksum: int, at: Nanoseconds
) -> str:
    """A book snapshot or update; levels are given as JSON text."""
    return (
        f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{market.instrument.symbol}",'
        f'"bids":[{",".join(bids)}],"asks":[{",".join(asks)}],"checksum":{checksum},"timestamp":"{micros(at)}"}}]}}'
    )


def trades(instrument: Instrument, items: Iterable[Traded], *, kind: str) -> str:
    """Trades of one market, the oldest first."""
    fields = ",".join(
        f'{{"symbol":"{trade.symbol}","side":"{trade.side.value}",'
        f'"price":{decimals.text(trade.price, instrument.price_digits)},'
        f'"qty":{decimals.text(trade.quantity, instrument.quantity_digits)},'
        f'"ord_type":"{trade.order_type.value}","trade_id":{trade.trade_id},"timestamp":"{micros(trade.at)}"}}'
        for trade in items
    )
    return f'{{"channel":"trade","type":"{kind}","data":[{fields}]}}'


def ticker(market: Market, *, kind: str, now: Nanoseconds) -> str:
    """Best prices, last trade and the last 24 hours."""
    one, day = market.instrument, market.last_day(now)
    bid, bid_quantity, ask, ask_quantity = market.best() or (0, 0, 0, 0)
    last = market.last_price
    change = last - day.open if day.trades else 0

    def price(units: int) -> str:
        return decimals.text(units, one.price_digits)

    def quantity(units: int) -> str:
        return decimals.text(units, one.quantity_digits)

    return (
        f'{{"channel":"ticker","type":"{kind}","data":[{{"symbol":"{one.symbol}",'
        f'"bid":{price(bid)},"bid_qty":{quantity(bid_quantity)},"ask":{price(ask)},"ask_qty":{quantity(ask_quantity)},'
        f'"last":{price(last)},"volume":{quantity(day.volume)},"vwap":{price(day.vwap())},'
        f'"low":{price(day.low)},"high":{price(day.high)},"change":{price(change)},'
        f'"change_pct":{decimals.text(percent(change, day.open), 2)},"trades":{day.trades},'
        f'"timestamp":"{micros(now)}"}}]}}'
    )


def percent(change: int, of: int) -> int:
    """A change in hundredths of a percent, truncated toward zero."""
    if not of:
        return 0
    share = abs(change) * 10_000 // of
    return -share if change < 0 else share


def ohlc(instrument: Instrument, items: Sequence[Candle], *, kind: str, now: Nanoseconds) -> str:
    """Candles of one market and interval."""

    def price(units: int) -> str:
        return decimals.text(units, instrument.price_digits)

    fields = ",".join(
        f'{{"symbol":"{candle.symbol}","open":{price(candle.open)},"high":{price(candle.high)},"low":{price(candle.low)},'
        f'"close":{price(candle.close)},"trades":{candle.trades},'
        f'"volume":{decimals.text(candle.volume, instrument.quantity_digits)},"vwap":{price(candle.vwap())},'
        f'"interval_begin":"{times.text(candle.begin)}","interval":{candle.interval},'
        f'"timestamp":"{micros(Nanoseconds(candle.begin + candle.interval * times.MINUTE))}"}}'
        for candle in items
    )
    return f'{{"channel":"ohlc","type":"{kind}","timestamp":"{times.text(now)}","data":[{fields}]}}'


def instruments(items: Iterable[Instrument], *, kind: str) -> str:
    """A message of the instrument channel, whose `data` is an object."""
    known = list(items)
    names = {one.base for one in known} | {one.quote for one in known}
    assets = [
        {
            "id": asset.name,
            "status": "enabled",
            "precision": asset.digits,
            "precision_display": asset.display_digits,
            "borrowable": False,
            "collateral_value": 0.0,
            "margin_rate": 0.0,
        }
        for asset in markets.ASSETS.values()
        if asset.name in names
    ]
    pairs = ",".join(_pair(one) for one in known)
    return f'{{"channel":"instrument","type":"{kind}","data":{{"assets":{to_json(assets)},"pairs":[{pairs}]}}}}'


def _pair(one: Instrument) -> str:
    fields: dict[str, Any] = {
        "symbol": one.symbol,
        "base": one.base,
        "quote": one.quote,
        "status": one.status,
        "qty_precision": one.quantity_digits,
        "price_precision": one.price_digits,
        "cost_precision": one.cost_digits,
        "marginable": False,
        "has_index": True,
    }
    tick = decimals.plain(one.tick_size)
    numbers = (
        f'"qty_increment":{decimals.text(1, one.quantity_digits)},"cost_min":{decimals.plain(one.cost_min)},'
        f'"tick_size":{tick},"price_increment":{tick},"qty_min":{decimals.plain(one.quantity_min)}'
    )
    return f"{to_json(fields)[:-1]},{numbers}}}"
