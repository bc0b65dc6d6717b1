"""The settings of ingest. A contract test compares them with what the operator renders."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from aether_services.kit.settings import KafkaSettings, NatsSettings, PostgresSettings, ServiceSettings

DEPTHS: Final = (10, 25, 100, 500, 1000)


def _served(depth: int) -> int:
    if depth not in DEPTHS:
        raise ValueError(f"a venue has books of {', '.join(map(str, DEPTHS))} levels")
    return depth


class Venue(StrEnum):
    """The venue that market data comes from."""

    SIMULATED = "Simulated"
    KRAKEN = "Kraken"


class Settings(ServiceSettings, PostgresSettings, KafkaSettings, NatsSettings):
    """Environment variables with the prefix AETHER_."""

    instance: Annotated[str, Field(pattern=r"^.*-[0-9]+$")]
    """The name of the pod, which ends with the replica's number."""
    venue: Venue
    venue_ws_url: str
    venue_rest_url: str
    live_settings: Path
    """The file with the settings that may change while the service runs."""
    peer_url: str
    """The URL of a replica, with {replica} in place of its number."""
    book_depth: Annotated[int, AfterValidator(_served)] = 100
    """Subscribed levels of each side: 10, 25, 100, 500 or 1000."""
    book_refresh_seconds: Annotated[float, Field(ge=5)] = 300
    """Seconds after which a new snapshot of a book is requested, for its deeper levels."""
    tape_length: Annotated[int, Field(ge=10)] = 1_000
    """Trades of each market that are kept in memory; for an output that is further behind they are queried again."""

    @property
    def number(self) -> int:
        """The replica's number."""
        return int(self.instance.rpartition("-")[2])
