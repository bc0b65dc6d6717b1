"""A market's ticker: best prices, last trade and the figures of the last 24 hours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from decimal import Decimal

    from aether_services.domain.instruments import Symbol
    from aether_services.domain.times import Nanoseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticker:
    """Prices are in the quote asset, quantities and volume in the base; low to change_percent are over 24 hours."""

    symbol: Symbol
    bid: Decimal
    bid_quantity: Decimal
    ask: Decimal
    ask_quantity: Decimal
    last: Decimal
    volume: Decimal
    vwap: Decimal
    low: Decimal
    high: Decimal
    change: Decimal
    change_percent: Decimal
    at: Nanoseconds
