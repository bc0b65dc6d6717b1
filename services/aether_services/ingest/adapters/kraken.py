"""Kraken's public API over the network: WebSocket v2 and REST, of Kraken itself or of a simulated venue."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
import msgspec

from aether_runtime import network_errors
from aether_services.domain import decimals, times
from aether_services.domain.instruments import Instrument, Symbol
from aether_services.domain.times import Nanoseconds
from aether_services.domain.trades import OrderType, Side, Trade
from aether_services.ingest.core import trade_logs, wire
from aether_services.ingest.core.rejections import RejectedValue, RejectionReason, Rejections
from aether_services.ingest.ports import InstrumentList, InvalidTrades, VenueUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from decimal import Decimal

    from aether_services.ingest.core.trade_logs import Cursor
    from aether_services.kit.clocks import Clock

USER_AGENT: Final = "aether-ingest"
CONNECT_TIMEOUT: Final = 10.0
REPLY_TIMEOUT: Final = 10.0
MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
"""The largest message is the snapshot of all instruments, about one megabyte."""
RENAMED_ASSETS: Final = {"XBT": "BTC", "XDG": "DOGE"}
"""The two asset codes of `wsname` that differ in the WebSocket v2."""
_SIDES: Final = {"b": "buy", "s": "sell"}
_TYPES: Final = {"m": "market", "l": "limit"}
MIN_BACKOFF: Final = 1.0
MAX_BACKOFF: Final = 30.0
"""Seconds until the next REST call after a rate-limit error; doubled after each further one."""
_RATE_LIMIT_ERRORS: Final = (
    "EGeneral:Too many requests",
    "EAPI:Rate limit exceeded",
    "EGeneral:Temporary lockout",
    "EService:Throttled",
)
_CLOSED_TYPES: Final = frozenset({aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING})


class _Row(msgspec.Struct, array_like=True, gc=False):
    """A trade as an array in the response of Trades."""

    price: str
    volume: str
    time: msgspec.Raw
    side: str
    order_type: str
    misc: msgspec.Raw
    trade_id: msgspec.Raw


class _Pair(msgspec.Struct, gc=False):
    """A market in the response of AssetPairs, with the fields that the table `instruments` needs."""

    altname: str
    base: str
    quote: str
    status: str
    pair_decimals: msgspec.Raw
    lot_decimals: msgspec.Raw
    cost_decimals: msgspec.Raw
    ordermin: str
    costmin: str
    tick_size: str


class _Named(msgspec.Struct, gc=False):
    wsname: str = ""


class _Envelope(msgspec.Struct, gc=False):
    error: list[str]
    result: msgspec.Raw = msgspec.Raw(b"null")


class _RateLimited(VenueUnavailable):
    """The venue rejected a REST call because of its rate limit."""


class _Connection:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def receive(self) -> str:
        message = await self._socket.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            text: str = message.data
            return text
        if message.type is aiohttp.WSMsgType.BINARY:
            data: bytes = message.data
            return data.decode(errors="replace")
        if message.type in _CLOSED_TYPES:
            code = self._socket.close_code or 0
            reason = f": {message.extra}" if message.extra else ""
            raise VenueUnavailable(f"the venue ended the connection with code {code}{reason}", code)
        raise VenueUnavailable(f"the connection failed: {self._socket.exception()}")

    async def send(self, text: str) -> None:
        try:
            await self._socket.send_str(text)
        except (aiohttp.ClientError, OSError) as fault:
            raise VenueUnavailable(f"the connection failed: {fault}") from fault


class Kraken:
    """A venue with Kraken's API.

    Args:
        ws_url: The URL of the WebSocket v2.
        rest_url: The base URL of REST, without /0/public.
        pause: Seconds between two REST calls; Kraken allows about one per second from an address.
        clock: The time.
        rejections: Counts rejected messages and entries.
    """

    def __init__(
        self, *, ws_url: str, rest_url: str, pause: float, clock: Clock, rejections: Rejections | None = None
    ) -> None:
        self._ws_url, self._rest_url, self._pause = ws_url, rest_url.rstrip("/"), pause
        self._clock = clock
        self._rejections = rejections or Rejections()
        self._backoff = 0.0
        """Seconds until the next REST call, after a rate-limit error."""
        self._next_call = 0.0
        self._session: aiohttp.ClientSession | None = None
        self._lock = asyncio.Lock()
        self._names: dict[Symbol, Instrument] = {}
        self._unreadable: frozenset[Symbol] = frozenset()

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=REPLY_TIMEOUT, sock_connect=CONNECT_TIMEOUT)
        self._session = aiohttp.ClientSession(headers={"User-Agent": USER_AGENT}, timeout=timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[_Connection]:
        if self._session is None:
            raise RuntimeError("not entered")
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                socket = await self._session.ws_connect(self._ws_url, max_msg_size=MAX_MESSAGE_BYTES, autoping=True)
        except (aiohttp.ClientError, OSError, TimeoutError) as fault:
            status = fault.status if isinstance(fault, aiohttp.WSServerHandshakeError) else 0
            raise VenueUnavailable(f"{self._ws_url}: {_message(fault)}", status) from fault
        try:
            yield _Connection(socket)
        finally:
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with asyncio.timeout(1):
                    await socket.close()

    async def instruments(self) -> InstrumentList:
        result = await self._get("AssetPairs", {}, dict[str, msgspec.Raw])
        found: dict[Symbol, Instrument] = {}
        unreadable = set[Symbol]()
        for rest_id, raw in result.items():
            symbol = Symbol("")
            try:
                if not (wsname := wire.entry(raw, _Named).wsname).endswith("/USD"):
                    continue
                symbol = _symbol(wsname)
                found[symbol] = _instrument(symbol, rest_id, wsname, wire.entry(raw, _Pair))
            except Exception as fault:  # noqa: BLE001 - the other entries are valid
                self._rejections.record("AssetPairs", symbol or rest_id, fault)
                unreadable.add(symbol)
        self._names, self._unreadable = found, frozenset(unreadable)
        return InstrumentList(instruments=list(found.values()), unreadable=self._unreadable)

    async def trades(self, symbol: Symbol, after: Cursor | None) -> Sequence[Trade]:
        """One page of up to a thousand trades of a market after a cursor, or of its newest."""
        if symbol not in self._names and symbol not in self._unreadable:
            await self.instruments()
        instrument = self._names.get(symbol)
        if instrument is None:
            if symbol in self._unreadable:
                raise InvalidTrades(f"AssetPairs: the entry of {symbol} is malformed")
            raise VenueUnavailable(f"AssetPairs: no {symbol}")
        params = {"pair": instrument.altname, "count": "1000"}
        if after is None:
            result = await self._get("Trades", params, dict[str, msgspec.Raw])
            result.pop("last", None)
            return self._read_trades(instrument, result, None)
        since: Nanoseconds = trade_logs.query_start(after)
        while True:
            params["since"] = str(since)
            result = await self._get("Trades", params, dict[str, msgspec.Raw])
            last = _last(result.pop("last", None))
            trades = self._read_trades(instrument, result, after)
            if not trades or trades[-1].trade_id > after.trade_id or last <= since:
                return trades
            since = last  # a page with trades before the cursor only: many have about the same time

    def _read_trades(
        self, instrument: Instrument, result: Mapping[str, msgspec.Raw], after: Cursor | None
    ) -> list[Trade]:
        """The trades of a response in order.

        Where a trade after the cursor is malformed, only those before it that follow the cursor without a gap; without
        a cursor, only those after it.

        Raises:
            InvalidTrades: No trade is left.
        """
        trades: dict[int, Trade] = {}
        fault: Exception | None = None
        for raw in (row for rows in result.values() for row in _decoded(rows, list[msgspec.Raw])):
            try:
                one = _trade(instrument, wire.entry(raw, _Row))
                trades[one.trade_id] = one
            except Exception as wrong:  # noqa: BLE001 - the other entries are valid
                self._rejections.record("Trades", instrument.symbol, wrong)
                if after is None:
                    trades.clear()
                elif (number := _trade_id_of(raw)) is not None and number <= after.trade_id:
                    continue
                fault = wrong
        if fault is not None and after is not None:
            leading = itertools.takewhile(trades.__contains__, itertools.count(after.trade_id + 1))
            trades = {trade_id: trades[trade_id] for trade_id in leading}
        if fault is not None and not trades:
            raise InvalidTrades(f"Trades: {str(fault)[:100]}") from fault
        return [trades[trade_id] for trade_id in sorted(trades)]

    async def _get(self, method: str, params: Mapping[str, str], form: type[Any]) -> Any:
        async with self._lock:  # one call at a time, within the rate limit
            await self._clock.sleep(max(self._next_call - self._clock.elapsed(), 0.0))
            try:
                answer = await self._request(method, params)
                self._backoff = 0.0
            except _RateLimited:
                self._backoff = min(max(2 * self._backoff, MIN_BACKOFF), MAX_BACKOFF)
                raise
            finally:
                self._next_call = self._clock.elapsed() + max(self._pause, self._backoff)
        return _decoded(answer.result, form)

    async def _request(self, method: str, params: Mapping[str, str]) -> _Envelope:
        answer: _Envelope = _decoded(await self._body(method, params), _Envelope)
        errors = [one for one in answer.error if not one.startswith("W")]
        if errors:
            too_many = any(one.replace(": ", ":").startswith(_RATE_LIMIT_ERRORS) for one in errors)
            raise (_RateLimited if too_many else VenueUnavailable)(f"{method}: {', '.join(errors)}")
        return answer

    async def _body(self, method: str, params: Mapping[str, str]) -> bytes:
        if self._session is None:
            raise RuntimeError("not entered")
        try:
            async with self._session.get(f"{self._rest_url}/0/public/{method}", params=dict(params)) as response:
                body = await response.read()
                status = response.status
        except (aiohttp.ClientError, OSError, TimeoutError) as fault:
            raise VenueUnavailable(f"{method}: {_message(fault)}") from fault
        if status != HTTPStatus.OK:  # the venue reports its errors with 200: this response is from a proxy
            error_type = _RateLimited if status == HTTPStatus.TOO_MANY_REQUESTS else VenueUnavailable
            raise error_type(f"{method}: status {int(status)}")
        return body


def _decoded(body: bytes | msgspec.Raw, form: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=form)
    except (msgspec.DecodeError, RecursionError) as fault:
        raise VenueUnavailable(f"malformed response: {fault}") from fault


def _last(raw: msgspec.Raw | None) -> Nanoseconds:
    """The `since` parameter for the next page."""
    text = "0" if raw is None else _decoded(raw, str)
    if not text.isdecimal() or not text.isascii() or len(text) > len(str(2**63)):
        raise VenueUnavailable(f"malformed response: last is {text[:40]!r}")
    return Nanoseconds(int(text))


def _symbol(wsname: str) -> Symbol:
    """A market's name in the WebSocket v2, from its `wsname`."""
    return Symbol("/".join(RENAMED_ASSETS.get(one, one) for one in wsname.split("/")))


def _instrument(symbol: Symbol, rest_id: str, wsname: str, pair: _Pair) -> Instrument:
    base, _, quote = symbol.partition("/")
    found = Instrument(
        symbol=symbol,
        wsname=wsname,
        altname=pair.altname,
        rest_id=rest_id,
        base=base,
        base_id=pair.base,
        quote=quote,
        quote_id=pair.quote,
        status=pair.status,
        price_digits=_digits(pair.pair_decimals),
        quantity_digits=_digits(pair.lot_decimals),
        cost_digits=_digits(pair.cost_decimals),
        tick_size=wire.positive(decimals.parse(pair.tick_size)),
        quantity_min=_minimum(pair.ordermin),
        cost_min=_minimum(pair.costmin),
    )
    if any("\0" in text for text in (wsname, rest_id, pair.altname, pair.base, pair.quote, pair.status)):
        raise ValueError("a name with a NUL character, which PostgreSQL cannot store")
    return found


def _digits(raw: msgspec.Raw) -> int:
    digits = wire.integer(raw)
    if not 0 <= digits <= decimals.MAX_DIGITS:
        raise ValueError(f"not a number of decimals: {digits}")
    return digits


def _minimum(text: str) -> Decimal:
    value = decimals.parse(text)
    if value < 0:
        raise ValueError(f"negative: {value}")
    return value


def _trade(market: Instrument, row: _Row) -> Trade:
    """A trade in the decimals of its market: REST writes more trailing zeros than the WebSocket."""
    return Trade(
        symbol=market.symbol,
        trade_id=wire.trade_id(row.trade_id),
        side=Side(_SIDES.get(row.side, row.side)),
        price=wire.positive(_in_digits(row.price, market.price_digits)),
        quantity=wire.positive(_in_digits(row.volume, market.quantity_digits)),
        order_type=OrderType(_TYPES.get(row.order_type, row.order_type)),
        at=Nanoseconds(int(wire.number(row.time) * times.SECOND)),
    )


def _trade_id_of(raw: msgspec.Raw) -> int | None:
    """The trade_id of a malformed row, where it can be read."""
    try:
        return wire.trade_id(wire.entry(raw, list[msgspec.Raw])[6])
    except (ValueError, IndexError):
        return None


def _in_digits(text: str, digits: int) -> Decimal:
    value = decimals.parse(text)
    if decimals.decimal_places(value) > digits:
        raise RejectedValue(RejectionReason.DECIMALS, f"a number with more than {digits} decimals", text)
    return decimals.unscaled(decimals.scaled(value, digits), digits)


def _message(fault: BaseException) -> str:
    return network_errors.describe(fault) or str(fault) or type(fault).__name__
