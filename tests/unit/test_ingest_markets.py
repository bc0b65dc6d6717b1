"""Markets: a frame in, letters out."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aether_services.contracts.marketdata import BookMessage, TickerMessage, Topic
from aether_services.domain import books, times
from aether_services.domain.books import Unusable
from aether_services.domain.instruments import Symbol
from aether_services.domain.times import Nanoseconds
from aether_services.ingest.core import market, markets
from aether_services.ingest.core.markets import Markets
from aether_testing import recordings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aether_services.ingest.core.outboxes import Letter

BTC, ETH = Symbol(recordings.SYMBOL), Symbol("ETH/USD")
NOW = times.parse("2026-11-26T01:16:40.859480941Z")


class World:
    """Markets, and the letters that they posted."""

    def __init__(self, *served: str) -> None:
        self.letters: list[Letter] = []
        self.markets = Markets(writer="w", depth=10, tape_length=100, post=self.letters.append)
        self.markets.serve(map(Symbol, served or (BTC,)))

    def hear(self, *frames: bytes | dict[str, Any] | list[Any], at: int = NOW) -> None:
        for frame in frames:
            text = frame.decode() if isinstance(frame, bytes) else json.dumps(frame)
            self.markets.receive(text, Nanoseconds(at))

    def books(self) -> list[BookMessage]:
        return [BookMessage.model_validate_json(one.body) for one in self.letters if one.topic is Topic.BOOK]


def a_trade(trade_id: int, symbol: str = BTC) -> dict[str, Any]:
    return {"channel": "trade", "type": "update", "data": [{
        "symbol": symbol, "side": "buy", "price": 5, "qty": 1, "ord_type": "limit", "trade_id": trade_id,
        "timestamp": "2026-11-26T01:16:40.000001Z",
    }]}  # fmt: skip


def test_a_verified_book_is_published_with_its_ten_best_levels_and_both_times(frames: Sequence[bytes]) -> None:
    world = World()
    world.hear(recordings.INSTRUMENT, frames[0], frames[1])
    first, second = world.books()
    assert (first.id, second.id, second.usable, second.symbol) == ("w-1", "w-2", True, BTC)
    assert second.received == NOW
    assert second.at == times.parse(json.loads(frames[1])["data"][0]["timestamp"])
    assert first.at == (times.parse(stamp) if (stamp := json.loads(frames[0])["data"][0].get("timestamp")) else NOW)
    book = world.markets[BTC].book
    assert book is not None
    assert (list(second.bids), list(second.asks)) == (list(book.bids.levels()), list(book.asks.levels()))
    assert second.checksum == json.loads(frames[1])["data"][0]["checksum"]


def test_every_recorded_update_is_one_message_that_its_contract_reads(frames: Sequence[bytes]) -> None:
    world = World()
    world.hear(recordings.INSTRUMENT, *frames)
    said = world.books()
    assert len(said) == len(frames)
    assert all(one.usable and len(one.bids) == len(one.asks) == 10 for one in said)
    assert [one.checksum for one in said] == [json.loads(frame)["data"][0]["checksum"] for frame in frames]


def test_a_mismatch_withdraws_the_book_at_once_and_asks_for_it_anew(frames: Sequence[bytes]) -> None:
    world, (snapshot, first, second, *_) = World(), frames
    world.hear(recordings.INSTRUMENT, snapshot, first.replace(b'"checksum":', b'"checksum":1'), second)
    usable, withdrawn = world.books()
    assert usable.usable
    assert (withdrawn.usable, withdrawn.reason, withdrawn.bids, withdrawn.asks) == (False, Unusable.CHECKSUM, (), ())
    assert world.markets.renew == {BTC}
    assert world.markets[BTC].checksum_failures == 1
    world.hear(snapshot)
    assert world.books()[-1].usable


def test_an_update_that_cannot_be_read_to_its_end_leaves_no_book(frames: Sequence[bytes]) -> None:
    """Its first level is applied before it shows: what is there then was never verified."""
    world = World()
    world.hear(recordings.INSTRUMENT, frames[0], frames[1].replace(b'}],"', b'x}],"'))
    assert [one.usable for one in world.books()] == [True, False]
    assert world.books()[-1].reason == Unusable.MALFORMED
    assert world.markets.renew == {BTC}
    assert world.markets.misunderstood == 1


def test_a_field_more_and_other_spaces_are_read_all_the_same(frames: Sequence[bytes]) -> None:
    world = World()
    updates = [frame.replace(b"},{", b',"orders":3},{').replace(b'}],"', b',"orders":3}],"') for frame in frames[1:20]]
    world.hear(recordings.INSTRUMENT, frames[0], *updates, *(frame.replace(b",", b", ") for frame in frames[20:40]))
    said = world.books()
    assert [one.checksum for one in said] == [json.loads(frame)["data"][0]["checksum"] for frame in frames[:40]]
    assert all(one.usable for one in said)


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
def test_what_the_rules_read_otherwise_than_its_places_leaves_no_level_that_did_not_verify(
    frame: bytes, frames: Sequence[bytes]
) -> None:
    world, own = World(), json.loads(frames[0])["data"][0]["checksum"]
    world.hear(recordings.INSTRUMENT, frames[0], frame.replace(b"2785033588", str(own).encode()))
    _is_verified(world)


def _is_verified(world: World) -> None:
    """Whatever is usable has the levels that its checksum is of, and so does what was published."""
    book = world.markets[BTC].book
    assert book is not None
    if book.unusable is None:
        assert str(_checksum(list(book.bids.levels())[:10], list(book.asks.levels())[:10])) == book.checksum
    else:
        assert (len(book.bids), len(book.asks)) == (0, 0)
    for one in world.books():
        assert not one.usable or _checksum(one.bids, one.asks) == one.checksum


def _checksum(bids: Sequence[tuple[Decimal, Decimal]], asks: Sequence[tuple[Decimal, Decimal]]) -> int:
    scaled = [[(int(price.scaleb(1)), int(quantity.scaleb(8))) for price, quantity in side] for side in (asks, bids)]
    return books.checksum(*scaled)


@pytest.mark.parametrize("side", ["bids", "asks"])
def test_whatever_becomes_of_a_character_no_level_stays_that_did_not_verify(side: str, frames: Sequence[bytes]) -> None:
    """Each of an update's left out, doubled, or another: and what its lane takes, the rules take the same way."""
    first = next(at for at, frame in enumerate(frames) if at > 2 and f'"{side}":[{{"price"'.encode() in frame)
    taken = 0
    for changed in _mangled(frames[first].decode()):
        world, ruled = World(), World()
        for one in (world, ruled):
            one.hear(recordings.INSTRUMENT, *frames[:first])
        ruled.markets._lanes.clear()  # noqa: SLF001 - the rules alone
        for one in (world, ruled):
            one.letters.clear()
            one.hear(changed.encode())
            _is_verified(one)
        if world.markets[BTC].usable:
            taken += 1
            assert [one.model_copy(update={"id": ""}) for one in world.books()] == [
                one.model_copy(update={"id": ""}) for one in ruled.books()
            ]
            assert _levels(world) == _levels(ruled)
    assert taken


def _levels(world: World) -> list[tuple[Decimal, Decimal]]:
    book = world.markets[BTC].book
    assert book is not None
    return [*book.bids.levels(), *book.asks.levels()]


def _mangled(frame: str) -> Iterator[str]:
    for at in range(len(frame)):
        yield frame[:at] + frame[at + 1 :]
        for other in '{}[]",:.-+eE Z05\\\u0663':
            yield frame[:at] + other + frame[at:]
            yield frame[:at] + other + frame[at + 1 :]


def test_a_message_whose_time_is_none_leaves_no_book(frames: Sequence[bytes]) -> None:
    world = World()
    world.hear(recordings.INSTRUMENT, frames[0], frames[1].replace(b'"update"', b'"update" ').replace(b"T15", b" 15"))
    assert [(one.usable, one.reason) for one in world.books()] == [(True, ""), (False, Unusable.MALFORMED)]
    assert world.markets.renew == {BTC}


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
def test_an_odd_message_ends_nothing_and_says_nothing(frame: bytes | dict[str, Any]) -> None:
    world = World(BTC, "FOO/USD")
    world.hear(recordings.INSTRUMENT, frame)
    world.markets.serve([BTC, Symbol("FOO/USD")])
    assert world.letters == []
    assert world.markets[Symbol("FOO/USD")].book is None


def test_a_second_mismatch_is_told_like_the_first_and_messages_are_counted(frames: Sequence[bytes]) -> None:
    world, (snapshot, first, *_) = World(), frames
    wrong = first.replace(b'"checksum":', b'"checksum":1')
    world.hear(recordings.INSTRUMENT, snapshot, wrong, snapshot, first, wrong)
    assert [one.usable for one in world.books()] == [True, False, True, True, False]
    assert world.markets.book_messages == 5
    assert world.markets[BTC].sent_at == NOW


def test_nothing_is_published_of_a_market_whose_decimals_are_not_known(frames: Sequence[bytes]) -> None:
    world = World()
    world.hear(*frames[:3])
    assert world.letters == []
    assert world.markets[BTC].reason == Unusable.WAITING


def test_a_market_that_the_venue_does_not_have_is_unknown() -> None:
    world = World(BTC, "FOO/USD")
    assert world.markets[Symbol("FOO/USD")].reason == Unusable.WAITING
    world.hear(recordings.INSTRUMENT)
    assert world.markets[Symbol("FOO/USD")].reason == market.UNKNOWN
    assert world.markets[BTC].reason == Unusable.WAITING


def test_other_decimals_are_another_book(frames: Sequence[bytes]) -> None:
    world = World()
    world.hear(recordings.INSTRUMENT, frames[0])
    assert world.markets[BTC].usable
    world.hear(recordings.INSTRUMENT.replace(b'"price_precision": 1', b'"price_precision": 2'))
    assert not world.markets[BTC].usable
    assert world.markets.renew == {BTC}
    world.hear(frames[1])
    assert not world.markets[BTC].usable
    assert len(world.books()) == 1
    world.hear(recordings.INSTRUMENT, frames[0], frames[1])
    book = world.markets[BTC].book
    assert book is not None
    assert world.books()[-1].checksum == int(book.checksum)
    assert (list(book.bids.levels()), list(book.asks.levels())) == (
        list(world.books()[-1].bids), list(world.books()[-1].asks),
    )  # fmt: skip


def test_a_quiet_book_is_said_again_each_second_while_the_venue_is_heard_of(frames: Sequence[bytes]) -> None:
    world = World()
    world.hear(recordings.INSTRUMENT, frames[1].replace(b'"update"', b'"snapshot"'), frames[0])
    later = Nanoseconds(NOW + 2 * times.SECOND)
    world.letters.clear()
    world.markets.beat(Nanoseconds(NOW + times.SECOND // 2), Nanoseconds(NOW + times.SECOND // 2))
    assert world.letters == []
    world.markets.beat(Nanoseconds(later - 5), later)
    (again,) = world.books()
    assert again.received == later - 5
    assert again.usable
    world.markets.beat(Nanoseconds(later - 5), Nanoseconds(later + 3 * times.SECOND))  # nothing was heard since
    assert len(world.books()) == 1


def test_an_unusable_book_is_said_again_as_well_and_each_reason_once(frames: Sequence[bytes]) -> None:
    world = World()
    world.hear(recordings.INSTRUMENT, frames[0])
    world.markets.drop(Unusable.DISCONNECTED, NOW)
    world.markets.drop(Unusable.SILENT, NOW)
    assert [(one.usable, one.reason) for one in world.books()] == [(True, ""), (False, "Disconnected")]
    world.markets.beat(NOW, Nanoseconds(NOW + 2 * times.SECOND))
    assert [one.reason for one in world.books()][2:] == ["Disconnected"]


def test_a_book_that_another_replica_has_is_not_taken_back_by_one_that_never_had_it(frames: Sequence[bytes]) -> None:
    world, (snapshot, first, *_) = World(), frames
    world.markets.elsewhere = frozenset({BTC})
    world.markets.beat(NOW, Nanoseconds(NOW + 2 * times.SECOND))
    world.hear(recordings.INSTRUMENT, snapshot.replace(b'"checksum":', b'"checksum":1'))
    assert world.books() == []
    world.hear(snapshot, first.replace(b'"checksum":', b'"checksum":1'))
    assert [(one.usable, one.reason) for one in world.books()] == [(True, ""), (False, "ChecksumMismatch")]
    world.markets.beat(NOW, Nanoseconds(NOW + 4 * times.SECOND))
    assert len(world.books()) == 2, "what was said here is taken back, once"
    world.markets.elsewhere = frozenset()
    world.markets.beat(NOW, Nanoseconds(NOW + 6 * times.SECOND))
    assert [one.reason for one in world.books()][2:] == ["ChecksumMismatch"]


def test_the_first_word_may_be_that_there_is_no_book_but_not_at_once() -> None:
    world = World()
    world.markets.beat(NOW, NOW)
    world.markets.beat(NOW, Nanoseconds(NOW + markets.FIRST_WORD - 1))
    assert world.books() == []
    world.markets.beat(NOW, Nanoseconds(NOW + markets.FIRST_WORD))
    assert [(one.usable, one.reason) for one in world.books()] == [(False, Unusable.WAITING)]


def test_the_way_from_the_venue_is_measured_by_what_happens_and_not_by_snapshots() -> None:
    world, waits = World(), list[float]()
    world.markets.observe = waits.append
    world.hear({**a_trade(7), "type": "snapshot"}, a_trade(8))
    assert waits == [pytest.approx(0.85948)]


def test_trades_are_put_on_the_tape_and_a_gap_asks_for_what_is_missing() -> None:
    world = World()
    world.hear(a_trade(7), a_trade(7), a_trade(8), a_trade(3, "ETH/USD"))
    assert world.markets.fill == set()
    world.hear(a_trade(10), a_trade(11))
    assert world.markets.fill == {BTC}
    assert world.markets[BTC].gaps == 1
    last = world.markets[BTC].tape.last
    assert last is not None
    assert last.trade_id == 8


def test_trades_whose_ids_begin_again_are_a_tape_of_their_own() -> None:
    world = World()
    world.hear(a_trade(7))
    again = a_trade(1)
    again["data"][0]["timestamp"] = "2026-11-26T01:17:00.000001Z"
    world.hear(again)
    last = world.markets[BTC].tape.last
    assert last is not None
    assert last.trade_id == 1


def test_a_ticker_is_published() -> None:
    world = World()
    data = {
        "symbol": BTC, "bid": 1.5, "bid_qty": 1, "ask": 2.50, "ask_qty": 1, "last": 2, "volume": 1, "vwap": 1, "low": 1,
        "high": 2, "change": -0.5, "change_pct": -0.01,
    }  # fmt: skip
    world.hear({"channel": "ticker", "type": "update", "data": [data]})
    (letter,) = world.letters
    said = TickerMessage.model_validate_json(letter.body)
    assert (said.bid, said.ask, said.change, said.at) == (Decimal("1.5"), Decimal("2.5"), Decimal("-0.5"), NOW)


def of_eth(frame: bytes) -> bytes:
    """The same of another market."""
    return frame.replace(BTC.encode(), ETH.encode())


def two_books(frames: Sequence[bytes]) -> World:
    world = World(BTC, ETH)
    world.hear(recordings.INSTRUMENT, of_eth(recordings.INSTRUMENT), frames[0], of_eth(frames[0]))
    assert [world.markets[symbol].usable for symbol in (BTC, ETH)] == [True, True]
    return world


def an_update(**fields: Any) -> dict[str, Any]:
    """A book's update with some fields as they should not be; without those that are `...`."""
    data = {"symbol": BTC, "bids": [], "asks": [], "checksum": 7, "timestamp": "2026-11-26T01:16:40.000001Z"} | fields
    return {
        "channel": "book",
        "type": "update",
        "data": [{name: value for name, value in data.items() if value is not ...}],
    }


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
def test_a_book_s_update_that_is_not_understood_withdraws_that_book_alone(
    name: str, strange: Any, frames: Sequence[bytes]
) -> None:
    world = two_books(frames)
    world.hear(an_update(**{name: strange}))
    last = world.books()[-1]
    assert (last.symbol, last.usable) == (BTC, False)
    assert last.reason in {Unusable.MALFORMED, Unusable.CHECKSUM}
    assert world.markets.renew == {BTC}
    assert world.markets[ETH].usable


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
def test_a_message_that_names_a_market_and_is_none_of_a_book_withdraws_it(frame: Any, frames: Sequence[bytes]) -> None:
    world = two_books(frames)
    world.hear(frame)
    assert [(one.symbol, one.reason) for one in world.books()[2:]] == [(BTC, Unusable.MALFORMED)]
    assert world.markets.renew == {BTC}
    assert world.markets.misunderstood == 1


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
def test_a_message_that_may_be_of_any_book_withdraws_them_all(frame: Any, frames: Sequence[bytes]) -> None:
    world = two_books(frames)
    world.hear(frame)
    assert sorted((one.symbol, one.reason) for one in world.books()[2:]) == [
        (BTC, Unusable.MALFORMED),
        (ETH, Unusable.MALFORMED),
    ]
    assert world.markets.renew == {BTC, ETH}
    assert world.markets.misunderstood == 1


@pytest.mark.parametrize(
    "frame",
    [
        b'{"channel":"trade","data":[{}]}',
        b'{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","trade_',
        json.dumps(a_trade(1)).replace("2026-11-26", "2026-99-26").encode(),
        b'{"method":"subscribe","req_id":"x","success":false,"symbol":"BTC/USD"}',
        b'{"error":5,"method":"subscribe","symbol":null}',
    ],
)
def test_what_is_of_no_book_is_counted_and_hurts_none(frame: bytes, frames: Sequence[bytes]) -> None:
    world = two_books(frames)
    world.hear(frame)
    assert world.markets.misunderstood == 1
    assert len(world.books()) == 2


def test_of_several_books_in_one_message_the_good_ones_are_applied(frames: Sequence[bytes]) -> None:
    world, first = two_books(frames), frames[1]
    entry = json.loads(of_eth(first), parse_float=str)["data"][0]
    good = of_eth(first).partition(b'"data":[')[2].removesuffix(b"]}")
    bad = json.dumps(an_update(asks=None)["data"][0]).encode()
    world.hear(b'{"channel":"book","type":"update","data":[' + bad + b"," + good + b"]}")
    assert [(one.symbol, one.usable) for one in world.books()[2:]] == [(BTC, False), (ETH, True)]
    assert world.books()[3].checksum == entry["checksum"]


def test_a_malformed_snapshot_is_asked_for_again_and_a_late_update_is_not(frames: Sequence[bytes]) -> None:
    world, snapshot = two_books(frames), frames[0]
    world.hear(an_update(asks=...))
    world.markets.renew.clear()
    world.hear(an_update(asks=...))
    assert world.markets.renew == set()
    assert world.markets[BTC].checksum_failures == 1
    world.hear({**an_update(asks=...), "type": "snapshot"})
    assert world.markets.renew == {BTC}
    world.hear(snapshot)
    assert world.markets[BTC].usable


STRANGE = ("null", "true", "-1", "1e999", "NaN", "[]", "{}", '""', '"x"', '"\ufffd"', "", ",", "]", "}", '"update"')
TOKENS = re.compile(r'"[^"]*"|[-0-9.]+|[\[\]{}:,]')


@given(data=st.data())
def test_after_a_mangled_message_a_book_is_what_the_true_one_gives_or_unusable(
    data: st.DataObject, source: str
) -> None:
    """Tokens of a true one are left out, doubled, and others put in their place; or its end is lost."""
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
                del tokens[max(begin, 4) :]  # what is left says that it is of a book
    mangled = "".join(tokens)
    if re.search(r'"channel":"(?!book")', mangled) or '"channel":"book"' not in mangled:
        return  # of another channel, or of none
    true, world = World(), World()
    true.hear(recordings.INSTRUMENT, *frames[: at + 1])
    world.hear(recordings.INSTRUMENT, *frames[:at], mangled.encode())
    _is_verified(world)
    assert not world.markets[BTC].usable or _levels(world) == _levels(true)


def test_a_crossed_book_is_withdrawn_and_back_without_being_asked_for_anew(frames: Sequence[bytes]) -> None:
    world = World()
    world.hear(recordings.INSTRUMENT, frames[0])
    book = world.markets[BTC].book
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
        world.hear(frame.encode())
    assert [(one.usable, one.reason) for one in world.books()] == [(True, ""), (False, Unusable.CROSSED), (True, "")]
    assert len(world.books()[-1].bids) == 9
    assert world.markets.renew == set()
    assert world.markets[BTC].checksum_failures == 0


def test_a_crossed_book_is_dropped_with_its_connection(frames: Sequence[bytes]) -> None:
    world = World()
    world.hear(recordings.INSTRUMENT, frames[0])
    book = world.markets[BTC].book
    assert book is not None
    book.unusable = Unusable.CROSSED
    world.markets.drop(Unusable.DISCONNECTED, NOW)
    assert (book.unusable, len(book.bids)) == (Unusable.DISCONNECTED, 0)


def test_a_book_whose_message_begins_otherwise_is_read_all_the_same(frames: Sequence[bytes]) -> None:
    world = World()
    said = json.dumps(json.loads(frames[0], parse_float=str))
    turned = frames[0].replace(b'{"channel":"book","type":"snapshot",', b'{"type":"snapshot","channel":"book",')
    assert said
    world.hear(recordings.INSTRUMENT, turned)
    assert world.markets[BTC].usable


def test_a_reply_is_given_back_and_the_venue_says_how_it_is() -> None:
    world = World()
    reply = world.markets.receive('{"method":"subscribe","req_id":3,"success":true,"result":{}}', NOW)
    assert reply is not None
    assert (reply.req_id, reply.success) == (3, True)
    world.hear({"channel": "status", "type": "update", "data": [{"system": "cancel_only"}]}, {"channel": "heartbeat"})
    assert world.markets.system == "cancel_only"


def test_what_is_not_served_any_more_is_forgotten(frames: Sequence[bytes]) -> None:
    world = World()
    world.hear(recordings.INSTRUMENT, frames[0])
    world.markets.serve([])
    world.letters.clear()
    world.hear(frames[1], a_trade(1))
    assert world.letters == []
    world.markets.serve([BTC])
    assert world.markets[BTC].reason == Unusable.WAITING  # and its decimals are still known
    world.hear(frames[0])
    assert world.markets[BTC].usable
