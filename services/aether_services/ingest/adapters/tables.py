"""Tables: trades exactly once, the newest book and ticker of each delivery, one-minute candles after each minute.

New trades go by COPY into a temporary table, and from there with one INSERT. The row of a market in `ingest_progress`,
which is locked and updated in the same transaction, has the last stored trade_id. Therefore nothing is stored twice
after a commit whose result was lost, with a second writer, or for a trade whose time differs over REST.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, LiteralString

import msgspec

from aether_services.clients import postgres
from aether_services.contracts.marketdata import Topic
from aether_services.contracts.statuses import Output
from aether_services.domain import times
from aether_services.domain.times import Nanoseconds
from aether_services.ingest.adapters import errors
from aether_services.ingest.core.trade_logs import Cursor
from aether_services.ingest.ports import CursorMismatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence

    import psycopg

    from aether_services.clients.servers import Server
    from aether_services.domain.instruments import Instrument, Symbol
    from aether_services.ingest.core.outboxes import EncodedMessage
    from aether_services.ingest.core.trade_logs import ReceivedTrade

NAME: Final = "aether-ingest"
BATCH_INTERVAL: Final = 0.25
CANDLES_PER_WRITE: Final = datetime.timedelta(days=1)
MINUTE: Final = datetime.timedelta(minutes=1)

STAGING_TABLES: Final[tuple[LiteralString, ...]] = (
    """CREATE TEMPORARY TABLE stage_trades (
        symbol text, trade_id bigint, ts timestamptz, side text, price numeric, qty numeric, ord_type text,
        received_at timestamptz) ON COMMIT DELETE ROWS""",
    """CREATE TEMPORARY TABLE stage_books (
        symbol text, ts timestamptz, received_at timestamptz, checksum bigint, bid_prices numeric[], bid_qtys numeric[],
        ask_prices numeric[], ask_qtys numeric[]) ON COMMIT DELETE ROWS""",
    """CREATE TEMPORARY TABLE stage_tickers (
        symbol text, ts timestamptz, bid numeric, bid_qty numeric, ask numeric, ask_qty numeric, last numeric,
        volume numeric, vwap numeric, low numeric, high numeric, change numeric, change_pct numeric,
        received_at timestamptz) ON COMMIT DELETE ROWS""",
)
TRADE_TYPES: Final = ("text", "int8", "timestamptz", "text", "numeric", "numeric", "text", "timestamptz")
BOOK_TYPES: Final = ("text", "timestamptz", "timestamptz", "int8", "numeric[]", "numeric[]", "numeric[]", "numeric[]")
TICKER_TYPES: Final = ("text", "timestamptz", *("numeric",) * 11, "timestamptz")

START_PROGRESS: Final = """
    INSERT INTO aether.ingest_progress (symbol, trade_id, ts, candles_until)
    SELECT symbol, trade_id - 1, ts, date_trunc('minute', ts) + interval '1 minute'
    FROM unnest(%s::text[], %s::bigint[], %s::timestamptz[]) AS first (symbol, trade_id, ts)
    ON CONFLICT DO NOTHING"""
PROGRESS: Final = "SELECT symbol, trade_id, ts, candles_until FROM aether.ingest_progress WHERE symbol = ANY(%s)"
LOCK: Final = PROGRESS + " ORDER BY symbol FOR UPDATE"
INSERT_TRADES: Final = """
    INSERT INTO aether.trades (symbol, trade_id, ts, side, price, qty, ord_type, received_at)
    SELECT symbol, trade_id, ts, side, price, qty, ord_type, received_at FROM stage_trades
    ON CONFLICT DO NOTHING"""
ADVANCE_PROGRESS: Final = """
    UPDATE aether.ingest_progress p SET trade_id = last.trade_id, ts = last.ts
    FROM unnest(%s::text[], %s::bigint[], %s::timestamptz[]) AS last (symbol, trade_id, ts)
    WHERE p.symbol = last.symbol AND last.trade_id > p.trade_id"""
CANDLES: Final = """
    WITH made AS (
        SELECT date_trunc('minute', ts) AS ts, (array_agg(price ORDER BY trade_id))[1] AS open, max(price) AS high,
            min(price) AS low, (array_agg(price ORDER BY trade_id DESC))[1] AS close, sum(qty) AS volume,
            sum(price * qty) AS cost, count(*) AS trades
        FROM aether.trades WHERE symbol = %(symbol)s AND ts >= %(since)s AND ts < %(until)s GROUP BY 1
    ), before AS (
        SELECT coalesce((
            SELECT close FROM aether.candles WHERE symbol = %(symbol)s AND ts < %(since)s ORDER BY ts DESC LIMIT 1
        ), %(close)s::numeric) AS close
    ), minutes AS (
        SELECT m.ts, made.open, made.high, made.low, made.close, made.volume, made.cost, made.trades,
            count(made.ts) OVER (ORDER BY m.ts) AS run
        FROM generate_series(%(since)s, %(until)s - interval '1 minute', interval '1 minute') AS m (ts)
        LEFT JOIN made ON made.ts = m.ts
    ), carried AS (
        SELECT ts, open, high, low, close, volume, cost, trades,
            coalesce(first_value(close) OVER (PARTITION BY run ORDER BY ts), (SELECT close FROM before)) AS carry
        FROM minutes
    )
    INSERT INTO aether.candles AS c (symbol, ts, open, high, low, close, vwap, volume, cost, trades)
    SELECT %(symbol)s, ts, coalesce(open, carry), coalesce(high, carry), coalesce(low, carry), coalesce(close, carry),
        CASE WHEN volume > 0 THEN trunc(div(cost * power(10::numeric, %(digits)s), volume)
            / power(10::numeric, %(digits)s), %(digits)s) ELSE 0 END,
        coalesce(volume, 0), coalesce(cost, 0), coalesce(trades, 0)
    FROM carried WHERE carry IS NOT NULL
    ON CONFLICT (symbol, ts) DO UPDATE SET open = excluded.open, high = excluded.high, low = excluded.low,
        close = excluded.close, vwap = excluded.vwap, volume = excluded.volume, cost = excluded.cost,
        trades = excluded.trades
    WHERE (c.open, c.high, c.low, c.close, c.vwap, c.volume, c.cost, c.trades) IS DISTINCT FROM (excluded.open,
        excluded.high, excluded.low, excluded.close, excluded.vwap, excluded.volume, excluded.cost, excluded.trades)
        AND c.trades <= excluded.trades"""
FIRST_CLOSE: Final = """
    SELECT price FROM aether.trades WHERE symbol = %s AND ts < %s
    ORDER BY date_trunc('minute', ts) DESC, trade_id DESC LIMIT 1"""
NEXT_TRADE: Final = "SELECT min(ts) FROM aether.trades WHERE symbol = %s AND ts >= %s"
CANDLES_DONE: Final = """
    UPDATE aether.ingest_progress SET candles_until = %(until)s WHERE symbol = %(symbol)s"""
BOOKS: Final = "INSERT INTO aether.books SELECT * FROM stage_books ON CONFLICT DO NOTHING"
TICKERS: Final = "INSERT INTO aether.tickers SELECT * FROM stage_tickers ON CONFLICT DO NOTHING"
INSTRUMENT: Final = """
    INSERT INTO aether.instruments AS i (symbol, wsname, altname, rest_id, base, quote, status, price_decimals,
        lot_decimals, cost_decimals, tick_size, order_min, cost_min, updated_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, now())
    ON CONFLICT (symbol) DO UPDATE SET wsname = excluded.wsname, altname = excluded.altname,
        rest_id = excluded.rest_id, base = excluded.base, quote = excluded.quote, status = excluded.status,
        price_decimals = excluded.price_decimals, lot_decimals = excluded.lot_decimals,
        cost_decimals = excluded.cost_decimals, tick_size = excluded.tick_size, order_min = excluded.order_min,
        cost_min = excluded.cost_min, updated_at = now()
    WHERE (i.wsname, i.altname, i.rest_id, i.status, i.price_decimals, i.lot_decimals, i.cost_decimals, i.tick_size,
        i.order_min, i.cost_min) IS DISTINCT FROM (excluded.wsname, excluded.altname, excluded.rest_id, excluded.status,
        excluded.price_decimals, excluded.lot_decimals, excluded.cost_decimals, excluded.tick_size, excluded.order_min,
        excluded.cost_min)"""

Row = tuple[Any, ...]


class _Book(msgspec.Struct, gc=False):
    symbol: str
    usable: bool
    at: str
    received: str
    checksum: int = 0
    bids: list[tuple[Decimal, Decimal]] = []
    asks: list[tuple[Decimal, Decimal]] = []


class _Ticker(msgspec.Struct, gc=False):
    symbol: str
    bid: Decimal
    bid_quantity: Decimal
    ask: Decimal
    ask_quantity: Decimal
    last: Decimal
    volume: Decimal
    vwap: Decimal
    low: Decimal
    high: Decimal
    change: Decimal
    change_percent: Decimal
    at: str
    received: str


# Messages are decoded although core has just encoded them: of all that come between two deliveries only the newest of
# each market is stored, so that costs 0.1 ms for a book of a hundred levels, four times a second at most. The values
# beside the text would have to be copied for every message, since a book changes: up to a hundred times as often.
_book: Final = msgspec.json.Decoder(_Book).decode
_ticker: Final = msgspec.json.Decoder(_Ticker).decode


class Tables:
    """The output to PostgreSQL, and the store of the instruments.

    Args:
        server: PostgreSQL.
        database: The name of the database.
    """

    name: Final = Output.TABLES
    batch_interval: Final = BATCH_INTERVAL

    def __init__(self, server: Server, database: str) -> None:
        self._server, self._database = server, database
        self._digits: dict[Symbol, int] = {}
        """Market → decimals of its prices, as stored in `instruments`."""

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[_Sink]:
        """A connection with its staging tables."""
        async with self._connection() as connection:
            for statement in STAGING_TABLES:
                await connection.execute(statement)
            await connection.commit()
            yield _Sink(connection, self._digits)

    async def save(self, instruments: Sequence[Instrument]) -> None:
        """Insert or update markets; unchanged rows are not written."""
        rows = [
            (
                one.symbol, one.wsname, one.altname, one.rest_id, one.base, one.quote, one.status, one.price_digits,
                one.quantity_digits, one.cost_digits, one.tick_size, one.quantity_min, one.cost_min,
            )
            for one in sorted(instruments, key=lambda one: one.symbol)
        ]  # fmt: skip
        async with self._connection() as connection, connection.cursor() as cursor:
            await cursor.executemany(INSTRUMENT, rows)
            await connection.commit()
        self._digits |= {one.symbol: one.price_digits for one in instruments}

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[psycopg.AsyncConnection]:
        with errors.translated():
            async with postgres.connected(self._server, self._database, name=NAME) as connection:
                yield connection


class _Sink:
    def __init__(self, connection: psycopg.AsyncConnection, digits: dict[Symbol, int]) -> None:
        self._connection, self._digits = connection, digits
        self._lock = asyncio.Lock()
        """Held during a transaction."""
        self._known: dict[Symbol, int] = {}
        """Market → the last stored trade_id that was read or written."""
        self._candles: dict[Symbol, datetime.datetime] = {}
        """Market → the time up to which its candles are written."""
        self._with_candles: set[Symbol] = set()
        """Markets that are known to have candles."""

    async def cursors(self, symbols: Collection[Symbol]) -> Mapping[Symbol, Cursor]:
        async with self._lock, self._connection.transaction():
            rows = await self._rows(PROGRESS, [list(symbols)])
        for symbol, trade_id, _, until in rows:
            self._known[symbol] = trade_id
            if until is not None:
                self._candles[symbol] = until
        return {symbol: Cursor(trade_id=trade_id, at=times.from_datetime(ts)) for symbol, trade_id, ts, _ in rows}

    async def deliver(
        self,
        trades: Sequence[ReceivedTrade],
        messages: Sequence[EncodedMessage],
        complete: Mapping[Symbol, Nanoseconds],
    ) -> int:
        """Store a batch in one transaction."""
        newest = {(message.topic, message.symbol): message.body for message in messages}
        books = [_book_row(body) for (topic, _), body in newest.items() if topic is Topic.BOOK]
        tickers = [_ticker_row(body) for (topic, _), body in newest.items() if topic is Topic.TICKER]
        ended = {symbol: _minute(times.to_datetime(until)) for symbol, until in complete.items()}
        due = {
            symbol for symbol, until in ended.items() if symbol not in self._candles or until > self._candles[symbol]
        }
        if not trades and not any(books) and not tickers and not due:
            return 0
        async with self._lock, self._connection.transaction():
            rows = await self._store(trades, due, ended)
            await self._copy("COPY stage_books FROM STDIN (FORMAT BINARY)", BOOK_TYPES, (row for row in books if row))
            await self._copy("COPY stage_tickers FROM STDIN (FORMAT BINARY)", TICKER_TYPES, tickers)
            if any(books):
                rows += (await self._connection.execute(BOOKS)).rowcount
            if tickers:
                rows += (await self._connection.execute(TICKERS)).rowcount
        return rows

    async def _store(
        self, trades: Sequence[ReceivedTrade], due: set[Symbol], ended: Mapping[Symbol, datetime.datetime]
    ) -> int:
        """Store trades and candles; returns the number of new rows."""
        rows = 0
        markets: dict[Symbol, list[ReceivedTrade]] = {}
        for one in trades:
            markets.setdefault(one.trade.symbol, []).append(one)
        if markets:
            await self._connection.execute(START_PROGRESS, _columns(some[0] for _, some in sorted(markets.items())))
        progress = {row[0]: row for row in await self._rows(LOCK, [sorted(set(markets) | due)])}
        for symbol, (_, trade_id, _, _) in progress.items():
            if symbol in self._known and trade_id < self._known[symbol]:
                raise CursorMismatch(f"{symbol}: the last stored trade is {trade_id}, and was {self._known[symbol]}")
        if markets:
            new = (one for one in trades if one.trade.trade_id > progress[one.trade.symbol][1])
            await self._copy("COPY stage_trades FROM STDIN (FORMAT BINARY)", TRADE_TYPES, _trade_rows(new))
            rows += (await self._connection.execute(INSERT_TRADES)).rowcount
            await self._connection.execute(ADVANCE_PROGRESS, _columns(some[-1] for _, some in sorted(markets.items())))
        for symbol, (_, trade_id, ts, until) in sorted(progress.items()):
            if until is not None:
                at = [one.trade.at for one in markets.get(symbol, ()) if one.trade.trade_id > trade_id]
                latest = max(ts, times.to_datetime(max(at))) if at else ts
                target = max(_minute(latest), ended.get(symbol, until))
                rows += await self._store_candles(symbol, at, until, target)
        # If the commit fails, this sink is discarded together with this state.
        for symbol, some in markets.items():
            self._known[symbol] = max(self._known.get(symbol, some[0].trade.trade_id), some[-1].trade.trade_id)
        return rows

    async def _store_candles(
        self, symbol: Symbol, at: list[Nanoseconds], until: datetime.datetime, target: datetime.datetime
    ) -> int:
        """Write the candles that new trades or elapsed minutes require; returns the number of rows.

        Args:
            symbol: The market.
            at: The times of the new trades.
            until: The time up to which candles are written.
            target: The time up to which minutes are over and have all their trades.
        """
        rows, since = 0, until
        self._candles[symbol] = until
        if at and min(at) < (over := times.from_datetime(until)):
            late = [one for one in at if one < over]
            since, rows = await self._rewrite_candles(
                symbol, times.to_datetime(min(late)), times.to_datetime(max(late)), until
            )
        target = max(target, until)
        if target > since:
            rows += await self._append_candles(symbol, since, min(target, since + CANDLES_PER_WRITE))
        return rows

    async def _rewrite_candles(
        self, symbol: Symbol, oldest: datetime.datetime, newest: datetime.datetime, until: datetime.datetime
    ) -> tuple[datetime.datetime, int]:
        """Rewrite the candles of late trades: their minutes, and the empty ones after them that carry their close.

        Args:
            symbol: The market.
            oldest: The time of the oldest late trade.
            newest: The time of the newest late trade.
            until: The time up to which candles are written.

        Returns:
            The time from which candles are still to be written, and the number of rows written. Where more than
            CANDLES_PER_WRITE would be rewritten, all candles from there on are, a part with each delivery.
        """
        # The minute in which ingest first received the market is incomplete, and has no candle.
        since = await self._first("SELECT min(ts) FROM aether.candles WHERE symbol = %s AND ts >= %s", symbol, oldest)
        if since is None or since >= until:
            return until, 0
        following = await self._first(NEXT_TRADE, symbol, _minute(newest) + MINUTE)
        end = until if following is None else min(until, _minute(following))
        if end - since > CANDLES_PER_WRITE:
            return since, 0
        return until, await self._write_candles(symbol, since, end, first=True)

    async def _first(self, statement: LiteralString, symbol: Symbol, at: datetime.datetime) -> datetime.datetime | None:
        rows = await self._rows(statement, [symbol, _minute(at)])
        first: datetime.datetime | None = rows[0][0]
        return first

    async def _append_candles(self, symbol: Symbol, since: datetime.datetime, until: datetime.datetime) -> int:
        """Write the candles of the minutes from `since` to `until`, which are over and have all their trades."""
        if await self._price_digits(symbol) is None:
            return 0
        rows = await self._write_candles(symbol, since, until, first=symbol not in self._with_candles)
        if rows:
            self._with_candles.add(symbol)
        await self._connection.execute(CANDLES_DONE, {"symbol": symbol, "until": until})
        self._candles[symbol] = until
        return rows

    async def _write_candles(
        self, symbol: Symbol, since: datetime.datetime, until: datetime.datetime, *, first: bool
    ) -> int:
        """Write candles. The market's first ones carry the close of the incomplete minute before them."""
        digits = await self._price_digits(symbol)
        if digits is None:
            return 0
        found = await self._rows(FIRST_CLOSE, [symbol, since]) if first else []
        given = {
            "symbol": symbol, "since": since, "until": until, "digits": digits, "close": found[0][0] if found else None,
        }  # fmt: skip
        return (await self._connection.execute(CANDLES, given)).rowcount

    async def _price_digits(self, symbol: Symbol) -> int | None:
        """The decimals of a market's prices; None while the market is not in `instruments`."""
        if symbol not in self._digits:
            rows = await self._rows("SELECT price_decimals FROM aether.instruments WHERE symbol = %s", [symbol])
            if not rows:
                return None
            self._digits[symbol] = rows[0][0]
        return self._digits[symbol]

    async def _copy(self, statement: LiteralString, types: Sequence[str], rows: Iterable[Row]) -> None:
        rows = list(rows)
        if not rows:
            return
        async with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(types)
            for row in rows:
                await copy.write_row(row)

    async def _rows(self, statement: LiteralString, values: Sequence[object]) -> list[Row]:
        async with self._connection.cursor() as cursor:
            await cursor.execute(statement, values)
            return await cursor.fetchall()


def _trade_rows(trades: Iterable[ReceivedTrade]) -> Iterator[Row]:
    """Rows for COPY. Trades of one message have the same time of receipt, which is converted once."""
    received, received_at = Nanoseconds(0), times.to_datetime(Nanoseconds(0))
    for one in trades:
        it = one.trade
        if one.received != received:
            received, received_at = one.received, times.to_datetime(one.received)
        yield (
            it.symbol, it.trade_id, times.to_datetime(it.at), it.side.value, it.price, it.quantity, it.order_type.value,
            received_at,
        )  # fmt: skip


def _book_row(body: bytes) -> Row | None:
    it = _book(body)
    if not it.usable:
        return None
    sides = [[level[part] for level in side] for side in (it.bids, it.asks) for part in (0, 1)]
    return (it.symbol, _datetime(it.at), _datetime(it.received), it.checksum, *sides)


def _ticker_row(body: bytes) -> Row:
    it = _ticker(body)
    return (
        it.symbol, _datetime(it.at), it.bid, it.bid_quantity, it.ask, it.ask_quantity, it.last, it.volume, it.vwap,
        it.low, it.high, it.change, it.change_percent, _datetime(it.received),
    )  # fmt: skip


def _datetime(text: str) -> datetime.datetime:
    return times.to_datetime(times.parse(text))


def _minute(at: datetime.datetime) -> datetime.datetime:
    return at.replace(second=0, microsecond=0)


def _columns(some: Iterable[ReceivedTrade]) -> tuple[list[str], list[int], list[datetime.datetime]]:
    """The symbols, ids and times of trades as columns."""
    trades = [one.trade for one in some]
    return (
        [one.symbol for one in trades],
        [one.trade_id for one in trades],
        [times.to_datetime(one.at) for one in trades],
    )
