"""Markets: from frames of the venue to messages for outputs."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from aether_services.contracts.marketdata import TickerMessage
from aether_services.domain import books, times
from aether_services.domain.books import UnusableReason
from aether_services.domain.instruments import Symbol
from aether_services.domain.times import Nanoseconds
from aether_services.ingest.core import market, markets
from aether_testing.servers.fake_venue import BTC, NOW, MarketsHarness, an_update, trade_frame
from aether_testing.values import recordings

if TYPE_CHECKING:
    from collections.abc import Sequence


def test_verified_book_is_published_with_ten_levels_and_both_times(frames: Sequence[bytes]) -> None:
    harness = MarketsHarness()
    harness.receive(recordings.INSTRUMENT, frames[0], frames[1])
    first, second = harness.books()
    assert (first.id, second.id, second.usable, second.symbol) == ("w-1", "w-2", True, BTC)
    assert second.received == NOW
    assert second.at == times.parse(json.loads(frames[1])["data"][0]["timestamp"])
    assert first.at == (times.parse(stamp) if (stamp := json.loads(frames[0])["data"][0].get("timestamp")) else NOW)
    book = harness.markets[BTC].book
    assert book is not None
    assert (list(second.bids), list(second.asks)) == (list(book.bids.levels()), list(book.asks.levels()))
    assert second.checksum == json.loads(frames[1])["data"][0]["checksum"]


def test_every_recorded_update_gives_one_valid_message(frames: Sequence[bytes]) -> None:
    harness = MarketsHarness()
    harness.receive(recordings.INSTRUMENT, *frames)
    published = harness.books()
    assert len(published) == len(frames)
    assert all(one.usable and len(one.bids) == len(one.asks) == 10 for one in published)
    assert [one.checksum for one in published] == [json.loads(frame)["data"][0]["checksum"] for frame in frames]


def test_checksum_mismatch_withdraws_the_book_at_once_and_resubscribes(frames: Sequence[bytes]) -> None:
    harness, (snapshot, first, second, *_) = MarketsHarness(), frames
    harness.receive(recordings.INSTRUMENT, snapshot, first.replace(b'"checksum":', b'"checksum":1'), second)
    usable, withdrawn = harness.books()
    assert usable.usable
    assert (withdrawn.usable, withdrawn.reason, withdrawn.bids, withdrawn.asks) == (
        False,
        UnusableReason.CHECKSUM,
        (),
        (),
    )
    assert harness.markets.resubscribe == {BTC}
    assert harness.markets[BTC].checksum_failures == 1
    harness.receive(snapshot)
    assert harness.books()[-1].usable


def test_truncated_update_leaves_no_book(frames: Sequence[bytes]) -> None:
    """Its first level is applied before it shows: what is there then was never verified."""
    harness = MarketsHarness()
    harness.receive(recordings.INSTRUMENT, frames[0], frames[1].replace(b'}],"', b'x}],"'))
    assert [one.usable for one in harness.books()] == [True, False]
    assert harness.books()[-1].reason == UnusableReason.MALFORMED
    assert harness.markets.resubscribe == {BTC}
    assert harness.markets.malformed == 1


def test_extra_fields_and_other_whitespace_are_accepted(frames: Sequence[bytes]) -> None:
    harness = MarketsHarness()
    updates = [frame.replace(b"},{", b',"orders":3},{').replace(b'}],"', b',"orders":3}],"') for frame in frames[1:20]]
    harness.receive(
        recordings.INSTRUMENT, frames[0], *updates, *(frame.replace(b",", b", ") for frame in frames[20:40])
    )
    published = harness.books()
    assert [one.checksum for one in published] == [json.loads(frame)["data"][0]["checksum"] for frame in frames[:40]]
    assert all(one.usable for one in published)


@pytest.mark.parametrize(
    "frame",
    [
        {"channel": "status", "type": "update", "data": []},
        ('{"x":' + "[" * 5000).encode(),
        {"channel": "instrument", "type": "update", "data": {"pairs": [{
            "symbol": "FOO/USD", "base": "FOO", "quote": "USD", "status": "online", "price_precision": -5,
            "qty_precision": 10**12,
        }]}},
        {"channel": "ticker", "type": "update", "data": [dict.fromkeys(
            ("bid", "bid_qty", "ask", "ask_qty", "last", "volume", "vwap", "low", "high", "change", "change_pct"), 1,
        ) | {"symbol": BTC, "bid": 10**300}]},
    ],
)  # fmt: skip
def test_unexpected_message_changes_nothing(frame: bytes | dict[str, Any]) -> None:
    harness = MarketsHarness(BTC, "FOO/USD")
    harness.receive(recordings.INSTRUMENT, frame)
    harness.markets.serve([BTC, Symbol("FOO/USD")])
    assert harness.messages == []
    assert harness.markets[Symbol("FOO/USD")].book is None


def test_second_mismatch_is_reported_too_and_messages_are_counted(frames: Sequence[bytes]) -> None:
    harness, (snapshot, first, *_) = MarketsHarness(), frames
    wrong = first.replace(b'"checksum":', b'"checksum":1')
    harness.receive(recordings.INSTRUMENT, snapshot, wrong, snapshot, first, wrong)
    assert [one.usable for one in harness.books()] == [True, False, True, True, False]
    assert harness.markets.book_messages == 5
    assert harness.markets[BTC].sent_at == NOW


def test_market_without_known_precision_publishes_nothing(frames: Sequence[bytes]) -> None:
    harness = MarketsHarness()
    harness.receive(*frames[:3])
    assert harness.messages == []
    assert harness.markets[BTC].reason == UnusableReason.WAITING


def test_market_missing_at_the_venue_is_unknown() -> None:
    harness = MarketsHarness(BTC, "FOO/USD")
    assert harness.markets[Symbol("FOO/USD")].reason == UnusableReason.WAITING
    harness.receive(recordings.INSTRUMENT)
    assert harness.markets[Symbol("FOO/USD")].reason == market.UNKNOWN
    assert harness.markets[BTC].reason == UnusableReason.WAITING


def test_changed_precision_requires_a_new_book(frames: Sequence[bytes]) -> None:
    harness = MarketsHarness()
    harness.receive(recordings.INSTRUMENT, frames[0])
    assert harness.markets[BTC].usable
    harness.receive(recordings.INSTRUMENT.replace(b'"price_precision": 1', b'"price_precision": 2'))
    assert not harness.markets[BTC].usable
    assert harness.markets.resubscribe == {BTC}
    harness.receive(frames[1])
    assert not harness.markets[BTC].usable
    assert len(harness.books()) == 1
    harness.receive(recordings.INSTRUMENT, frames[0], frames[1])
    book = harness.markets[BTC].book
    assert book is not None
    assert harness.books()[-1].checksum == int(book.checksum)
    assert (list(book.bids.levels()), list(book.asks.levels())) == (
        list(harness.books()[-1].bids), list(harness.books()[-1].asks),
    )  # fmt: skip


def test_quiet_book_is_republished_each_second_while_the_venue_sends(frames: Sequence[bytes]) -> None:
    harness = MarketsHarness()
    harness.receive(recordings.INSTRUMENT, frames[1].replace(b'"update"', b'"snapshot"'), frames[0])
    later = Nanoseconds(NOW + 2 * times.SECOND)
    harness.messages.clear()
    harness.markets.republish(Nanoseconds(NOW + times.SECOND // 2), Nanoseconds(NOW + times.SECOND // 2))
    assert harness.messages == []
    harness.markets.republish(Nanoseconds(later - 5), later)
    (again,) = harness.books()
    assert again.received == later - 5
    assert again.usable
    harness.markets.republish(Nanoseconds(later - 5), Nanoseconds(later + 3 * times.SECOND))  # nothing received since
    assert len(harness.books()) == 1


def test_unusable_book_is_republished_and_each_reason_sent_once(frames: Sequence[bytes]) -> None:
    harness = MarketsHarness()
    harness.receive(recordings.INSTRUMENT, frames[0])
    harness.markets.invalidate_books(UnusableReason.DISCONNECTED, NOW)
    harness.markets.invalidate_books(UnusableReason.SILENT, NOW)
    assert [(one.usable, one.reason) for one in harness.books()] == [(True, ""), (False, "Disconnected")]
    harness.markets.republish(NOW, Nanoseconds(NOW + 2 * times.SECOND))
    assert [one.reason for one in harness.books()][2:] == ["Disconnected"]


def test_replica_withdraws_only_books_it_published_itself(frames: Sequence[bytes]) -> None:
    harness, (snapshot, first, *_) = MarketsHarness(), frames
    harness.markets.serve([BTC], usable_elsewhere=frozenset({BTC}))
    harness.markets.republish(NOW, Nanoseconds(NOW + 2 * times.SECOND))
    harness.receive(recordings.INSTRUMENT, snapshot.replace(b'"checksum":', b'"checksum":1'))
    assert harness.books() == []
    harness.receive(snapshot, first.replace(b'"checksum":', b'"checksum":1'))
    assert [(one.usable, one.reason) for one in harness.books()] == [(True, ""), (False, "ChecksumMismatch")]
    harness.markets.republish(NOW, Nanoseconds(NOW + 4 * times.SECOND))
    assert len(harness.books()) == 2, "what was published here is withdrawn, once"
    harness.markets.serve([BTC])
    harness.markets.republish(NOW, Nanoseconds(NOW + 6 * times.SECOND))
    assert [one.reason for one in harness.books()][2:] == ["ChecksumMismatch"]


def test_first_message_may_be_no_book_but_not_at_once() -> None:
    harness = MarketsHarness()
    harness.markets.republish(NOW, NOW)
    harness.markets.republish(NOW, Nanoseconds(NOW + markets.FIRST_UNUSABLE_AFTER - 1))
    assert harness.books() == []
    harness.markets.republish(NOW, Nanoseconds(NOW + markets.FIRST_UNUSABLE_AFTER))
    assert [(one.usable, one.reason) for one in harness.books()] == [(False, UnusableReason.WAITING)]


def test_venue_latency_is_measured_by_updates_not_snapshots() -> None:
    harness = MarketsHarness()
    harness.receive({**trade_frame(7), "type": "snapshot"}, trade_frame(8))
    assert harness.seconds == [pytest.approx(0.85948)]


def test_trades_are_logged_and_a_gap_requests_the_missing_ones() -> None:
    harness = MarketsHarness()
    harness.receive(trade_frame(7), trade_frame(7), trade_frame(8), trade_frame(3, "ETH/USD"))
    assert harness.markets.backfill == set()
    harness.receive(trade_frame(10), trade_frame(11))
    assert harness.markets.backfill == {BTC}
    assert harness.markets[BTC].gaps == 1
    last = harness.markets[BTC].trade_log.last
    assert last is not None
    assert last.trade_id == 8


def test_trades_whose_ids_restart_begin_a_new_trade_log() -> None:
    harness = MarketsHarness()
    harness.receive(trade_frame(7))
    again = trade_frame(1)
    again["data"][0]["timestamp"] = "2026-11-26T01:17:00.000001Z"
    harness.receive(again)
    last = harness.markets[BTC].trade_log.last
    assert last is not None
    assert last.trade_id == 1


def test_a_ticker_is_published() -> None:
    harness = MarketsHarness()
    data = {
        "symbol": BTC, "bid": 1.5, "bid_qty": 1, "ask": 2.50, "ask_qty": 1, "last": 2, "volume": 1, "vwap": 1, "low": 1,
        "high": 2, "change": -0.5, "change_pct": -0.01,
    }  # fmt: skip
    harness.receive({"channel": "ticker", "type": "update", "data": [data]})
    (message,) = harness.messages
    published = TickerMessage.model_validate_json(message.body)
    assert (published.bid, published.ask, published.change, published.at) == (
        Decimal("1.5"),
        Decimal("2.5"),
        Decimal("-0.5"),
        NOW,
    )


def test_crossed_book_is_withdrawn_and_recovers_without_resubscribing(frames: Sequence[bytes]) -> None:
    harness = MarketsHarness()
    harness.receive(recordings.INSTRUMENT, frames[0])
    book = harness.markets[BTC].book
    assert book is not None
    bids, asks = (
        [(int(price.scaleb(1)), int(quantity.scaleb(8))) for price, quantity in side.levels()]
        for side in (book.bids, book.asks)
    )
    crossing = (asks[0][0] + 1, 10**8)
    for quantity, top in ((10**8, [crossing, *bids][:10]), (0, bids[:9])):
        checksum = books.checksum(asks, top)
        level = f'{{"price":{crossing[0] / 10:.1f},"qty":{quantity / 10**8:.8f}}}'
        frame = json.dumps(an_update(checksum=checksum), separators=(",", ":")).replace(
            '"bids":[]', f'"bids":[{level}]'
        )
        harness.receive(frame.encode())
    assert [(one.usable, one.reason) for one in harness.books()] == [
        (True, ""),
        (False, UnusableReason.CROSSED),
        (True, ""),
    ]
    assert len(harness.books()[-1].bids) == 9
    assert harness.markets.resubscribe == set()
    assert harness.markets[BTC].checksum_failures == 0


def test_a_crossed_book_is_dropped_with_its_connection(frames: Sequence[bytes]) -> None:
    harness = MarketsHarness()
    harness.receive(recordings.INSTRUMENT, frames[0])
    book = harness.markets[BTC].book
    assert book is not None
    book.unusable = UnusableReason.CROSSED
    harness.markets.invalidate_books(UnusableReason.DISCONNECTED, NOW)
    assert (book.unusable, len(book.bids)) == (UnusableReason.DISCONNECTED, 0)


def test_book_message_with_another_prefix_is_still_read(frames: Sequence[bytes]) -> None:
    harness = MarketsHarness()
    published = json.dumps(json.loads(frames[0], parse_float=str))
    turned = frames[0].replace(b'{"channel":"book","type":"snapshot",', b'{"type":"snapshot","channel":"book",')
    assert published
    harness.receive(recordings.INSTRUMENT, turned)
    assert harness.markets[BTC].usable


def test_reply_is_returned_and_the_system_status_is_kept() -> None:
    harness = MarketsHarness()
    reply = harness.markets.receive('{"method":"subscribe","req_id":3,"success":true,"result":{}}', NOW)
    assert reply is not None
    assert (reply.req_id, reply.success) == (3, True)
    harness.receive(
        {"channel": "status", "type": "update", "data": [{"system": "cancel_only"}]}, {"channel": "heartbeat"}
    )
    assert harness.markets.system == "cancel_only"


def test_unserved_market_is_forgotten(frames: Sequence[bytes]) -> None:
    harness = MarketsHarness()
    harness.receive(recordings.INSTRUMENT, frames[0])
    harness.markets.serve([])
    harness.messages.clear()
    harness.receive(frames[1], trade_frame(1))
    assert harness.messages == []
    harness.markets.serve([BTC])
    assert harness.markets[BTC].reason == UnusableReason.WAITING  # and its decimals are still known
    harness.receive(frames[0])
    assert harness.markets[BTC].usable
