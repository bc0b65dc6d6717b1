"""Instruments: the markets, their names, and their price and quantity steps."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from decimal import Decimal

Symbol = NewType("Symbol", str)
"""A market's name in Kraken's WebSocket v2: BTC/USD."""


class TradingStatus(StrEnum):
    """The trading status of a market or of the whole venue, in Kraken's words."""

    ONLINE = "online"
    CANCEL_ONLY = "cancel_only"
    POST_ONLY = "post_only"
    LIMIT_ONLY = "limit_only"
    REDUCE_ONLY = "reduce_only"
    MAINTENANCE = "maintenance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """A spot market.

    Kraken gives it four names: BTC/USD (`symbol`), XBT/USD (`wsname`), XBTUSD (`altname`), XXBTZUSD (`rest_id`); and
    each asset two: BTC (`base`) is XXBT (`base_id`) over REST. No rule converts them, only Kraken's AssetPairs.
    Prices have `price_digits` decimals and are multiples of `tick_size`; quantities have `quantity_digits`.
    """

    symbol: Symbol
    wsname: str
    altname: str
    rest_id: str
    base: str
    base_id: str
    quote: str
    quote_id: str
    status: str
    price_digits: int
    quantity_digits: int
    cost_digits: int
    tick_size: Decimal
    quantity_min: Decimal
    cost_min: Decimal
