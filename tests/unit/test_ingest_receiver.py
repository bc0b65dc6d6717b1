"""Receiving: what is asked of a venue, and what silence and refusals lead to, in time that the test owns."""

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
from aether_testing import recordings
from aether_testing.fake_venue import BAD, BTC, ETH, MANY, World, an_ack, faithful

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from aether_services.domain.instruments import Symbol
    from aether_services.domain.times import Nanoseconds
    from aether_services.domain.trades import Trade
    from aether_services.exchange_sim.connections import Connection as SimulatedConnection
    from aether_services.exchange_sim.ports import Journal
    from aether_services.ingest.core.trade_logs import Cursor
    from aether_testing.clocks import Clock


async def test_market_is_subscribed_per_channel_once_its_precision_is_known() -> None:
    world = World(faithful)
    await world.until(lambda: len(world.venue.asked) == 4 and world.markets[BTC].usable, 5)
    assert [one["params"]["channel"] for one in world.venue.asked] == ["instrument", "book", "ticker", "trade"]


async def test_book_without_its_snapshot_is_subscribed_again() -> None:
    lost = iter([True])

    def answer(request: dict[str, Any]) -> list[bytes | int]:
        said = faithful(request)
        return said[:1] if request.get("params", {}).get("channel") == "book" and next(lost, False) else said

    world = World(answer)
    await world.until(lambda: world.markets[BTC].usable, 10)
    assert world.venue.methods("book") == ["subscribe", "unsubscribe", "subscribe"]


async def test_book_is_renewed_periodically_and_used_meanwhile() -> None:
    world = World(lambda request: [*faithful(request), b'{"channel":"heartbeat"}'])
    await world.until(lambda: world.markets[BTC].usable, 10)
    began = world.markets[BTC].snapshot_at

    def renewed() -> bool:
        assert world.markets[BTC].usable
        return world.markets[BTC].snapshot_at > began

    world.receiver._refresh = 3 * times.SECOND  # noqa: SLF001 - shorter than its silence
    await world.until(renewed, 8)


async def test_silent_venue_is_pinged_then_disconnected() -> None:
    world = World(lambda request: faithful(request) if request["method"] == "subscribe" else [])
    await world.until(lambda: world.markets[BTC].usable, 5)
    await world.until(lambda: world.receiver.reconnects == 1, 20)
    assert "ping" in [one["method"] for one in world.venue.asked]
    assert "silent for" in world.receiver.detail
    assert not world.markets[BTC].usable


async def test_who_leaves_withdraws_its_books() -> None:
    world = World(faithful)
    await world.until(lambda: world.markets[BTC].usable, 5)
    world.receiver.stop()
    assert not world.markets[BTC].usable
    assert not world.receiver.connected


async def test_venue_that_rejects_us_is_left_alone_for_ten_minutes() -> None:
    world = World(lambda _: [1008])
    began = world.clock.seconds
    await world.until(lambda: len(world.venue.connections) == 2, 700)
    assert world.clock.seconds - began >= 600


async def test_connects_that_fail_come_slower_and_slower() -> None:
    world = World(lambda _: [1006])
    began = world.clock.seconds
    await world.until(lambda: len(world.venue.connections) == 12, 400)
    # Kraken bears about 150 in ten minutes.
    assert world.clock.seconds - began > 12 * 4
    await world.until(lambda: len(world.venue.connections) == 1200, 1200 * 40)  # a night's outage is no more than that


async def test_venue_that_closes_after_one_snapshot_is_reconnected_with_backoff() -> None:
    def answer(request: dict[str, Any]) -> list[bytes | int]:
        return [*faithful(request), 1006] if request.get("params", {}).get("channel") == "book" else faithful(request)

    world = World(answer)
    began, connects = world.clock.seconds, world.venue.connections
    await world.until(lambda: world.clock.seconds - began > 1800 or len(connects) > 200, 2000)
    assert world.markets.book_messages > 20
    assert max(sum(since <= one < since + 600 for one in connects) for since in connects) <= 30


async def test_venue_is_reconnected_at_once_after_a_lasting_session() -> None:
    ended: list[float] = []

    def answer(request: dict[str, Any]) -> list[bytes | int]:
        if request["method"] == "ping" and world.clock.seconds - world.venue.connections[-1] > 40:
            ended.append(world.clock.seconds)
            return [1006]
        return faithful(request)

    world = World(answer)
    await world.until(lambda: len(world.venue.connections) == 4, 200)
    for closed, connected in zip(ended, world.venue.connections[1:], strict=True):
        assert connected - closed < 0.5


@pytest.mark.parametrize("served", [[], [BTC]])
async def test_lasting_session_without_a_usable_book_still_counts_as_lasting(served: list[Symbol]) -> None:
    ended: list[float] = []

    def answer(request: dict[str, Any]) -> list[bytes | int]:
        if request["method"] == "ping" and world.clock.seconds - world.venue.connections[-1] > 40:
            ended.append(world.clock.seconds)
            return [1006]
        return [frame for frame in faithful(request) if isinstance(frame, int) or b'"bids"' not in frame]

    world = World(answer)
    world.markets.serve(served)
    await world.until(lambda: len(world.venue.connections) == 4, 300)
    for closed, connected in zip(ended, world.venue.connections[1:], strict=True):
        assert connected - closed < 0.5


async def test_book_that_never_verifies_blocks_no_other_market() -> None:
    def answer(request: dict[str, Any]) -> list[bytes | int]:
        frames = [frame for frame in faithful(request) if isinstance(frame, bytes)]
        return [
            frame.replace(b'm":', b'm":1') if BAD.encode() in frame and b'"bids"' in frame else frame
            for frame in frames
        ]

    world = World(answer, BAD, *MANY)
    began = world.clock.seconds
    async with world.running():
        await world.pass_until(lambda: all(world.markets[symbol].usable for symbol in MANY), 10)
        await world.pass_until(lambda: world.clock.seconds - began >= 100, 200)
    asked = {channel: world.venue.symbols("subscribe", channel) for channel in ("book", "ticker", "trade")}
    assert sorted(asked["ticker"]) == sorted(asked["trade"]) == [BAD, *MANY]
    assert [symbol for symbol in asked["book"] if symbol != BAD] == MANY
    assert 5 < asked["book"].count(BAD) <= 10
    assert world.receiver.backoff(BAD) > 10
    assert world.receiver.backoff(MANY[0]) == 0
    assert world.markets[BAD].reason == "ChecksumMismatch"


async def test_book_that_fails_after_each_snapshot_backs_off() -> None:
    wrong = recordings.book_frames()[1].replace(b'"checksum":', b'"checksum":1')
    world = World(faithful)
    market, began = world.markets[BTC], world.clock.seconds

    def fails() -> bool:
        if market.usable and world.clock.now() - market.snapshot_at > 2 * times.SECOND:
            world.venue.tell(wrong)
        return world.clock.seconds - began >= 100

    await world.until(fails, 200)
    assert 5 < world.venue.methods("book").count("subscribe") <= 10


async def test_books_subscribed_together_all_arrive_despite_lost_frames() -> None:
    whole = itertools.count()

    def answer(request: dict[str, Any]) -> list[bytes | int]:
        frames = faithful(request)
        if request.get("params", {}).get("channel") == "book" and not next(whole):
            for number in (30, 9, 8, 3, 2):  # the reply to one, reply and snapshot of another, and two more of either
                del frames[number]
        return [*frames, b'{"channel":"heartbeat"}']

    world = World(answer, *MANY[:20])
    await world.until(lambda: all(world.markets[symbol].usable for symbol in MANY[:20]), 20)
    asked = world.venue.symbols("subscribe", "book")
    assert 20 < len(asked) <= 25


# A subscription is what the venue holds: against the simulated venue, without its sockets.


class Simulated:
    """The simulated venue, whose markets stand still."""

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

    def holds(self, symbol: Symbol) -> set[str]:
        """Channels of a market that the newest connection is subscribed to."""
        return {key.channel for key in self.connections[-1].subscribed if key.symbol == symbol}


async def test_market_changes_during_silence_reach_the_venue() -> None:
    world = World(faithful, ETH)
    venue = Simulated(world.clock)
    world.receiver = world.receives(venue)
    channels = (Channel.BOOK, Channel.TICKER, Channel.TRADE)
    async with world.running():
        await world.pass_until(lambda: world.markets[ETH].usable and venue.holds(ETH) == set(channels), 5)
        venue.venue.subscribers.silence(5)
        world.markets.serve([ETH, BTC])
        await world.pass_until(lambda: venue.holds(BTC) == set(channels), 5)
        assert not world.markets[BTC].usable
        await world.pass_until(lambda: world.markets[BTC].usable, 20)
        await world.pass_until(lambda: all(world.step(one, BTC) is State.SUBSCRIBED for one in channels), 5)
        assert world.receiver.rejection(BTC) == ""
        venue.venue.subscribers.silence(5)
        world.markets.serve([ETH])
        await world.pass_until(lambda: not venue.holds(BTC), 5)
        await world.pass_until(lambda: all(world.step(one, BTC) is None for one in channels), 20)
        assert world.markets[ETH].usable
        assert len(venue.connections) == 1


async def test_rejected_pair_quotes_the_message_of_the_venue() -> None:
    def answer(request: dict[str, Any]) -> list[bytes | int]:
        if request.get("params", {}).get("channel") == "trade":
            return [an_ack(request, success=False, error="Currency pair not supported BTC/USD")]
        return faithful(request)

    world = World(answer)
    await world.until(lambda: bool(world.receiver.rejection(BTC)), 5)
    assert world.receiver.rejection(BTC) == "Currency pair not supported BTC/USD"


async def test_number_beyond_the_precision_resubscribes_the_instruments() -> None:
    world = World(faithful)
    odd = recordings.book_frames()[1].decode().replace('"qty":', '"qty":0.000000001,"x":')

    def anew() -> bool:
        if (
            world.markets[BTC].usable
            and not world.receiver.refresh_instruments
            and not world.markets.instruments_outdated
        ):
            world.markets.receive(odd, world.clock.now())
            world.receiver.refresh_instruments = world.markets.instruments_outdated
        return world.venue.methods("instrument") == ["subscribe", "unsubscribe", "subscribe"]

    await world.until(anew, 10)


async def test_a_fault_of_ours_in_a_reply_ends_no_connection(caplog: pytest.LogCaptureFixture) -> None:
    world = World(faithful)
    take, faults = world.receiver._handle_frame, iter([TypeError("a fault of ours")] * 2)  # noqa: SLF001

    def fails(frame: str, received: Nanoseconds) -> None:
        if (fault := next(faults, None)) is not None:
            raise fault
        take(frame, received)

    world.receiver._handle_frame = fails  # type: ignore[method-assign]  # noqa: SLF001
    await world.until(lambda: world.markets[BTC].usable, 60)
    assert world.receiver.reconnects == 0
    assert world.markets.rejections.counts["reply", RejectionReason.UNEXPECTED] == 2
    assert len([one for one in caplog.records if one.exc_info]) == 1
