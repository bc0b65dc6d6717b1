"""The matching engine: price-time priority on integer amounts.

It keeps the order books in memory, without clock or journal: a command goes in, events come out.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from aether_services.domain import decimals
from aether_services.domain.instruments import TradingStatus
from aether_services.domain.times import Nanoseconds
from aether_services.domain.trades import OrderType, Side
from aether_services.exchange_sim.core.orders import (
    FIRST,
    CancelOrder,
    Closed,
    CloseReason,
    LevelSet,
    Opened,
    OrderId,
    OrderRejected,
    OrderRejectReason,
    PlaceOrder,
    Reduced,
    Traded,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from aether_services.domain.instruments import Instrument, Symbol
    from aether_services.exchange_sim.core.orders import Command, Event

OPPOSITE: Final = {Side.BUY: Side.SELL, Side.SELL: Side.BUY}


class RestingOrder:
    """An order on the book; only the remaining quantity changes."""

    __slots__ = ("order_id", "owner", "price", "remaining", "side", "symbol")

    def __init__(self, opened: Opened) -> None:
        self.order_id, self.owner = opened.order_id, opened.owner
        self.symbol, self.side, self.price = opened.symbol, opened.side, opened.price
        self.remaining = opened.remaining


class Level:
    """The orders at one price, the oldest first."""

    __slots__ = ("orders", "quantity")

    def __init__(self) -> None:
        self.orders: dict[OrderId, RestingOrder] = {}
        self.quantity = 0


class BookSide:
    """One side of a book."""

    __slots__ = ("_keys", "_levels", "_sign")

    def __init__(self, side: Side) -> None:
        self._sign = -1 if side is Side.BUY else 1
        self._keys: list[int] = []
        """Sorted prices, negated for bids, so that the best comes first on either side."""
        self._levels: dict[int, Level] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def price(self, index: int = 0) -> int:
        """The price of a level; index 0 is the best."""
        return self._keys[index] * self._sign

    def level(self, price: int) -> Level:
        """The level at a price that has orders."""
        return self._levels[price]

    def levels(self) -> Iterator[tuple[int, int]]:
        """Price and quantity of each level, best first."""
        for key in self._keys:
            yield key * self._sign, self._levels[key * self._sign].quantity

    def reaches(self, price: int) -> bool:
        """Whether the best level is at this price or better for a taker."""
        return bool(self._keys) and self._keys[0] <= price * self._sign

    def add(self, order: RestingOrder) -> int:
        """Append an order to the queue at its price; returns the level's new quantity."""
        level = self._levels.get(order.price)
        if level is None:
            level = self._levels[order.price] = Level()
            key = order.price * self._sign
            self._keys.insert(bisect_left(self._keys, key), key)
        level.orders[order.order_id] = order
        level.quantity += order.remaining
        return level.quantity

    def take(self, order: RestingOrder, quantity: int) -> int:
        """Reduce an order, removing it when nothing remains; returns the level's new quantity."""
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
    """The order book of one market."""

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
        self.bids, self.asks = BookSide(Side.BUY), BookSide(Side.SELL)
        self.last_trade_id = 0
        self.last_trade_at = Nanoseconds(0)
        self.last_price = 0
        self._tick = decimals.scaled(instrument.tick_size, instrument.price_digits)
        self._quantity_min = decimals.scaled(instrument.quantity_min, instrument.quantity_digits)
        self._cost_min = decimals.scaled(instrument.cost_min, instrument.price_digits + instrument.quantity_digits)

    def side(self, side: Side) -> BookSide:
        """The bids for BUY, the asks for SELL."""
        return self.bids if side is Side.BUY else self.asks

    def reject_reason(self, order: PlaceOrder) -> OrderRejectReason | None:
        """Why an order is rejected before matching; None if it is valid."""
        if order.quantity < self._quantity_min:
            return OrderRejectReason.MINIMUM
        price = order.price
        if order.order_type is OrderType.MARKET:
            return OrderRejectReason.INVALID_PRICE if price is not None or order.post_only else None
        if price is None or price <= 0:
            return OrderRejectReason.INVALID_PRICE
        crosses = self.side(OPPOSITE[order.side]).reaches(price)
        checks = {
            OrderRejectReason.TICK: price % self._tick != 0,
            OrderRejectReason.COST: price * order.quantity < self._cost_min,
            OrderRejectReason.POST_ONLY: order.post_only and (order.immediate or crosses),
        }
        return next((reason for reason, holds in checks.items() if holds), None)


class Engine:
    """All order books, and the counters of order ids and trade ids."""

    def __init__(self, instruments: Iterable[Instrument]) -> None:
        self.books: Mapping[Symbol, Book] = {one.symbol: Book(one) for one in instruments}
        self.system = TradingStatus.ONLINE
        self.next_order_id = FIRST
        self._orders: dict[OrderId, RestingOrder] = {}

    def restore(self, orders: Iterable[Opened]) -> None:
        """Put orders back on the books. In ascending order of ids their time priority is restored."""
        for opened in orders:
            self._rest(opened)

    def open_orders(self) -> Iterator[tuple[OrderId, int]]:
        """The id and the remaining quantity of each open order."""
        for order in self._orders.values():
            yield order.order_id, order.remaining

    def handle(self, command: Command, at: Nanoseconds) -> list[Event]:
        """Execute a command; returns its events in order."""
        if self.system is TradingStatus.MAINTENANCE:
            return [OrderRejected(command, OrderRejectReason.UNAVAILABLE)]
        return self._cancel_order(command) if isinstance(command, CancelOrder) else self._place_order(command, at)

    def _cancel_order(self, command: CancelOrder) -> list[Event]:
        order = self._orders.get(command.order_id)
        if order is None or order.owner != command.owner:
            return [OrderRejected(command, OrderRejectReason.UNKNOWN_ORDER)]
        del self._orders[order.order_id]
        left = self.books[order.symbol].side(order.side).take(order, order.remaining)
        return [
            Closed(order.order_id, CloseReason.CANCELED, rested=True),
            LevelSet(order.symbol, order.side, order.price, left),
        ]

    def _place_order(self, command: PlaceOrder, at: Nanoseconds) -> list[Event]:
        book = self.books.get(command.symbol)
        if book is None:
            return [OrderRejected(command, OrderRejectReason.UNKNOWN_MARKET)]
        if self.system is TradingStatus.CANCEL_ONLY:
            return [OrderRejected(command, OrderRejectReason.CANCEL_ONLY)]
        if self.system is TradingStatus.POST_ONLY and not command.post_only:
            return [OrderRejected(command, OrderRejectReason.POST_ONLY_MODE)]
        reason = book.reject_reason(command)
        if reason is not None:
            return [OrderRejected(command, reason)]
        order_id = self.next_order_id
        self.next_order_id = OrderId(order_id + 1)
        events: list[Event] = []
        remaining = self._match(book, command, order_id, at, events)
        if not remaining:
            events.append(Closed(order_id, CloseReason.FILLED, rested=False))
        elif command.price is None or command.immediate:
            events.append(Closed(order_id, CloseReason.CANCELED, rested=False))
        else:
            opened = Opened(
                order_id, command.owner, command.symbol, command.side, command.price, command.quantity, remaining, at
            )
            events += (opened, LevelSet(command.symbol, command.side, command.price, self._rest(opened)))
        return events

    def _rest(self, opened: Opened) -> int:
        order = self._orders[opened.order_id] = RestingOrder(opened)
        return self.books[opened.symbol].side(opened.side).add(order)

    def _match(self, book: Book, taker: PlaceOrder, taker_id: OrderId, at: Nanoseconds, events: list[Event]) -> int:
        """Match an order against the other side in price-time priority; returns its remaining quantity."""
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
                # Trade times are unique within a market, so that a page of history may end after any trade.
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
                    events.append(Closed(maker.order_id, CloseReason.FILLED, rested=True))
                if not remaining:
                    break
            events.append(LevelSet(taker.symbol, side, price, left))
        return remaining
