"""Trades as a venue reports them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from decimal import Decimal

    from aether_services.domain.instruments import Symbol
    from aether_services.domain.times import Nanoseconds


class Side(StrEnum):
    """Who took."""

    BUY = "buy"
    SELL = "sell"


class OrderType(StrEnum):
    """What the taker's order was."""

    LIMIT = "limit"
    MARKET = "market"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """One trade. `trade_id` is contiguous within a market: it is what a trade is known by, everywhere."""

    symbol: Symbol
    trade_id: int
    side: Side
    price: Decimal
    quantity: Decimal
    order_type: OrderType
    at: Nanoseconds
