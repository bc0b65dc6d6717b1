"""The settings of the simulated venue."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Self

import pydantic

from aether_services.kit.settings import Port, ServiceSettings


class Feed(StrEnum):
    """The source of market movement."""

    SYNTHETIC = "Synthetic"
    """A generated order flow, matched by the engine."""
    REPLAY = "Replay"
    """A recording of one market's book."""


class Settings(ServiceSettings):
    """Environment variables with the prefix AETHER_."""

    journal: Path
    """The journal's file on the volume; created when it does not exist."""
    feed: Feed = Feed.SYNTHETIC
    recording: Path | None = None
    """The recording to replay: a file of JSON lines, each a message of the channel book."""
    seed: str = "aether"
    """The random seed of the synthetic order flow."""
    speed: float = pydantic.Field(default=1.0, gt=0, le=100)
    """The factor by which the market is faster than usual."""
    admin_port: Port = 8001
    """The port of the admin API for faults on demand; on 127.0.0.1 only."""
    trades_days: int = pydantic.Field(default=7, ge=1)
    """Days after which trades are deleted from the journal."""
    connects: int = pydantic.Field(default=150, ge=1)
    """WebSocket connections in ten minutes from one address; beyond that it is rejected for ten minutes."""
    message_rate: int = pydantic.Field(default=50, ge=1)
    """Requests per second that one connection may send, with a burst of twice as many."""
    rest_rate: float = pydantic.Field(default=0.0, ge=0)
    """REST calls per second from one address, with a burst of twice as many; 0 for no limit."""
    idle_seconds: float = pydantic.Field(default=60.0, gt=0)
    """Seconds after which a connection without a subscription is closed."""
    queue: int = pydantic.Field(default=4096, ge=16)
    """Messages that may queue for a slow connection; with one more it is closed."""

    @pydantic.model_validator(mode="after")
    def _replay_has_a_recording(self) -> Self:
        if (self.feed is Feed.REPLAY) != (self.recording is not None):
            raise ValueError("a recording is given for Replay, and only for Replay")
        return self
