"""Kraken's public REST API: /0/public/… by GET or POST, always 200 with an envelope of errors and result."""

from __future__ import annotations

import json
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, Depends, Request, responses
from starlette.requests import ClientDisconnect

from aether_services.domain import decimals, times
from aether_services.domain.times import Nanoseconds
from aether_services.domain.trades import OrderType, Side
from aether_services.exchange_sim.core import candles, markets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    import fastapi

    from aether_services.domain.instruments import Instrument
    from aether_services.exchange_sim.core.candles import Candle
    from aether_services.exchange_sim.core.orders import Traded
    from aether_services.exchange_sim.core.views import Ladder, Market
    from aether_services.exchange_sim.service import Venue

MAX_TRADES: Final = 1000
MAX_LEVELS: Final = 500
DEFAULT_LEVELS: Final = 100
SECONDS_BELOW: Final = 10**12
"""A `since` below this is in seconds, as in Kraken's examples; otherwise in nanoseconds."""
_MAX_NUMBER_DIGITS: Final = 20
"""The maximum number of digits of a number."""

UNKNOWN_PAIR: Final = "EQuery:Unknown asset pair"
UNKNOWN_ASSET: Final = "EQuery:Unknown asset"
UNKNOWN_METHOD: Final = "EGeneral:Unknown method"
INVALID_ARGUMENTS: Final = "EGeneral:Invalid arguments"
INVALID_KEY: Final = "EAPI:Invalid key"
TOO_MANY: Final = "EGeneral:Too many requests"
_MAX_BODY_BYTES: Final = 64 * 1024
"""The maximum size of a request body."""

_OPENAPI_PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "pair": {
        "name": "pair",
        "required": True,
        "schema": {"type": "string", "enum": sorted(markets.names(markets.MARKETS.values()))},
    },
    "pairs": {"name": "pair", "schema": {"type": "string"}, "example": "XBTUSD,ETH/USD"},
    "asset": {"name": "asset", "schema": {"type": "string"}, "example": "XBT,ETH"},
    "info": {"name": "info", "schema": {"type": "string", "enum": ["info", "leverage", "fees", "margin"]}},
    "assetVersion": {"name": "assetVersion", "schema": {"type": "integer", "enum": [0, 1]}},
    "interval": {"name": "interval", "schema": {"type": "integer", "enum": list(candles.INTERVALS)}},
    "since": {"name": "since", "schema": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}},
    "levels": {"name": "count", "schema": {"type": "integer", "minimum": 1, "maximum": MAX_LEVELS}},
    "trades": {"name": "count", "schema": {"type": "integer", "minimum": 1, "maximum": MAX_TRADES}},
}
"""Parameters for /openapi.json. FastAPI does not parse them, since Kraken reports errors in the envelope, with 200."""


def _openapi_parameters(*names: str) -> dict[str, Any]:
    return {"parameters": [{"in": "query", **_OPENAPI_PARAMETERS[name]} for name in names]}


@dataclass
class InvalidRequest(Exception):
    """A request that is answered with an error in the envelope."""

    error: str


def _invalid_argument(field: str) -> InvalidRequest:
    return InvalidRequest(f"{INVALID_ARGUMENTS}:{field}")


async def _read_parameters(request: Request) -> Mapping[str, str]:
    """The parameters of the query and, for a POST, of the body (a form or JSON), which takes precedence."""
    values = dict(request.query_params)
    if request.method != "POST":
        return values
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_BODY_BYTES:
                raise InvalidRequest(INVALID_ARGUMENTS)
    except ClientDisconnect as error:  # nobody receives the response
        raise InvalidRequest(INVALID_ARGUMENTS) from error
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
        return values | _of_json(bytes(body))
    return values | dict(urllib.parse.parse_qsl(body.decode(errors="replace"), keep_blank_values=True))


def _of_json(body: bytes) -> dict[str, str]:
    try:
        fields = json.loads(body or b"{}", parse_int=str, parse_float=str)  # numbers as they were written
    except (ValueError, RecursionError) as fault:
        raise InvalidRequest(INVALID_ARGUMENTS) from fault
    if not isinstance(fields, dict):
        raise InvalidRequest(INVALID_ARGUMENTS)
    given = {name: value for name, value in fields.items() if value is not None}
    for name, value in given.items():
        if not isinstance(value, str):
            raise _invalid_argument(name)
    return given


class Parameters:
    """The parameters of a request, parsed when they are read."""

    def __init__(self, values: Mapping[str, str], venue: Venue) -> None:
        self._values = values
        self._names = markets.names(venue.instruments.values())
        self._instruments = venue.instruments

    @property
    def modern(self) -> bool:
        """Whether the response uses the names of the WebSocket v2."""
        value = self._values.get("assetVersion", "0")
        if value not in {"0", "1"}:
            raise _invalid_argument("assetVersion")
        return value == "1"

    def one_of(self, name: str, allowed: Sequence[str]) -> str:
        """An enumerated parameter; the default is the first allowed value."""
        value = self._values.get(name, allowed[0])
        if value not in allowed:
            raise _invalid_argument(name)
        return value

    def number(self, name: str, default: int) -> int:
        """A non-negative integer."""
        value = self._values.get(name)
        if value is None or not value:
            return default
        if not (value.isascii() and value.isdigit() and len(value) <= _MAX_NUMBER_DIGITS):
            raise _invalid_argument(name)
        return int(value)

    def pairs(self) -> dict[str, Instrument]:
        """Name in the response → market; all markets when none is named."""
        value = self._values.get("pair")
        if not value:
            return {self._response_name(one, one.rest_id): one for one in self._instruments.values()}
        return dict(self._pair(name) for name in value.split(","))

    def pair(self) -> tuple[str, Instrument]:
        """The name in the response and the market, which is required."""
        value = self._values.get("pair")
        if not value:
            raise _invalid_argument("pair")
        return self._pair(value)

    def assets(self) -> dict[str, markets.Asset]:
        """Name in the response → asset; all assets when none is named."""
        names = {
            name: asset for asset in markets.ASSETS.values() for name in (asset.name, asset.altname, asset.rest_id)
        }
        value = self._values.get("asset")
        if not value:
            chosen: Iterable[markets.Asset] = markets.ASSETS.values()
        elif all(name.strip() in names for name in value.split(",")):
            chosen = [names[name.strip()] for name in value.split(",")]
        else:
            raise InvalidRequest(UNKNOWN_ASSET)
        modern = self.modern
        return {asset.name if modern else asset.rest_id: asset for asset in chosen}

    def _pair(self, name: str) -> tuple[str, Instrument]:
        one = self._names.get(name.strip())
        if one is None:
            raise InvalidRequest(UNKNOWN_PAIR)
        return self._response_name(one, name.strip()), one

    def _response_name(self, one: Instrument, name: str) -> str:
        """A name with a slash is repeated in the response, where clients look the market up by the name they sent."""
        if self.modern:
            return one.symbol
        return name if "/" in name else one.rest_id


def add(app: fastapi.FastAPI, venue: Venue) -> None:
    """Add the REST API to an app."""

    async def limited(request: Request) -> None:
        if not venue.allows_call(request.client.host if request.client else ""):
            raise InvalidRequest(TOO_MANY)

    router = APIRouter(prefix="/0", dependencies=[Depends(limited)])
    _add_reference(router, venue)
    _add_books(router, venue)
    _add_history(router, venue)

    @app.exception_handler(InvalidRequest)
    async def invalid(_: Request, fault: InvalidRequest) -> responses.JSONResponse:
        return responses.JSONResponse({"error": [fault.error]})

    @router.api_route("/public/{method}", methods=["GET", "POST"], include_in_schema=False)
    async def unknown(method: str) -> responses.JSONResponse:
        del method
        raise InvalidRequest(UNKNOWN_METHOD)

    # There are no API keys, so none is valid.
    @router.api_route("/private/{method:path}", methods=["GET", "POST"], include_in_schema=False)
    async def private(method: str) -> responses.JSONResponse:
        del method
        raise InvalidRequest(INVALID_KEY)

    app.include_router(router)


def _public(
    router: APIRouter, method: str, *params: str
) -> Callable[[Callable[..., Awaitable[responses.JSONResponse]]], None]:
    """Serve a public method by GET and POST; /openapi.json lists only GET, as Kraken's description does."""

    def register(handler: Callable[..., Awaitable[responses.JSONResponse]]) -> None:
        path = f"/public/{method}"
        router.add_api_route(
            path, handler, methods=["GET"], tags=["public"], openapi_extra=_openapi_parameters(*params)
        )
        router.add_api_route(path, handler, methods=["POST"], include_in_schema=False)

    return register


def success(result: object) -> responses.JSONResponse:
    """The response with a result and no errors."""
    return responses.JSONResponse({"error": [], "result": result})


def _add_reference(router: APIRouter, venue: Venue) -> None:
    @_public(router, "Time")
    async def time() -> responses.JSONResponse:
        """The venue's time."""
        now = times.to_datetime(venue.clock.now())
        return success({"unixtime": int(now.timestamp()), "rfc1123": f"{now:%a, %d %b %y %H:%M:%S +0000}"})

    @_public(router, "SystemStatus")
    async def system_status() -> responses.JSONResponse:
        """The system status of the venue."""
        now = times.to_datetime(venue.clock.now())
        return success({"status": venue.engine.system.value, "timestamp": f"{now:%Y-%m-%dT%H:%M:%SZ}"})

    @_public(router, "Assets", "asset", "assetVersion")
    async def assets(request: Request) -> responses.JSONResponse:
        """The assets, by name."""
        parameters = Parameters(await _read_parameters(request), venue)
        if parameters.one_of("aclass", ("currency", "tokenized_asset")) != "currency":
            return success({})
        return success({name: _asset(asset, modern=parameters.modern) for name, asset in parameters.assets().items()})

    @_public(router, "AssetPairs", "pairs", "info", "assetVersion")
    async def asset_pairs(request: Request) -> responses.JSONResponse:
        """The markets, by name."""
        parameters = Parameters(await _read_parameters(request), venue)
        info = parameters.one_of("info", ("info", "leverage", "fees", "margin"))
        if parameters.one_of("aclass_base", ("currency", "tokenized_asset")) != "currency":
            return success({})
        pairs = {name: _pair(one, modern=parameters.modern) for name, one in parameters.pairs().items()}
        only = _INFO.get(info)
        return success({name: {key: one[key] for key in only or one} for name, one in pairs.items()})


def _add_books(router: APIRouter, venue: Venue) -> None:
    @_public(router, "Ticker", "pairs", "assetVersion")
    async def ticker(request: Request) -> responses.JSONResponse:
        """Best prices, last trade, today and the last 24 hours."""
        now = venue.clock.now()
        pairs = Parameters(await _read_parameters(request), venue).pairs()
        return success({name: _ticker(venue.markets[one.symbol], now) for name, one in pairs.items()})

    @_public(router, "Depth", "pair", "levels", "assetVersion")
    async def depth(request: Request) -> responses.JSONResponse:
        """The book."""
        parameters = Parameters(await _read_parameters(request), venue)
        name, one = parameters.pair()
        # Some public clients request 1000 levels: they get the maximum instead of an error.
        count = min(parameters.number("count", DEFAULT_LEVELS), MAX_LEVELS)
        if not count:
            raise _invalid_argument("count")
        market = venue.markets[one.symbol]
        return success({name: {"asks": _levels(market.asks, one, count), "bids": _levels(market.bids, one, count)}})

    @_public(router, "Spread", "pair", "since", "assetVersion")
    async def spread(request: Request) -> responses.JSONResponse:
        """The last changes of the best prices."""
        parameters = Parameters(await _read_parameters(request), venue)
        name, one = parameters.pair()
        since = parameters.number("since", 0)
        rows = [
            [at // times.SECOND, _price(bid, one), _price(ask, one)]
            for at, bid, ask in venue.markets[one.symbol].spreads
            if at // times.SECOND >= since
        ]
        return success({name: rows, "last": rows[-1][0] if rows else since})


def _add_history(router: APIRouter, venue: Venue) -> None:
    @_public(router, "OHLC", "pair", "interval", "since", "assetVersion")
    async def ohlc(request: Request) -> responses.JSONResponse:
        """The last completed candles and the current one."""
        parameters = Parameters(await _read_parameters(request), venue)
        name, one = parameters.pair()
        interval = parameters.number("interval", 1)
        if interval not in candles.INTERVALS:
            raise _invalid_argument("interval")
        since = parameters.number("since", -1) * times.SECOND
        known = list(candles.with_empty(venue.markets[one.symbol].candles(interval), venue.clock.now()))
        committed, current = known[-candles.MAX_SERVED - 1 : -1], known[-1:]
        rows = [candle for candle in committed if candle.begin > since] + current
        last = committed[-1].begin if committed else 0
        return success({name: [_ohlc_row(candle, one) for candle in rows], "last": last // times.SECOND})

    @_public(router, "Trades", "pair", "since", "trades", "assetVersion")
    async def trades(request: Request) -> responses.JSONResponse:
        """The trades after `since`, or the newest ones."""
        parameters = Parameters(await _read_parameters(request), venue)
        name, one = parameters.pair()
        count = parameters.number("count", MAX_TRADES)
        if not 1 <= count <= MAX_TRADES:
            raise _invalid_argument("count")
        since = parameters.number("since", -1)
        if since >= 0:
            since = min(since * times.SECOND if since < SECONDS_BELOW else since, 2**63 - 1)
            found = await venue.journal.since(one.symbol, Nanoseconds(since), count)
        else:
            found = await venue.journal.newest(one.symbol, count)
        last = found[-1].at if found else max(since, 0)
        return success({name: [_trade(trade, one) for trade in found], "last": str(last)})


def _asset(asset: markets.Asset, *, modern: bool) -> dict[str, Any]:
    return {
        "aclass": "currency",
        "altname": asset.name if modern else asset.altname,
        "decimals": asset.digits,
        "display_decimals": asset.display_digits,
        "status": "enabled",
    }


_INFO: Final = {
    "leverage": ("leverage_buy", "leverage_sell"),
    "fees": ("fees", "fees_maker", "fee_volume_currency"),
    "margin": ("margin_call", "margin_stop"),
}


def _pair(one: Instrument, *, modern: bool) -> dict[str, Any]:
    return {
        "altname": one.altname,
        "wsname": one.wsname,
        "aclass_base": "currency",
        "base": one.base if modern else one.base_id,
        "aclass_quote": "currency",
        "quote": one.quote if modern else one.quote_id,
        "lot": "unit",
        "cost_decimals": one.cost_digits,
        "pair_decimals": one.price_digits,
        "lot_decimals": one.quantity_digits,
        "lot_multiplier": 1,
        "leverage_buy": [],
        "leverage_sell": [],
        # Empty, as Kraken's are for all pairs since 8 September 2026 (its changelog of that day, according to
        # btschwertfeger/python-kraken-sdk issue 453 and `get_asset_pairs` of its release 3.5.1). Fees are available
        # from the private TradeVolume, with `fee_schedule`. Kraken's OpenAPI and older recordings still show them.
        "fees": [],
        "fees_maker": [],
        "fee_volume_currency": "USD" if modern else one.quote_id,
        "margin_call": 80,
        "margin_stop": 40,
        "ordermin": decimals.plain(one.quantity_min),
        "costmin": decimals.plain(one.cost_min),
        "tick_size": decimals.plain(one.tick_size),
        "status": one.status,
        "execution_venue": "international",
    }


def _price(units: int, one: Instrument) -> str:
    """A price with at least five decimals."""
    more = max(5 - one.price_digits, 0)
    return decimals.text(units * 10**more, one.price_digits + more)


def _lots(units: int, one: Instrument) -> str:
    """A quantity with three decimals, rounded up so that it is never 0."""
    return decimals.text(-(-units // 10 ** (one.quantity_digits - 3)), 3)


def _quantity(units: int, one: Instrument) -> str:
    return decimals.text(units, one.quantity_digits)


def _ticker(market: Market, now: Nanoseconds) -> dict[str, Any]:
    one = market.instrument
    bid, bid_quantity, ask, ask_quantity = market.best() or (0, 0, 0, 0)
    today, day = market.today(now), market.last_day(now)
    newest = market.trades[-1] if market.trades else None

    def best(price: int, quantity: int) -> list[str]:
        return [_price(price, one), str(-(-quantity // 10**one.quantity_digits)), _lots(quantity, one)]

    return {
        "a": best(ask, ask_quantity),
        "b": best(bid, bid_quantity),
        "c": [_price(market.last_price, one), _quantity(newest.quantity if newest else 0, one)],
        "v": [_quantity(today.volume, one), _quantity(day.volume, one)],
        "p": [_price(today.vwap(), one), _price(day.vwap(), one)],
        "t": [today.trades, day.trades],
        "l": [_price(today.low, one), _price(day.low, one)],
        "h": [_price(today.high, one), _price(day.high, one)],
        "o": _price(today.open, one),
    }


def _ohlc_row(candle: Candle, one: Instrument) -> list[Any]:
    prices = [decimals.text(price, one.price_digits) for price in (candle.open, candle.high, candle.low, candle.close)]
    vwap = candle.vwap() if candle.volume else 0
    return [
        candle.begin // times.SECOND,
        *prices,
        decimals.text(vwap, one.price_digits),
        _quantity(candle.volume, one),
        candle.trades,
    ]


def _levels(side: Ladder, one: Instrument, count: int) -> list[list[Any]]:
    return [
        [_price(side.price(index), one), _lots(quantity, one), side.changed_at[index] // times.SECOND]
        for index, quantity in enumerate(side.quantities[:count])
    ]


def _trade(trade: Traded, one: Instrument) -> list[Any]:
    return [
        _price(trade.price, one),
        _quantity(trade.quantity, one),
        # A JSON number, as in Kraken's API: a float is exact to about seven decimals of a second.
        round(trade.at / times.SECOND, 7),
        "b" if trade.side is Side.BUY else "s",
        "m" if trade.order_type is OrderType.MARKET else "l",
        "",
        trade.trade_id,
    ]
