"""Requests of WebSocket clients and the replies to them, with Kraken's error texts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aether_services.domain.instruments import Symbol
from aether_services.exchange_sim.core import candles, views, wire_format

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_services.domain.times import Nanoseconds

TICKER, BOOK, TRADE, OHLC, INSTRUMENT = "ticker", "book", "trade", "ohlc", "instrument"
MARKET_CHANNELS: Final = (TICKER, BOOK, TRADE, OHLC)
"""Channels with one subscription per market."""
TRIGGERS: Final = ("trades", "bbo")
_MAX_LENGTH: Final = 512 * 1024
"""The maximum length of a request in characters."""
_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "ping": frozenset({"method", "req_id"}),
    "subscribe": frozenset({"method", "params", "req_id"}),
    "unsubscribe": frozenset({"method", "params", "req_id"}),
}
"""The fields that a request of each method may have."""
_PARAMS: Final = {"channel", "symbol", "depth", "interval", "event_trigger", "snapshot", "token"}

MALFORMED: Final = "Malformed request"
TOO_FAST: Final = "Exceeded msg rate"
ALREADY: Final = "Already subscribed"
NOT_FOUND: Final = "Subscription Not Found"


class Key(NamedTuple):
    """The key of a subscription: a channel, a market, and the depth, interval or trigger."""

    channel: str
    symbol: Symbol
    detail: int | str = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestError:
    """Why a request, or its part for one symbol, is rejected."""

    error: str
    symbol: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A parsed request: the key of each subscription that it names, or the error instead."""

    method: str
    req_id: int | None = None
    keys: tuple[Key | RequestError, ...] = ()
    snapshot: bool = False


def parse_request(text: str | bytes, known: Mapping[Symbol, object]) -> Request:
    try:
        fields = json.loads(text) if len(text) <= _MAX_LENGTH else None
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        return Request(method="", keys=(RequestError(error=MALFORMED),))
    method, req_id = fields.get("method"), fields.get("req_id")
    if type(req_id) is not int:  # a bool is not a number here; any other type is not echoed
        req_id = None
    if not isinstance(method, str):
        return Request(method="", req_id=req_id, keys=(RequestError(error=MALFORMED),))
    if method not in _FIELDS:
        return Request(method=method, req_id=req_id, keys=(RequestError(error="Event(s) not found"),))
    if method == "ping":
        return Request(method=method, req_id=req_id, keys=_unsupported_fields(method, fields, {}))
    params = fields.get("params")
    keys = (
        (RequestError(error="Params field must be an object"),)
        if not isinstance(params, dict)
        else _unsupported_fields(method, fields, params) or _keys(method, params, known)
    )
    snapshot = isinstance(params, dict) and params.get("snapshot", params.get("channel") != TRADE) is True
    return Request(method=method, req_id=req_id, keys=keys, snapshot=snapshot)


def _unsupported_fields(method: str, fields: dict[str, Any], params: dict[str, Any]) -> tuple[RequestError, ...]:
    unknown = sorted({*fields} - _FIELDS[method]) + sorted({*params} - _PARAMS)
    return tuple(
        RequestError(error=f"Unsupported field: '{name[:50]}' for the given msg type: {method}") for name in unknown[:1]
    )


def _keys(method: str, params: dict[str, Any], known: Mapping[Symbol, object]) -> tuple[Key | RequestError, ...]:
    channel = params.get("channel")
    if "snapshot" in params and not isinstance(params["snapshot"], bool):
        return (RequestError(error="Snapshot field must be a boolean"),)
    if channel == INSTRUMENT:
        return (Key(INSTRUMENT, Symbol("")),)
    if channel not in MARKET_CHANNELS:
        return (RequestError(error="Subscription name invalid"),)
    detail = _detail(method, channel, params)
    if isinstance(detail, RequestError):
        return (detail,)
    symbols = params.get("symbol")
    if not isinstance(symbols, list) or not symbols:
        return (RequestError(error="Symbol field must be an array"),)
    # A symbol that is named twice gets two replies.
    return tuple(
        Key(channel, Symbol(one), detail)
        if isinstance(one, str) and one in known
        else RequestError(error=f"Currency pair not supported {one}"[:100], symbol=str(one)[:50])
        for one in symbols
    )


def _detail(method: str, channel: str, params: dict[str, Any]) -> int | str | RequestError:
    """The part of the key beside channel and symbol. A request to unsubscribe must repeat it."""
    if channel == BOOK:
        return _one_of(params.get("depth", views.DEPTHS[0]), views.DEPTHS, "depth")
    if channel == OHLC:
        if "interval" not in params:
            return RequestError(error="Subscription ohlc requires interval")
        return _one_of(params["interval"], candles.INTERVALS, "ohlc interval")
    if channel == TICKER:
        trigger = params.get("event_trigger", TRIGGERS[0])
        if trigger not in TRIGGERS:
            return RequestError(error=f"Event_trigger field is not valid for the given msg type: {method}")
        return str(trigger)
    return 0


def _one_of(value: object, allowed: tuple[int, ...], name: str) -> int | RequestError:
    if type(value) is not int:
        return RequestError(error=f"Subscription {'book ' if name == 'depth' else ''}{name} must be an integer")
    return value if value in allowed else RequestError(error=f"Subscription {name} not supported")


def pong(req_id: int | None, received: Nanoseconds, now: Nanoseconds) -> str:
    """The reply to a ping."""
    return wire_format.to_json({"method": "pong", **_times(req_id, received, now)})


def success_reply(request: Request, key: Key, received: Nanoseconds, now: Nanoseconds) -> str:
    """The reply that a subscription was added or removed, with its key's parameters."""
    result: dict[str, Any] = {"channel": key.channel}
    details = {BOOK: "depth", OHLC: "interval", TICKER: "event_trigger"}
    if key.channel in details:
        result[details[key.channel]] = key.detail
    if request.method == "subscribe":
        result["snapshot"] = request.snapshot
        warnings = {
            OHLC: "timestamp is deprecated, use interval_begin",
            INSTRUMENT: "tick_size is deprecated, use price_increment",
        }
        if key.channel in warnings:
            result["warnings"] = [warnings[key.channel]]
    if key.symbol:
        result["symbol"] = key.symbol
    fields = {"method": request.method, "result": result, "success": True}
    return wire_format.to_json({**fields, **_times(request.req_id, received, now)})


def error_reply(request: Request, error: RequestError, received: Nanoseconds, now: Nanoseconds) -> str:
    """The reply that a request was rejected."""
    fields: dict[str, Any] = {"error": error.error, "method": request.method, "success": False}
    if not request.method:
        del fields["method"]
    if error.symbol:
        fields["symbol"] = error.symbol
    return wire_format.to_json({**fields, **_times(request.req_id, received, now)})


def _times(req_id: int | None, received: Nanoseconds, now: Nanoseconds) -> dict[str, Any]:
    numbered = {} if req_id is None else {"req_id": req_id}
    return {"time_in": wire_format.micros(received), "time_out": wire_format.micros(now), **numbered}
