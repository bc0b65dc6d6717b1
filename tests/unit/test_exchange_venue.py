"""The venue's service with a journal that can be delayed, in virtual time: nothing is published unwritten."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aether_services.domain.instruments import Symbol, TradingStatus
from aether_services.domain.times import Nanoseconds
from aether_services.exchange_sim import connections, schemas
from aether_services.exchange_sim.core import markets
from aether_services.exchange_sim.core.faults import FaultKind, Faults
from aether_services.exchange_sim.core.orders import OrderId
from aether_services.exchange_sim.ports import JournalError, JournalState, LastTrade
from aether_services.exchange_sim.service import Venue
from aether_services.exchange_sim.settings import Settings
from aether_testing import wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from aether_services.exchange_sim.connections import Connection
    from aether_services.exchange_sim.core.batches import Batch
    from aether_services.exchange_sim.core.orders import Traded

NOON: Final = 1_795_608_000_000_000_000
ONE: Final = {Symbol("BTC/USD"): markets.MARKETS[Symbol("BTC/USD")]}


class VirtualClock:
    """A virtual clock that advances to the earliest time that a task waits for."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self._waiting_until: list[float] = []

    def now(self) -> Nanoseconds:
        return Nanoseconds(NOON + int(self.seconds * 1e9))

    def elapsed(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        item = self.seconds + seconds
        self._waiting_until.append(item)
        try:
            while True:
                await asyncio.sleep(0)
                if item <= min(self._waiting_until):
                    self.seconds = max(self.seconds, item)
                if self.seconds >= item:
                    return
        finally:
            self._waiting_until.remove(item)


class FakeJournal:
    """A journal in memory whose writes can be delayed."""

    def __init__(self, state: JournalState | None = None) -> None:
        self.state = state or JournalState()
        self.batches: list[Batch] = []
        self.open = asyncio.Event()
        self.open.set()
        self.write_started = asyncio.Event()
        self.broken = False

    def load(self, recent: int) -> JournalState:
        assert recent
        return self.state

    async def write(self, batch: Batch) -> None:
        self.write_started.set()
        await self.open.wait()
        if self.broken:
            raise JournalError("disk full")
        self.batches.append(batch)

    async def since(self, symbol: Symbol, after: Nanoseconds, count: int) -> Sequence[Traded]:
        raise NotImplementedError

    async def newest(self, symbol: Symbol, count: int) -> Sequence[Traded]:
        raise NotImplementedError

    async def following(self, symbol: Symbol, trade_id: int, count: int) -> Sequence[Traded]:
        raise NotImplementedError

    async def prune(self, before: Nanoseconds) -> int:
        assert before < NOON
        return 0

    def close(self) -> None:
        """Nothing is held."""


def a_venue(journal: FakeJournal, clock: VirtualClock, **settings: Any) -> Venue:
    received = {"instance": "venue-0", "release": "test", "journal": "/nowhere", **settings}
    return Venue(
        Settings.model_validate(received),
        instruments=ONE,
        journal=journal,
        clock=clock,
        registry=prometheus_client.CollectorRegistry(),
    )


@contextlib.asynccontextmanager
async def running(venue: Venue) -> AsyncIterator[asyncio.Task[None]]:
    """It runs meanwhile."""
    task = asyncio.create_task(venue.run())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ExceptionGroup):
            await task


def subscribe(venue: Venue, connection: Connection, channel: str = "book", **params: Any) -> None:
    message = {"method": "subscribe", "params": {"channel": channel, "symbol": ["BTC/USD"], **params}}
    venue.receive(connection, json.dumps(message))


def updates(connection: Connection, channel: str) -> list[dict[str, Any]]:
    messages = [json.loads(text) for text in connection.waiting]
    return [one for one in messages if one.get("channel") == channel and one["type"] == "update"]


async def until(condition: Callable[[], object]) -> None:
    """Let virtual time pass until a condition holds."""
    await wait.until_async(condition, "the condition holds", seconds=10, interval=0)


async def test_nothing_is_published_before_the_journal_has_it() -> None:
    journal = FakeJournal()
    venue = a_venue(journal, VirtualClock())
    connection = venue.connect()
    subscribe(venue, connection)
    subscribe(venue, connection, "trade")
    journal.open.clear()
    async with running(venue):
        await journal.write_started.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        late = venue.connect()
        subscribe(venue, late)
        (snapshot,) = [json.loads(text) for text in late.waiting if '"snapshot"' in text and '"checksum"' in text]
        assert snapshot["data"][0]["bids"] == [], "a snapshot is no way round the journal"
        assert updates(connection, "book") == []
        assert venue.status().pairs == {"BTC/USD": 0}
        journal.open.set()
        await until(lambda: updates(connection, "trade"))
        assert updates(late, "book")
    received = [one["trade_id"] for message in updates(connection, "trade") for one in message["data"]]
    kept = [trade.trade_id for batch in journal.batches for trade in batch.trades]
    assert received == kept[: len(received)]


async def test_venue_with_a_broken_journal_ends_and_publishes_nothing_more() -> None:
    journal = FakeJournal()
    venue = a_venue(journal, VirtualClock())
    connection = venue.connect()
    subscribe(venue, connection)
    async with running(venue) as task:
        await until(lambda: updates(connection, "book"))
        journal.broken = True
        with pytest.raises(ExceptionGroup) as ended:
            await task
        assert ended.value.subgroup(JournalError)
        known = len(journal.batches)
        assert len(updates(connection, "book")) <= sum(len(batch.outcomes) for batch in journal.batches[:known])


async def test_time_missed_in_a_pause_is_not_caught_up() -> None:
    journal, clock = FakeJournal(), VirtualClock()
    venue = a_venue(journal, clock)
    async with running(venue):
        await until(lambda: len(journal.batches) > 5)
        before = len(journal.batches)
        clock.seconds += 3600
        await until(lambda: len(journal.batches) > before + 3)
    assert all(len(batch.outcomes) < 500 for batch in journal.batches[1:])


async def test_venue_is_ready_once_it_advanced_and_not_when_stalled() -> None:
    journal, clock = FakeJournal(), VirtualClock()
    venue = a_venue(journal, clock)
    assert not venue.status().ready
    async with running(venue):
        await until(lambda: venue.status().ready)
    clock.seconds += 11
    assert not venue.status().ready
    assert "11" in venue.status().checks["engine"].detail


async def test_draining_venue_soon_closes_new_connections() -> None:
    venue = a_venue(FakeJournal(), VirtualClock())
    connection = venue.connect()
    drained = asyncio.create_task(venue.drain())
    await until(connection.closing.done)
    late = venue.connect()
    assert connection.closing.result()[0] == late.closing.result()[0] == connections.GOING_AWAY
    assert venue.status().draining
    venue.subscribers.remove(connection)
    await asyncio.sleep(0)
    assert not drained.done(), "the other one has not been sent why it is closed"
    venue.subscribers.remove(late)
    await drained


async def test_requested_slow_close_equals_the_close_for_a_full_queue() -> None:
    venue = a_venue(FakeJournal(), VirtualClock(), queue=16)
    slow, going, quick = venue.connect(), venue.connect(), venue.connect()
    while not slow.closing.done():
        assert len(slow.waiting) <= 16
        slow.push("{}", 0.0)
    going.close(connections.GOING_AWAY, "shutting down")
    assert venue.subscribers.close_all_as_slow() == 3
    assert slow.closing.result() == (connections.TRY_AGAIN, "slow consumer: 16 messages wait")
    assert quick.closing.result() == slow.closing.result()
    assert going.closing.result()[0] == connections.GOING_AWAY, "the first reason counts"


async def test_connection_without_a_subscription_is_closed_as_going_away() -> None:
    clock = VirtualClock()
    venue = a_venue(FakeJournal(), clock)
    idle, busy = venue.connect(), venue.connect()
    subscribe(venue, busy)
    clock.seconds += 59.9
    venue.subscribers.check_connections()
    assert not idle.closing.done()
    clock.seconds += 0.1
    venue.subscribers.check_connections()
    assert idle.closing.result() == (connections.GOING_AWAY, "no subscription")
    assert not busy.closing.done()


async def test_connects_are_accepted_again_after_ten_minutes() -> None:
    clock = VirtualClock()
    venue = a_venue(FakeJournal(), clock, connects=3)
    assert [venue.allows_connection("10.0.0.1") for _ in range(4)] == [True, True, True, False]
    assert venue.allows_connection("10.0.0.2"), "another address"
    clock.seconds += connections.CONNECT_WINDOW - 1
    assert not venue.allows_connection("10.0.0.1")
    clock.seconds += 2
    assert venue.allows_connection("10.0.0.1")


async def test_each_connection_is_notified_of_a_system_change() -> None:
    venue = a_venue(FakeJournal(), VirtualClock())
    connections = [venue.connect() for _ in range(3)]
    venue.set_system(TradingStatus.CANCEL_ONLY)
    assert [updates(one, "status")[-1]["data"][0]["system"] for one in connections] == ["cancel_only"] * 3
    venue.subscribers.silence(5)
    venue.set_system(TradingStatus.ONLINE)
    assert [updates(one, "status")[-1]["data"][0]["system"] for one in connections] == ["cancel_only"] * 3


async def test_muted_channel_is_acknowledged_but_sends_nothing() -> None:
    clock = VirtualClock()
    venue = a_venue(FakeJournal(), clock)
    btc, one = schemas.Key("trade", Symbol("BTC/USD")), venue.connect()
    venue.subscribers.mute("trade", btc.symbol, 60, snapshots=False)
    subscribe(venue, one, "trade", snapshot=True)
    subscribe(venue, one, "book")
    venue.subscribers.broadcast([(btc, '{"channel":"trade","type":"update"}')])
    message = [json.loads(text) for text in one.waiting]
    assert [reply["success"] for reply in message if "method" in reply] == [True, True]
    assert [message["channel"] for message in message if "channel" in message] == ["status", "book"]
    assert venue.describe_faults()["muted_seconds"] == {"trade BTC/USD": 60}
    clock.seconds += 60
    venue.subscribers.broadcast([(btc, '{"channel":"trade","type":"update"}')])
    assert len(updates(one, "trade")) == 1
    assert venue.describe_faults()["muted_seconds"] == {}


async def test_muted_book_with_snapshots_sends_no_update() -> None:
    venue = a_venue(FakeJournal(), VirtualClock())
    btc, one = schemas.Key("book", Symbol("BTC/USD"), 10), venue.connect()
    venue.subscribers.mute("book", btc.symbol, 60, snapshots=True)
    subscribe(venue, one, "book")
    venue.subscribers.broadcast([(btc, '{"channel":"book","type":"update"}')])
    message = [json.loads(text) for text in one.waiting]
    assert [message["type"] for message in message if message.get("channel") == "book"] == ["snapshot"]
    venue.subscribers.mute("book", btc.symbol, 0, snapshots=True)
    venue.subscribers.broadcast([(btc, '{"channel":"book","type":"update"}')])
    assert len(updates(one, "book")) == 1


async def test_market_with_dropped_history_continues_from_its_last_id() -> None:
    btc = Symbol("BTC/USD")
    state = JournalState(
        next_order_id=OrderId(900), last={btc: LastTrade(trade_id=41, at=Nanoseconds(NOON), price=870_000)}
    )
    journal = FakeJournal(state)
    venue = a_venue(journal, VirtualClock())
    assert venue.status().pairs == {btc: 41}
    async with running(venue):
        await until(lambda: any(batch.trades for batch in journal.batches))
    (first, *_), *_ = [batch.trades for batch in journal.batches if batch.trades]
    assert first.trade_id == 42
    assert min(order for batch in journal.batches for order in batch.opened) == 900


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("BTC/USD"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.fixed_dictionaries(
        {"method": st.sampled_from(("subscribe", "unsubscribe", "ping")) | JSON},
        optional={
            "req_id": JSON,
            "params": JSON
            | st.fixed_dictionaries(
                {"channel": st.sampled_from((*schemas.MARKET_CHANNELS, schemas.INSTRUMENT)) | JSON},
                optional=dict.fromkeys(("symbol", "depth", "interval", "event_trigger", "snapshot"), JSON),
            ),
        },
    )
)
def test_any_request_is_parsed_and_gets_a_response(message: dict[str, Any]) -> None:
    request = schemas.parse_request(json.dumps(message), ONE)
    assert request.keys or request.method == "ping"
    for item in request.keys:
        if isinstance(item, schemas.RequestError):
            answer = schemas.error_reply(request, item, Nanoseconds(NOON), Nanoseconds(NOON))
        else:
            answer = schemas.success_reply(request, item, Nanoseconds(NOON), Nanoseconds(NOON))
        assert json.loads(answer)["success"] is isinstance(item, schemas.Key)


def test_fault_occurs_as_often_as_requested_first_in_its_market() -> None:
    faults = Faults()
    faults.add(FaultKind.DROP, "book", "", 1)
    faults.add(FaultKind.DROP, "book", "BTC/USD", 2)
    assert faults.pending() == {"drop book": 1, "drop book BTC/USD": 2}
    taken = [
        faults.take(FaultKind.DROP, "book", symbol)
        for symbol in ("BTC/USD", "BTC/USD", "ETH/USD", "ETH/USD", "BTC/USD")
    ]
    assert taken == [True, True, True, False, False]
    assert not faults.take(FaultKind.DOUBLE, "book", "BTC/USD")


@pytest.mark.parametrize("message", ['{"method": "ping", "req_id": ' + "9" * 5000 + "}", "[" * 100_000, '"x"', "nul\0"])
def test_no_request_is_too_odd_to_be_rejected(message: str) -> None:
    request = schemas.parse_request(message, ONE)
    assert request.keys == (schemas.RequestError(error=schemas.MALFORMED),)
