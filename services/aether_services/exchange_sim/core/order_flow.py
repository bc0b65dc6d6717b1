"""A synthetic order flow that resembles a live market: deterministic for a seed and a sequence of steps.

The price model uses floats; the orders are in integer units.
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
from aether_services.exchange_sim.core.orders import CancelOrder, Owner, PlaceOrder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_services.exchange_sim.core.engines import Book, BookSide
    from aether_services.exchange_sim.core.orders import Command

OWNER: Final = Owner("flow")
LEVELS: Final = 640
"""The typical number of levels on each side; a side with less than half is refilled at once."""
_TAKER_SHARE: Final = 0.012
"""The share of commands that take liquidity regardless of the fair price."""
_NEAR, _FAR = 0.0004, 0.012
"""The mean distance of new orders from the fair price, as a share of it: most are near, some are far."""
_NEAR_TICKS, _FAR_TICKS = 6, 600
"""The minimum of these distances in ticks, so that markets with coarse ticks have enough levels."""
_FARTHEST: Final = 0.9
_NEAR_SHARE: Final = 0.55
_TAKE_STALE_SHARE: Final = 0.25
"""The probability that a stale best order, which the fair price has passed, is taken rather than cancelled."""


@dataclass(frozen=True, slots=True)
class MarketProfile:
    """A market's initial price, its mean commands per second, and its typical order size in USD."""

    price: float
    rate: float
    size: float


MARKET_PROFILES: Final[Mapping[Symbol, MarketProfile]] = {
    Symbol("BTC/USD"): MarketProfile(87_000.0, 62, 2_500),
    Symbol("ETH/USD"): MarketProfile(2_900.0, 42, 1_800),
    Symbol("SOL/USD"): MarketProfile(136.0, 26, 1_200),
    Symbol("XRP/USD"): MarketProfile(2.2, 20, 900),
    Symbol("DOGE/USD"): MarketProfile(0.152, 12, 500),
    Symbol("ADA/USD"): MarketProfile(0.43, 10, 500),
    Symbol("LINK/USD"): MarketProfile(13.1, 9, 500),
    Symbol("LTC/USD"): MarketProfile(86.0, 8, 450),
    Symbol("AVAX/USD"): MarketProfile(14.6, 8, 400),
    Symbol("DOT/USD"): MarketProfile(2.35, 7, 350),
}


@dataclass(frozen=True, slots=True)
class Regime:
    """A state of a market: volatility of the fair price, activity factor, and mean duration in seconds."""

    volatility: float
    activity: float
    seconds: float


REGIMES: Final = (
    Regime(0.000_008, 0.55, 150.0),
    Regime(0.000_022, 1.0, 120.0),
    Regime(0.000_070, 2.0, 45.0),
)
"""Calm, normal, volatile; volatility per square root of a second."""


@dataclass(frozen=True, slots=True)
class Episode:
    """A period of unusual activity of the whole venue: activity factor, mean interval and mean duration in seconds."""

    activity: float
    every: float
    seconds: float


EPISODES: Final = (Episode(5.0, 40.0, 1.5), Episode(0.15, 600.0, 40.0))
"""A burst, and a quiet minute."""


class _MarketFlow:
    """The order flow of one market."""

    def __init__(self, book: Book, profile: MarketProfile, rng: random.Random) -> None:
        self._book, self._profile, self._rng = book, profile, rng
        instrument = book.instrument
        self._unit = 10.0**instrument.price_digits
        self._scale = int(10**instrument.quantity_digits)
        self._tick = decimals.scaled(instrument.tick_size, instrument.price_digits)
        self._quantity_min = decimals.scaled(instrument.quantity_min, instrument.quantity_digits)
        self._fair = profile.price * self._unit
        self._near = max(_NEAR, _NEAR_TICKS * self._tick / self._fair)
        self._far = max(_FAR, _FAR_TICKS * self._tick / self._fair)
        if book.bids and book.asks:
            self._fair = (book.bids.price() + book.asks.price()) / 2
        elif book.last_price:
            self._fair = float(book.last_price)
        self._regime = REGIMES[1]

    def step(self, seconds: float, activity: float) -> list[Command]:
        """The commands of the next `seconds`."""
        rng = self._rng
        if rng.random() < seconds / self._regime.seconds:
            self._regime = rng.choices(REGIMES, (4, 5, 1))[0]
        self._fair *= math.exp(self._regime.volatility * math.sqrt(seconds) * rng.gauss(0.0, 1.0))
        refills = [*self._refill(Side.BUY), *self._refill(Side.SELL)]
        if refills:
            return refills
        if not self._book.last_trade_id:
            return [self._take(rng.choice((Side.BUY, Side.SELL)))]
        mean = self._profile.rate * self._regime.activity * activity * seconds
        return [command for _ in range(poisson(rng, mean)) if (command := self._next_command()) is not None]

    def _refill(self, side: Side) -> list[Command]:
        missing = LEVELS - len(self._book.side(side))
        if missing <= LEVELS // 2:
            return []
        levels: dict[int | None, Command] = {}
        for _ in range(10 * LEVELS):
            order = self._add(side)
            levels.setdefault(order.price, order)
            if len(levels) == missing:
                break
        return list(levels.values())

    def _next_command(self) -> Command | None:
        rng, book = self._rng, self._book
        side = rng.choice((Side.BUY, Side.SELL))
        against = book.side(OPPOSITE[side])
        if not against or not book.side(side):
            return self._add(side)
        # The best order of the other side is stale: it is taken or cancelled.
        if against.reaches(int(self._fair) if side is Side.BUY else math.ceil(self._fair)):
            if rng.random() < _TAKE_STALE_SHARE:
                return self._take(side, limit=int(self._fair))
            return self._cancel(against, 0)
        if rng.random() < _TAKER_SHARE:
            return self._take(side)
        book_side = book.side(side)
        if rng.random() < 0.5 * LEVELS / len(book_side):
            return self._add(side)
        # Most cancelled orders are near the best price.
        near = int(rng.expovariate(1 / 12)) if rng.random() < _NEAR_SHARE else rng.randrange(len(book_side))
        return self._cancel(book_side, min(near, len(book_side) - 1))

    def _add(self, side: Side) -> PlaceOrder:
        rng = self._rng
        far = min(rng.expovariate(1 / (self._near if rng.random() < _NEAR_SHARE else self._far)), _FARTHEST)
        price = self._fair * (1 - far if side is Side.BUY else 1 + far)
        ticks = math.floor(price / self._tick) if side is Side.BUY else math.ceil(price / self._tick)
        return PlaceOrder(
            owner=OWNER,
            symbol=self._book.instrument.symbol,
            side=side,
            order_type=OrderType.LIMIT,
            quantity=self._quantity(1.0 + min(40 * far, 4.0)),
            price=max(ticks, 1) * self._tick,
            post_only=True,
        )

    def _take(self, side: Side, limit: int | None = None) -> PlaceOrder:
        rng = self._rng
        if limit is not None or rng.random() < 0.5:  # noqa: PLR2004 - half of them have a limit
            best = self._book.side(OPPOSITE[side]).price()
            slip = round(best * 0.0003)
            price = limit if limit is not None else best + (slip if side is Side.BUY else -slip)
            return PlaceOrder(
                owner=OWNER,
                symbol=self._book.instrument.symbol,
                side=side,
                order_type=OrderType.LIMIT,
                quantity=self._quantity(0.5),
                price=max(price // self._tick, 1) * self._tick,
                immediate=True,
            )
        return PlaceOrder(
            owner=OWNER,
            symbol=self._book.instrument.symbol,
            side=side,
            order_type=OrderType.MARKET,
            quantity=self._quantity(0.5),
        )

    def _cancel(self, book_side: BookSide, index: int) -> Command | None:
        level = book_side.level(book_side.price(index))
        for order in reversed(level.orders.values()):
            if order.owner == OWNER:
                return CancelOrder(owner=OWNER, order_id=order.order_id)
        return None

    def _quantity(self, times: float) -> int:
        rng = self._rng
        price = self._fair / self._unit
        dollars = self._profile.size * times * math.exp(rng.gauss(-0.7, 1.1))
        quantity = int(dollars / price * self._scale)
        if rng.random() < 0.3:  # noqa: PLR2004 - some orders have round quantities
            step = 10 ** max(len(str(quantity)) - 2, 0)
            quantity -= quantity % step
        return max(quantity, self._quantity_min, math.ceil(self._scale / price))


class Flow:
    """The order flow of all markets.

    Args:
        books: The engine's books, which are only read.
        seed: The same seed, books and steps give the same commands.
    """

    def __init__(self, books: Mapping[Symbol, Book], seed: str) -> None:
        self._rng = random.Random(seed)  # noqa: S311 - not for cryptography
        self._markets = [
            _MarketFlow(book, MARKET_PROFILES[symbol], random.Random(f"{seed} {symbol}"))  # noqa: S311
            for symbol, book in books.items()
        ]
        self._episodes: dict[Episode, float] = {}
        """The active episodes → their remaining seconds."""

    def step(self, seconds: float) -> list[list[Command]]:
        """The commands of the next `seconds`, one list for each market."""
        for episode in EPISODES:
            left = self._episodes.pop(episode, 0.0) - seconds
            if left > 0:
                self._episodes[episode] = left
            elif self._rng.random() < seconds / episode.every:
                self._episodes[episode] = self._rng.uniform(0.5, 1.5) * episode.seconds
        activity = math.prod(episode.activity for episode in self._episodes)
        return [market.step(seconds, activity) for market in self._markets]


def poisson(rng: random.Random, mean: float) -> int:
    """A random number with the Poisson distribution of this mean."""
    if mean > 30:  # noqa: PLR2004 - from here on the normal distribution is as good
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    count, rest = 0, rng.random()
    bound = math.exp(-mean)
    while rest > bound:
        count += 1
        rest *= rng.random()
    return count
