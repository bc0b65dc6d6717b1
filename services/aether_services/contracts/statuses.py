"""/status: what a room says of itself, to the operator and to people. Versioned as one contract for all rooms."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from aether_services.contracts.models import Message, Time, Version


class Check(Message):
    """One thing that a room needs: whether it has it, and if not, why."""

    ok: bool
    detail: str = ""
    """In words, when it is not; never a secret."""


class Status(Message):
    """What every room says."""

    version: Version = 1
    room: str
    release: str
    instance: str
    """Which replica: its pod's name."""
    started: Time
    ready: bool
    """Whether it does what it is there for; the same as /readyz."""
    draining: bool = False
    checks: dict[str, Check] = Field(default_factory=dict)
    """Name → how it is; the same as /readyz."""


class BookState(Message):
    """One market as an ingest replica has it."""

    usable: bool
    reason: str = ""
    """Why its book is not usable."""
    age_seconds: float | None = None
    """Since its newest book message; null before the first."""
    last_trade_id: int | None = None
    checksum_failures: int = 0
    gaps: int = 0
    """Times that trades were missed and asked for again."""
    trades: str = ""
    """Why trades of it are not handed on; empty while they are."""
    backoff_seconds: float = 0.0
    """Until a book is asked for again that failed repeatedly; 0 where it is not in backoff."""
    silent: tuple[str, ...] = ()
    """Its channels that are subscribed to and left out what others prove to have happened: book, ticker, trade."""


class Output(StrEnum):
    """Where market data goes."""

    KAFKA = "kafka"
    NATS = "nats"
    TABLES = "tables"


class OutputState(Message):
    """One output of an ingest replica."""

    ok: bool
    detail: str = ""
    lag_seconds: float = 0
    """How long the oldest trade has waited that has not arrived there."""
    waiting: int = 0
    """Messages and trades that have not arrived there."""
    conflated: int = 0
    """Book and ticker messages that a newer one took the place of, since the start."""
    rate: float = 0
    """Messages or rows a second, over the last seconds."""


class Feed(Message):
    """The way to the venue."""

    connected: bool
    detail: str = ""
    system: str = ""
    """The venue's own word: online, maintenance, …"""
    age_seconds: float | None = None
    """Since anything was heard, a heartbeat included; null before the first."""
    reconnects: int = 0


class IngestStatus(Status):
    """What ingest says."""

    settings: str = ""
    """A digest of the live settings that it follows."""
    feed: Feed
    books: dict[str, BookState] = Field(default_factory=dict)
    """The markets that this replica serves."""
    outputs: dict[Output, OutputState] = Field(default_factory=dict)


class VenueStatus(Status):
    """What the simulated venue says."""

    system: str
    clients: int
    """Open WebSocket connections."""
    trades: int
    """Trades in its journal."""
    pairs: dict[str, int] = Field(default_factory=dict)
    """Symbol → last trade_id."""
