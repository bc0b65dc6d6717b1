"""A synthetic order flow that looks alive: given a seed and steps of time, it says what its traders do.

Its model of prices is made of floats, as any guess is; what it asks of the engine is whole numbers.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aether_services.domain import decimals
from aether_services.domain.instruments import Symbol
from aether_services.domain.trades import OrderType, Side
from aether_services.exchange_sim.core.engines import OPPOSITE
from aether_services.exchange_sim.core.orders import Cancel, Owner, Place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_services.exchange_sim.core.engines import Book, Queue
    from aether_services.exchange_sim.core.orders import Command

OWNER: Final = Owner("flow")
LEVELS: Final = 640
"""About so many levels each side has; a side with less than half is filled up at once."""
_TAKES: Final = 0.012
"""Share of what happens that trades of itself, wherever the price is."""
_NEAR, _FAR = 0.0004, 0.012
"""How far from the fair price orders are placed, as a share of it: most are near, some are far."""
_NEAR_TICKS, _FAR_TICKS = 6, 600
"""And at least so many ticks, or a market with coarse ticks had no room for its levels."""
_FARTHEST: Final = 0.9
_NEARNESS: Final = 0.55
_CHASE: Final = 0.25
"""How often a best price that the fair price has passed is taken, rather than taken back."""


@dataclass(frozen=True, slots=True)
class Character:
    """How a market is: where its price begins, its share of all that happens, and the usual size of an order in USD."""

    price: float
    rate: float
    size: float


CHARACTERS: Final[Mapping[Symbol, Character]] = {
    Symbol("BTC/USD"): Character(87_000.0, 62, 2_500),
    Symbol("ETH/USD"): Character(2_900.0, 42, 1_800),
    Symbol("SOL/USD"): Character(136.0, 26, 1_200),
    Symbol("XRP/USD"): Character(2.2, 20, 900),
    Symbol("DOGE/USD"): Character(0.152, 12, 500),
    Symbol("ADA/USD"): Character(0.43, 10, 500),
    Symbol("LINK/USD"): Character(13.1, 9, 500),
    Symbol("LTC/USD"): Character(86.0, 8, 450),
    Symbol("AVAX/USD"): Character(14.6, 8, 400),
    Symbol("DOT/USD"): Character(2.35, 7, 350),
}


@dataclass(frozen=True, slots=True)
class Regime:
    """A mood of a market: how fast the fair price moves, how much happens, and for how long it lasts in the mean."""

    volatility: float
    activity: float
    seconds: float


REGIMES: Final = (
    Regime(0.000_008, 0.55, 150.0),
    Regime(0.000_022, 1.0, 120.0),
    Regime(0.000_070, 2.0, 45.0),
)
"""Calm, usual, wild; volatility per square root of a second."""


@dataclass(frozen=True, slots=True)
class Spell:
    """What comes over the whole venue now and then: how much happens meanwhile, how often it comes, how long it is."""

    activity: float
    every: float
    seconds: float


SPELLS: Final = (Spell(5.0, 40.0, 1.5), Spell(0.15, 600.0, 40.0))
"""A burst, and a quiet minute."""


class _Trader:
    """All that happens in one market."""

    def __init__(self, book: Book, character: Character, chance: random.Random) -> None:
        self._book, self._character, self._chance = book, character, chance
        one = book.instrument
        self._unit = 10.0**one.price_digits
        self._scale = int(10**one.quantity_digits)
        self._tick = decimals.scaled(one.tick_size, one.price_digits)
        self._quantity_min = decimals.scaled(one.quantity_min, one.quantity_digits)
        self._fair = character.price * self._unit
        self._near = max(_NEAR, _NEAR_TICKS * self._tick / self._fair)
        self._far = max(_FAR, _FAR_TICKS * self._tick / self._fair)
        if book.bids and book.asks:
            self._fair = (book.bids.price() + book.asks.price()) / 2
        elif book.last_price:
            self._fair = float(book.last_price)
        self._regime = REGIMES[1]

    def step(self, seconds: float, activity: float) -> list[Command]:
        """What happens within so many seconds."""
        chance = self._chance
        if chance.random() < seconds / self._regime.seconds:
            self._regime = chance.choices(REGIMES, (4, 5, 1))[0]
        self._fair *= math.exp(self._regime.volatility * math.sqrt(seconds) * chance.gauss(0.0, 1.0))
        filling = [*self._filled_up(Side.BUY), *self._filled_up(Side.SELL)]
        if filling:
            return filling
        if not self._book.last_trade_id:
            return [self._taking(chance.choice((Side.BUY, Side.SELL)))]
        mean = self._character.rate * self._regime.activity * activity * seconds
        return [command for _ in range(poisson(chance, mean)) if (command := self._one()) is not None]

    def _filled_up(self, side: Side) -> list[Command]:
        missing = LEVELS - len(self._book.side(side))
        if missing <= LEVELS // 2:
            return []
        levels: dict[int | None, Command] = {}
        for _ in range(10 * LEVELS):
            order = self._adding(side)
            levels.setdefault(order.price, order)
            if len(levels) == missing:
                break
        return list(levels.values())

    def _one(self) -> Command | None:
        chance, book = self._chance, self._book
        side = chance.choice((Side.BUY, Side.SELL))
        against = book.side(OPPOSITE[side])
        if not against or not book.side(side):
            return self._adding(side)
        # Somebody's best price is behind the times: it is taken, or taken back.
        if against.reaches(int(self._fair) if side is Side.BUY else math.ceil(self._fair)):
            if chance.random() < _CHASE:
                return self._taking(side, limit=int(self._fair))
            return self._cancelling(against, 0)
        if chance.random() < _TAKES:
            return self._taking(side)
        queue = book.side(side)
        if chance.random() < 0.5 * LEVELS / len(queue):
            return self._adding(side)
        # Most of what is taken back was near the best price, where it can be seen.
        near = int(chance.expovariate(1 / 12)) if chance.random() < _NEARNESS else chance.randrange(len(queue))
        return self._cancelling(queue, min(near, len(queue) - 1))

    def _adding(self, side: Side) -> Place:
        chance = self._chance
        far = min(chance.expovariate(1 / (self._near if chance.random() < _NEARNESS else self._far)), _FARTHEST)
        price = self._fair * (1 - far if side is Side.BUY else 1 + far)
        ticks = math.floor(price / self._tick) if side is Side.BUY else math.ceil(price / self._tick)
        return Place(
            owner=OWNER,
            symbol=self._book.instrument.symbol,
            side=side,
            order_type=OrderType.LIMIT,
            quantity=self._quantity(1.0 + min(40 * far, 4.0)),
            price=max(ticks, 1) * self._tick,
            post_only=True,
        )

    def _taking(self, side: Side, limit: int | None = None) -> Place:
        chance = self._chance
        if limit is not None or chance.random() < 0.5:  # noqa: PLR2004 - half of them have a limit
            best = self._book.side(OPPOSITE[side]).price()
            slip = round(best * 0.0003)
            price = limit if limit is not None else best + (slip if side is Side.BUY else -slip)
            return Place(
                owner=OWNER,
                symbol=self._book.instrument.symbol,
                side=side,
                order_type=OrderType.LIMIT,
                quantity=self._quantity(0.5),
                price=max(price // self._tick, 1) * self._tick,
                immediate=True,
            )
        return Place(
            owner=OWNER,
            symbol=self._book.instrument.symbol,
            side=side,
            order_type=OrderType.MARKET,
            quantity=self._quantity(0.5),
        )

    def _cancelling(self, queue: Queue, place: int) -> Command | None:
        level = queue.level(queue.price(place))
        for order in reversed(level.orders.values()):
            if order.owner == OWNER:
                return Cancel(owner=OWNER, order_id=order.order_id)
        return None

    def _quantity(self, times: float) -> int:
        chance = self._chance
        price = self._fair / self._unit
        dollars = self._character.size * times * math.exp(chance.gauss(-0.7, 1.1))
        quantity = int(dollars / price * self._scale)
        if chance.random() < 0.3:  # noqa: PLR2004 - people like round numbers
            step = 10 ** max(len(str(quantity)) - 2, 0)
            quantity -= quantity % step
        return max(quantity, self._quantity_min, math.ceil(self._scale / price))


class Flow:
    """The traders of all markets.

    Args:
        books: The engine's, which they look at; only the engine changes them.
        seed: The same seed, the same books and the same steps give the same commands.
    """

    def __init__(self, books: Mapping[Symbol, Book], seed: str) -> None:
        self._chance = random.Random(seed)  # noqa: S311 - nobody's secret
        self._traders = [
            _Trader(book, CHARACTERS[symbol], random.Random(f"{seed} {symbol}"))  # noqa: S311
            for symbol, book in books.items()
        ]
        self._spells: dict[Spell, float] = {}
        """What is over the venue now → for how much longer."""

    def step(self, seconds: float) -> list[list[Command]]:
        """What happens within the next so many seconds, market by market."""
        for spell in SPELLS:
            left = self._spells.pop(spell, 0.0) - seconds
            if left > 0:
                self._spells[spell] = left
            elif self._chance.random() < seconds / spell.every:
                self._spells[spell] = self._chance.uniform(0.5, 1.5) * spell.seconds
        activity = math.prod(spell.activity for spell in self._spells)
        return [trader.step(seconds, activity) for trader in self._traders]


def poisson(chance: random.Random, mean: float) -> int:
    """How often something happens that happens so often in the mean."""
    if mean > 30:  # noqa: PLR2004 - from here on the normal distribution is as good
        return max(0, round(chance.gauss(mean, math.sqrt(mean))))
    count, rest = 0, chance.random()
    bound = math.exp(-mean)
    while rest > bound:
        count += 1
        rest *= chance.random()
    return count
