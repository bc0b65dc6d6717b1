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
    """The side of the taker."""

    BUY = "buy"
    SELL = "sell"


class OrderType(StrEnum):
    """The type of the taker's order."""

    LIMIT = "limit"
    MARKET = "market"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """One trade. Its key is (symbol, trade_id); `trade_id` is contiguous within a market."""

    symbol: Symbol
    trade_id: int
    side: Side
    price: Decimal
    quantity: Decimal
    order_type: OrderType
    at: Nanoseconds
