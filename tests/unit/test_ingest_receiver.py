"""The receiver: subscriptions, and how it handles silence and rejections, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import prometheus_client
import pytest

from aether_services.domain import times
from aether_services.exchange_sim.core import markets as venue_markets
from aether_services.exchange_sim.ports import JournalState
from aether_services.exchange_sim.service import Venue as SimulatedVenue
from aether_services.exchange_sim.settings import Settings
from aether_services.ingest.core.rejections import RejectionReason
from aether_services.ingest.core.subscriptions import State
from aether_services.ingest.core.wire import Channel
from aether_services.ingest.ports import InstrumentList
from aether_testing.servers.fake_venue import BAD, BTC, ETH, MANY, ReceiverHarness, an_ack, faithful
from aether_testing.values import recordings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from aether_services.domain.instruments import Symbol
    from aether_services.domain.times import Nanoseconds
    from aether_services.domain.trades import Trade
    from aether_services.exchange_sim.connections import Connection as SimulatedConnection
    from aether_services.exchange_sim.ports import Journal
    from aether_services.ingest.core.trade_logs import Cursor
    from aether_testing.values.clocks import Clock


async def test_market_is_subscribed_per_channel_once_its_precision_is_known() -> None:
    harness = ReceiverHarness(faithful)
    await harness.until(lambda: len(harness.venue.requests) == 4 and harness.markets[BTC].usable, 5)
    assert [one["params"]["channel"] for one in harness.venue.requests] == ["instrument", "book", "ticker", "trade"]


async def test_book_without_its_snapshot_is_subscribed_again() -> None:
    lost = iter([True])

    def answer(request: dict[str, Any]) -> list[bytes | int]:
        frames = faithful(request)
        return frames[:1] if request.get("params", {}).get("channel") == "book" and next(lost, False) else frames

    harness = ReceiverHarness(answer)
    await harness.until(lambda: harness.markets[BTC].usable, 10)
    assert harness.venue.methods("book") == ["subscribe", "unsubscribe", "subscribe"]


async def test_book_is_renewed_periodically_and_used_meanwhile() -> None:
    harness = ReceiverHarness(lambda request: [*faithful(request), b'{"channel":"heartbeat"}'])
    await harness.until(lambda: harness.markets[BTC].usable, 10)
    began = harness.markets[BTC].snapshot_at

    def renewed() -> bool:
        assert harness.markets[BTC].usable
        return harness.markets[BTC].snapshot_at > began

    harness.receiver._refresh = 3 * times.SECOND  # noqa: SLF001 - shorter than its silence
    await harness.until(renewed, 8)


async def test_silent_venue_is_pinged_then_disconnected() -> None:
    harness = ReceiverHarness(lambda request: faithful(request) if request["method"] == "subscribe" else [])
    await harness.until(lambda: harness.markets[BTC].usable, 5)
    await harness.until(lambda: harness.receiver.reconnects == 1, 20)
    assert "ping" in [one["method"] for one in harness.venue.requests]
    assert "silent for" in harness.receiver.detail
    assert not harness.markets[BTC].usable


async def test_leaving_replica_withdraws_its_books() -> None:
    harness = ReceiverHarness(faithful)
    await harness.until(lambda: harness.markets[BTC].usable, 5)
    harness.receiver.stop()
    assert not harness.markets[BTC].usable
    assert not harness.receiver.connected


async def test_venue_that_rejects_us_is_left_alone_for_ten_minutes() -> None:
    harness = ReceiverHarness(lambda _: [1008])
    began = harness.clock.seconds
    await harness.until(lambda: len(harness.venue.connections) == 2, 700)
    assert harness.clock.seconds - began >= 600


async def test_failed_connects_back_off() -> None:
    harness = ReceiverHarness(lambda _: [1006])
    began = harness.clock.seconds
    await harness.until(lambda: len(harness.venue.connections) == 12, 400)
    # Kraken bears about 150 in ten minutes.
    assert harness.clock.seconds - began > 12 * 4
    await harness.until(
        lambda: len(harness.venue.connections) == 1200, 1200 * 40
    )  # a night's outage is no more than that


async def test_venue_that_closes_after_one_snapshot_is_reconnected_with_backoff() -> None:
    def answer(request: dict[str, Any]) -> list[bytes | int]:
        return [*faithful(request), 1006] if request.get("params", {}).get("channel") == "book" else faithful(request)

    harness = ReceiverHarness(answer)
    began, connects = harness.clock.seconds, harness.venue.connections
    await harness.until(lambda: harness.clock.seconds - began > 1800 or len(connects) > 200, 2000)
    assert harness.markets.book_messages > 20
    assert max(sum(since <= one < since + 600 for one in connects) for since in connects) <= 30


async def test_venue_is_reconnected_at_once_after_a_lasting_session() -> None:
    ended: list[float] = []

    def answer(request: dict[str, Any]) -> list[bytes | int]:
        if request["method"] == "ping" and harness.clock.seconds - harness.venue.connections[-1] > 40:
            ended.append(harness.clock.seconds)
            return [1006]
        return faithful(request)

    harness = ReceiverHarness(answer)
    await harness.until(lambda: len(harness.venue.connections) == 4, 200)
    for closed, connected in zip(ended, harness.venue.connections[1:], strict=True):
        assert connected - closed < 0.5


@pytest.mark.parametrize("served", [[], [BTC]])
async def test_lasting_session_without_a_usable_book_still_counts_as_lasting(served: list[Symbol]) -> None:
    ended: list[float] = []

    def answer(request: dict[str, Any]) -> list[bytes | int]:
        if request["method"] == "ping" and harness.clock.seconds - harness.venue.connections[-1] > 40:
            ended.append(harness.clock.seconds)
            return [1006]
        return [frame for frame in faithful(request) if isinstance(frame, int) or b'"bids"' not in frame]

    harness = ReceiverHarness(answer)
    harness.markets.serve(served)
    await harness.until(lambda: len(harness.venue.connections) == 4, 300)
    for closed, connected in zip(ended, harness.venue.connections[1:], strict=True):
        assert connected - closed < 0.5


async def test_book_that_never_verifies_blocks_no_other_market() -> None:
    def answer(request: dict[str, Any]) -> list[bytes | int]:
        frames = [frame for frame in faithful(request) if isinstance(frame, bytes)]
        return [
            frame.replace(b'm":', b'm":1') if BAD.encode() in frame and b'"bids"' in frame else frame
            for frame in frames
        ]

    harness = ReceiverHarness(answer, BAD, *MANY)
    began = harness.clock.seconds
    async with harness.running():
        await harness.advance_until(lambda: all(harness.markets[symbol].usable for symbol in MANY), 10)
        await harness.advance_until(lambda: harness.clock.seconds - began >= 100, 200)
    requested = {channel: harness.venue.symbols("subscribe", channel) for channel in ("book", "ticker", "trade")}
    assert sorted(requested["ticker"]) == sorted(requested["trade"]) == [BAD, *MANY]
    assert [symbol for symbol in requested["book"] if symbol != BAD] == MANY
    assert 5 < requested["book"].count(BAD) <= 10
    assert harness.receiver.backoff(BAD) > 10
    assert harness.receiver.backoff(MANY[0]) == 0
    assert harness.markets[BAD].reason == "ChecksumMismatch"


async def test_book_that_fails_after_each_snapshot_backs_off() -> None:
    wrong = recordings.book_frames()[1].replace(b'"checksum":', b'"checksum":1')
    harness = ReceiverHarness(faithful)
    market, began = harness.markets[BTC], harness.clock.seconds

    def fails() -> bool:
        if market.usable and harness.clock.now() - market.snapshot_at > 2 * times.SECOND:
            harness.venue.push(wrong)
        return harness.clock.seconds - began >= 100

    await harness.until(fails, 200)
    assert 5 < harness.venue.methods("book").count("subscribe") <= 10


async def test_books_subscribed_together_all_arrive_despite_lost_frames() -> None:
    whole = itertools.count()

    def answer(request: dict[str, Any]) -> list[bytes | int]:
        frames = faithful(request)
        if request.get("params", {}).get("channel") == "book" and not next(whole):
            for number in (30, 9, 8, 3, 2):  # the reply to one, reply and snapshot of another, and two more of either
                del frames[number]
        return [*frames, b'{"channel":"heartbeat"}']

    harness = ReceiverHarness(answer, *MANY[:20])
    await harness.until(lambda: all(harness.markets[symbol].usable for symbol in MANY[:20]), 20)
    requested = harness.venue.symbols("subscribe", "book")
    assert 20 < len(requested) <= 25


# A subscription is what the venue holds: against the simulated venue, without its sockets.


class Simulated:
    """The simulated venue with a stopped market, without its sockets."""

    def __init__(self, clock: Clock) -> None:
        self.venue = SimulatedVenue(
            Settings.model_validate({"instance": "venue-0", "release": "test", "journal": "/nowhere"}),
            instruments={symbol: venue_markets.MARKETS[symbol] for symbol in (BTC, ETH)},
            journal=cast("Journal", SimpleNamespace(load=lambda _: JournalState())),
            clock=clock,
            registry=prometheus_client.CollectorRegistry(),
        )
        self.connections: list[SimulatedConnection] = []

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Simulated]:
        """A connection."""
        self.connections.append(self.venue.connect())
        yield self

    async def receive(self) -> str:
        """The next message, or a heartbeat when it is time for one."""
        while not self.connections[-1].waiting:
            self.venue.subscribers.check_connections()
            await asyncio.sleep(0)
        return await self.connections[-1].next()

    async def send(self, text: str) -> None:
        """Take a request."""
        self.venue.receive(self.connections[-1], text)

    async def instruments(self) -> InstrumentList:
        """None."""
        return InstrumentList()

    async def trades(self, symbol: Symbol, after: Cursor | None) -> Sequence[Trade]:
        """None."""
        del symbol, after
        return []

    def subscribed_channels(self, symbol: Symbol) -> set[str]:
        """Channels of a market that the newest connection is subscribed to."""
        return {key.channel for key in self.connections[-1].subscribed if key.symbol == symbol}


async def test_market_changes_during_silence_reach_the_venue() -> None:
    harness = ReceiverHarness(faithful, ETH)
    venue = Simulated(harness.clock)
    harness.receiver = harness.a_receiver(venue)
    channels = (Channel.BOOK, Channel.TICKER, Channel.TRADE)
    async with harness.running():
        await harness.advance_until(
            lambda: harness.markets[ETH].usable and venue.subscribed_channels(ETH) == set(channels), 5
        )
        venue.venue.subscribers.silence(5)
        harness.markets.serve([ETH, BTC])
        await harness.advance_until(lambda: venue.subscribed_channels(BTC) == set(channels), 5)
        assert not harness.markets[BTC].usable
        await harness.advance_until(lambda: harness.markets[BTC].usable, 20)
        await harness.advance_until(lambda: all(harness.step(one, BTC) is State.SUBSCRIBED for one in channels), 5)
        assert harness.receiver.rejection(BTC) == ""
        venue.venue.subscribers.silence(5)
        harness.markets.serve([ETH])
        await harness.advance_until(lambda: not venue.subscribed_channels(BTC), 5)
        await harness.advance_until(lambda: all(harness.step(one, BTC) is None for one in channels), 20)
        assert harness.markets[ETH].usable
        assert len(venue.connections) == 1


async def test_rejected_pair_quotes_the_message_of_the_venue() -> None:
    def answer(request: dict[str, Any]) -> list[bytes | int]:
        if request.get("params", {}).get("channel") == "trade":
            return [an_ack(request, success=False, error="Currency pair not supported BTC/USD")]
        return faithful(request)

    harness = ReceiverHarness(answer)
    await harness.until(lambda: bool(harness.receiver.rejection(BTC)), 5)
    assert harness.receiver.rejection(BTC) == "Currency pair not supported BTC/USD"


async def test_number_beyond_the_precision_resubscribes_the_instruments() -> None:
    harness = ReceiverHarness(faithful)
    odd = recordings.book_frames()[1].decode().replace('"qty":', '"qty":0.000000001,"x":')

    def resubscribed() -> bool:
        if (
            harness.markets[BTC].usable
            and not harness.receiver.refresh_instruments
            and not harness.markets.instruments_outdated
        ):
            harness.markets.receive(odd, harness.clock.now())
            harness.receiver.refresh_instruments = harness.markets.instruments_outdated
        return harness.venue.methods("instrument") == ["subscribe", "unsubscribe", "subscribe"]

    await harness.until(resubscribed, 10)


async def test_internal_error_in_a_reply_ends_no_connection(caplog: pytest.LogCaptureFixture) -> None:
    harness = ReceiverHarness(faithful)
    take, faults = harness.receiver._handle_frame, iter([TypeError("a fault of ours")] * 2)  # noqa: SLF001

    def fails(frame: str, received: Nanoseconds) -> None:
        if (fault := next(faults, None)) is not None:
            raise fault
        take(frame, received)

    harness.receiver._handle_frame = fails  # type: ignore[method-assign]  # noqa: SLF001
    await harness.until(lambda: harness.markets[BTC].usable, 60)
    assert harness.receiver.reconnects == 0
    assert harness.markets.rejections.counts["reply", RejectionReason.UNEXPECTED] == 2
    assert len([one for one in caplog.records if one.exc_info]) == 1
