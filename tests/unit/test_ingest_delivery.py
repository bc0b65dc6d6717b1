"""Delivery to one output at its own pace, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiokafka.conn
import pytest

from aether_services.clients.servers import Server, Tls
from aether_services.contracts.marketdata import Topic
from aether_services.contracts.statuses import Output
from aether_services.domain import times
from aether_services.domain.instruments import Symbol
from aether_services.domain.times import Nanoseconds
from aether_services.ingest.core.markets import Markets
from aether_services.ingest.core.outboxes import EncodedMessage
from aether_services.ingest.core.rejections import RejectionReason
from aether_services.ingest.core.trade_logs import Cursor, ReceivedTrade, cursor_after
from aether_services.ingest.ports import InstrumentList, InvalidTrades, OutputUnavailable, VenueUnavailable
from aether_services.ingest.service import delivery
from aether_services.ingest.service.backfill import TradeHistory
from aether_services.ingest.service.delivery import Delivery
from aether_testing.servers.fake_venue import a_trade
from aether_testing.values import clocks
from aether_testing.values.clocks import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence

    from aether_services.domain.trades import Trade
    from aether_services.ingest.core.market import Market

BTC = Symbol("BTC/USD")


class DeliveryHarness:
    """An output that keeps what it is given, or fails; a venue that has every trade; and what delivers."""

    name = Output.TABLES
    batch_interval = 0.25

    def __init__(self, *, cursor_at: int = 0, trade_log_length: int = 10) -> None:
        self.clock = Clock()
        self.stored_cursors = {BTC: cursor_after(self.trade(cursor_at).trade)} if cursor_at else {}
        self.working = True
        self.invalid_trades = False
        self.delivered_trades: list[int] = []
        self.messages: list[bytes] = []
        self.complete_symbols: list[Symbol] = []
        self.connections = 0
        self.venue_queries = 0
        self.observed: list[tuple[float | None, float]] = []
        self.markets = Markets(writer="w", depth=10, trade_log_length=trade_log_length, publish=lambda _: None)
        self.markets.serve([BTC])
        self.delivery = Delivery(
            output=self,
            markets=self.markets,
            receiver=self,  # type: ignore[arg-type]  # only `complete` and `last_received_at` are used
            history=TradeHistory(self, self.clock),  # type: ignore[arg-type]
            clock=self.clock,
            limit=5,
            observe=lambda late, took: self.observed.append((late, took)),
        )
        self.last_received_at = self.clock.now()

    def trade(self, trade_id: int, at: float | None = None) -> ReceivedTrade:
        """One, at a second of its own."""
        trade = a_trade(trade_id, trade_id if at is None else at)
        return ReceivedTrade(trade, self.clock.now())

    def receive(self, *ids: int) -> None:
        """Trades come."""
        self.markets[BTC].trade_log.add([self.trade(one) for one in ids])

    # The receiver, the venue and the output.

    def complete(self, market: Market) -> bool:
        """All trades are there."""
        return not market.trade_log.has_gap

    async def trades(self, symbol: Symbol, after: Cursor | None) -> Sequence[Trade]:
        """The venue's, as REST has them: it knows trades 1 to 30."""
        assert symbol == BTC
        self.venue_queries += 1
        if self.invalid_trades:
            raise InvalidTrades(f"trade {after.trade_id + 1 if after else 0}: no number")
        return [self.trade(one).trade for one in range(after.trade_id if after else 1, 31)]

    async def instruments(self) -> InstrumentList:
        """None."""
        return InstrumentList()

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[DeliveryHarness]:
        """The output."""
        self.connections += 1
        if not self.working:
            raise OutputUnavailable("it is away")
        yield self

    async def cursors(self, symbols: Collection[Symbol]) -> Mapping[Symbol, Cursor]:
        return {symbol: self.stored_cursors[symbol] for symbol in symbols if symbol in self.stored_cursors}

    async def deliver(
        self,
        trades: Sequence[ReceivedTrade],
        messages: Sequence[EncodedMessage],
        complete: Mapping[Symbol, Nanoseconds],
    ) -> int:
        """Keep it."""
        if not self.working:
            raise OutputUnavailable("it went away")
        self.complete_symbols += complete
        self.delivered_trades += [one.trade.trade_id for one in trades]
        self.messages += [message.body for message in messages]
        if trades:
            self.stored_cursors[BTC] = cursor_after(trades[-1].trade)
        return len(trades) + len(messages)

    async def until(self, holds: Callable[[], bool], seconds: float = 60) -> None:
        """Let time pass until something holds."""

        def holds_or_conflates() -> bool:
            if holds():
                return True
            self.delivery.check_conflation()
            return False

        await clocks.run_until(
            self.clock,
            self.delivery.run(),
            holds_or_conflates,
            seconds,
            detail=lambda: (self.delivered_trades, self.delivery.state()),
        )


def a_message(number: int) -> EncodedMessage:
    return EncodedMessage(Topic.BOOK, BTC, str(number).encode(), Nanoseconds(clocks.BEGIN + 1000 * times.SECOND))


async def test_new_output_starts_with_the_log_others_at_their_position() -> None:
    harness = DeliveryHarness()
    harness.receive(5, 6, 7)
    await harness.until(lambda: harness.delivered_trades == [5, 6, 7])
    old = DeliveryHarness(cursor_at=6)
    old.receive(5, 6, 7, 8)
    await old.until(lambda: old.delivered_trades == [7, 8])
    assert old.venue_queries == 0


async def test_trades_beyond_the_log_are_requested_from_the_venue() -> None:
    harness = DeliveryHarness(cursor_at=3)
    harness.receive(*range(20, 31))
    await harness.until(lambda: harness.delivered_trades == list(range(4, 31)))
    assert harness.venue_queries > 0


async def test_slow_venue_backfill_blocks_nothing() -> None:
    harness, answer = DeliveryHarness(cursor_at=3), asyncio.Event()
    harness.receive(*range(20, 31))
    at_once = harness.trades

    async def slowly(symbol: Symbol, after: Cursor | None) -> Sequence[Trade]:
        await answer.wait()
        return await at_once(symbol, after)

    harness.trades = slowly  # type: ignore[method-assign]
    harness.delivery.enqueue(a_message(1))
    await harness.until(lambda: harness.messages == [b"1"])
    assert harness.delivered_trades == []
    answer.set()
    await harness.until(lambda: harness.delivered_trades == list(range(4, 31)))


@pytest.mark.parametrize("answer", [VenueUnavailable("no answer"), None, "of another history"], ids=str)
async def test_useless_backfill_reply_is_retried_later(answer: object) -> None:
    harness, query_times = DeliveryHarness(cursor_at=3), list[float]()
    harness.receive(*range(20, 31))

    async def useless(symbol: Symbol, after: Cursor | None) -> Sequence[Trade]:
        del symbol, after
        query_times.append(harness.clock.seconds)
        if isinstance(answer, VenueUnavailable):
            raise answer
        return [harness.trade(1, at=500).trade] if answer else []

    harness.trades = useless  # type: ignore[method-assign]
    await harness.until(lambda: len(query_times) > 5)
    assert all(later - earlier >= delivery.RETRY_PAUSE for earlier, later in itertools.pairwise(query_times))
    assert harness.delivered_trades == []


async def test_each_delivery_reports_its_latency_since_receipt_and_its_duration() -> None:
    harness = DeliveryHarness()
    harness.receive(5)
    harness.clock.seconds += 3
    await harness.until(lambda: harness.delivered_trades == [5])
    late, took = harness.observed[0]
    assert late is not None
    assert late >= 3 > took


async def test_undelivered_messages_are_delivered_later_trades_in_order() -> None:
    harness = DeliveryHarness()
    harness.receive(5, 6)
    harness.delivery.enqueue(a_message(1))
    harness.working = False
    await harness.until(lambda: harness.delivery.failures > 3)
    assert (harness.delivery.state().ok, harness.delivery.state().detail) == (False, "it is away")
    harness.receive(7)
    harness.delivery.enqueue(a_message(2))
    harness.working = True
    await harness.until(lambda: harness.delivered_trades == [5, 6, 7])
    assert harness.messages == [b"1", b"2"]
    assert harness.delivery.waiting() == 0


async def test_unsequenced_trades_count_as_waiting() -> None:
    harness = DeliveryHarness(cursor_at=5)
    harness.receive(5, 6, 7)
    assert harness.delivery.waiting() == 3
    await harness.until(lambda: harness.delivered_trades == [6, 7])
    assert harness.delivery.waiting() == 0


async def test_late_output_is_unhealthy_with_a_stable_message() -> None:
    harness = DeliveryHarness()
    harness.receive(5)
    await harness.until(lambda: harness.delivered_trades == [5])
    harness.delivery.connected = True
    harness.receive(6)
    harness.clock.seconds += delivery.MAX_LAG + 1
    state = harness.delivery.state()
    assert (state.ok, state.detail) == (False, delivery.LAGGING)
    assert state.lag_seconds > delivery.MAX_LAG


async def test_output_with_conflated_messages_is_unhealthy_for_a_while() -> None:
    harness = DeliveryHarness()
    harness.delivery.connected = True
    for number in range(7):
        harness.delivery.enqueue(a_message(number))
    harness.delivery.check_conflation()
    assert harness.delivery.state().detail == delivery.CONFLATING
    assert harness.delivery.state().conflated > 0
    await harness.until(lambda: harness.messages != [])
    harness.delivery.connected = True
    harness.clock.seconds += delivery.CONFLATED_FOR
    assert harness.delivery.state().ok


async def test_restarted_trade_ids_are_reported_and_not_delivered() -> None:
    harness = DeliveryHarness(cursor_at=100)
    harness.markets[BTC].trade_log.add([harness.trade(1, at=500), harness.trade(2, at=501)])
    await harness.until(lambda: bool(harness.delivery.reset_ids))
    harness.delivery.connected = True
    assert harness.delivery.state().detail == f"{delivery.IDS_RESET}: {BTC}"
    assert harness.delivered_trades == []


async def test_restarted_ids_beyond_the_position_are_detected_over_rest() -> None:
    harness = DeliveryHarness(cursor_at=3)
    harness.receive(*range(20, 31))

    async def counted_anew(symbol: Symbol, after: Cursor | None) -> Sequence[Trade]:
        del symbol, after
        return [harness.trade(one, at=100 + one).trade for one in range(1, 31)]

    harness.trades = counted_anew  # type: ignore[method-assign]
    await harness.until(lambda: bool(harness.delivery.reset_ids))
    assert harness.delivered_trades == []


async def test_market_is_complete_only_once_every_known_trade_is_delivered() -> None:
    harness = DeliveryHarness()
    harness.receive(5, 6)
    await harness.until(lambda: bool(harness.complete_symbols), 5)
    await harness.until(lambda: harness.delivered_trades == [5, 6], 5)
    broken = DeliveryHarness(cursor_at=3)
    broken.receive(*range(20, 31))

    async def silent(symbol: Symbol, after: Cursor | None) -> Sequence[Trade]:
        del symbol, after
        raise VenueUnavailable("no answer")

    broken.trades = silent  # type: ignore[method-assign]
    began = broken.clock.seconds
    await broken.until(lambda: broken.clock.seconds > began + 10)
    assert broken.complete_symbols == []


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
    harness, failures = DeliveryHarness(), iter([TypeError("a fault of ours")] * 3)
    harness.receive(5, 6, 7)
    deliver = harness.deliver

    async def fails(*given: Any) -> int:
        if (fault := next(failures, None)) is not None:
            raise fault
        return await deliver(*given)

    harness.deliver = fails  # type: ignore[method-assign,assignment]
    await harness.until(lambda: harness.delivered_trades == [5, 6, 7])
    assert harness.markets.rejections.counts[harness.name, RejectionReason.UNEXPECTED] == 3
    assert len([one for one in caplog.records if one.exc_info]) == 1, "its traceback once"


async def test_market_with_a_withheld_trade_is_reported_without_blocking_others() -> None:
    harness = DeliveryHarness(cursor_at=1)
    harness.receive(*range(20, 40))  # of which ten are remembered
    harness.invalid_trades = True
    await harness.until(lambda: bool(harness.delivery.invalid_trades))
    harness.delivery.connected = True
    assert harness.delivery.state().detail == f"{delivery.INVALID_TRADES}: {BTC}"
    query_times, began = harness.venue_queries, harness.clock.seconds
    await harness.until(lambda: harness.venue_queries == query_times + 3)
    assert harness.clock.seconds - began >= 2 * delivery.INVALID_PAUSE
    assert harness.delivered_trades == []
    harness.invalid_trades = False
    await harness.until(lambda: harness.delivered_trades[-1:] == [39])
    harness.delivery.connected = True
    assert harness.delivery.state().detail != f"{delivery.INVALID_TRADES}: {BTC}"
