"""Channels that are acknowledged and bring nothing, and books that their market has left."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from aether_services.domain import books, times
from aether_services.domain.books import UnusableReason
from aether_services.ingest.core.trade_logs import cursor_after
from aether_services.ingest.core.wire import Channel
from aether_services.ingest.ports import InvalidTrades
from aether_testing.servers.fake_venue import BTC, ReceiverHarness, a_trade, faithful
from aether_testing.values import recordings

if TYPE_CHECKING:
    from decimal import Decimal


def with_heartbeats(request: dict[str, Any]) -> list[bytes | int]:
    """A venue that sends snapshots of books and tickers, and nothing else of its markets."""
    params, frames = request.get("params", {}), faithful(request)
    if request["method"] == "subscribe" and params["channel"] == "ticker":
        frames.append(a_ticker_message("snapshot"))
    return [*frames, b'{"channel":"heartbeat"}']


def timestamp_now(harness: ReceiverHarness) -> str:
    """Now, as a message has it."""
    return times.text(harness.clock.now())


def with_timestamp(frame: bytes, moment: str) -> bytes:
    """A book's message with another time."""
    text = re.sub(rb',"timestamp":"[^"]*"', b"", frame)
    return text.removesuffix(b"}]}") + f',"timestamp":"{moment}"}}]}}'.encode()


def a_trade_message(harness: ReceiverHarness, trade_id: int, price: str) -> bytes:
    return (
        f'{{"channel":"trade","type":"update","data":[{{"symbol":"{BTC}","side":"buy","price":{price},"qty":1.0,'
        f'"ord_type":"limit","trade_id":{trade_id},"timestamp":"{timestamp_now(harness)}"}}]}}'
    ).encode()


def a_ticker_message(kind: str = "update") -> bytes:
    """Without a time, so that it is of when it is received."""
    names = ("bid", "bid_qty", "ask", "ask_qty", "last", "volume", "vwap", "low", "high", "change", "change_pct")
    return json.dumps(
        {"channel": "ticker", "type": kind, "data": [{"symbol": BTC, **dict.fromkeys(names, 0)}]}
    ).encode()


def top_of_book(harness: ReceiverHarness) -> tuple[Decimal, Decimal]:
    book = harness.markets[BTC].book
    assert book is not None
    return book.top


def silent(harness: ReceiverHarness) -> tuple[str, ...]:
    return harness.markets[BTC].liveness.silent


async def test_trades_omitted_by_a_silent_channel_come_over_rest() -> None:
    harness = ReceiverHarness(with_heartbeats)
    harness.venue.rest_trades = [a_trade(number, number) for number in (5, 6, 7)]
    trade_log = harness.markets[BTC].trade_log
    async with harness.running(backfilling=True):
        await harness.advance_until(lambda: trade_log.last is not None and trade_log.last.trade_id == 7, 40)
        assert silent(harness) == (Channel.TRADE,)
        assert not harness.receiver.complete(harness.markets[BTC]), "an empty minute is not known to be one"
        await harness.advance_until(
            lambda: harness.venue.methods("trade") == ["subscribe", "unsubscribe", "subscribe"], 20
        )
        assert silent(harness) == (Channel.TRADE,)
        harness.venue.rest_trades.append(a_trade(8, 8))
        await harness.advance_until(lambda: trade_log.last is not None and trade_log.last.trade_id == 8, 30)
        harness.venue.push(a_trade_message(harness, 9, str(top_of_book(harness)[0])))
        await harness.advance_until(lambda: trade_log.last is not None and trade_log.last.trade_id == 9, 5)
        assert silent(harness) == ()
        await harness.advance_until(lambda: harness.receiver.complete(harness.markets[BTC]), 5)


def fail_first_queries(harness: ReceiverHarness, *, times: int) -> None:
    """REST's newest trade is not understood so often."""
    harness.venue.rest_errors = [InvalidTrades("the newest is not understood")] * times


async def test_silent_market_is_queried_again_after_a_malformed_newest_trade() -> None:
    harness = ReceiverHarness(with_heartbeats)
    harness.venue.rest_trades = [a_trade(7, 7)]
    fail_first_queries(harness, times=2)
    market = harness.markets[BTC]
    async with harness.running(backfilling=True):
        await harness.advance_until(lambda: market.trade_log.last == cursor_after(a_trade(7, 7)), 200)
        assert silent(harness) == (Channel.TRADE,)
        assert not market.withheld


async def test_doubt_about_the_newest_trade_ends_once_it_is_resolved() -> None:
    harness = ReceiverHarness(with_heartbeats)
    fail_first_queries(harness, times=1)
    market = harness.markets[BTC]
    async with harness.running(backfilling=True):
        await harness.advance_until(lambda: bool(market.withheld), 40)
        await harness.clock.sleep(5)
        harness.venue.push(a_trade_message(harness, 9, str(top_of_book(harness)[0])))
        await harness.advance_until(lambda: market.trade_log.last is not None, 5)
        await harness.advance_until(lambda: not market.withheld and harness.receiver.complete(market), 90)


async def test_a_market_that_never_traded_is_not_silent() -> None:
    harness = ReceiverHarness(with_heartbeats)
    async with harness.running(backfilling=True):
        await harness.advance_until(lambda: harness.venue.trade_queries == 4, 400)
        assert silent(harness) == ()
        assert harness.venue.methods("trade") == ["subscribe"]
        assert harness.receiver.complete(harness.markets[BTC])
    assert harness.clock.seconds > 1000 + 180, "and is queried once a minute"


async def test_silent_channel_stays_named_and_is_renewed_with_growing_backoff() -> None:
    harness = ReceiverHarness(with_heartbeats)

    def trading() -> bool:
        """A trade about every five seconds, which only REST returns."""
        while len(harness.venue.rest_trades) < (harness.clock.seconds - 1000) // 5:
            number = len(harness.venue.rest_trades) + 1
            harness.venue.rest_trades.append(a_trade(number, number))
        return False

    async with harness.running(backfilling=True):
        await harness.advance_until(lambda: trading() or bool(silent(harness)), 60)
        ends = harness.clock.seconds + 900
        while harness.clock.seconds < ends:
            trading()
            assert silent(harness) == (Channel.TRADE,)
            await asyncio.sleep(0)
    assert 4 <= harness.venue.methods("trade").count("subscribe") <= 900 // 40


@pytest.mark.parametrize("updated", [False, True])
async def test_book_contradicted_by_trades_is_withdrawn_until_a_newer_one(*, updated: bool) -> None:
    snapshot, update, *_ = recordings.book_frames()
    harness = ReceiverHarness(faithful)
    moment = timestamp_now(harness)

    def answer(request: dict[str, Any]) -> list[bytes | int]:
        frames = with_heartbeats(request)
        return [with_timestamp(one, moment) if one == snapshot else one for one in frames]

    harness.venue._answer = answer  # noqa: SLF001 - it uses the harness's clock
    market = harness.markets[BTC]

    def usable() -> bool:
        return market.usable

    async with harness.running():
        await harness.advance_until(usable, 10)
        if updated:
            moment = timestamp_now(harness)
            harness.venue.push(with_timestamp(update, moment))
            await harness.advance_until(lambda: market.verified_at > market.snapshot_at, 5)
        bid, ask = top_of_book(harness)
        await harness.clock.sleep(4)
        harness.venue.push(a_trade_message(harness, 1, str(bid)), a_trade_message(harness, 2, str(ask)))
        await harness.clock.sleep(3)
        assert usable(), "its market trades within its spread"
        harness.venue.push(a_trade_message(harness, 3, "35000.0"), a_ticker_message())
        await harness.advance_until(lambda: not usable(), 5)
        assert market.reason == UnusableReason.CONTRADICTED
        assert market.checksum_failures == 0
        ends = harness.clock.seconds + 400
        while harness.clock.seconds < ends:
            assert not usable(), "the same book once more is no better"
            assert silent(harness) == (Channel.BOOK,)
            await asyncio.sleep(0)
        assert harness.venue.methods("book").count("subscribe") > 6
        moment = timestamp_now(harness)
        await harness.advance_until(usable, 90)
        assert silent(harness) == (Channel.BOOK,), "a snapshot does not prove that updates come"
        harness.venue.push(with_timestamp(update, timestamp_now(harness)))
        await harness.advance_until(lambda: silent(harness) == (), 5)
        assert usable()


async def test_stale_ticker_of_a_trading_market_is_resubscribed() -> None:
    harness = ReceiverHarness(with_heartbeats)
    numbers = itertools.count(1)

    def trading() -> bool:
        harness.venue.push(a_trade_message(harness, next(numbers), str(top_of_book(harness)[0])))
        return False

    async with harness.running():
        await harness.advance_until(lambda: harness.markets[BTC].usable, 10)
        await harness.advance_until(lambda: trading() or bool(silent(harness)), 60)
        assert silent(harness) == (Channel.TICKER,)
        await harness.advance_until(
            lambda: trading() or harness.venue.methods("ticker") == ["subscribe", "unsubscribe", "subscribe"], 20
        )
        harness.venue.push(a_ticker_message())
        await harness.advance_until(lambda: silent(harness) == (), 5)


async def test_crossed_book_is_resubscribed_only_if_it_lasts() -> None:
    level = b'{"price":10.0,"qty":1.00000000}'
    checksum = books.checksum([(100, 10**8)], [(100, 10**8)])

    def answer(request: dict[str, Any]) -> list[bytes | int]:
        frames = with_heartbeats(request)
        head = b'{"channel":"book","type":"snapshot","data":[{"symbol":"BTC/USD","bids":['
        crossed = head + level + b'],"asks":[' + level + f'],"checksum":{checksum}}}]}}'.encode()
        return [crossed if isinstance(one, bytes) and b'"snapshot","data":[{"symbol"' in one else one for one in frames]

    harness = ReceiverHarness(answer)
    market = harness.markets[BTC]
    async with harness.running():
        await harness.advance_until(lambda: market.reason == UnusableReason.CROSSED, 10)
        began = harness.clock.seconds
        await harness.advance_until(lambda: len(harness.venue.methods("book")) > 1, 15)
        assert harness.clock.seconds - began >= 9.5
        assert market.checksum_failures == 0
