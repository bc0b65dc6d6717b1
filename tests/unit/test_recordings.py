"""The generated feed is as good as the recorded one: valid by independent rules, with all message shapes."""

from __future__ import annotations

import json
import re
import zlib
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from aether_testing.values import recordings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pytest

SIDES: Final = ("bids", "asks")
SHAPES: Final = {
    "snapshot of channel type data, symbol bids asks checksum",
    "update of channel type data, symbol bids asks checksum timestamp",
    *(f"{side} of {count}" for side in SIDES for count in ("one level", "several levels")),
    *(f"{side} {order}" for side in SIDES for order in ("best first", "in no order")),
    "bids worst first",
    *(f"{side}: another quantity of {which}" for side in SIDES for which in ("the best", "another", "the tenth")),
    *(f"{side}: addition {where}" for side in SIDES for where in ("between", "after the last")),
    *(f"{side}: removal of {which}" for side in SIDES for which in ("another", "the tenth")),
    "bids: addition before the best",
    "asks: removal of the best",
    *(f"{side}: a level {fate}" for side in SIDES for fate in ("falls out", "falls out that the message names")),
    "a level named twice",
    "a level named that comes back into view",
    "price that ends with 0",
    "quantity that ends with 0",
    "quantity of whole lots",
    "quantity of one digit before the point",
    "quantity of two digits before the point",
    "quantity below a thousandth",
    "checksum of fewer than ten digits",
    "checksum of ten digits",
}
"""What the recording has; derived from it, and compared with it where it is."""
MORE: Final = {"both sides", "asks worst first", "asks: addition before the best", "bids: removal of the best"}
"""What Kraken sends besides, and is not in the recording's fifty seconds."""


def levels(data: dict[str, Any], side: str) -> list[tuple[str, str]]:
    return [(level["price"], level["qty"]) for level in data[side]]


def best_first(side: str, known: dict[str, str]) -> list[str]:
    return sorted(known, key=Decimal, reverse=side == "bids")


def messages(frames: Sequence[bytes]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each message, whole, and its only entry; numbers as the text that they are."""
    for frame in frames:
        message = json.loads(frame, parse_float=str, parse_int=str)
        (data,) = message["data"]
        yield message, data


def shapes(frames: Sequence[bytes]) -> set[str]:
    """All that a reader of a book could read wrongly, and that these messages have."""
    found: set[str] = set()
    known: dict[str, dict[str, str]] = {side: {} for side in SIDES}
    removed: set[str] = set()
    for message, data in messages(frames):
        found.add(f"{message['type']} of {' '.join(message)}, {' '.join(data)}")
        found |= _of_numbers(data)
        if message["type"] == "snapshot":
            known = {side: dict(levels(data, side)) for side in SIDES}
            continue
        if data["bids"] and data["asks"]:
            found.add("both sides")
        for side in SIDES:
            named = [price for price, _ in levels(data, side)]
            if named:
                found |= _of_side(side, named, removed)
            for price, quantity in levels(data, side):
                found.add(_of_level(side, known[side], price, quantity))
                known[side][price] = quantity
                if not Decimal(quantity):
                    del known[side][price]
            for price in best_first(side, known[side])[recordings.DEPTH :]:
                found.add(f"{side}: a level falls out")
                if price in named:
                    found.add(f"{side}: a level falls out that the message names")
                removed.add(price)
                del known[side][price]
    return found


def _of_numbers(data: dict[str, Any]) -> set[str]:
    found = {f"checksum of {'ten' if len(data['checksum']) == 10 else 'fewer than ten'} digits"}
    for price, quantity in (level for side in SIDES for level in levels(data, side)):
        is_snapshot, _, part = quantity.partition(".")
        tests = {
            "price that ends with 0": price.endswith("0"),
            "quantity that ends with 0": part.endswith("0") and Decimal(quantity) > 0,
            "quantity of whole lots": not part.strip("0") and Decimal(quantity) > 0,
            "quantity of one digit before the point": len(is_snapshot) == 1,
            "quantity of two digits before the point": len(is_snapshot) == 2,
            "quantity below a thousandth": 0 < Decimal(quantity) < Decimal("0.001"),
        }
        found |= {name for name, holds in tests.items() if holds}
    return found


def _of_side(side: str, named: Sequence[str], removed: set[str]) -> set[str]:
    found = {f"{side} of {'one level' if len(named) == 1 else 'several levels'}"}
    order = [Decimal(price) for price in named]
    if len(set(named)) < len(named):
        found.add("a level named twice")
    elif len(named) > 1:
        upward, downward = order == sorted(order), order == sorted(order, reverse=True)
        best_is_first, worst_is_first = (downward, upward) if side == "bids" else (upward, downward)
        how = "best first" if best_is_first else "worst first" if worst_is_first else "in no order"
        found.add(f"{side} {how}")
    if removed & set(named):
        found.add("a level named that comes back into view")
    return found


def _of_level(side: str, known: dict[str, str], price: str, quantity: str) -> str:
    order = best_first(side, {**known, price: quantity})
    index = order.index(price)
    if price not in known:
        where = "before the best" if not index else "after the last" if index == len(order) - 1 else "between"
        return f"{side}: addition {where}" if Decimal(quantity) else f"{side}: removal of what is not there"
    which = "the best" if not index else "the tenth" if index == recordings.DEPTH - 1 else "another"
    return f"{side}: {'another quantity' if Decimal(quantity) else 'removal'} of {which}"


def test_the_generated_feed_has_each_shape() -> None:
    assert shapes(recordings.book_frames()) == SHAPES | MORE


def test_generated_shapes_equal_the_recorded_ones(source: str, frames: Sequence[bytes]) -> None:
    assert shapes(frames) == (SHAPES if source == recordings.RECORDED else SHAPES | MORE)


def test_each_message_has_its_checksum_and_ten_levels_per_side(frames: Sequence[bytes]) -> None:
    """By rules written here once more: the generator has them from the venue, and ingest has its own."""
    known: dict[str, dict[str, str]] = {side: {} for side in SIDES}
    for _, data in messages(frames):
        for side in SIDES:
            known[side] |= dict(levels(data, side))
            left = [price for price in best_first(side, known[side]) if Decimal(known[side][price])]
            known[side] = {price: known[side][price] for price in left[: recordings.DEPTH]}
        assert [len(known[side]) for side in SIDES] == [10, 10]
        assert Decimal(next(iter(known["bids"]))) < Decimal(next(iter(known["asks"])))
        text = "".join(
            number.replace(".", "").lstrip("0") for side in ("asks", "bids") for pair in known[side].items()
            for number in pair
        )  # fmt: skip
        assert zlib.crc32(text.encode()) == int(data["checksum"])


def test_numbers_have_all_decimals_of_their_market_and_times_increase(frames: Sequence[bytes]) -> None:
    stamps = [data["timestamp"] for _, data in messages(frames[1:])]
    assert stamps == sorted(set(stamps))
    for _, data in messages(frames):
        for price, quantity in (level for side in SIDES for level in levels(data, side)):
            assert re.fullmatch(r"[0-9]+\.[0-9]", price)
            assert re.fullmatch(r"[0-9]+\.[0-9]{8}", quantity)


def test_the_generated_feed_is_the_same_each_time() -> None:
    again = recordings.generated.__wrapped__(recordings.LENGTH)
    assert again == recordings.book_frames()
    assert recordings.generated(300)[: recordings.LENGTH] == again


def test_without_recordings_only_the_generated_feed_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AETHER_RECORDINGS", str(tmp_path / "none"))
    assert recordings.sources() == (recordings.GENERATED,)


def test_only_one_module_reads_recordings() -> None:
    """So that what reads them runs on both feeds, and needs neither."""
    tests = recordings.TOP / "tests"
    scanning = {
        str(path.relative_to(tests))
        for path in tests.rglob("*.py")
        if re.search(r"AETHER_RECORDINGS|shared/data|recordings\.(BOOK|SPEC)\b", path.read_text())
    }
    assert scanning == {"aether_testing/values/recordings.py", "unit/test_recordings.py"}
