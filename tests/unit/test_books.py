"""Books: every recorded message verifies, and none that was changed in what the checksum proves."""

from __future__ import annotations

import functools
import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aether_services.domain import books, decimals, times
from aether_services.domain.books import Book, Ladder, UnusableReason
from aether_services.domain.instruments import Symbol
from aether_services.ingest.core import fast_path, wire
from aether_testing.values import recordings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

BTC = Symbol(recordings.SYMBOL)
Levels = list[tuple[Decimal, Decimal]]
TRIED_AND_PASSED: Final = {recordings.GENERATED: (37_656, 852), recordings.RECORDED: (138_726, 2_667)}


def written(price: str, quantity: str) -> str:
    """A level as a book takes it."""
    return f"{price}{books.LEVEL_SEPARATOR}{quantity}"


def a_book(*, depth: int = recordings.DEPTH, price_digits: int = 1, quantity_digits: int = 8) -> Book:
    return Book(BTC, price_digits=price_digits, quantity_digits=quantity_digits, depth=depth)


@functools.lru_cache(maxsize=4)
def understood(frame: bytes) -> tuple[str, list[str], list[str], int]:
    """A message as the rules read it: its type, its levels, its checksum. A test often has several books take it."""
    head = wire.head(frame.decode())
    (one,) = wire.data(head, list[wire.BookData])
    bids, asks = ([level.text() for level in side] for side in (one.bids, one.asks))
    return head.type, bids, asks, wire.integer(one.checksum)


def by_rules(book: Book, frame: bytes) -> bool:
    kind, bids, asks, checksum = understood(frame)
    return (book.snapshot if kind == "snapshot" else book.update)(bids, asks, checksum)


def take(book: Book, frame: bytes) -> bool:
    """Apply a message as ingest does: by the fast path if possible, else by the full parser."""
    return by_fast_path(book, frame) is not None or by_rules(book, frame)


def by_fast_path(book: Book, frame: bytes, known: dict[str, fast_path.FastPath] | None = None) -> str | None:
    head, _, rest = frame.decode().partition(fast_path.FIRST_LEVEL)
    path = (known or fast_path.for_book(book)).get(head)
    return None if path is None else path.apply(rest)


def levels(book: Book) -> tuple[Levels, Levels]:
    return list(book.bids.levels()), list(book.asks.levels())


def test_every_recorded_checksum_matches(frames: Sequence[bytes]) -> None:
    book = a_book()
    assert [take(book, frame) for frame in frames] == [True] * len(frames)


def test_changed_digit_is_rejected_or_leaves_verified_levels_unchanged(source: str, frames: Sequence[bytes]) -> None:
    """All of them: each digit of each price, quantity and checksum, each of the nine others in its place."""
    book, tried, passed = a_book(), 0, 0
    for frame in frames:
        before, snapshot = _copy(book), b'"snapshot"' in frame
        assert take(book, frame)
        true = levels(book)
        for changed in _changed(frame):
            changed_book, read = _copy(before), _copy(before)
            tried += 1
            if _survives(changed_book, changed, take):
                passed += 1
                assert _tops(levels(changed_book)) == _tops(true)
                assert changed_book.checksum == book.checksum
            else:
                assert changed_book.unusable is not None
                assert (len(changed_book.bids), len(changed_book.asks)) == (0, 0)
                assert snapshot or not take(changed_book, frame), "only a snapshot makes it usable again"
            assert _survives(read, changed, by_rules) is (changed_book.unusable is None)
            assert levels(read) == levels(changed_book)
    assert (tried, passed) == TRIED_AND_PASSED[source]


def _copy(book: Book) -> Book:
    """Another book that is the same: there are too many to bring each there by messages."""
    other = a_book()
    other.checksum, other.unusable = book.checksum, book.unusable
    for mine, theirs in ((book.bids, other.bids), (book.asks, other.asks)):
        for part in Ladder.__slots__:
            value = getattr(mine, part)
            setattr(theirs, part, list(value) if isinstance(value, list) else value)
    return other


def _tops(both: tuple[Levels, Levels]) -> tuple[Levels, Levels]:
    return both[0][:10], both[1][:10]


def _changed(frame: bytes) -> Iterator[bytes]:
    for number in re.finditer(rb'"(?:price|qty|checksum)":([0-9.]+)', frame):
        for at in range(*number.span(1)):
            if frame[at : at + 1] != b".":
                for digit in b"0123456789":
                    if digit != frame[at]:
                        yield b"%b%c%b" % (frame[:at], digit, frame[at + 1 :])


def _survives(book: Book, frame: bytes, way: Callable[[Book, bytes], bool]) -> bool:
    try:
        return way(book, frame)
    except wire.MalformedMessage:  # 0 in front makes a number that JSON does not have
        book.invalidate(UnusableReason.MALFORMED)
        return False


def test_unverified_book_stays_unusable_until_a_valid_snapshot(frames: Sequence[bytes]) -> None:
    snapshot, first, second, *_ = frames
    book = a_book()
    assert take(book, snapshot)
    assert not take(book, first.replace(b'"checksum":', b'"checksum":1'))
    assert book.unusable is UnusableReason.CHECKSUM
    assert not take(book, first)
    assert not take(book, second)
    assert levels(book) == ([], [])
    assert take(book, snapshot)
    assert book.unusable is None


def test_fast_path_reads_every_recorded_update_with_its_time(frames: Sequence[bytes]) -> None:
    book, (snapshot, *updates) = a_book(), frames
    known = fast_path.for_book(book)
    assert by_fast_path(book, snapshot, known) is None
    assert by_rules(book, snapshot)
    for frame in updates:
        (data,) = json.loads(frame)["data"]
        if data["bids"] and data["asks"]:  # there is a fast path for each side, but not for both together
            assert by_fast_path(book, frame, known) is None
            assert by_rules(book, frame)
        else:
            assert by_fast_path(book, frame, known) == times.text(times.parse(data["timestamp"]))


@pytest.mark.parametrize("second", ["6a", "60", "7 ", "\u0663\u0663"])
def test_fast_path_declines_an_invalid_second(second: str, frames: Sequence[bytes]) -> None:
    book, (snapshot, update, *_) = a_book(), frames
    known = fast_path.for_book(book)
    assert by_rules(book, snapshot)
    stamp = json.loads(update)["data"][0]["timestamp"]
    assert by_fast_path(book, update, known)  # so that its minute is known
    changed = update.decode().replace(stamp, f"{stamp[:17]}{second}{stamp[19:]}")
    assert by_fast_path(book, changed.encode(), known) is None


def test_update_is_idempotent(frames: Sequence[bytes]) -> None:
    """An update that the fast path applied in part is applied again by the full parser."""
    book = a_book()
    for frame in frames:
        assert take(book, frame)
        before = levels(book)
        assert "snapshot" in frame.decode() or take(book, frame)
        assert levels(book) == before


def test_number_without_trailing_zeros_is_the_same(frames: Sequence[bytes]) -> None:
    snapshot, *rest = frames
    short = [
        re.sub(rb"(\.[0-9]*?)0+(?=[,}])", rb"\1", frame).replace(b".,", b",").replace(b".}", b"}") for frame in rest
    ]
    book = a_book()
    assert take(book, snapshot)
    assert all(take(book, frame) for frame in short)


@pytest.mark.parametrize("number", ["-1.0", "1.05", "1e400", "NaN", '"1.0"', "1_0", "", "\u0661.\u0660"])
def test_number_not_representable_in_the_market_is_rejected(number: str) -> None:
    book = a_book(price_digits=1, quantity_digits=1)
    assert not book.snapshot([written(number, "1.0")], [], 0)
    assert book.unusable is UnusableReason.MALFORMED
    assert not book.snapshot([written("1.0", number)], [], 0)
    assert book.unusable is UnusableReason.MALFORMED


@pytest.mark.parametrize("quantity", ["3.", "0."])
def test_number_with_a_trailing_point_is_invalid(quantity: str) -> None:
    book = a_book(price_digits=0, quantity_digits=0)
    assert not book.snapshot([written("10", quantity)], [], books.checksum([], [(10, 3)]))
    assert book.unusable is UnusableReason.MALFORMED


def test_prices_may_have_no_decimals() -> None:
    book = a_book(price_digits=0, quantity_digits=0)
    assert book.snapshot([written("10", "3")], [written("12", "4")], books.checksum([(12, 4)], [(10, 3)]))
    assert levels(book) == ([(Decimal(10), Decimal(3))], [(Decimal(12), Decimal(4))])


def a_frame(kind: str, changed: dict[str, list[tuple[int, int]]], whole: dict[str, list[tuple[int, int]]]) -> bytes:
    """A message of whole units, with the checksum of the book that is there afterwards."""
    sides = {
        side: ",".join(f'{{"price":{price}.0,"qty":{quantity}.0}}' for price, quantity in changed.get(side, ()))
        for side in ("bids", "asks")
    }
    digits = {side: [(10 * price, 10 * quantity) for price, quantity in some] for side, some in whole.items()}
    checksum = books.checksum(digits["asks"], digits["bids"])
    return (
        f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{BTC}","bids":[{sides["bids"]}],'
        f'"asks":[{sides["asks"]}],"checksum":{checksum},"timestamp":"2023-07-30T15:30:01.581227Z"}}]}}'
    ).encode()


@pytest.mark.parametrize("best", [100, 101])
def test_crossed_or_locked_book_is_unusable_until_an_update_uncrosses(best: int) -> None:
    book, asks = a_book(quantity_digits=1), [(100, 1)]
    assert take(book, a_frame("snapshot", {"bids": [(99, 1)], "asks": asks}, {"bids": [(99, 1)], "asks": asks}))
    crossing = a_frame("update", {"bids": [(best, 1)]}, {"bids": [(best, 1), (99, 1)], "asks": asks})
    assert by_fast_path(book, crossing) is None
    assert not by_rules(book, crossing)
    assert book.unusable is UnusableReason.CROSSED
    assert not take(book, a_frame("update", {"bids": [(98, 1)]}, {"bids": [(best, 1), (99, 1), (98, 1)], "asks": asks}))
    assert take(book, a_frame("update", {"bids": [(best, 0)]}, {"bids": [(99, 1), (98, 1)], "asks": asks}))
    assert book.unusable is None


def test_crossed_snapshot_is_unusable_and_a_one_sided_one_usable() -> None:
    book, both = a_book(quantity_digits=1), {"bids": [(100, 1)], "asks": [(100, 1)]}
    assert not take(book, a_frame("snapshot", both, both))
    assert book.unusable is UnusableReason.CROSSED
    assert take(book, a_frame("update", {"asks": [(100, 0)]}, {"bids": [(100, 1)], "asks": []}))


def test_crossed_book_with_a_wrong_next_checksum_is_dropped() -> None:
    book, both = a_book(quantity_digits=1), {"bids": [(100, 1)], "asks": [(100, 1)]}
    assert not take(book, a_frame("snapshot", both, both))
    assert not take(book, a_frame("update", {"bids": [(100, 0)]}, both))
    assert book.unusable is UnusableReason.CHECKSUM


changes = st.lists(
    st.tuples(
        st.sampled_from(["bids", "asks"]), st.lists(st.tuples(st.integers(1, 40), st.integers(0, 3)), min_size=1)
    ),
    max_size=30,
)


@given(changes=changes, depth=st.sampled_from([10, 25]))
def test_book_equals_levels_applied_one_by_one_and_truncated(changes: Any, depth: int) -> None:
    """Against a reference that is a dictionary and a sort."""
    book, known = a_book(depth=depth, price_digits=2, quantity_digits=1), _Reference(depth)
    assert book.snapshot([], [], known.checksum())
    for side, some in changes:
        texts = [written(decimals.text(price, 2), decimals.text(quantity, 1)) for price, quantity in some]
        known.apply(side, some)
        bids, asks = (texts, []) if side == "bids" else ([], texts)
        assert book.update(bids, asks, known.checksum()) is not known.crossed
        assert book.unusable is (UnusableReason.CROSSED if known.crossed else None)
        assert levels(book) == (known.levels("bids"), known.levels("asks"))


class _Reference:
    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._sides: dict[str, dict[int, int]] = {"bids": {}, "asks": {}}

    def apply(self, side: str, some: Sequence[tuple[int, int]]) -> None:
        for price, quantity in some:
            self._sides[side][price] = quantity
            if not quantity:
                del self._sides[side][price]
        for price, _ in self._best(side)[self._depth :]:
            del self._sides[side][price]

    def _best(self, side: str) -> list[tuple[int, int]]:
        return sorted(self._sides[side].items(), reverse=side == "bids")

    @property
    def crossed(self) -> bool:
        bids, asks = (self._sides[side] for side in ("bids", "asks"))
        return bool(bids and asks) and max(bids) >= min(asks)

    def checksum(self) -> int:
        return books.checksum(self._best("asks")[:10], self._best("bids")[:10])

    def levels(self, side: str) -> Levels:
        return [(decimals.unscaled(price, 2), decimals.unscaled(quantity, 1)) for price, quantity in self._best(side)]
