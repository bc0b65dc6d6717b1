"""What the room is told at its start."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

import pydantic

from aether_services.kit import settings

Port = Annotated[int, pydantic.Field(ge=0, le=65535)]


class Feed(StrEnum):
    """What makes the market move."""

    SYNTHETIC = "Synthetic"
    """Made-up orders, matched by the engine."""
    REPLAY = "Replay"
    """A recording of one market's book."""


class Settings(settings.Settings):
    """Variables of the environment, AETHER_ before each name."""

    instance: str
    """Which replica: its pod's name."""
    release: str
    """Of the software."""
    journal: Path
    """A file on the volume; it is made when it is not there."""
    feed: Feed = Feed.SYNTHETIC
    recording: Path | None = None
    """What is replayed: a file of JSON lines, each a message of the channel book."""
    seed: str = "aether"
    """Chance of the synthetic flow."""
    speed: float = pydantic.Field(default=1.0, gt=0, le=100)
    """How many times faster than usual the market moves."""
    http_host: str | None = None
    """Nothing: every address of the pod, IPv4 and IPv6."""
    http_port: Port = 8000
    admin_port: Port = 8001
    """Of the faults on demand; on 127.0.0.1 alone."""
    trades_days: int = pydantic.Field(default=7, ge=1)
    """Trades older than that are dropped from the journal."""
    connects: int = pydantic.Field(default=150, ge=1)
    """WebSocket connects in ten minutes from one address; after that it is refused for ten minutes."""
    message_rate: int = pydantic.Field(default=50, ge=1)
    """Messages a second that one connection may send, twice as many at once."""
    rest_rate: float = pydantic.Field(default=0.0, ge=0)
    """Calls of REST a second from one address, twice as many at once; with 0 there is no limit."""
    idle_seconds: float = pydantic.Field(default=60.0, gt=0)
    """After which a connection without a subscription is closed."""
    queue: int = pydantic.Field(default=4096, ge=16)
    """Messages that wait for a slow connection; with one more it is closed."""

    @pydantic.model_validator(mode="after")
    def _replay_has_a_recording(self) -> Self:
        if (self.feed is Feed.REPLAY) != (self.recording is not None):
            raise ValueError("a recording is given for Replay, and only for Replay")
        return self
