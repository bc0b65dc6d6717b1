"""Instruments: what can be traded, under which names, and in which steps."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from decimal import Decimal

Symbol = NewType("Symbol", str)
"""A market by its modern name, as BTC/USD; the WebSocket's v2."""


class TradingStatus(StrEnum):
    """What a market, or the venue as a whole, takes at the moment; the venue's own words."""

    ONLINE = "online"
    CANCEL_ONLY = "cancel_only"
    POST_ONLY = "post_only"
    LIMIT_ONLY = "limit_only"
    REDUCE_ONLY = "reduce_only"
    MAINTENANCE = "maintenance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """A spot market.

    It has four names: BTC/USD (`symbol`), XBT/USD (`wsname`), XBTUSD (`altname`), XXBTZUSD (`rest_id`); and its assets
    two: BTC (`base`) is XXBT (`base_id`) over REST. No rule leads from one to another, only the venue's tables.
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
