"""/books: the current order book of a market, deeper than the published one."""

from __future__ import annotations

from typing import Literal

from aether_services.contracts.marketdata import Level
from aether_services.contracts.models import Message, Time, Version


class BookView(Message):
    """One market's book, best levels first.

    The venue's checksum covers the best `proved` levels of each side. Deeper levels are not verified; ingest requests a
    new snapshot of them periodically.
    """

    version: Version = 1
    type: Literal["book-view"] = "book-view"
    symbol: str
    usable: bool
    reason: str = ""
    proved: int = 10
    checksum: int = 0
    at: Time
    received: Time
    snapshot_at: Time
    """When the last snapshot was received, which the deeper levels are based on."""
    bids: tuple[Level, ...] = ()
    asks: tuple[Level, ...] = ()
