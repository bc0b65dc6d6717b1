"""What ingest is told at its start; a contract test holds it against what the operator renders."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from aether_services.kit import settings

Port = Annotated[int, Field(ge=0, le=65535)]


DEPTHS: Final = (10, 25, 100, 500, 1000)


def _served(depth: int) -> int:
    if depth not in DEPTHS:
        raise ValueError(f"a venue has books of {', '.join(map(str, DEPTHS))} levels")
    return depth


class Venue(StrEnum):
    """Whom it listens to."""

    SIMULATED = "Simulated"
    KRAKEN = "Kraken"


class Tls(StrEnum):
    """How a connection to a server is protected."""

    VERIFY = "Verify"
    OFF = "Disabled"


class Settings(settings.Settings):
    """The environment."""

    instance: Annotated[str, Field(pattern=r"^.*-[0-9]+$")]
    """The pod's name; the number at its end tells the replicas apart."""
    release: str
    venue: Venue
    venue_ws_url: str
    venue_rest_url: str
    live_settings: Path
    """The file with what may change while it runs."""
    peer_url: str
    """Where the replicas answer, with {replica} for the number."""
    kafka_host: str
    kafka_port: Port
    kafka_tls: Tls
    kafka_credentials: Path
    nats_host: str
    nats_port: Port
    nats_tls: Tls
    nats_credentials: Path
    postgres_host: str
    postgres_port: Port
    postgres_tls: Tls
    postgres_database: str
    postgres_credentials: Path
    http_host: str | None = None
    """Nothing: every address of the pod, IPv4 and IPv6."""
    http_port: Port = 8000
    log_level: str = "INFO"
    book_depth: Annotated[int, AfterValidator(_served)] = 100
    """Levels of each side that are asked for: 10, 25, 100, 500 or 1000."""
    book_refresh_seconds: Annotated[float, Field(ge=5)] = 300
    """Seconds after which a book is asked for anew, for its deeper levels."""
    tape_length: Annotated[int, Field(ge=10)] = 1_000
    """Trades of a market that are remembered; an output that is further behind has them from the venue again."""

    @property
    def number(self) -> int:
        """Which of the replicas it is."""
        return int(self.instance.rpartition("-")[2])
