"""The engine's commands and events. Amounts are integers in units of the market's last decimal."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple, NewType

if TYPE_CHECKING:
    from aether_services.domain.instruments import Symbol
    from aether_services.domain.times import Nanoseconds
    from aether_services.domain.trades import OrderType, Side

Owner = NewType("Owner", str)
"""The account that owns an order."""
OrderId = NewType("OrderId", int)
"""Counts up from 1 over all markets, so that at one price the smaller id has time priority."""

FIRST: Final = OrderId(1)

_BASE32: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def txid(order_id: OrderId) -> str:
    """An order id in Kraken's form: O, and base-32 digits in groups."""
    digits = "".join(_BASE32[order_id >> 5 * position & 31] for position in reversed(range(16)))
    return f"O{digits[:5]}-{digits[5:10]}-{digits[10:]}"


class OrderRejectReason(StrEnum):
    """Why a command was rejected, as Kraken's error text."""

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
    """Place an order. A market order has no price; the unfilled rest of it or of an immediate order is cancelled."""

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
    """Cancel an order; only its owner may."""

    owner: Owner
    order_id: OrderId


Command = PlaceOrder | CancelOrder


class Opened(NamedTuple):
    """An order rests on the book with its remaining quantity, last in the queue at its price."""

    order_id: OrderId
    owner: Owner
    symbol: Symbol
    side: Side
    price: int
    quantity: int
    remaining: int
    at: Nanoseconds


class Reduced(NamedTuple):
    """A resting order was partially filled."""

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
    """A trade; side and type are the taker's. Within a market ids are contiguous and times unique."""

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
    """The new total quantity at one price; 0 when the level is removed."""

    symbol: Symbol
    side: Side
    price: int
    quantity: int


class OrderRejected(NamedTuple):
    """A command was rejected and changed nothing."""

    command: Command
    reason: OrderRejectReason


Event = Opened | Reduced | Closed | Traded | LevelSet | OrderRejected
