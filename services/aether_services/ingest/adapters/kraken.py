"""The venue's public side over the network: WebSocket v2 and REST, of Kraken or of who speaks as it does."""

from __future__ import annotations

import asyncio
import contextlib
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
import msgspec

from aether_services.domain import decimals, times
from aether_services.domain.instruments import Instrument, Symbol
from aether_services.domain.times import Nanoseconds
from aether_services.domain.trades import OrderType, Side, Trade
from aether_services.ingest.core import tapes
from aether_services.ingest.ports import VenueAway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from aether_services.ingest.core.tapes import Place

AGENT: Final = "aether-ingest"
CONNECT: Final = 10.0
ANSWER: Final = 10.0
LARGEST: Final = 16 * 1024 * 1024
"""Bytes of a message: the snapshot of all instruments is the largest, about one megabyte."""
RENAMED: Final = {"XBT": "BTC", "XDG": "DOGE"}
"""The two codes that the WebSocket's v2 names otherwise than `wsname` does."""
_SIDES: Final = {"b": Side.BUY, "s": Side.SELL}
_TYPES: Final = {"m": OrderType.MARKET, "l": OrderType.LIMIT}
_ENDED: Final = frozenset({aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING})


class _Row(msgspec.Struct, array_like=True, gc=False):
    """A trade as REST tells it."""

    price: str
    volume: str
    time: Decimal
    side: str
    order_type: str
    misc: str
    trade_id: int


class _Pair(msgspec.Struct, gc=False):
    """A market as REST tells it."""

    altname: str
    base: str
    quote: str
    status: str
    pair_decimals: int
    lot_decimals: int
    cost_decimals: int
    ordermin: str
    costmin: str
    tick_size: str
    wsname: str = ""


class _Answer(msgspec.Struct, gc=False):
    error: list[str]
    result: msgspec.Raw = msgspec.Raw(b"null")


class _Connection:
    """One WebSocket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def receive(self) -> str:
        """The next message."""
        message = await self._socket.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            text: str = message.data
            return text
        if message.type is aiohttp.WSMsgType.BINARY:
            data: bytes = message.data
            return data.decode(errors="replace")
        if message.type in _ENDED:
            code = self._socket.close_code or 0
            why = f": {message.extra}" if message.extra else ""
            raise VenueAway(f"the venue ended the connection with code {code}{why}", code)
        raise VenueAway(f"the connection failed: {self._socket.exception()}")

    async def send(self, text: str) -> None:
        """Say something."""
        try:
            await self._socket.send_str(text)
        except (aiohttp.ClientError, OSError) as fault:
            raise VenueAway(f"the connection failed: {fault}") from fault


class Kraken:
    """A venue.

    Args:
        ws_url: Where its WebSocket v2 is.
        rest_url: Where its REST is, without /0/public.
        pause: Seconds between two calls of REST; Kraken bears about one a second from an address.
    """

    def __init__(self, *, ws_url: str, rest_url: str, pause: float) -> None:
        self._ws_url, self._rest_url, self._pause = ws_url, rest_url.rstrip("/"), pause
        self._session: aiohttp.ClientSession | None = None
        self._turn = asyncio.Lock()
        self._names: dict[Symbol, Instrument] = {}

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=ANSWER, sock_connect=CONNECT)
        self._session = aiohttp.ClientSession(headers={"User-Agent": AGENT}, timeout=timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[_Connection]:
        """A WebSocket."""
        if self._session is None:
            raise RuntimeError("not entered")
        try:
            async with asyncio.timeout(CONNECT):
                socket = await self._session.ws_connect(self._ws_url, max_msg_size=LARGEST, autoping=True)
        except (aiohttp.ClientError, OSError, TimeoutError) as fault:
            raise VenueAway(f"{self._ws_url}: {_words(fault)}") from fault
        try:
            yield _Connection(socket)
        finally:
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with asyncio.timeout(1):
                    await socket.close()

    async def instruments(self) -> Sequence[Instrument]:
        """All spot markets in USD."""
        said = await self._get("AssetPairs", {}, dict[str, _Pair])
        found = [_instrument(rest_id, pair) for rest_id, pair in said.items() if pair.wsname.endswith("/USD")]
        self._names = {one.symbol: one for one in found}
        return found

    async def trades(self, symbol: Symbol, after: Place) -> Sequence[Trade]:
        """The trades of a market after a place: a page of up to a thousand."""
        if symbol not in self._names:
            await self.instruments()
        instrument = self._names.get(symbol)
        if instrument is None:
            raise VenueAway(f"AssetPairs: no {symbol}")
        since: Nanoseconds = tapes.since(after)
        while True:
            asked = {"pair": instrument.altname, "since": str(since), "count": "1000"}
            said = await self._get("Trades", asked, dict[str, msgspec.Raw])
            last = Nanoseconds(int(_decoded(said.pop("last", msgspec.Raw(b'"0"')), str)))
            rows = [row for raw in said.values() for row in _decoded(raw, list[_Row])]
            trades = sorted((_trade(instrument, row) for row in rows), key=lambda one: one.trade_id)
            if not trades or trades[-1].trade_id > after.trade_id or last <= since:
                return trades
            since = last  # a page of trades before the place: many were made at about the same time

    async def _get(self, what: str, asked: Mapping[str, str], form: type[Any]) -> Any:
        if self._session is None:
            raise RuntimeError("not entered")
        async with self._turn:  # one after the other, and not too fast
            try:
                async with self._session.get(f"{self._rest_url}/0/public/{what}", params=dict(asked)) as response:
                    body = await response.read()
                    status = response.status
            except (aiohttp.ClientError, OSError, TimeoutError) as fault:
                raise VenueAway(f"{what}: {_words(fault)}") from fault
            finally:
                await asyncio.sleep(self._pause)
        if status != 200:  # noqa: PLR2004 - the venue's refusals are 200, too: this did not reach it
            raise VenueAway(f"{what}: status {status}")
        answer = _decoded(body, _Answer)
        errors = [one for one in answer.error if not one.startswith("W")]
        if errors:
            raise VenueAway(f"{what}: {', '.join(errors)}")
        return _decoded(answer.result, form)


def _decoded(body: bytes | msgspec.Raw, form: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=form)
    except msgspec.DecodeError as fault:
        raise VenueAway(f"an answer is not understood: {fault}") from fault


def _instrument(rest_id: str, pair: _Pair) -> Instrument:
    base, _, quote = pair.wsname.partition("/")
    base, quote = RENAMED.get(base, base), RENAMED.get(quote, quote)
    try:
        return Instrument(
            symbol=Symbol(f"{base}/{quote}"),
            wsname=pair.wsname,
            altname=pair.altname,
            rest_id=rest_id,
            base=base,
            base_id=pair.base,
            quote=quote,
            quote_id=pair.quote,
            status=pair.status,
            price_digits=pair.pair_decimals,
            quantity_digits=pair.lot_decimals,
            cost_digits=pair.cost_decimals,
            tick_size=Decimal(pair.tick_size),
            quantity_min=Decimal(pair.ordermin),
            cost_min=Decimal(pair.costmin),
        )
    except InvalidOperation as fault:
        raise VenueAway(f"AssetPairs: a number of {rest_id} is not understood") from fault


def _trade(market: Instrument, row: _Row) -> Trade:
    """A trade, in the decimals of its market: REST writes more zeros than the WebSocket."""
    try:
        return Trade(
            symbol=market.symbol,
            trade_id=row.trade_id,
            side=_SIDES[row.side],
            price=_in_digits(row.price, market.price_digits),
            quantity=_in_digits(row.volume, market.quantity_digits),
            order_type=_TYPES[row.order_type],
            at=Nanoseconds(int(row.time * times.SECOND)),
        )
    except (KeyError, ValueError, InvalidOperation) as fault:
        raise VenueAway(f"Trades: trade {row.trade_id} of {market.symbol} is not understood") from fault


def _in_digits(text: str, digits: int) -> Decimal:
    return decimals.unscaled(decimals.scaled(Decimal(text), digits), digits)


def _words(fault: BaseException) -> str:
    return "no answer in time" if isinstance(fault, TimeoutError) else str(fault) or type(fault).__name__
