"""/status: what a service reports about itself, to the operator and to people. One versioned contract for all."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from aether_services.contracts.models import Message, Time

StatusVersion = Literal[2]
"""Since 2 the kind of service is in the field `service`."""


class Check(Message):
    """One readiness check of a service."""

    ok: bool
    detail: str = ""
    """Why it is not ok; never contains a secret."""


class Status(Message):
    """What every service reports."""

    version: StatusVersion = 2
    service: str
    """The name of the service, which is also its package's."""
    release: str
    instance: str
    """The replica: the name of its pod."""
    started: Time
    ready: bool
    """The same as /readyz."""
    draining: bool = False
    checks: dict[str, Check] = Field(default_factory=dict)
    """The readiness checks by name; the same as /readyz."""


class BookState(Message):
    """The state of one market in an ingest replica."""

    usable: bool
    reason: str = ""
    """Why the book is not usable."""
    age_seconds: float | None = None
    """Since the newest book message; null before the first."""
    last_trade_id: int | None = None
    checksum_failures: int = 0
    gaps: int = 0
    """How often trades were missed and requested again."""
    trades: str = ""
    """Why trades are withheld from the outputs; empty while they are delivered."""
    backoff_seconds: float = 0.0
    """Until the next subscription to a book that failed repeatedly; 0 when it is not in backoff."""
    silent: tuple[str, ...] = ()
    """Subscribed channels that left out what other channels prove to have happened: book, ticker, trade."""


class Output(StrEnum):
    """The destinations of market data."""

    KAFKA = "kafka"
    NATS = "nats"
    TABLES = "tables"


class OutputState(Message):
    """The state of one output of an ingest replica."""

    ok: bool
    detail: str = ""
    lag_seconds: float = 0
    """The age of the oldest message or trade that is not delivered yet."""
    waiting: int = 0
    """Messages and trades that are not delivered yet."""
    conflated: int = 0
    """Book and ticker messages that were replaced by newer ones before delivery, since the start."""
    rate: float = 0
    """Delivered messages or rows per second, over the last ten seconds."""


class Feed(Message):
    """The connection to the venue."""

    connected: bool
    detail: str = ""
    system: str = ""
    """The venue's system status: online, maintenance, …"""
    age_seconds: float | None = None
    """Since the last message, heartbeats included; null before the first."""
    reconnects: int = 0


class IngestStatus(Status):
    """The status of ingest."""

    settings: str = ""
    """The digest of the live settings that it follows."""
    feed: Feed
    books: dict[str, BookState] = Field(default_factory=dict)
    """The markets that this replica serves, by symbol."""
    outputs: dict[Output, OutputState] = Field(default_factory=dict)


class VenueStatus(Status):
    """The status of the simulated venue."""

    system: str
    clients: int
    """Open WebSocket connections."""
    trades: int
    """Trades in its journal."""
    pairs: dict[str, int] = Field(default_factory=dict)
    """The last trade_id of each market, by symbol."""
