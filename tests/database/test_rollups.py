"""Rollups equal the venue's candles on either engine, whatever happened to the candles of a minute."""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from aether_operator.api.reasons import Reason
from aether_operator.catalog.platform_schema import PLATFORM_SCHEMA
from aether_operator.database import migrator
from aether_operator.observed.reports import Drift
from aether_services.clients.servers import Server, Tls
from aether_services.domain import candles, times
from aether_services.domain.instruments import Symbol
from aether_services.domain.times import Nanoseconds
from aether_services.domain.trades import OrderType, Side, Trade
from aether_services.ingest.adapters.tables import Tables
from aether_services.ingest.core.trade_logs import ReceivedTrade
from aether_testing.servers import postgres as servers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from aether_operator.database.fence import Fences
    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.reports import SchemaReport

BTC = Symbol("BTC/USD")
DIGITS = 1
EXACT = 20
"""More decimals than a sum of prices times quantities has here."""
BEGIN = Nanoseconds(1_795_046_400 * 1_000_000_000)
"""A Thursday's midnight in 2026: TimescaleDB's weeks begin so."""
INSTRUMENT = (
    "INSERT INTO aether.instruments (symbol, altname, base, quote, status, price_decimals, lot_decimals, "
    "cost_decimals, tick_size, order_min, cost_min) "
    "VALUES ('BTC/USD', 'XBTUSD', 'BTC', 'USD', 'online', %s, 8, 5, 0.1, 0.0001, 0.5)"
)


def ensure(endpoint: Endpoint, leader: Fences | None = None) -> SchemaReport:
    return migrator.ensure_schema(endpoint, servers.a_schema(logins={}), leader or servers.a_leader(), deadline=120)


@pytest.fixture(params=[15, 17, "timescale"])
def database(request: pytest.FixtureRequest) -> Endpoint:
    """A database of either engine, at the newest revision."""
    endpoint: Endpoint = (
        request.getfixturevalue("timescale")
        if request.param == "timescale"
        else request.getfixturevalue("releases")(request.param).fresh()
    )
    assert ensure(endpoint).ok
    run(endpoint, INSTRUMENT, (DIGITS,))
    return endpoint


def run(endpoint: Endpoint, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    with servers.connected(endpoint) as connection:
        cursor = connection.execute(statement.encode(), values or None)
        return cursor.fetchall() if cursor.description else []


def some_trades(chance: random.Random, minutes: int) -> list[Trade]:
    """Trades of some of these minutes, the first of which has one: others have none, as on a quiet market."""
    busy = [0, *sorted(chance.sample(range(1, minutes), minutes // 4))]
    ats = sorted(
        Nanoseconds(BEGIN + minute * times.MINUTE + chance.randrange(times.MINUTE))
        for minute in busy
        for _ in range(chance.randrange(1, 4))
    )
    return [
        Trade(
            symbol=BTC,
            trade_id=number,
            side=Side.BUY,
            price=Decimal(chance.randrange(900_000, 950_000)).scaleb(-1),
            quantity=Decimal(chance.randrange(1, 10**9)).scaleb(-8),
            order_type=OrderType.LIMIT,
            at=at,
        )
        for number, at in enumerate(ats)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candle:
    """One interval, from `begin` on; `cost` is the sum of price times quantity."""

    begin: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal = Decimal(0)
    cost: Decimal = Decimal(0)
    trades: int = 0

    @property
    def vwap(self) -> Decimal:
        """Truncated at the market's decimals, by integer division."""
        if not self.volume:
            return Decimal(0)
        cost, volume = (int(value.scaleb(EXACT)) for value in (self.cost, self.volume))
        return Decimal(cost * 10**DIGITS // volume).scaleb(-DIGITS)

    def with_trade(self, trade: Trade) -> Candle:
        """A candle opens with its first trade, whatever price it carried before."""
        first = not self.trades
        return Candle(
            begin=self.begin,
            open=trade.price if first else self.open,
            high=trade.price if first else max(self.high, trade.price),
            low=trade.price if first else min(self.low, trade.price),
            close=trade.price,
            volume=self.volume + trade.quantity,
            cost=self.cost + trade.price * trade.quantity,
            trades=self.trades + 1,
        )


def of(trades: Iterable[Trade], interval: int, until: Nanoseconds) -> list[Candle]:
    """The candles that the venue computes of trades: an interval without one carries the last close."""
    candles_so_far: list[Candle] = []

    def carry(until: int) -> None:
        while candles_so_far and candles_so_far[-1].begin + interval < until:
            close = candles_so_far[-1].close
            candles_so_far.append(
                Candle(begin=candles_so_far[-1].begin + interval, open=close, high=close, low=close, close=close)
            )

    for trade in trades:
        begin = candles.begin_of(trade.at, interval)
        carry(begin)
        if not candles_so_far or candles_so_far[-1].begin != begin:
            price = trade.price
            candles_so_far.append(Candle(begin=begin, open=price, high=price, low=price, close=price))
        candles_so_far[-1] = candles_so_far[-1].with_trade(trade)
    carry(until)
    return candles_so_far


def store(endpoint: Endpoint, minutes: Iterable[Candle]) -> None:
    """Store candles as ingest does."""
    statement = (
        "INSERT INTO aether.candles "
        "SELECT 'BTC/USD', to_timestamp(b), o, h, l, c, w, v, s, n FROM unnest(%s::bigint[], %s::numeric[], "
        "%s::numeric[], %s::numeric[], %s::numeric[], %s::numeric[], %s::numeric[], %s::numeric[], %s::bigint[]) "
        "AS t (b, o, h, l, c, w, v, s, n) ON CONFLICT (symbol, ts) DO UPDATE SET open = excluded.open, "
        "high = excluded.high, low = excluded.low, close = excluded.close, vwap = excluded.vwap, "
        "volume = excluded.volume, cost = excluded.cost, trades = excluded.trades"
    )
    rows, some = list(map(row, minutes)), 200  # the socket in front of the WebAssembly build takes no long messages
    with servers.connected(endpoint) as connection:
        for start in range(0, len(rows), some):
            columns = [list(column) for column in zip(*rows[start : start + some], strict=True)]
            connection.execute(statement.encode(), columns)


def row(one: Candle) -> tuple[Any, ...]:
    """A candle as a row, without its market."""
    return one.begin // 10**9, one.open, one.high, one.low, one.close, one.vwap, one.volume, one.cost, one.trades


def assert_right(endpoint: Endpoint, trades: Sequence[Trade], until: Nanoseconds) -> None:
    for rollup in PLATFORM_SCHEMA.rollups:
        expected = [row(one) for one in of(trades, rollup.minutes * times.MINUTE, until)]
        query = (
            "SELECT extract(epoch FROM ts)::bigint, open, high, low, close, vwap, volume, cost, trades "
            f"FROM aether.{rollup.name} ORDER BY ts"
        )
        assert run(endpoint, query) == expected, rollup.name


def has_timescale(endpoint: Endpoint) -> bool:
    return bool(run(endpoint, "SELECT FROM pg_extension WHERE extname = 'timescaledb'"))


def refresh(endpoint: Endpoint) -> None:
    """Run TimescaleDB's refresh jobs now; without it there are none."""
    if has_timescale(endpoint):
        jobs = "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = 'policy_refresh_continuous_aggregate'"
        for (job,) in run(endpoint, jobs):
            run(endpoint, f"CALL public.run_job({job})")


@pytest.mark.parametrize("seed", range(3))
def test_longer_candles_equal_the_venues_also_after_late_minutes(database: Endpoint, seed: int) -> None:
    days, chance = 9, random.Random(seed)
    minutes = days * 1440
    until = Nanoseconds(BEGIN + minutes * times.MINUTE)
    trades = some_trades(chance, minutes)
    late = {trade.trade_id for trade in chance.sample(trades[1:], 40)}
    store(database, of([trade for trade in trades if trade.trade_id not in late], times.MINUTE, until))
    assert_right(database, [trade for trade in trades if trade.trade_id not in late], until)
    refresh(database)
    store(database, of(trades, times.MINUTE, until))
    refresh(database)
    assert_right(database, trades, until)
    # The retention drops rollups together with their minutes.
    kept_from = BEGIN // 10**9 + 7 * 86400
    drop = (
        "SELECT public.drop_chunks('aether.candles', older_than => to_timestamp(%s))"
        if has_timescale(database)
        else "DELETE FROM aether.candles WHERE ts < to_timestamp(%s)"
    )
    run(database, drop, (kept_from,))
    refresh(database)
    left = run(database, "SELECT count(*), min(extract(epoch FROM ts))::bigint FROM aether.candles_1d")
    assert left == [(days - 7, kept_from)]


def candle_rows(trades: Sequence[Trade], length: int, until: Nanoseconds) -> list[tuple[Any, ...]]:
    """The rows of the candles of trades from BEGIN on; the trades of a minute are in the order of their ids."""
    in_order = sorted(trades, key=lambda one: (candles.begin_of(one.at), one.trade_id))
    return [row(one) for one in of(in_order, length * times.MINUTE, until) if one.begin >= BEGIN]


def written(endpoint: Endpoint, table: str) -> list[tuple[Any, ...]]:
    columns = "extract(epoch FROM ts)::bigint, open, high, low, close, vwap, volume, cost, trades"
    return run(endpoint, f"SELECT {columns} FROM aether.{table} ORDER BY ts")


def tables(endpoint: Endpoint, folder: Path) -> Tables:
    """Ingest's own adapter for the database."""
    folder.mkdir(exist_ok=True)
    (folder / "username").write_text(endpoint.username)
    (folder / "password").write_text(endpoint.password.text)
    return Tables(Server(host=endpoint.host, port=endpoint.port, tls=Tls.OFF, credentials=folder), endpoint.database)


@pytest.fixture(params=[15, 17])
def native(request: pytest.FixtureRequest) -> Endpoint:
    """A PostgreSQL that accepts all of ingest's statements: TimescaleDB in WebAssembly does not.

    Its aggregates over corrected minutes are tested above.
    """
    endpoint: Endpoint = request.getfixturevalue("releases")(request.param).fresh()
    assert ensure(endpoint).ok
    run(endpoint, INSTRUMENT, (DIGITS,))
    return endpoint


def late_trades(chance: random.Random, minutes: int) -> list[Trade]:
    """Trades with gaps between them; some, but not the first, arrive later than trades of later minutes."""
    some = some_trades(chance, minutes)
    first = dataclasses.replace(some[0], at=Nanoseconds(BEGIN - 1))
    others = [
        dataclasses.replace(
            one, at=Nanoseconds(max(BEGIN - times.MINUTE, one.at - chance.randrange(40) * times.MINUTE))
        )
        if chance.random() < 0.3
        else one
        for one in some[1:]
    ]
    return [first, *others]


@pytest.mark.parametrize("seed", range(3))
async def test_late_trades_give_the_candles_of_ordered_trades(native: Endpoint, tmp_path: Path, seed: int) -> None:
    chance, minutes = random.Random(seed), 1500
    trades = late_trades(chance, minutes)
    until = Nanoseconds(BEGIN + minutes * times.MINUTE)
    async with tables(native, tmp_path / "tables").connected() as sink:
        left, newest = list(trades), BEGIN
        while left:
            number = chance.randrange(1, 25)
            batch, left = left[:number], left[number:]
            # ingest assumed that the market had no other trade until some minutes after the newest.
            newest = max([newest, *(one.at for one in batch)])
            believed = Nanoseconds(min(until, newest + chance.randrange(30) * times.MINUTE))
            complete = {BTC: believed} if chance.random() < 0.5 else {}
            await sink.deliver([ReceivedTrade(one, until) for one in batch], [], complete)
        for _ in range(3):  # a day at once
            await sink.deliver([], [], {BTC: until})
    assert written(native, "candles") == candle_rows(trades, 1, until)
    for rollup in PLATFORM_SCHEMA.rollups:
        assert written(native, rollup.name) == candle_rows(trades, rollup.minutes, until), rollup.name


async def test_long_carried_closes_are_corrected_one_day_per_delivery(native: Endpoint, tmp_path: Path) -> None:
    """A market had no trade for three days, then one of the first of these days arrives."""
    days = 3
    until = Nanoseconds(BEGIN + days * 1440 * times.MINUTE)
    first, second = some_trades(random.Random(1), 8)[:2]
    first = dataclasses.replace(first, at=Nanoseconds(BEGIN - 1))
    second = dataclasses.replace(second, at=Nanoseconds(BEGIN + 1), price=first.price + 5)
    async with tables(native, tmp_path / "tables").connected() as sink:
        await sink.deliver([ReceivedTrade(first, until)], [], {})
        for _ in range(days):
            await sink.deliver([], [], {BTC: until})
        assert written(native, "candles") == candle_rows([first], 1, until)
        await sink.deliver([ReceivedTrade(second, until)], [], {})
        for _ in range(days):
            await sink.deliver([], [], {BTC: until})
    assert written(native, "candles") == candle_rows([first, second], 1, until)
    for rollup in PLATFORM_SCHEMA.rollups:
        assert written(native, rollup.name) == candle_rows([first, second], rollup.minutes, until), rollup.name


def a_minute(endpoint: Endpoint, volume: str, cost: str, trades: int) -> None:
    statement = "INSERT INTO aether.candles VALUES ('BTC/USD', to_timestamp(%s), 1, 9, 1, 2, 0, %s, %s, %s)"
    run(endpoint, statement, (BEGIN // 10**9, Decimal(volume), Decimal(cost), trades))


@pytest.mark.parametrize(
    ("volume", "cost", "vwap"),
    [
        ("3", "5.99999999999999999999999999999999", "1.9"),
        ("7", "13.3", "1.9"),
        ("0.00000001", "98765432109876543210987654321.09", "9876543210987654321098765432109000000.0"),
        ("1e30", "1", "0.0"),
    ],
)
def test_vwap_is_truncated_and_never_rounded(database: Endpoint, volume: str, cost: str, vwap: str) -> None:
    a_minute(database, volume, cost, 1)
    assert run(database, "SELECT vwap::text FROM aether.candles_1h") == [(vwap,)]


def test_vwap_without_trades_is_zero_and_without_instrument_null(database: Endpoint) -> None:
    a_minute(database, "0", "0", 0)
    assert run(database, "SELECT vwap FROM aether.candles_5m") == [(0,)]
    run(database, "DELETE FROM aether.instruments")
    run(database, "UPDATE aether.candles SET volume = 1, cost = 1, trades = 1")
    refresh(database)
    assert run(database, "SELECT close, vwap FROM aether.candles_5m") == [(2, None)]


@pytest.mark.parametrize(
    "edit",
    [
        "ts = ts + interval '1 second'",
        "low = 3",
        "volume = 0",
        "trades = 0",
        "cost = -1",
    ],
)
def test_invalid_minute_is_rejected(database: Endpoint, edit: str) -> None:
    a_minute(database, "1", "1", 1)
    with pytest.raises(Exception, match="violates check constraint"):
        run(database, f"UPDATE aether.candles SET {edit}")


def test_book_has_at_most_ten_levels_with_a_quantity_each(database: Endpoint) -> None:
    book = "INSERT INTO aether.books VALUES ('BTC/USD', now() + %s * interval '1 s', now(), 1, %s, %s, %s, %s)"
    ten = [Decimal(1)] * 10
    run(database, book, (1, ten, ten, [], []))
    none: list[Decimal] = []
    for number, sides in enumerate(
        ((ten * 2, ten * 2, none, none), (ten, ten[:9], none, none), (none, none, ten, none))
    ):
        with pytest.raises(Exception, match="violates check constraint"):
            run(database, book, (number, *sides))


SAME = ", ".join(
    "c.vwap + 1 AS vwap" if column.name == "vwap" else f"c.{column.name}"
    for column in PLATFORM_SCHEMA.rollups[0].columns
)


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        ("DROP VIEW aether.candles_1h", "was missing"),
        (f"CREATE OR REPLACE VIEW aether.candles_1h AS SELECT {SAME} FROM aether.candles c", "was changed"),
    ],
)
def test_view_others_dropped_or_changed_is_recreated_and_reported(database: Endpoint, edit: str, what: str) -> None:
    leader = servers.a_leader()
    unchanged = ensure(database, leader)
    before = run(database, "SELECT pg_get_viewdef('aether.candles_1h'::regclass)")
    run(database, edit)
    report = ensure(database, leader)
    assert (report.reason, report.drift) == (
        Reason.READY,
        (Drift(name="aether.candles_1h", what=what, repaired=True),),
    )
    assert run(database, "SELECT pg_get_viewdef('aether.candles_1h'::regclass)") == before
    assert ensure(database, leader) == unchanged


@pytest.mark.parametrize(
    ("edit", "name", "what"),
    [
        (
            "CREATE VIEW aether.candles_1h AS SELECT symbol FROM aether.candles",
            "aether.candles_1h.vwap",
            "is missing",
        ),
        ("CREATE TABLE aether.candles_1h (symbol text)", "aether.candles_1h", "is not a view"),
    ],
)
def test_another_object_under_the_name_of_a_view_is_left(database: Endpoint, edit: str, name: str, what: str) -> None:
    leader = servers.a_leader()
    run(database, "DROP VIEW aether.candles_1h")
    run(database, edit)
    report = ensure(database, leader)
    assert report.reason is Reason.SCHEMA_DRIFTED
    assert Drift(name=name, what=what, repaired=False) in report.drift
    with servers.statements() as writes:
        assert ensure(database, leader) == report
    assert writes == []


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        ("DROP MATERIALIZED VIEW aether.candles_1h_sums CASCADE", "was missing"),
        (
            "ALTER MATERIALIZED VIEW aether.candles_1h_sums SET (timescaledb.materialized_only = true)",
            "did not show the newest rows",
        ),
        (
            "SELECT public.remove_continuous_aggregate_policy('aether.candles_1h_sums')",
            "had another refresh policy",
        ),
    ],
)
def test_aggregate_changed_by_others_is_restored_and_reported(timescale: Endpoint, edit: str, what: str) -> None:
    leader = servers.a_leader()
    unchanged = ensure(timescale, leader)
    assert unchanged.ok
    run(timescale, edit)
    report = ensure(timescale, leader)
    assert report.reason is Reason.READY
    assert report.drift[0] == Drift(name="aether.candles_1h_sums", what=what, repaired=True)
    assert ensure(timescale, leader) == unchanged


def test_aggregate_with_a_paused_refresh_is_reported(timescale: Endpoint) -> None:
    assert ensure(timescale).ok
    run(
        timescale,
        "SELECT public.alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs "
        "WHERE hypertable_name = 'candles_4h_sums'",
    )
    assert ensure(timescale).warnings == ("the refresh of aether.candles_4h_sums is paused",)
