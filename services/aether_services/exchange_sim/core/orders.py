"""Orders as values: what is asked of the engine, and what came of it. Amounts are in units of the market's decimals."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple, NewType

if TYPE_CHECKING:
    from aether_services.domain.instruments import Symbol
    from aether_services.domain.times import Nanoseconds
    from aether_services.domain.trades import OrderType, Side

Owner = NewType("Owner", str)
"""Whose order it is: an account."""
OrderId = NewType("OrderId", int)
"""Counts from 1 over all markets, and grows: of two orders at one price the smaller one came first."""

FIRST: Final = OrderId(1)

_BASE32: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def txid(order_id: OrderId) -> str:
    """The number in the form that Kraken shows: O, and fifteen letters and digits in groups."""
    digits = "".join(_BASE32[order_id >> 5 * position & 31] for position in reversed(range(16)))
    return f"O{digits[:5]}-{digits[5:10]}-{digits[10:]}"


class OrderRejectReason(StrEnum):
    """Why a command was refused, in Kraken's words."""

    UNKNOWN_MARKET = "EQuery:Unknown asset pair"
    UNKNOWN_ORDER = "EOrder:Unknown order"
    INVALID_PRICE = "EOrder:Invalid price"
    TICK = "EOrder:Tick size check failed"
    MINIMUM = "EOrder:Order minimum not met"
    COST = "EOrder:Cost minimum not met"
    POST_ONLY = "EOrder:Post only order"
    UNAVAILABLE = "EService:Unavailable"
    CANCEL_ONLY = "EService:Market in cancel_only mode"
    POST_ONLY_MODE = "EService:Market in post_only mode"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceOrder:
    """An order. A market order has no price; what it or an immediate order does not fill is cancelled."""

    owner: Owner
    symbol: Symbol
    side: Side
    order_type: OrderType
    quantity: int
    price: int | None = None
    post_only: bool = False
    immediate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelOrder:
    """Take an order from the book; only its owner may."""

    owner: Owner
    order_id: OrderId


Command = PlaceOrder | CancelOrder


class Opened(NamedTuple):
    """An order, or what was left of it, rests on the book, behind all others at its price."""

    order_id: OrderId
    owner: Owner
    symbol: Symbol
    side: Side
    price: int
    quantity: int
    remaining: int
    at: Nanoseconds


class Reduced(NamedTuple):
    """A resting order was filled in part."""

    order_id: OrderId
    remaining: int


class CloseReason(StrEnum):
    """Why an order is no longer open."""

    FILLED = "filled"
    CANCELED = "canceled"


class Closed(NamedTuple):
    """An order is no longer open; `rested` says whether it had been on the book."""

    order_id: OrderId
    reason: CloseReason
    rested: bool


class Traded(NamedTuple):
    """A trade; side and type are the taker's. Within a market ids have no gap and no two times are equal."""

    symbol: Symbol
    trade_id: int
    side: Side
    order_type: OrderType
    price: int
    quantity: int
    at: Nanoseconds
    maker: OrderId
    taker: OrderId


class LevelSet(NamedTuple):
    """All that rests at one price now; 0 when nothing does."""

    symbol: Symbol
    side: Side
    price: int
    quantity: int


class OrderRejected(NamedTuple):
    """Nothing came of a command."""

    command: Command
    reason: OrderRejectReason


Event = Opened | Reduced | Closed | Traded | LevelSet | OrderRejected
