"""Invalid values: each is rejected by itself and counted, and none ends the process."""

from __future__ import annotations

import json
import logging
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import prometheus_client
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aether_services.contracts.marketdata import BookMessage, TickerMessage, Topic
from aether_services.domain import books, decimals, times
from aether_services.domain.books import UnusableReason
from aether_services.domain.instruments import Symbol
from aether_services.domain.times import Nanoseconds
from aether_services.ingest.core import market as one_market
from aether_services.ingest.core import rejections
from aether_services.ingest.core.markets import Markets
from aether_services.ingest.core.rejections import RejectionReason
from aether_services.ingest.metrics import Latencies, Metrics
from aether_services.ingest.service import Ingest
from aether_testing.values.clocks import Clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from aether_services.ingest.core.outboxes import EncodedMessage


BTC, ETH = Symbol("BTC/USD"), Symbol("ETH/USD")


NOW: Final = times.parse("2026-11-26T10:00:00Z")


PAIR: Final = {"symbol": BTC, "price_precision": 2, "qty_precision": 8, "base": "BTC", "status": "online"}


TRADE: Final = {
    "symbol": BTC, "side": "buy", "price": 100.05, "qty": 0.5, "ord_type": "limit", "trade_id": 7,
    "timestamp": "2026-11-26T09:59:59.000001Z",
}  # fmt: skip


TICKER: Final = {
    "symbol": BTC, "bid": 100.01, "bid_qty": 1, "ask": 100.02, "ask_qty": 1, "last": 100.01, "volume": 1, "vwap": 1,
    "low": 1, "high": 2, "change": -0.5, "change_pct": -0.01, "timestamp": "2026-11-26T09:59:59.000001Z",
}  # fmt: skip


CHECKSUM: Final = books.checksum([(10002, 100_000_000)], [(10001, 100_000_000)])


BOOK: Final = {
    "symbol": BTC, "bids": [{"price": 100.01, "qty": 1.0}], "asks": [{"price": 100.02, "qty": 1.0}],
    "checksum": CHECKSUM, "timestamp": "2026-11-26T09:59:59.000001Z",
}  # fmt: skip


class MarketsHarness:
    """Markets with one known pair, and the messages that they posted."""

    def __init__(self, *served: Symbol, observe_delay: Callable[[float], object] = lambda _: None) -> None:
        self.messages: list[EncodedMessage] = []
        self.markets = Markets(
            writer="w",
            depth=10,
            trade_log_length=100,
            publish=self.messages.append,
            observe_delay=observe_delay,
        )
        self.markets.serve(served or (BTC,))
        self.receive("instrument", {"pairs": [PAIR]}, kind="snapshot")

    def receive(self, channel: str, data: object, *, kind: str = "update", at: int = NOW) -> None:
        self.receive_text(json.dumps({"channel": channel, "type": kind, "data": data}), at=at)

    def receive_text(self, text: str, *, at: int = NOW) -> None:
        self.markets.receive(text, Nanoseconds(at))

    def trades(self) -> list[tuple[int, Decimal, Decimal]]:
        trade_log = self.markets[BTC].trade_log
        first = trade_log.first
        found = trade_log.after(first, 100) if first is not None else []
        return [(one.trade.trade_id, one.trade.price, one.trade.quantity) for one in found or ()]

    def books(self) -> list[BookMessage]:
        return [BookMessage.model_validate_json(one.body) for one in self.messages if one.topic is Topic.BOOK]

    def tickers(self) -> list[TickerMessage]:
        return [TickerMessage.model_validate_json(one.body) for one in self.messages if one.topic is Topic.TICKER]

    def rejections(self, channel: str) -> dict[RejectionReason, int]:
        return {why: number for (where, why), number in self.markets.rejections.counts.items() if where == channel}


# Numbers.


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e3", "1000"), ("1E-8", "0.00000001"), ("0.10", "0.10"), ("-0", "0"), ("-0.0", "0"), ("0e999999999", "0"),
        ("12345678901234567890", "12345678901234567890"), ("-7.5e+1", "-75"), ("5e-0", "5"),
        ("1.5000000000000000000000000", "1.5"),
    ],
)  # fmt: skip
def test_every_json_number_is_decoded_exactly(text: str, value: str) -> None:
    assert decimals.parse(text) == Decimal(value)
    assert not decimals.parse(text).is_signed() or Decimal(value) < 0


@pytest.mark.parametrize(
    "text",
    [
        "NaN", "Infinity", "-Infinity", '"1"', "true", "null", "", " 1", "1_000", "01", "1.", ".5", "+1", "1e", "٣",
        "1e999999999", "1e-999999999", "1e21", "0.000000000000000000001", "9" * 101,
    ],
)  # fmt: skip
def test_invalid_or_implausible_number_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a number|beyond anything"):
        decimals.parse(text)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**19), max_value=10**19, places=12))
def test_number_in_any_notation_is_parsed_exactly(value: Decimal) -> None:
    assert decimals.parse(f"{value:f}") == decimals.parse(f"{value:e}") == value
    needs = decimals.decimal_places(value)
    assert decimals.unscaled(decimals.scaled(value, needs), needs) == value
    if needs:
        with pytest.raises(ValueError, match="more than"):
            decimals.scaled(value, needs - 1)


@pytest.mark.parametrize(
    ("price", "quantity", "read"),
    [
        ("1e3", "1E-8", ("1000", "0.00000001")),
        ("100.050", "5e-1", ("100.05", "0.5")),
        ("10005e-2", "2", ("100.05", "2")),
    ],
)
def test_trade_numbers_in_any_notation_are_parsed(price: str, quantity: str, read: tuple[str, str]) -> None:
    harness = MarketsHarness()
    frame = json.dumps({"channel": "trade", "type": "update", "data": [TRADE]})
    harness.receive_text(frame.replace("100.05", price).replace(": 0.5,", f": {quantity},").replace(": 7,", ": 7e0,"))
    assert harness.trades() == [(7, *map(Decimal, read))]


@pytest.mark.parametrize("wrong", ["NaN", "1.0", True, None, [], {}, -1, 0, 10**30, "Infinity"])
@pytest.mark.parametrize("field", ["price", "qty"])
def test_trade_with_invalid_price_or_quantity_is_rejected(field: str, wrong: object) -> None:
    harness = MarketsHarness()
    harness.receive("trade", [TRADE | {field: wrong}])
    assert harness.trades() == []
    assert harness.rejections("trade") == {RejectionReason.MALFORMED: 1}


@pytest.mark.parametrize(
    "levels", ['"price":1.0001e2,"qty":100e-2', '"price":10001E-02,"qty":1', '"price":100.01,"qty":1e0']
)
def test_an_exponent_in_a_level_changes_nothing_in_its_checksum(levels: str) -> None:
    harness = MarketsHarness()
    frame = json.dumps({"channel": "book", "type": "snapshot", "data": [BOOK]}, separators=(",", ":"))
    harness.receive_text(frame.replace('"price":100.01,"qty":1.0', levels))
    (book,) = harness.books()
    assert (book.usable, book.bids) == (True, ((Decimal("100.01"), Decimal("1.00000000")),))
    assert b'["100.01","1.00000000"]' in harness.messages[0].body


@pytest.mark.parametrize("wrong", ["NaN", "1.0", True, None, -1, [], 1e30])
@pytest.mark.parametrize("field", ["price", "qty"])
def test_level_without_a_number_withdraws_its_book(field: str, wrong: object) -> None:
    harness = MarketsHarness()
    harness.receive("book", [BOOK], kind="snapshot")
    harness.receive("book", [BOOK | {"bids": [{"price": 100.01, "qty": 1.0} | {field: wrong}]}])
    assert [(one.usable, one.reason) for one in harness.books()] == [(True, ""), (False, UnusableReason.MALFORMED)]
    assert harness.markets.resubscribe == {BTC}


# One of several.


def test_malformed_trade_among_several_is_a_gap_and_others_stay() -> None:
    harness = MarketsHarness()
    some = [TRADE | {"trade_id": number} for number in range(1, 6)]
    some[2] |= {"price": "NaN"}
    harness.receive("trade", some)
    assert [one[0] for one in harness.trades()] == [1, 2]
    assert harness.markets[BTC].trade_log.has_gap
    assert harness.markets.backfill == {BTC}
    assert harness.markets[BTC].withheld == "not a number: '\"NaN\"'"


def test_malformed_last_trade_is_requested_all_the_same() -> None:
    harness = MarketsHarness()
    harness.receive("trade", [TRADE, TRADE | {"trade_id": 8, "side": "both"}])
    assert not harness.markets[BTC].trade_log.has_gap
    assert harness.markets.backfill == {BTC}
    assert "both" in harness.markets[BTC].withheld
    harness.receive("trade", [TRADE | {"trade_id": 6, "price": "1"}])
    assert "both" in harness.markets[BTC].withheld, "one that is known already is no news"


def test_doubt_ends_once_rest_returned_what_was_missing() -> None:
    harness = MarketsHarness()
    market = harness.markets[BTC]
    harness.receive("trade", [TRADE, TRADE | {"trade_id": 8, "side": "both"}])
    market.confirm_trades(Nanoseconds(NOW + times.SECOND), has_new=False)
    assert market.withheld, "its REST may be a little behind"
    market.confirm_trades(Nanoseconds(NOW + times.SECOND), has_new=True)
    assert not market.withheld


def test_malformed_ticker_among_several_loses_no_other() -> None:
    harness = MarketsHarness(BTC, ETH)
    harness.receive("ticker", [TICKER | {"symbol": ETH, "vwap": None}, TICKER])
    assert [one.symbol for one in harness.tickers()] == [BTC]
    assert harness.rejections("ticker") == {RejectionReason.MALFORMED: 1}


def test_malformed_foreign_pair_is_skipped_and_named_once(caplog: pytest.LogCaptureFixture) -> None:
    harness = MarketsHarness(BTC, ETH)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            harness.receive(
                "instrument", {"pairs": [{"symbol": "FOO/USD"}, PAIR | {"symbol": ETH}, 7]}, kind="snapshot"
            )
    assert harness.markets[ETH].book is not None
    assert not harness.markets.instruments_outdated, "the malformed pair is not served"
    assert harness.rejections("instrument") == {RejectionReason.MALFORMED: 6}
    assert [record.__dict__["symbol"] for record in caplog.records] == ["FOO/USD", ""]


@pytest.mark.parametrize("strange", [{}, 7, None, {"symbol": None}, PAIR | {"symbol": ""}])
def test_pair_without_a_name_belongs_to_no_market(strange: object) -> None:
    harness = MarketsHarness()
    harness.receive("instrument", {"pairs": [strange]})
    harness.receive("book", [BOOK], kind="snapshot")
    harness.receive("book", [{name: value for name, value in BOOK.items() if name != "symbol"}])
    assert harness.markets[BTC].reason == UnusableReason.MALFORMED, "it may have been about any book"


@pytest.mark.parametrize("data", [{}, {"assets": []}, {"pairs": []}])
def test_instrument_list_without_a_market_is_requested_again(data: object) -> None:
    harness = MarketsHarness()
    harness.markets.data_received.clear()
    harness.receive("instrument", data, kind="snapshot")
    assert harness.markets.data_received == set()
    assert harness.rejections("frame") == {RejectionReason.MALFORMED: 1}
    harness.receive("instrument", {"assets": []})
    assert harness.markets.malformed == 1, "an update need not be of pairs"


@pytest.mark.parametrize("wrong", ["2", None, -5, 21, 2.5, True])
def test_malformed_served_pair_is_reported(wrong: object) -> None:
    harness = MarketsHarness(BTC, ETH)
    harness.receive("book", [BOOK], kind="snapshot")
    harness.receive("instrument", {"pairs": [PAIR | {"price_precision": wrong}, PAIR | {"symbol": ETH}]})
    assert harness.markets[BTC].reason == one_market.UNREADABLE
    assert harness.markets.instruments_outdated, "the venue does not send them again by itself"
    assert harness.markets[ETH].reason == UnusableReason.WAITING
    assert [one.usable for one in harness.books()] == [True, False]
    harness.receive("instrument", {"pairs": [PAIR]})
    assert harness.markets[BTC].reason == UnusableReason.WAITING
    harness.receive("book", [BOOK], kind="snapshot")
    assert harness.books()[-1].usable


def test_only_the_used_fields_of_a_pair_are_required() -> None:
    harness = MarketsHarness(ETH)
    harness.receive("instrument", {"pairs": [{"symbol": ETH, "price_precision": 2.0, "qty_precision": 8}]})
    book = harness.markets[ETH].book
    assert book is not None
    assert (book.price_digits, book.quantity_digits) == (2, 8)


# More decimals than a market has.


def test_trade_with_more_decimals_refreshes_the_instruments() -> None:
    harness = MarketsHarness()
    harness.receive("trade", [TRADE, TRADE | {"trade_id": 8, "price": 100.055}])
    assert [one[0] for one in harness.trades()] == [7]
    assert harness.markets.instruments_outdated
    assert harness.markets[BTC].withheld == "a number with more than 2 decimals"
    harness.receive("instrument", {"pairs": [PAIR | {"price_precision": 3}]})
    harness.receive("trade", [TRADE | {"trade_id": 8, "price": 100.055}])
    assert [one[0] for one in harness.trades()] == [7, 8]


@pytest.mark.parametrize("field", ["bid", "ask"])
def test_ticker_with_more_decimals_refreshes_the_instruments(field: str) -> None:
    harness = MarketsHarness()
    harness.receive("ticker", [TICKER | {field: 100.001}])
    assert harness.tickers() == []
    assert harness.markets.instruments_outdated


def test_ticker_day_figures_may_have_more_decimals() -> None:
    harness = MarketsHarness()
    harness.receive("ticker", [TICKER | {"low": 99.001, "high": 100.001, "vwap": 99.5001, "last": 99.001}])
    assert len(harness.tickers()) == 1


def test_trade_id_that_rest_never_has_is_eventually_forgotten() -> None:
    harness = MarketsHarness()
    market = harness.markets[BTC]
    harness.receive("trade", [TRADE, TRADE | {"trade_id": 10**15}])
    assert market.trade_log.has_gap
    market.confirm_trades(Nanoseconds(NOW + 59 * times.SECOND), has_new=False)
    assert market.trade_log.has_gap, "its REST may be behind"
    market.confirm_trades(Nanoseconds(NOW + 60 * times.SECOND), has_new=False)
    assert not harness.markets[BTC].trade_log.has_gap
    harness.receive("trade", [TRADE | {"trade_id": 8}])
    assert [one[0] for one in harness.trades()] == [7, 8]


def test_level_with_more_decimals_refreshes_the_instruments() -> None:
    harness = MarketsHarness()
    harness.receive("book", [BOOK | {"bids": [{"price": 100.001, "qty": 1.0}]}], kind="snapshot")
    assert harness.markets.instruments_outdated
    assert harness.markets[BTC].reason == UnusableReason.MALFORMED


# Times.


AHEAD: Final = "2026-11-26T10:05:00.000001Z"


JUST: Final = "2026-11-26T10:04:59.999999Z"


def test_trade_with_a_future_time_is_counted_and_never_delivered() -> None:
    harness = MarketsHarness()
    harness.receive("trade", [TRADE, TRADE | {"trade_id": 8, "timestamp": AHEAD}])
    assert [one[0] for one in harness.trades()] == [7]
    assert harness.rejections("trade") == {RejectionReason.TIME_AHEAD: 1}
    assert harness.markets[BTC].withheld == "a time ahead of our clock"
    assert harness.markets.latest < NOW
    harness.receive("trade", [TRADE | {"trade_id": 8, "timestamp": AHEAD}], at=NOW + times.SECOND)
    assert [one[0] for one in harness.trades()] == [7, 8], "once the clock has caught up"


def test_trade_slightly_ahead_of_our_clock_is_accepted() -> None:
    harness = MarketsHarness()
    harness.receive("trade", [TRADE | {"timestamp": JUST}])
    assert [one[0] for one in harness.trades()] == [7]


def test_ticker_with_a_future_time_is_not_published() -> None:
    harness = MarketsHarness()
    harness.receive("ticker", [TICKER | {"timestamp": AHEAD}])
    assert harness.tickers() == []
    assert harness.rejections("ticker") == {RejectionReason.TIME_AHEAD: 1}


@pytest.mark.parametrize("spaces", [True, False])
def test_book_with_a_future_time_is_withdrawn(spaces: bool) -> None:  # noqa: FBT001 - full parser, and fast path
    harness = MarketsHarness()
    harness.receive("book", [BOOK], kind="snapshot")
    changed = BOOK | {"bids": [], "asks": [{"price": 100.02, "qty": 1.0}], "timestamp": "2026-11-29T10:00:00.000000Z"}
    frame = json.dumps(
        {"channel": "book", "type": "update", "data": [changed]}, separators=None if spaces else (",", ":")
    )
    harness.receive_text(frame.replace('"qty":1.0', '"qty":1.00000000'))
    assert [(one.usable, one.reason) for one in harness.books()] == [(True, ""), (False, UnusableReason.AHEAD)]
    assert harness.markets.resubscribe == {BTC}


def test_trade_long_before_its_predecessor_is_rejected() -> None:
    harness = MarketsHarness()
    harness.receive("trade", [TRADE, TRADE | {"trade_id": 8, "timestamp": "2026-11-25T09:59:58.999999Z"}])
    assert [one[0] for one in harness.trades()] == [7]
    assert harness.rejections("trade") == {RejectionReason.TIME_BEFORE: 1}
    harness.receive("trade", [TRADE | {"trade_id": 8, "timestamp": "2026-11-26T08:00:00Z"}])
    assert [one[0] for one in harness.trades()] == [7, 8], "a trade some hours earlier is a late one"


LONG_AGO: Final = [TRADE | {"trade_id": number, "timestamp": "2026-11-23T10:00:00Z"} for number in range(12, 17)]


@pytest.mark.parametrize("before", [[], [TRADE | {"trade_id": 10, "timestamp": "2026-11-23T09:59:59Z"}]])
def test_snapshot_trade_long_after_its_successor_is_removed(before: list[dict[str, Any]]) -> None:
    harness = MarketsHarness()
    harness.receive("trade", [*before, TRADE | {"trade_id": 11}, *LONG_AGO], kind="snapshot")
    assert 11 not in [one[0] for one in harness.trades()]
    last = harness.markets[BTC].trade_log.last
    assert last is not None
    assert last.trade_id == (10 if before else 16)
    assert harness.markets[BTC].withheld == "a time long before that of the trade before it"
    assert harness.markets.backfill == {BTC}


def test_trade_long_after_its_known_successor_is_rejected() -> None:
    harness = MarketsHarness()
    harness.receive("trade", [TRADE | {"trade_id": 10, "timestamp": "2026-11-23T09:59:59Z"}, *LONG_AGO])
    harness.receive("trade", [TRADE | {"trade_id": 11}], kind="snapshot")
    assert [one[0] for one in harness.trades()] == [10]
    assert harness.rejections("trade") == {RejectionReason.TIME_BEFORE: 1}
    harness.receive("trade", [TRADE | {"trade_id": 11, "timestamp": "2026-11-23T10:00:00Z"}])
    assert [one[0] for one in harness.trades()] == [10, 11, 12, 13, 14, 15, 16]


def test_last_trades_of_a_quiet_market_may_be_old() -> None:
    harness = MarketsHarness()
    harness.receive("trade", [TRADE | {"timestamp": "2026-02-26T08:00:00Z"}], kind="snapshot")
    assert [one[0] for one in harness.trades()] == [7]


# Anything at all.


def test_unexpected_error_is_logged_once_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    def fails(_: float) -> None:
        raise TypeError("a fault of ours")

    harness = MarketsHarness(observe_delay=fails)
    for _ in range(3):
        harness.receive("trade", [TRADE])
    assert harness.rejections("trade") == {RejectionReason.UNEXPECTED: 3}
    (record,) = [one for one in caplog.records if one.message == "unexpected_error"]
    assert record.exc_info is not None
    assert harness.markets[BTC].withheld == "TypeError"


def test_rejections_are_in_the_metrics_and_the_status() -> None:
    nothing: Any = None
    registry = prometheus_client.CollectorRegistry()
    ingest = Ingest(
        instance="ingest-0", number=0, release="1", writer="w", venue=nothing, outputs=[], instruments=nothing,
        live=nothing, peers=nothing, clock=Clock(), observer=Latencies(registry),
    )  # fmt: skip
    Metrics(ingest, registry)
    ingest.markets.serve([BTC])
    frame = {"channel": "trade", "type": "update", "data": [TRADE | {"timestamp": "2027-01-01T00:00:00Z"}]}
    ingest.markets.receive(json.dumps(frame), NOW)
    labels = {"channel": "trade", "reason": "TimeAhead"}
    assert registry.get_sample_value("aether_ingest_rejected_total", labels) == 1
    assert ingest.status().books[BTC].trades == "a time ahead of our clock"


ANY: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6)
    | st.sampled_from(["NaN", "Infinity", BTC, "2026-11-29T10:00:00Z", "0000-00-00T00:00:00Z", 1e300, 2**70, -0.0]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip


SHAPES: Final[dict[str, Any]] = {
    "trade": [TRADE], "ticker": [TICKER], "book": [BOOK], "instrument": {"pairs": [PAIR]},
    "status": [{"system": "online"}], "heartbeat": None,
}  # fmt: skip


def _cursors(shape: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner = shape.items() if isinstance(shape, dict) else enumerate(shape) if isinstance(shape, list) else ()
    return [path, *(cursor for key, one in inner for cursor in _cursors(one, (*path, key)))]


def _with(shape: Any, path: tuple[str | int, ...], value: object) -> Any:
    if not path:
        return value
    copy: Any = dict(shape) if isinstance(shape, dict) else list(shape)
    copy[path[0]] = _with(shape[path[0]], path[1:], value)
    return copy


@settings(max_examples=400)
@given(st.data())
def test_any_value_in_any_field_of_any_channel_is_survived(data: st.DataObject) -> None:
    channel = data.draw(st.sampled_from(sorted(SHAPES)))
    kind = data.draw(st.sampled_from(["snapshot", "update"]))
    frame = {"channel": channel, "type": kind, "data": SHAPES[channel]}
    harness = MarketsHarness()
    harness.receive("book", [BOOK], kind="snapshot")
    path = data.draw(st.sampled_from(_cursors(frame)))
    harness.receive_text(json.dumps(_with(frame, path, data.draw(ANY))))
    for one in harness.trades():
        assert one[1] > 0
        assert one[2] > 0
    message_count = [*(one.at for one in harness.books()), *(one.at for one in harness.tickers())]
    assert all(at <= NOW + rejections.MAX_AHEAD for at in message_count)
    assert not [why for _, why in harness.markets.rejections.counts if why is RejectionReason.UNEXPECTED]
    harness.receive("instrument", {"pairs": [PAIR]}, kind="snapshot")
    harness.receive("trade", [TRADE | {"trade_id": 100}])
    harness.receive("book", [BOOK], kind="snapshot")
    assert harness.markets[BTC].usable, "and what comes next is taken"
