"""The journal: one SQLite file on a volume. One thread writes whole batches, another one reads.

With the write-ahead log a committed transaction survives any end of the process.
"""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aether_services.domain.instruments import Symbol
from aether_services.domain.times import Nanoseconds
from aether_services.domain.trades import OrderType, Side
from aether_services.exchange_sim.core import candles
from aether_services.exchange_sim.core.candles import Candle
from aether_services.exchange_sim.core.orders import Opened, OrderId, Owner, Traded
from aether_services.exchange_sim.ports import JournalError, JournalState, LastTrade

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from aether_services.exchange_sim.core.batches import Batch

Result = TypeVar("Result")

SCHEMA_VERSION: Final = 1
"""The version of the tables, stored as SQLite's user_version."""
PRUNE_BATCH: Final = 20_000
"""The maximum number of trades that one transaction deletes, so that the writer does not wait for long."""
# A candle's cost exceeds 64 bits, so it is text.
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS numbers (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS markets (
    symbol TEXT PRIMARY KEY, trade_id INTEGER NOT NULL, at INTEGER NOT NULL, price INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS trades (
    symbol TEXT, trade_id INTEGER, side TEXT NOT NULL, order_type TEXT NOT NULL, price INTEGER NOT NULL,
    quantity INTEGER NOT NULL, at INTEGER NOT NULL, maker INTEGER NOT NULL, taker INTEGER NOT NULL,
    PRIMARY KEY (symbol, trade_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS trades_by_time ON trades (symbol, at);
CREATE TABLE IF NOT EXISTS orders (
    order_id INTEGER PRIMARY KEY, owner TEXT NOT NULL, symbol TEXT NOT NULL, side TEXT NOT NULL,
    price INTEGER NOT NULL, quantity INTEGER NOT NULL, remaining INTEGER NOT NULL, at INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS candles (
    symbol TEXT, interval INTEGER, begin INTEGER, open INTEGER NOT NULL, high INTEGER NOT NULL, low INTEGER NOT NULL,
    close INTEGER NOT NULL, volume INTEGER NOT NULL, cost TEXT NOT NULL, trades INTEGER NOT NULL,
    PRIMARY KEY (symbol, interval, begin)
) WITHOUT ROWID;
"""
_TRADE: Final = "symbol, trade_id, side, order_type, price, quantity, at, maker, taker"


class SqliteJournal:
    """A journal in a file, which is locked by one process at a time."""

    def __init__(self, path: Path, *, synchronous: str = "FULL") -> None:
        with ExitStack() as stack:
            lock = stack.enter_context(path.with_name(path.name + ".lock").open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as fault:
                raise JournalError(f"{path}: it is locked by another process") from fault
            try:
                self._writer = stack.enter_context(_connection(path, synchronous))
                self._reader = stack.enter_context(_connection(path, synchronous))
                version = _scalar(self._writer, "PRAGMA user_version")
                if version in {0, SCHEMA_VERSION}:
                    self._writer.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
            except sqlite3.Error as fault:
                raise JournalError(f"{path}: {fault}") from fault
            if version not in {0, SCHEMA_VERSION}:
                raise JournalError(
                    f"{path}: of a newer release (schema version {version}, this one knows {SCHEMA_VERSION})"
                )
            self._resources = stack.pop_all()
        self._write_executor = ThreadPoolExecutor(1, "journal-writing")
        self._read_executor = ThreadPoolExecutor(1, "journal-reading")

    def load(self, recent: int) -> JournalState:
        execute = self._writer.execute
        numbers = dict(execute("SELECT name, value FROM numbers").fetchall())
        last = {
            Symbol(symbol): LastTrade(trade_id=trade_id, at=Nanoseconds(at), price=price)
            for symbol, trade_id, at, price in execute("SELECT symbol, trade_id, at, price FROM markets")
        }
        orders = [
            Opened(OrderId(order_id), Owner(owner), Symbol(symbol), Side(side), price, quantity, remaining, at)
            for order_id, owner, symbol, side, price, quantity, remaining, at in execute(
                "SELECT order_id, owner, symbol, side, price, quantity, remaining, at FROM orders ORDER BY order_id"
            )
        ]
        candles = [
            Candle(Symbol(symbol), interval, begin, first, high, low, close, volume, int(cost), trades)
            for symbol, interval, begin, first, high, low, close, volume, cost, trades in execute(
                "SELECT symbol, interval, begin, open, high, low, close, volume, cost, trades FROM candles"
                " ORDER BY symbol, interval, begin"
            )
        ]
        return JournalState(
            next_order_id=OrderId(numbers.get("next_order_id", 1)),
            last=last,
            orders=orders,
            candles=candles,
            trades={symbol: self._newest(self._writer, symbol, recent) for symbol in last},
        )

    async def write(self, batch: Batch) -> None:
        await self._run_in(self._write_executor, lambda: self._write(batch))

    def _write(self, batch: Batch) -> None:
        with self._writer:  # commits, or rolls back
            executemany = self._writer.executemany
            self._writer.execute("BEGIN IMMEDIATE")
            if batch.trades:
                executemany(f"INSERT INTO trades ({_TRADE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", batch.trades)  # noqa: S608
                last = {trade.symbol: (trade.symbol, trade.trade_id, trade.at, trade.price) for trade in batch.trades}
                executemany(
                    "INSERT OR REPLACE INTO markets (symbol, trade_id, at, price) VALUES (?, ?, ?, ?)", last.values()
                )
                executemany(
                    "INSERT OR REPLACE INTO candles (symbol, interval, begin, open, high, low, close, volume, cost,"
                    " trades) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [candle._replace(cost=str(candle.cost)) for candle in batch.candles.values()],  # type: ignore[arg-type]
                )
            executemany("DELETE FROM orders WHERE order_id = ?", [(order_id,) for order_id in batch.closed])
            executemany("UPDATE orders SET remaining = ?2 WHERE order_id = ?1", batch.reduced.items())
            executemany(
                "INSERT INTO orders (order_id, owner, symbol, side, price, quantity, remaining, at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                batch.opened.values(),
            )
            self._writer.execute(
                "INSERT OR REPLACE INTO numbers (name, value) VALUES ('next_order_id', ?)", (batch.next_order_id,)
            )

    async def since(self, symbol: Symbol, after: Nanoseconds, count: int) -> Sequence[Traded]:
        return await self._query("symbol = ? AND at > ? ORDER BY at LIMIT ?", symbol, after, count)

    async def following(self, symbol: Symbol, trade_id: int, count: int) -> Sequence[Traded]:
        return await self._query("symbol = ? AND trade_id > ? ORDER BY trade_id LIMIT ?", symbol, trade_id, count)

    async def newest(self, symbol: Symbol, count: int) -> Sequence[Traded]:
        return await self._run_in(self._read_executor, lambda: self._newest(self._reader, symbol, count))

    async def prune(self, before: Nanoseconds) -> int:
        while await self._run_in(self._write_executor, lambda: self._prune_batch(before)) == PRUNE_BATCH:
            pass
        return await self._run_in(
            self._read_executor, lambda: int(_scalar(self._reader, "SELECT count(*) FROM trades"))
        )

    def close(self) -> None:
        self._write_executor.shutdown()
        self._read_executor.shutdown()
        self._resources.close()

    async def _query(self, clause: str, *values: object) -> Sequence[Traded]:
        statement = f"SELECT {_TRADE} FROM trades WHERE {clause}"  # noqa: S608 - values are parameters
        return await self._run_in(self._read_executor, lambda: _trades(self._reader.execute(statement, values)))

    @staticmethod
    async def _run_in(executor: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(executor, work)
        except sqlite3.Error as fault:
            raise JournalError(str(fault)) from fault

    @staticmethod
    def _newest(connection: sqlite3.Connection, symbol: Symbol, count: int) -> Sequence[Traded]:
        statement = f"SELECT {_TRADE} FROM trades WHERE symbol = ? ORDER BY trade_id DESC LIMIT ?"  # noqa: S608
        return _trades(connection.execute(statement, (symbol, count)))[::-1]

    def _prune_batch(self, before: Nanoseconds) -> int:
        with self._writer:
            self._writer.execute("BEGIN IMMEDIATE")
            for interval in candles.INTERVALS:
                self._writer.execute(
                    "DELETE FROM candles WHERE interval = ?1 AND begin <"
                    " (SELECT max(newest.begin) FROM candles AS newest"
                    "  WHERE newest.symbol = candles.symbol AND newest.interval = ?1) - ?2",
                    (interval, candles.retention(interval)),
                )
            symbols = [symbol for (symbol,) in self._writer.execute("SELECT symbol FROM markets")]
            dropped = 0
            for symbol in symbols:
                dropped += self._writer.execute(
                    "DELETE FROM trades WHERE symbol = ?1 AND trade_id IN"
                    " (SELECT trade_id FROM trades WHERE symbol = ?1 AND at < ?2 ORDER BY at LIMIT ?3)",
                    (symbol, before, PRUNE_BATCH - dropped),
                ).rowcount
            return dropped


@contextmanager
def _connection(path: Path, synchronous: str) -> Iterator[sqlite3.Connection]:
    # Each connection is used by one executor thread at a time.
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)) as connection:
        _scalar(connection, "PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        yield connection


def _scalar(connection: sqlite3.Connection, statement: str) -> Any:
    return connection.execute(statement).fetchone()[0]


def _trades(rows: Iterable[tuple[Any, ...]]) -> list[Traded]:
    return [
        Traded(
            Symbol(symbol), trade_id, Side(side), OrderType(order_type),
            price, quantity, Nanoseconds(at), OrderId(maker), OrderId(taker),
        )
        for symbol, trade_id, side, order_type, price, quantity, at, maker, taker in rows
    ]  # fmt: skip
