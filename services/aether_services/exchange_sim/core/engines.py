"""The matching engine: exact price-time priority on whole numbers.

It holds the books in memory and does nothing else: no clock, no journal. A command goes in, events come out, and the
events are all that anybody else learns.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from aether_services.domain import decimals
from aether_services.domain.instruments import Trading
from aether_services.domain.times import Nanoseconds
from aether_services.domain.trades import OrderType, Side
from aether_services.exchange_sim.core.orders import (
    FIRST,
    Cancel,
    Closed,
    LevelSet,
    Opened,
    OrderId,
    Place,
    Reduced,
    Refusal,
    Refused,
    Traded,
    Why,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from aether_services.domain.instruments import Instrument, Symbol
    from aether_services.exchange_sim.core.orders import Command, Event

OPPOSITE: Final = {Side.BUY: Side.SELL, Side.SELL: Side.BUY}


class Resting:
    """An order on the book; only its remaining quantity changes."""

    __slots__ = ("order_id", "owner", "price", "remaining", "side", "symbol")

    def __init__(self, opened: Opened) -> None:
        self.order_id, self.owner = opened.order_id, opened.owner
        self.symbol, self.side, self.price = opened.symbol, opened.side, opened.price
        self.remaining = opened.remaining


class Level:
    """The orders at one price, the oldest first."""

    __slots__ = ("orders", "quantity")

    def __init__(self) -> None:
        self.orders: dict[OrderId, Resting] = {}
        self.quantity = 0


class Queue:
    """One side of a book."""

    __slots__ = ("_keys", "_levels", "_sign")

    def __init__(self, side: Side) -> None:
        self._sign = -1 if side is Side.BUY else 1
        self._keys: list[int] = []
        """Prices, those of bids negative: the best comes first on either side."""
        self._levels: dict[int, Level] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def price(self, place: int = 0) -> int:
        """The price of a level, the best is at 0."""
        return self._keys[place] * self._sign

    def level(self, price: int) -> Level:
        """The orders at a price that has some."""
        return self._levels[price]

    def levels(self) -> Iterator[tuple[int, int]]:
        """Price and quantity, best first."""
        for key in self._keys:
            yield key * self._sign, self._levels[key * self._sign].quantity

    def reaches(self, price: int) -> bool:
        """Whether the best level is at that price or better, as its taker sees it."""
        return bool(self._keys) and self._keys[0] <= price * self._sign

    def add(self, order: Resting) -> int:
        """Put an order behind all others at its price; what rests there then."""
        level = self._levels.get(order.price)
        if level is None:
            level = self._levels[order.price] = Level()
            key = order.price * self._sign
            self._keys.insert(bisect_left(self._keys, key), key)
        level.orders[order.order_id] = order
        level.quantity += order.remaining
        return level.quantity

    def take(self, order: Resting, quantity: int) -> int:
        """Take so much of an order away; what rests at its price then."""
        level = self._levels[order.price]
        order.remaining -= quantity
        level.quantity -= quantity
        if not order.remaining:
            del level.orders[order.order_id]
            if not level.orders:
                del self._levels[order.price]
                del self._keys[bisect_left(self._keys, order.price * self._sign)]
        return level.quantity


class Book:
    """One market's orders."""

    __slots__ = (
        "_cost_min",
        "_quantity_min",
        "_tick",
        "asks",
        "bids",
        "instrument",
        "last_price",
        "last_trade_at",
        "last_trade_id",
    )

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.bids, self.asks = Queue(Side.BUY), Queue(Side.SELL)
        self.last_trade_id = 0
        self.last_trade_at = Nanoseconds(0)
        self.last_price = 0
        self._tick = decimals.scaled(instrument.tick_size, instrument.price_digits)
        self._quantity_min = decimals.scaled(instrument.quantity_min, instrument.quantity_digits)
        self._cost_min = decimals.scaled(instrument.cost_min, instrument.price_digits + instrument.quantity_digits)

    def side(self, side: Side) -> Queue:
        """Bids for buy, asks for sell."""
        return self.bids if side is Side.BUY else self.asks

    def refusal(self, place: Place) -> Refusal | None:
        """Why an order is none, whatever rests here."""
        if place.quantity < self._quantity_min:
            return Refusal.MINIMUM
        price = place.price
        if place.order_type is OrderType.MARKET:
            return Refusal.INVALID_PRICE if price is not None or place.post_only else None
        if price is None or price <= 0:
            return Refusal.INVALID_PRICE
        crosses = self.side(OPPOSITE[place.side]).reaches(price)
        checks = {
            Refusal.TICK: price % self._tick != 0,
            Refusal.COST: price * place.quantity < self._cost_min,
            Refusal.POST_ONLY: place.post_only and (place.immediate or crosses),
        }
        return next((refusal for refusal, holds in checks.items() if holds), None)


class Engine:
    """All books, and the numbers that are given out once."""

    def __init__(self, instruments: Iterable[Instrument]) -> None:
        self.books: Mapping[Symbol, Book] = {one.symbol: Book(one) for one in instruments}
        self.system = Trading.ONLINE
        self.next_order_id = FIRST
        self._orders: dict[OrderId, Resting] = {}

    def restore(self, orders: Iterable[Opened]) -> None:
        """Put orders back on the books; in the order of their ids they stand as they stood."""
        for opened in orders:
            self._rest(opened)

    def open_orders(self) -> Iterator[tuple[OrderId, int]]:
        """Each order on a book, and what remains of it."""
        for order in self._orders.values():
            yield order.order_id, order.remaining

    def handle(self, command: Command, at: Nanoseconds) -> list[Event]:
        """Carry a command out; what came of it, in order."""
        if self.system is Trading.MAINTENANCE:
            return [Refused(command, Refusal.UNAVAILABLE)]
        return self._cancel(command) if isinstance(command, Cancel) else self._place(command, at)

    def _cancel(self, command: Cancel) -> list[Event]:
        order = self._orders.get(command.order_id)
        if order is None or order.owner != command.owner:
            return [Refused(command, Refusal.UNKNOWN_ORDER)]
        del self._orders[order.order_id]
        left = self.books[order.symbol].side(order.side).take(order, order.remaining)
        return [
            Closed(order.order_id, Why.CANCELED, rested=True),
            LevelSet(order.symbol, order.side, order.price, left),
        ]

    def _place(self, command: Place, at: Nanoseconds) -> list[Event]:
        book = self.books.get(command.symbol)
        if book is None:
            return [Refused(command, Refusal.UNKNOWN_MARKET)]
        if self.system is Trading.CANCEL_ONLY:
            return [Refused(command, Refusal.CANCEL_ONLY)]
        if self.system is Trading.POST_ONLY and not command.post_only:
            return [Refused(command, Refusal.POST_ONLY_MODE)]
        refusal = book.refusal(command)
        if refusal is not None:
            return [Refused(command, refusal)]
        order_id = self.next_order_id
        self.next_order_id = OrderId(order_id + 1)
        events: list[Event] = []
        remaining = self._match(book, command, order_id, at, events)
        if not remaining:
            events.append(Closed(order_id, Why.FILLED, rested=False))
        elif command.price is None or command.immediate:
            events.append(Closed(order_id, Why.CANCELED, rested=False))
        else:
            opened = Opened(
                order_id, command.owner, command.symbol, command.side, command.price, command.quantity, remaining, at
            )
            events += (opened, LevelSet(command.symbol, command.side, command.price, self._rest(opened)))
        return events

    def _rest(self, opened: Opened) -> int:
        order = self._orders[opened.order_id] = Resting(opened)
        return self.books[opened.symbol].side(opened.side).add(order)

    def _match(self, book: Book, taker: Place, taker_id: OrderId, at: Nanoseconds, events: list[Event]) -> int:
        """Trade with what the order reaches, the best price first and the oldest order first; what is left of it."""
        against, side = book.side(OPPOSITE[taker.side]), OPPOSITE[taker.side]
        remaining = taker.quantity
        while remaining and len(against):
            price = against.price()
            if taker.price is not None and not against.reaches(taker.price):
                break
            left = 0
            for maker in list(against.level(price).orders.values()):
                quantity = min(remaining, maker.remaining)
                remaining -= quantity
                left = against.take(maker, quantity)
                book.last_trade_id += 1
                # Two trades of a market never have one time: a page of history may end after either.
                book.last_trade_at = Nanoseconds(max(at, book.last_trade_at + 1))
                book.last_price = price
                events.append(
                    Traded(
                        taker.symbol, book.last_trade_id, taker.side, taker.order_type,
                        price, quantity, book.last_trade_at, maker.order_id, taker_id,
                    )
                )  # fmt: skip
                if maker.remaining:
                    events.append(Reduced(maker.order_id, maker.remaining))
                else:
                    del self._orders[maker.order_id]
                    events.append(Closed(maker.order_id, Why.FILLED, rested=True))
                if not remaining:
                    break
            events.append(LevelSet(taker.symbol, side, price, left))
        return remaining
