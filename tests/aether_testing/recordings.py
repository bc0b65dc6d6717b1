"""Messages of the book channel: the recorded ones, or as many that are made where a clone is without them."""

from __future__ import annotations

import json
import random
from typing import Final

from aether_services.domain import books
from aether_testing import venues

SYMBOL: Final = "BTC/USD"
PRICE_DIGITS: Final = 1
QUANTITY_DIGITS: Final = 8
DEPTH: Final = 10
INSTRUMENT: Final = json.dumps({
    "channel": "instrument", "type": "snapshot", "data": {"assets": [], "pairs": [{
        "symbol": SYMBOL, "base": "BTC", "quote": "USD", "status": "online",
        "price_precision": PRICE_DIGITS, "qty_precision": QUANTITY_DIGITS,
    }]},
}).encode()  # fmt: skip


def there() -> bool:
    """Whether this clone has the recorded ones."""
    return (venues.recordings() / venues.RECORDING).exists()


def book_frames() -> list[bytes]:
    """A snapshot of depth 10 and the updates that follow it, each with its checksum."""
    return (venues.recordings() / venues.RECORDING).read_bytes().splitlines() if there() else made(510, seed=5)


def made(count: int, *, seed: int) -> list[bytes]:
    """So many messages, of a book that moves at random; the same ones for the same seed."""
    chance = random.Random(seed)
    sides = {"bids": {294_300 - 3 * n: chance.randint(1, 10**9) for n in range(DEPTH)}}
    sides["asks"] = {294_301 + 3 * n: chance.randint(1, 10**9) for n in range(DEPTH)}
    frames = [_frame("snapshot", {side: list(levels.items()) for side, levels in sides.items()}, sides)]
    while len(frames) < count:
        side = chance.choice(("bids", "asks"))
        levels = sides[side]
        changed: list[tuple[int, int]] = []
        for _ in range(chance.randint(1, 3)):
            near = [best(side, levels)[0] + _away(side, steps) for steps in range(1, 40)]
            price = chance.choice([*levels, *near])
            removes = price in levels and len(levels) > DEPTH // 2 and chance.random() < 0.3
            quantity = 0 if removes else chance.randint(1, 10**9)
            changed.append((price, quantity))
            levels[price] = quantity
            if not quantity:
                del levels[price]
        for price in best(side, levels)[DEPTH:]:
            del levels[price]
        frames.append(_frame("update", {side: changed}, sides))
    return frames


def _away(side: str, steps: int) -> int:
    return -steps if side == "bids" else steps


def best(side: str, levels: dict[int, int]) -> list[int]:
    """The prices of a side, best first."""
    return sorted(levels, reverse=side == "bids")


def _frame(kind: str, changed: dict[str, list[tuple[int, int]]], sides: dict[str, dict[int, int]]) -> bytes:
    asks, bids = ([(price, sides[side][price]) for price in best(side, sides[side])[:10]] for side in ("asks", "bids"))
    levels = {side: ",".join(_level(*one) for one in changed.get(side, ())) for side in ("bids", "asks")}
    checksum, timestamp = books.checksum(asks, bids), "2023-07-30T15:30:00.029286Z"
    return (
        f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{SYMBOL}","bids":[{levels["bids"]}],'
        f'"asks":[{levels["asks"]}],"checksum":{checksum},"timestamp":"{timestamp}"}}]}}'
    ).encode()


def _level(price: int, quantity: int) -> str:
    return f'{{"price":{price // 10}.{price % 10},"qty":{quantity // 10**8}.{quantity % 10**8:08d}}}'
