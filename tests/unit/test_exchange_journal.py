"""The venue's journal, on a real file: all of a batch or nothing, old trades dropped, numbers kept for ever."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final

import pytest

from aether_services.domain.instruments import Symbol
from aether_services.domain.times import Nanoseconds
from aether_services.domain.trades import OrderType, Side
from aether_services.exchange_sim.adapters.journals import SqliteJournal
from aether_services.exchange_sim.core import candles
from aether_services.exchange_sim.core.batches import Batch, BatchBuilder
from aether_services.exchange_sim.core.orders import (
    Closed,
    CloseReason,
    LevelSet,
    Opened,
    OrderId,
    Owner,
    Reduced,
    Traded,
)
from aether_services.exchange_sim.ports import JournalError, JournalState, LastTrade

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aether_services.exchange_sim.core.orders import Event

BTC: Final = Symbol("BTC/USD")
NOON: Final = 1_795_608_000_000_000_000
HOUR: Final = 3_600_000_000_000
LARGE: Final = 10**17


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    """A new one."""
    one = SqliteJournal(tmp_path / "journal.db")
    yield one
    one.close()


def a_trade(number: int, hour: float = 0.0, quantity: int = 5000) -> Traded:
    at = Nanoseconds(NOON + int(hour * HOUR) + number)
    return Traded(BTC, number, Side.SELL, OrderType.MARKET, 870_000, quantity, at, OrderId(1), OrderId(2))


def an_order(number: int) -> Opened:
    return Opened(OrderId(number), Owner("anna"), BTC, Side.BUY, 869_000, 9000, 9000, Nanoseconds(NOON))


def a_batch(batch_builder: BatchBuilder, *events: Event, next_order_id: int = 10) -> Batch:
    batch = Batch(next_order_id=OrderId(next_order_id))
    batch_builder.add(batch, BTC, [*events, LevelSet(BTC, Side.BUY, 1, 1)])
    return batch


async def test_new_journal_is_empty_and_starts_at_one(journal: SqliteJournal) -> None:
    assert journal.load(50) == JournalState(orders=[], candles=[])


async def test_journal_contents_survive_reopening(journal: SqliteJournal, tmp_path: Path) -> None:
    batch_builder = BatchBuilder(())
    await journal.write(a_batch(batch_builder, an_order(3), an_order(4), an_order(5)))
    await journal.write(
        a_batch(
            batch_builder,
            *(a_trade(number) for number in range(1, 61)),
            Reduced(OrderId(3), 1000),
            Closed(OrderId(4), CloseReason.FILLED, rested=True),
            next_order_id=77,
        )
    )
    journal.close()
    again = SqliteJournal(tmp_path / "journal.db")
    state = again.load(50)
    again.close()
    assert state.next_order_id == 77
    assert state.last == {BTC: LastTrade(trade_id=60, at=a_trade(60).at, price=870_000)}
    assert state.orders == [an_order(3)._replace(remaining=1000), an_order(5)]
    assert list(state.trades[BTC]) == [a_trade(number) for number in range(11, 61)]
    assert [(candle.interval, candle.trades, candle.volume) for candle in state.candles] == [
        (interval, 60, 60 * 5000) for interval in candles.INTERVALS
    ]


async def test_candle_cost_beyond_the_sqlite_integer_range_is_exact(journal: SqliteJournal) -> None:
    await journal.write(a_batch(BatchBuilder(()), a_trade(1, quantity=LARGE)))
    assert {candle.cost for candle in journal.load(1).candles} == {870_000 * LARGE}


async def test_batch_is_written_completely_or_not_at_all(journal: SqliteJournal) -> None:
    batch_builder = BatchBuilder(())
    await journal.write(a_batch(batch_builder, a_trade(1), an_order(3)))
    with pytest.raises(JournalError):
        await journal.write(a_batch(batch_builder, a_trade(2), an_order(4), a_trade(1), next_order_id=99))
    state = journal.load(50)
    assert (state.next_order_id, len(state.orders), state.last[BTC].trade_id) == (10, 1, 1)
    await journal.write(a_batch(batch_builder, a_trade(2)))
    assert journal.load(50).last[BTC].trade_id == 2


async def test_history_is_read_after_a_time_or_id_or_backwards(journal: SqliteJournal) -> None:
    trades = [a_trade(number) for number in range(1, 11)]
    await journal.write(a_batch(BatchBuilder(()), *trades))
    assert await journal.since(BTC, trades[3].at, 3) == trades[4:7]
    assert await journal.following(BTC, 8, 100) == trades[8:]
    assert await journal.newest(BTC, 2) == trades[8:]
    assert await journal.newest(Symbol("ETH/USD"), 2) == []


async def test_old_trades_are_dropped_but_last_id_and_candles_stay(journal: SqliteJournal) -> None:
    batch_builder = BatchBuilder(())
    await journal.write(a_batch(batch_builder, *(a_trade(number, hour=number) for number in range(1, 41))))
    assert await journal.prune(Nanoseconds(NOON + int(30.5 * HOUR))) == 10
    assert [trade.trade_id for trade in await journal.following(BTC, 0, 100)] == list(range(31, 41))
    assert await journal.prune(Nanoseconds(NOON + 100 * HOUR)) == 0
    state = journal.load(50)
    assert state.last[BTC].trade_id == 40
    minutes = [candle for candle in state.candles if candle.interval == 1]
    assert 24 <= len(minutes) < 30, "a ticker has 24 hours"
    assert sum(candle.trades for candle in state.candles if candle.interval == 60) == 40


def test_journal_of_a_newer_release_is_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(JournalError, match="newer release"):
        SqliteJournal(path)


def test_foreign_file_is_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_text("something of somebody's\n" * 100)
    with pytest.raises(JournalError, match="not a database"):
        SqliteJournal(path)
    assert path.read_text().startswith("something of somebody's")
