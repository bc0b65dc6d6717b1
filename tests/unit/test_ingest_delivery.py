"""Delivering: one output at its own rest_interval, in time that the test owns."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiokafka.conn
import pytest

from aether_services.contracts.marketdata import Topic
from aether_services.contracts.statuses import Output
from aether_services.domain import times
from aether_services.domain.instruments import Symbol
from aether_services.domain.times import Nanoseconds
from aether_services.ingest.adapters.servers import Server
from aether_services.ingest.core.markets import Markets
from aether_services.ingest.core.outboxes import EncodedMessage
from aether_services.ingest.core.rejections import RejectionReason
from aether_services.ingest.core.trade_logs import Cursor, ReceivedTrade, cursor_after
from aether_services.ingest.ports import InstrumentList, InvalidTrades, OutputUnavailable, VenueUnavailable
from aether_services.ingest.service import delivery
from aether_services.ingest.service.backfill import TradeHistory
from aether_services.ingest.service.delivery import Delivery
from aether_services.ingest.settings import Tls
from aether_testing import clocks
from aether_testing.clocks import Clock
from aether_testing.fake_venue import a_trade

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence

    from aether_services.domain.trades import Trade
    from aether_services.ingest.core.market import Market

BTC = Symbol("BTC/USD")


class World:
    """An output that keeps what it is given, or fails; a venue that has every trade; and what delivers."""

    name = Output.TABLES
    batch_interval = 0.25

    def __init__(self, *, stands_at: int = 0, trade_log_length: int = 10) -> None:
        self.clock = Clock()
        self.stands = {BTC: cursor_after(self.trade(stands_at).trade)} if stands_at else {}
        self.working = True
        self.invalid_trades = False
        self.got: list[int] = []
        self.messages: list[bytes] = []
        self.complete_of: list[Symbol] = []
        self.connected_often = 0
        self.asked_venue = 0
        self.markets = Markets(writer="w", depth=10, trade_log_length=trade_log_length, publish=lambda _: None)
        self.markets.serve([BTC])
        self.delivery = Delivery(
            output=self,
            markets=self.markets,
            receiver=self,  # type: ignore[arg-type]  # of which only this is asked
            history=TradeHistory(self, self.clock),  # type: ignore[arg-type]
            clock=self.clock,
            limit=5,
        )
        self.last_received_at = self.clock.now()

    def trade(self, trade_id: int, at: float | None = None) -> ReceivedTrade:
        """One, at a second of its own."""
        trade = a_trade(trade_id, trade_id if at is None else at)
        return ReceivedTrade(trade, self.clock.now())

    def hear(self, *ids: int) -> None:
        """Trades come."""
        self.markets[BTC].trade_log.add([self.trade(one) for one in ids])

    # What is asked of the others.

    def complete(self, market: Market) -> bool:
        """All trades are there."""
        return not market.trade_log.has_gap

    async def trades(self, symbol: Symbol, after: Cursor | None) -> Sequence[Trade]:
        """The venue's, as REST has them: it knows trades 1 to 30."""
        assert symbol == BTC
        self.asked_venue += 1
        if self.invalid_trades:
            raise InvalidTrades(f"trade {after.trade_id + 1 if after else 0}: no number")
        return [self.trade(one).trade for one in range(after.trade_id if after else 1, 31)]

    async def instruments(self) -> InstrumentList:
        """None."""
        return InstrumentList()

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[World]:
        """The output."""
        self.connected_often += 1
        if not self.working:
            raise OutputUnavailable("it is away")
        yield self

    async def cursors(self, symbols: Collection[Symbol]) -> Mapping[Symbol, Cursor]:
        """Where it stands."""
        return {symbol: self.stands[symbol] for symbol in symbols if symbol in self.stands}

    async def deliver(
        self,
        trades: Sequence[ReceivedTrade],
        messages: Sequence[EncodedMessage],
        complete: Mapping[Symbol, Nanoseconds],
    ) -> int:
        """Keep it."""
        if not self.working:
            raise OutputUnavailable("it went away")
        self.complete_of += complete
        self.got += [one.trade.trade_id for one in trades]
        self.messages += [message.body for message in messages]
        if trades:
            self.stands[BTC] = cursor_after(trades[-1].trade)
        return len(trades) + len(messages)

    async def until(self, holds: Callable[[], bool], seconds: float = 60) -> None:
        """Let time pass until something holds."""
        ends = self.clock.seconds + seconds
        task = asyncio.create_task(self.delivery.run())
        try:
            while not holds():
                assert not task.done(), task.result()
                assert self.clock.seconds < ends, (self.got, self.delivery.state())
                self.delivery.check_conflation()
                await asyncio.sleep(0)
        finally:
            task.cancel()
            await asyncio.wait([task])


def a_message(number: int) -> EncodedMessage:
    return EncodedMessage(Topic.BOOK, BTC, str(number).encode(), Nanoseconds(clocks.BEGIN + 1000 * times.SECOND))


async def test_new_output_starts_with_the_log_others_at_their_position() -> None:
    world = World()
    world.hear(5, 6, 7)
    await world.until(lambda: world.got == [5, 6, 7])
    old = World(stands_at=6)
    old.hear(5, 6, 7, 8)
    await old.until(lambda: old.got == [7, 8])
    assert old.asked_venue == 0


async def test_trades_beyond_the_log_are_requested_from_the_venue() -> None:
    world = World(stands_at=3)
    world.hear(*range(20, 31))
    await world.until(lambda: world.got == list(range(4, 31)))
    assert world.asked_venue > 0


async def test_slow_venue_backfill_blocks_nothing() -> None:
    world, answer = World(stands_at=3), asyncio.Event()
    world.hear(*range(20, 31))
    at_once = world.trades

    async def slowly(symbol: Symbol, after: Cursor | None) -> Sequence[Trade]:
        await answer.wait()
        return await at_once(symbol, after)

    world.trades = slowly  # type: ignore[method-assign]
    world.delivery.enqueue(a_message(1))
    await world.until(lambda: world.messages == [b"1"])
    assert world.got == []
    answer.set()
    await world.until(lambda: world.got == list(range(4, 31)))


@pytest.mark.parametrize("answer", [VenueUnavailable("no answer"), None, "of another history"], ids=str)
async def test_useless_backfill_reply_is_retried_later(answer: object) -> None:
    world, asked = World(stands_at=3), list[float]()
    world.hear(*range(20, 31))

    async def useless(symbol: Symbol, after: Cursor | None) -> Sequence[Trade]:
        del symbol, after
        asked.append(world.clock.seconds)
        if isinstance(answer, VenueUnavailable):
            raise answer
        return [world.trade(1, at=500).trade] if answer else []

    world.trades = useless  # type: ignore[method-assign]
    await world.until(lambda: len(asked) > 5)
    assert all(later - earlier >= delivery.RETRY_PAUSE for earlier, later in itertools.pairwise(asked))
    assert world.got == []


async def test_each_delivery_reports_its_latency_since_receipt_and_its_duration() -> None:
    world, told = World(), list[tuple[float | None, float]]()
    world.delivery.observe = lambda late, took: told.append((late, took))
    world.hear(5)
    world.clock.seconds += 3
    await world.until(lambda: world.got == [5])
    late, took = told[0]
    assert late is not None
    assert late >= 3 > took


async def test_undelivered_messages_are_delivered_later_trades_in_order() -> None:
    world = World()
    world.hear(5, 6)
    world.delivery.enqueue(a_message(1))
    world.working = False
    await world.until(lambda: world.delivery.failures > 3)
    assert (world.delivery.state().ok, world.delivery.state().detail) == (False, "it is away")
    world.hear(7)
    world.delivery.enqueue(a_message(2))
    world.working = True
    await world.until(lambda: world.got == [5, 6, 7])
    assert world.messages == [b"1", b"2"]
    assert world.delivery.waiting() == 0


async def test_trades_that_are_not_placed_yet_count_as_waiting() -> None:
    world = World(stands_at=5)
    world.hear(5, 6, 7)
    assert world.delivery.waiting() == 3
    await world.until(lambda: world.got == [6, 7])
    assert world.delivery.waiting() == 0


async def test_late_output_is_unhealthy_with_a_stable_message() -> None:
    world = World()
    world.hear(5)
    await world.until(lambda: world.got == [5])
    world.delivery.connected = True
    world.hear(6)
    world.clock.seconds += delivery.MAX_LAG + 1
    state = world.delivery.state()
    assert (state.ok, state.detail) == (False, delivery.LAGGING)
    assert state.lag_seconds > delivery.MAX_LAG


async def test_output_with_conflated_messages_is_unhealthy_for_a_while() -> None:
    world = World()
    world.delivery.connected = True
    for number in range(7):
        world.delivery.enqueue(a_message(number))
    world.delivery.check_conflation()
    assert world.delivery.state().detail == delivery.CONFLATING
    assert world.delivery.state().conflated > 0
    await world.until(lambda: world.messages != [])
    world.delivery.connected = True
    world.clock.seconds += delivery.CONFLATED_FOR
    assert world.delivery.state().ok


async def test_restarted_trade_ids_are_reported_and_not_delivered() -> None:
    world = World(stands_at=100)
    world.markets[BTC].trade_log.add([world.trade(1, at=500), world.trade(2, at=501)])
    await world.until(lambda: bool(world.delivery.reset_ids))
    world.delivery.connected = True
    assert world.delivery.state().detail == f"{delivery.IDS_RESET}: {BTC}"
    assert world.got == []


async def test_restarted_ids_beyond_the_position_are_detected_over_rest() -> None:
    world = World(stands_at=3)
    world.hear(*range(20, 31))

    async def counted_anew(symbol: Symbol, after: Cursor | None) -> Sequence[Trade]:
        del symbol, after
        return [world.trade(one, at=100 + one).trade for one in range(1, 31)]

    world.trades = counted_anew  # type: ignore[method-assign]
    await world.until(lambda: bool(world.delivery.reset_ids))
    assert world.got == []


async def test_market_is_complete_only_once_every_known_trade_is_delivered() -> None:
    world = World()
    world.hear(5, 6)
    await world.until(lambda: bool(world.complete_of), 5)
    await world.until(lambda: world.got == [5, 6], 5)
    away = World(stands_at=3)
    away.hear(*range(20, 31))

    async def silent(symbol: Symbol, after: Cursor | None) -> Sequence[Trade]:
        del symbol, after
        raise VenueUnavailable("no answer")

    away.trades = silent  # type: ignore[method-assign]
    began = away.clock.seconds
    await away.until(lambda: away.clock.seconds > began + 10)
    assert away.complete_of == []


@pytest.mark.parametrize(("host", "address"), [("db.example", "db.example:9092"), ("fd00::1", "[fd00::1]:9092")])
def test_address_of_a_server_is_parsed_as_intended(host: str, address: str) -> None:
    server = Server(host=host, port=9092, tls=Tls.OFF, credentials=Path("/none"))
    assert server.address == address
    assert [one[:2] for one in aiokafka.conn.collect_hosts(server.address)] == [(host, 9092)]
    url = urlsplit(f"nats://{server.address}")
    assert (url.hostname, url.port) == (host, 9092)


async def test_output_that_fails_unexpectedly_is_retried_and_the_process_continues(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world, failures = World(), iter([TypeError("a fault of ours")] * 3)
    world.hear(5, 6, 7)
    deliver = world.deliver

    async def fails(*given: Any) -> int:
        if (fault := next(failures, None)) is not None:
            raise fault
        return await deliver(*given)

    world.deliver = fails  # type: ignore[method-assign,assignment]
    await world.until(lambda: world.got == [5, 6, 7])
    assert world.markets.rejections.counts[world.name, RejectionReason.UNEXPECTED] == 3
    assert len([one for one in caplog.records if one.exc_info]) == 1, "its traceback once"


async def test_market_with_a_withheld_trade_is_reported_without_blocking_others() -> None:
    world = World(stands_at=1)
    world.hear(*range(20, 40))  # of which ten are remembered
    world.invalid_trades = True
    await world.until(lambda: bool(world.delivery.invalid_trades))
    world.delivery.connected = True
    assert world.delivery.state().detail == f"{delivery.INVALID_TRADES}: {BTC}"
    asked, began = world.asked_venue, world.clock.seconds
    await world.until(lambda: world.asked_venue == asked + 3)
    assert world.clock.seconds - began >= 2 * delivery.INVALID_PAUSE
    assert world.got == []
    world.invalid_trades = False
    await world.until(lambda: world.got[-1:] == [39])
    world.delivery.connected = True
    assert world.delivery.state().detail != f"{delivery.INVALID_TRADES}: {BTC}"
