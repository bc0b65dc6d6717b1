"""Messages that are not what they should be: no book stays that did not verify."""

from __future__ import annotations

import json
import logging
import pickle
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aether_services.domain import books
from aether_services.domain.books import UnusableReason
from aether_testing.servers.fake_venue import BTC, ETH, MarketsHarness, an_update, trade_frame
from aether_testing.values import recordings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from decimal import Decimal

TIME = b'"timestamp":"2023-07-30T15:30:01.581227Z"}'
LEVEL = b'{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"price":29430.2,"qty":77.00000000}'


@pytest.mark.parametrize(
    "frame",
    [
        LEVEL + b'],"asks":[],"checksum":123}],"method":"x","y":[{"z":1,' + TIME + b"]}",
        LEVEL + b'],"asks":[],"checksum":123}],"channel":"trade","data":[],"y":[{"z":1,' + TIME + b"]}",
        LEVEL + b'],"asks":[],"checksum":123}],"data":[],"y":[{"z":1,' + TIME + b"]}",
        LEVEL + b'],"asks":[],"checksum":123,"symbol":"ETH/USD",' + TIME + b"]}",
        LEVEL + b',{"price":29429.1,"qty":1.00000000,"x":1}],"bids":[],"asks":[],"checksum":2785033588,' + TIME + b"]}",
        LEVEL + b'],"asks":[],"checksum":2785033588,"bids":[],' + TIME + b"]}",
    ],
)
def test_frame_the_rules_read_differently_leaves_no_unverified_level(frame: bytes, frames: Sequence[bytes]) -> None:
    harness, own = MarketsHarness(), json.loads(frames[0])["data"][0]["checksum"]
    harness.receive(recordings.INSTRUMENT, frames[0], frame.replace(b"2785033588", str(own).encode()))
    _is_verified(harness)


def _is_verified(harness: MarketsHarness) -> None:
    """Each usable book matches its checksum, and so does each published one."""
    book = harness.markets[BTC].book
    assert book is not None
    if book.unusable is None:
        assert str(_checksum(list(book.bids.levels())[:10], list(book.asks.levels())[:10])) == book.checksum
    else:
        assert (len(book.bids), len(book.asks)) == (0, 0)
    for one in harness.books():
        assert not one.usable or _checksum(one.bids, one.asks) == one.checksum


def _checksum(bids: Sequence[tuple[Decimal, Decimal]], asks: Sequence[tuple[Decimal, Decimal]]) -> int:
    scaled = [[(int(price.scaleb(1)), int(quantity.scaleb(8))) for price, quantity in side] for side in (asks, bids)]
    return books.checksum(*scaled)


@pytest.mark.parametrize("side", ["bids", "asks"])
def test_no_unverified_level_survives_a_changed_character(
    side: str, frames: Sequence[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """Each token of an update is removed, doubled or replaced: the fast path must agree with the full parser."""
    caplog.set_level(logging.ERROR)  # each rejected message is logged
    first = next(at for at, frame in enumerate(frames) if at > 2 and f'"{side}":[{{"price"'.encode() in frame)
    before, taken = MarketsHarness(), 0
    before.receive(recordings.INSTRUMENT, *frames[:first])
    before.messages.clear()
    by_fast_path = pickle.dumps(before)
    before.markets._fast_paths.clear()  # noqa: SLF001 - the rules alone
    by_rules = pickle.dumps(before)
    for changed in _mangled(frames[first].decode()):
        harness, ruled = _copied(by_fast_path), _copied(by_rules)
        for one in (harness, ruled):
            one.receive(changed.encode())
            _is_verified(one)
        if harness.markets[BTC].usable:
            taken += 1
            assert [one.model_copy(update={"id": ""}) for one in harness.books()] == [
                one.model_copy(update={"id": ""}) for one in ruled.books()
            ]
            assert _levels(harness) == _levels(ruled)
    assert taken


def _copied(harness: bytes) -> MarketsHarness:
    """A copy of the harness: there are too many cases to replay the messages for each."""
    copy: MarketsHarness = pickle.loads(harness)  # noqa: S301 - our own
    return copy


def _levels(harness: MarketsHarness) -> list[tuple[Decimal, Decimal]]:
    book = harness.markets[BTC].book
    assert book is not None
    return [*book.bids.levels(), *book.asks.levels()]


def _mangled(frame: str) -> Iterator[str]:
    for at in range(len(frame)):
        yield frame[:at] + frame[at + 1 :]
        for other in '{}[]",:.-+eE Z05\\\u0663':
            yield frame[:at] + other + frame[at:]
            yield frame[:at] + other + frame[at + 1 :]


def test_message_with_an_invalid_time_leaves_no_book(frames: Sequence[bytes]) -> None:
    harness = MarketsHarness()
    harness.receive(
        recordings.INSTRUMENT, frames[0], frames[1].replace(b'"update"', b'"update" ').replace(b"T15", b" 15")
    )
    assert [(one.usable, one.reason) for one in harness.books()] == [(True, ""), (False, UnusableReason.MALFORMED)]
    assert harness.markets.resubscribe == {BTC}


def of_eth(frame: bytes) -> bytes:
    """The same of another market."""
    return frame.replace(BTC.encode(), ETH.encode())


def two_books(frames: Sequence[bytes]) -> MarketsHarness:
    harness = MarketsHarness(BTC, ETH)
    harness.receive(recordings.INSTRUMENT, of_eth(recordings.INSTRUMENT), frames[0], of_eth(frames[0]))
    assert [harness.markets[symbol].usable for symbol in (BTC, ETH)] == [True, True]
    return harness


NO_NUMBERS: list[Any] = [None, "1.0", [], {"qty": 1}, True, -1, 10**30, float("nan")]


STRANGE_FIELDS: dict[str, list[Any]] = {
    "bids": [
        ...,
        None,
        {},
        "x",
        5,
        [5],
        [[]],
        [{}],
        [None],
        [{"price": 1}],
        *([{"price": one, "qty": 1}] for one in NO_NUMBERS),
    ],
    "asks": [..., None, *([{"price": 1, "qty": one}] for one in NO_NUMBERS), [{"price": 0.001, "qty": 1}]],
    "checksum": [..., None, "7", 7.5, [], 10**30, -1],
    "timestamp": [None, 5, "yesterday", []],
}


@pytest.mark.parametrize(
    ("name", "strange"), [(name, one) for name, some in STRANGE_FIELDS.items() for one in some], ids=str
)
def test_malformed_book_update_withdraws_only_that_book(name: str, strange: Any, frames: Sequence[bytes]) -> None:
    harness = two_books(frames)
    harness.receive(an_update(**{name: strange}))
    last = harness.books()[-1]
    assert (last.symbol, last.usable) == (BTC, False)
    assert last.reason in {UnusableReason.MALFORMED, UnusableReason.CHECKSUM}
    assert harness.markets.resubscribe == {BTC}
    assert harness.markets[ETH].usable


@pytest.mark.parametrize(
    "frame",
    [
        {**an_update(), "type": "delta"},
        {**an_update(), "type": None},
        {**an_update(), "type": 5},
        {**an_update(), "channel": None},
        {name: value for name, value in an_update().items() if name != "type"},
        {name: value for name, value in an_update().items() if name != "channel"},
        {**an_update(), "data": an_update()["data"][0]},
        {**an_update(), "method": "subscribe", "type": "x"},
        json.dumps(an_update())[:-4].encode(),
        json.dumps(an_update(bids="NaN")).replace('"NaN"', "NaN").encode(),
        json.dumps(an_update(bids="x")).replace('"x"', "[" * 5000).encode(),
        [*an_update()["data"], "book"],
    ],
)
def test_message_with_a_market_but_no_book_withdraws_it(frame: Any, frames: Sequence[bytes]) -> None:
    harness = two_books(frames)
    harness.receive(frame)
    assert [(one.symbol, one.reason) for one in harness.books()[2:]] == [(BTC, UnusableReason.MALFORMED)]
    assert harness.markets.resubscribe == {BTC}
    assert harness.markets.malformed == 1


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"channel":"book"}',
        b'{"channel":"book","type":"update","data":5}',
        b'{"channel":"book","type":"update","data":[{}]}',
        b'{"channel":"book","type":"update","data":[{"symbol":7}]}',
        an_update(symbol="BT\ufffd/USD"),
        an_update(symbol=None),
    ],
)
def test_message_that_may_concern_any_book_withdraws_all(frame: Any, frames: Sequence[bytes]) -> None:
    harness = two_books(frames)
    harness.receive(frame)
    assert sorted((one.symbol, one.reason) for one in harness.books()[2:]) == [
        (BTC, UnusableReason.MALFORMED),
        (ETH, UnusableReason.MALFORMED),
    ]
    assert harness.markets.resubscribe == {BTC, ETH}
    assert harness.markets.malformed == 1


@pytest.mark.parametrize(
    "frame",
    [
        b'{"channel":"trade","data":[{}]}',
        b'{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","trade_',
        json.dumps(trade_frame(1)).replace("2026-11-26", "2026-99-26").encode(),
        b'{"method":"subscribe","req_id":"x","success":false,"symbol":"BTC/USD"}',
        b'{"error":5,"method":"subscribe","symbol":null}',
    ],
)
def test_message_of_no_book_is_counted_and_affects_none(frame: bytes, frames: Sequence[bytes]) -> None:
    harness = two_books(frames)
    harness.receive(frame)
    assert harness.markets.malformed == 1
    assert len(harness.books()) == 2


def test_valid_books_of_a_mixed_message_are_applied(frames: Sequence[bytes]) -> None:
    harness, first = two_books(frames), frames[1]
    entry = json.loads(of_eth(first), parse_float=str)["data"][0]
    good = of_eth(first).partition(b'"data":[')[2].removesuffix(b"]}")
    bad = json.dumps(an_update(asks=None)["data"][0]).encode()
    harness.receive(b'{"channel":"book","type":"update","data":[' + bad + b"," + good + b"]}")
    assert [(one.symbol, one.usable) for one in harness.books()[2:]] == [(BTC, False), (ETH, True)]
    assert harness.books()[3].checksum == entry["checksum"]


def test_malformed_snapshot_is_requested_again_and_a_late_update_ignored(frames: Sequence[bytes]) -> None:
    harness, snapshot = two_books(frames), frames[0]
    harness.receive(an_update(asks=...))
    harness.markets.resubscribe.clear()
    harness.receive(an_update(asks=...))
    assert harness.markets.resubscribe == set()
    assert harness.markets[BTC].checksum_failures == 1
    harness.receive({**an_update(asks=...), "type": "snapshot"})
    assert harness.markets.resubscribe == {BTC}
    harness.receive(snapshot)
    assert harness.markets[BTC].usable


STRANGE = ("null", "true", "-1", "1e999", "NaN", "[]", "{}", '""', '"x"', '"\ufffd"', "", ",", "]", "}", '"update"')


TOKENS = re.compile(r'"[^"]*"|[-0-9.]+|[\[\]{}:,]')


@given(data=st.data())
def test_book_after_a_mangled_message_is_correct_or_unusable(data: st.DataObject, source: str) -> None:
    """Tokens of a valid message are removed, doubled or replaced, or its end is cut off."""
    frames = recordings.book_frames(source)
    at = data.draw(st.integers(1, 40), label="frame")
    tokens = TOKENS.findall(frames[at].decode())
    for _ in range(data.draw(st.integers(1, 3), label="changes")):
        begin = data.draw(st.integers(0, len(tokens)), label="begin")
        end = data.draw(st.integers(begin, min(begin + 6, len(tokens))), label="end")
        match data.draw(st.sampled_from(["replace", "double", "cut"])):
            case "replace":
                tokens[begin:end] = data.draw(st.lists(st.sampled_from(STRANGE), max_size=2), label="others")
            case "double":
                tokens[begin:begin] = tokens[begin:end]
            case _:
                del tokens[max(begin, 4) :]  # the rest still names the book channel
    mangled = "".join(tokens)
    if re.search(r'"channel":"(?!book")', mangled) or '"channel":"book"' not in mangled:
        return  # of another channel, or of none
    true, harness = MarketsHarness(), MarketsHarness()
    true.receive(recordings.INSTRUMENT, *frames[: at + 1])
    harness.receive(recordings.INSTRUMENT, *frames[:at], mangled.encode())
    _is_verified(harness)
    assert not harness.markets[BTC].usable or _levels(harness) == _levels(true)
