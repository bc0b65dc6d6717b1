"""Trades into the table, exactly once, in rows a second on one connection; beside plain COPY into the same table.

The client has one core to itself; of the batches, which take turns, the median counts.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import tempfile
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aether_operator.database import migrator
from aether_services.clients.servers import Server, Tls
from aether_services.domain import times
from aether_services.domain.instruments import Instrument, Symbol
from aether_services.domain.times import Nanoseconds
from aether_services.domain.trades import OrderType, Side, Trade
from aether_services.ingest.adapters import tables
from aether_services.ingest.core.trade_logs import ReceivedTrade
from aether_testing.bench import benchmarks
from aether_testing.servers import postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH: Final = 20_000
BATCHES: Final = 15
SYMBOLS: Final = [Symbol(f"{chr(65 + n) * 3}/USD") for n in range(10)]
BEGIN: Final = Nanoseconds(time.time_ns() - 3600 * times.SECOND)


def trades(first: int) -> list[ReceivedTrade]:
    """A batch of all markets, a millisecond apart: what a busy venue sends in a few seconds."""
    rng = random.Random(first)
    return [
        ReceivedTrade(
            Trade(
                symbol=symbol,
                trade_id=first + number,
                side=Side.BUY,
                price=Decimal(rng.randint(100_000, 999_999)).scaleb(-1),
                quantity=Decimal(rng.randint(1, 10**9)).scaleb(-8),
                order_type=OrderType.LIMIT,
                at=Nanoseconds(BEGIN + (first + number) * 1_000_000),
            ),
            BEGIN,
        )
        for symbol in SYMBOLS
        for number in range(BATCH // len(SYMBOLS))
    ]


def figures() -> Iterator[benchmarks.Figure]:
    with tempfile.TemporaryDirectory(prefix="aether-postgres-") as folder, postgres.running(Path(folder)) as server:
        endpoint = server.fresh()
        report = migrator.ensure_schema(endpoint, postgres.a_schema(), postgres.a_leader(), deadline=60)
        assert report.ok, report
        home = Path(folder) / "login"
        home.mkdir()
        for name, text in (("username", postgres.USER), ("password", postgres.PASSWORD)):
            (home / name).write_text(text)
        address = Server(host="127.0.0.1", port=server.port, tls=Tls.OFF, credentials=home)
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # ours; the server began before
        ours, plain = asyncio.run(measure(tables.Tables(address, endpoint.database), server, endpoint.database))
        yield benchmarks.Figure(
            name="ingest-store",
            value=BATCH / statistics.median(ours),
            unit="rows/s",
            peer="plain COPY into the same table",
            peer_value=BATCH / statistics.median(plain),
            less_is_better=False,
        )


async def measure(output: tables.Tables, server: postgres.Postgres, database: str) -> tuple[list[float], list[float]]:
    """Seconds of each batch: ours, and the same rows of other markets by plain COPY; in turns."""
    ours, plain = list[float](), list[float]()
    await output.save([_instrument(symbol) for symbol in SYMBOLS])
    async with output.connected() as sink, output._connection() as connection:  # noqa: SLF001 - the peer's
        for number in range(BATCHES):
            batch = trades(1 + number * BATCH // len(SYMBOLS))
            began = time.perf_counter()
            await sink.deliver(batch, [], {})
            ours.append(time.perf_counter() - began)
            rows = [(f"X{row[0]}", *row[1:]) for row in tables._trade_rows(batch)]  # noqa: SLF001
            began = time.perf_counter()
            async with (
                connection.cursor() as cursor,
                cursor.copy(
                    "COPY aether.trades (symbol, trade_id, ts, side, price, qty, ord_type, received_at)"
                    " FROM STDIN (FORMAT BINARY)"
                ) as copy,
            ):
                copy.set_types(tables.TRADE_TYPES)
                for row in rows:
                    await copy.write_row(row)
            await connection.commit()
            plain.append(time.perf_counter() - began)
    stored = server.run(database, "SELECT count(*), count(DISTINCT (symbol, trade_id)) FROM aether.trades")[0]
    assert tuple(stored) == (2 * BATCH * BATCHES, 2 * BATCH * BATCHES), stored
    return ours, plain


def _instrument(symbol: Symbol) -> Instrument:
    return Instrument(
        symbol=symbol, wsname=symbol, altname=symbol, rest_id=symbol, base=symbol[:3], base_id=symbol[:3], quote="USD",
        quote_id="ZUSD", status="online", price_digits=1, quantity_digits=8, cost_digits=5, tick_size=Decimal("0.1"),
        quantity_min=Decimal(1), cost_min=Decimal(1),
    )  # fmt: skip
