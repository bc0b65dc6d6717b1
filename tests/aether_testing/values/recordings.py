"""Messages of the book channel: generated ones, and recorded ones of the real venue where the recording is available.

A clone is complete without recordings: what is generated has each kind of message that the recording has (a test
compares the two), so a test that takes the fixture `frames` runs on the generated feed everywhere, and once more on the
recorded one on a machine that has it.
"""

from __future__ import annotations

import functools
import json
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aether_services.domain import times
from aether_services.domain.instruments import Symbol
from aether_services.domain.times import Nanoseconds
from aether_services.domain.trades import Side
from aether_services.exchange_sim.core import markets, views, wire_format
from aether_services.exchange_sim.core.orders import LevelSet

if TYPE_CHECKING:
    from collections.abc import Sequence

TOP: Final = Path(__file__).resolve().parents[3]
BOOK: Final = "kraken/ws-v2-book-btcusd-depth10.jsonl"
"""The path within the folder of recordings."""
SPEC: Final = "kraken/spot-rest/openapi_v3.yaml"
"""Kraken's own description of its REST, in the same folder."""

GENERATED, RECORDED = "generated", "recorded"
SYMBOL: Final = "BTC/USD"
PRICE_DIGITS: Final = 1
QUANTITY_DIGITS: Final = 8
DEPTH: Final = 10
LENGTH: Final = 120
"""The number of generated messages: enough to have each kind among them."""
BOOK_DEPTH: Final = 3 * DEPTH
"""Levels on each side of the generated book; a subscriber sees the first ten."""
BEGIN: Final = times.parse("2023-07-30T15:29:58.343415Z")
INSTRUMENT: Final = json.dumps({
    "channel": "instrument", "type": "snapshot", "data": {"assets": [], "pairs": [{
        "symbol": SYMBOL, "base": "BTC", "quote": "USD", "status": "online",
        "price_precision": PRICE_DIGITS, "qty_precision": QUANTITY_DIGITS,
    }]},
}).encode()  # fmt: skip


def folder() -> Path:
    """The folder of recordings, which need not exist."""
    return Path(os.environ.get("AETHER_RECORDINGS", TOP.parent / "shared/data"))


def sources() -> tuple[str, ...]:
    """The available feeds: the generated one, and the recorded one if its file exists."""
    return (GENERATED, RECORDED) if (folder() / BOOK).exists() else (GENERATED,)


def description() -> Path | None:
    """The path of Kraken's own description of its REST API, if it exists."""
    path = folder() / SPEC
    return path if path.exists() else None


def book_frames(source: str = GENERATED, *, length: int = LENGTH) -> Sequence[bytes]:
    """A snapshot of depth 10 and the updates that follow it, each with its checksum; a recording has its own length."""
    if source == RECORDED:
        return (folder() / BOOK).read_bytes().splitlines()
    return generated(length)


@functools.cache
def generated(count: int) -> tuple[bytes, ...]:
    """So many messages of a book that changes at random, with a fixed seed; formatted as the simulated venue's.

    The snapshot has no timestamp, as in the recording.
    """
    book = _Book(random.Random(1869))
    frames = [book.snapshot()]
    while len(frames) < count:
        frames.append(book.update())
    return tuple(frame.encode() for frame in frames)


class _Book:
    """A book deeper than the published depth, which changes by one to four levels at a time."""

    def __init__(self, rng: random.Random) -> None:
        self._rng, self._at = rng, BEGIN
        self._market = views.Market(markets.MARKETS[Symbol(SYMBOL)])
        self._sides: dict[Side, dict[int, int]] = {Side.BUY: {}, Side.SELL: {}}
        self._changes: list[LevelSet] = []
        for side, best in ((Side.BUY, 294_302), (Side.SELL, 294_303)):
            self._set(side, best, self._quantity())
        self._fill_up()

    def snapshot(self) -> str:
        """The ten best levels of each side."""
        bids, asks = (side.texts[:DEPTH] for side in (self._market.bids, self._market.asks))
        text = wire_format.book(
            self._market, bids, asks, kind=wire_format.SNAPSHOT, checksum=self._market.checksum, at=Nanoseconds(0)
        )
        return text.partition(',"timestamp"')[0] + "}]}"

    def update(self) -> str:
        """The message for the next change within the published depth."""
        self._at = Nanoseconds(self._at + self._rng.randint(1_000, 200_000) * 1_000)
        side = self._rng.choice(tuple(Side))
        both = self._rng.random() < 0.05
        for _ in range(self._rng.choices((1, 2, 3), (8, 2, 1))[0]):
            self._change(self._rng.choice(tuple(Side)) if both else side)
        (bids, asks) = self._apply_changes()[DEPTH]
        text = wire_format.book(
            self._market, bids, asks, kind=wire_format.UPDATE, checksum=self._market.checksum, at=self._at
        )
        self._fill_up()
        return text

    def _change(self, side: Side) -> None:
        """Change the quantity of a visible level, add one, remove one, or set the same one twice."""
        visible = self._best_first(side)[:DEPTH]
        free = self._free(side, visible)
        what = self._rng.choices(("other", "more", "less", "again"), (60, 20 if free else 0, 18, 2))[0]
        price = self._rng.choice(free if what == "more" else visible)
        if what == "less":
            # Mostly deep levels, as in the recording, and sometimes the best one.
            self._set(side, visible[0] if self._rng.random() < 0.1 else self._rng.choice(visible[3:]), 0)
            return
        self._set(side, price, self._quantity())
        if what == "again":
            self._set(side, price, self._quantity())

    def _free(self, side: Side, visible: Sequence[int]) -> list[int]:
        """Prices without a level between the last visible level and the other side."""
        worst, best, other = visible[-1], visible[0], self._best_first(_OTHER[side])[0]
        step = 1 if side is Side.BUY else -1
        inside = [best + step * ticks for ticks in (1, 2, 3) if (other - best - step * ticks) * step > 0]
        return [*inside, *(price for price in range(worst, best, step) if price not in self._sides[side])]

    def _quantity(self) -> int:
        """Quantities of all lengths: with trailing zeros, with leading zeros, and others."""
        return self._rng.choice((
            self._rng.randint(1, 1200) * 10**6,
            self._rng.randint(1, 8) * 10**8,
            self._rng.randint(1, 12_000),
            self._rng.randint(10**8, 13 * 10**8),
            self._rng.randint(10**6, 10**8),
        ))  # fmt: skip

    def _fill_up(self) -> None:
        """Add levels beyond the published depth, without messages, so that one enters it where another leaves."""
        for side, levels in self._sides.items():
            while len(levels) < BOOK_DEPTH:
                step = -1 if side is Side.BUY else 1
                self._set(side, self._best_first(side)[-1] + step * self._rng.randint(1, 20), self._quantity())
        self._apply_changes()

    def _set(self, side: Side, price: int, quantity: int) -> None:
        self._changes.append(LevelSet(Symbol(SYMBOL), side, price, quantity))
        self._sides[side][price] = quantity
        if not quantity:
            del self._sides[side][price]

    def _apply_changes(self) -> dict[int, tuple[list[str], list[str]]]:
        changes, self._changes = self._changes, []
        return self._market.apply(changes, (DEPTH,), self._at)

    def _best_first(self, side: Side) -> list[int]:
        return sorted(self._sides[side], reverse=side is Side.BUY)


_OTHER: Final = {Side.BUY: Side.SELL, Side.SELL: Side.BUY}
