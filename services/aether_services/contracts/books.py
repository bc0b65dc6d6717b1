"""/books: a book as it is at this moment, deeper than what is published."""

from __future__ import annotations

from typing import Literal

from aether_services.contracts.marketdata import Level
from aether_services.contracts.models import Message, Time, Version


class BookView(Message):
    """One market's book, best levels first.

    The venue's checksum proves the `proved` best levels of each side; what lies deeper was received and not proved, and
    is asked for anew each `refreshed`.
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
    """When the last snapshot was received, which the deeper levels stand on."""
    bids: tuple[Level, ...] = ()
    asks: tuple[Level, ...] = ()
