"""What a WebSocket client may say, and what it is answered, in Kraken's words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aether_services.domain.instruments import Symbol
from aether_services.exchange_sim.core import bars, views, wire_format

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_services.domain.times import Nanoseconds

TICKER, BOOK, TRADE, OHLC, INSTRUMENT = "ticker", "book", "trade", "ohlc", "instrument"
OF_MARKETS: Final = (TICKER, BOOK, TRADE, OHLC)
"""Channels that are subscribed to market by market."""
TRIGGERS: Final = ("trades", "bbo")
_MOST: Final = 512 * 1024
"""Characters of a request; nobody has that much to say."""
_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "ping": frozenset({"method", "req_id"}),
    "subscribe": frozenset({"method", "params", "req_id"}),
    "unsubscribe": frozenset({"method", "params", "req_id"}),
}
"""What a request of each method may have."""
_PARAMS: Final = {"channel", "symbol", "depth", "interval", "event_trigger", "snapshot", "token"}

MALFORMED: Final = "Malformed request"
TOO_FAST: Final = "Exceeded msg rate"
ALREADY: Final = "Already subscribed"
NOT_FOUND: Final = "Subscription Not Found"


class Key(NamedTuple):
    """What a connection may be subscribed to: a channel, one market, and the depth, interval or trigger."""

    channel: str
    symbol: Symbol
    detail: int | str = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A request that nothing came of."""

    error: str
    symbol: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as read: what is wanted for each key, or why not."""

    method: str
    req_id: int | None = None
    wanted: tuple[Key | Refused, ...] = ()
    snapshot: bool = False


def asked(text: str | bytes, known: Mapping[Symbol, object]) -> Asked:
    """Read a request."""
    try:
        said = json.loads(text) if len(text) <= _MOST else None
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        return Asked(method="", wanted=(Refused(error=MALFORMED),))
    method, req_id = said.get("method"), said.get("req_id")
    if type(req_id) is not int:  # a bool is none, and whatever else it is, it is not told back
        req_id = None
    if not isinstance(method, str):
        return Asked(method="", req_id=req_id, wanted=(Refused(error=MALFORMED),))
    if method not in _FIELDS:
        return Asked(method=method, req_id=req_id, wanted=(Refused(error="Event(s) not found"),))
    if method == "ping":
        return Asked(method=method, req_id=req_id, wanted=_unsupported(method, said, {}))
    params = said.get("params")
    wanted = (
        (Refused(error="Params field must be an object"),)
        if not isinstance(params, dict)
        else _unsupported(method, said, params) or _wanted(method, params, known)
    )
    snapshot = isinstance(params, dict) and params.get("snapshot", params.get("channel") != TRADE) is True
    return Asked(method=method, req_id=req_id, wanted=wanted, snapshot=snapshot)


def _unsupported(method: str, said: dict[str, Any], params: dict[str, Any]) -> tuple[Refused, ...]:
    strange = sorted({*said} - _FIELDS[method]) + sorted({*params} - _PARAMS)
    return tuple(
        Refused(error=f"Unsupported field: '{name[:50]}' for the given msg type: {method}") for name in strange[:1]
    )


def _wanted(method: str, params: dict[str, Any], known: Mapping[Symbol, object]) -> tuple[Key | Refused, ...]:
    channel = params.get("channel")
    if "snapshot" in params and not isinstance(params["snapshot"], bool):
        return (Refused(error="Snapshot field must be a boolean"),)
    if channel == INSTRUMENT:
        return (Key(INSTRUMENT, Symbol("")),)
    if channel not in OF_MARKETS:
        return (Refused(error="Subscription name invalid"),)
    detail = _detail(method, channel, params)
    if isinstance(detail, Refused):
        return (detail,)
    symbols = params.get("symbol")
    if not isinstance(symbols, list) or not symbols:
        return (Refused(error="Symbol field must be an array"),)
    # A symbol that is named twice is answered twice.
    return tuple(
        Key(channel, Symbol(one), detail)
        if isinstance(one, str) and one in known
        else Refused(error=f"Currency pair not supported {one}"[:100], symbol=str(one)[:50])
        for one in symbols
    )


def _detail(method: str, channel: str, params: dict[str, Any]) -> int | str | Refused:
    """What besides the symbol tells one subscription from another. To unsubscribe, it must be said again."""
    if channel == BOOK:
        return _one_of(params.get("depth", views.DEPTHS[0]), views.DEPTHS, "depth")
    if channel == OHLC:
        if "interval" not in params:
            return Refused(error="Subscription ohlc requires interval")
        return _one_of(params["interval"], bars.INTERVALS, "ohlc interval")
    if channel == TICKER:
        trigger = params.get("event_trigger", TRIGGERS[0])
        if trigger not in TRIGGERS:
            return Refused(error=f"Event_trigger field is not valid for the given msg type: {method}")
        return str(trigger)
    return 0


def _one_of(value: object, allowed: tuple[int, ...], name: str) -> int | Refused:
    if type(value) is not int:
        return Refused(error=f"Subscription {'book ' if name == 'depth' else ''}{name} must be an integer")
    return value if value in allowed else Refused(error=f"Subscription {name} not supported")


def pong(req_id: int | None, received: Nanoseconds, now: Nanoseconds) -> str:
    """The answer to a ping."""
    return wire_format.written({"method": "pong", **_times(req_id, received, now)})


def accepted(request: Asked, key: Key, received: Nanoseconds, now: Nanoseconds) -> str:
    """Word that it was done, for one key; with what it takes to undo it."""
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
    said = {"method": request.method, "result": result, "success": True}
    return wire_format.written({**said, **_times(request.req_id, received, now)})


def refused(request: Asked, refusal: Refused, received: Nanoseconds, now: Nanoseconds) -> str:
    """Word that it was not."""
    said: dict[str, Any] = {"error": refusal.error, "method": request.method, "success": False}
    if not request.method:
        del said["method"]
    if refusal.symbol:
        said["symbol"] = refusal.symbol
    return wire_format.written({**said, **_times(request.req_id, received, now)})


def _times(req_id: int | None, received: Nanoseconds, now: Nanoseconds) -> dict[str, Any]:
    numbered = {} if req_id is None else {"req_id": req_id}
    return {"time_in": wire_format.micros(received), "time_out": wire_format.micros(now), **numbered}
