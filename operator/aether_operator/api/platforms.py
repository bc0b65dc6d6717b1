"""TradingPlatform: the platform that a desk's accounts and strategies will stand on.

Every field here has an effect; what later issues make true, they add.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from aether_operator.api.models import Model, Quantity

KIND: Final = "TradingPlatform"
PLURAL: Final = "tradingplatforms"
SHORT: Final = "tp"
LONGEST_NAME: Final = 40
"""Letters in a platform's name: the names of its children are made of it."""


class Server(StrEnum):
    """The servers of a data plane."""

    POSTGRES = "postgres"
    KAFKA = "kafka"
    NATS = "nats"
    REDIS = "redis"


class Mode(StrEnum):
    """Who runs a server."""

    MANAGED = "Managed"
    """The operator: one node, for evaluation."""
    EXTERNAL = "External"
    """Somebody else: we are told where it is."""


class Tls(StrEnum):
    """How a connection to an external server is protected."""

    VERIFY = "Verify"
    """Encrypted, the server's certificate checked against `ca.crt` of the Secret, or the system's authorities."""
    OFF = "Off"


class Timescale(StrEnum):
    """What to do where TimescaleDB is not."""

    REQUIRED = "Required"
    """The platform is not Ready without it."""
    PREFERRED = "Preferred"
    """Native partitions kept by pg_partman, and a Warning."""


class ResourceList(Model):
    cpu: Quantity | None = None
    memory: Quantity | None = None


class Resources(Model):
    requests: ResourceList = ResourceList()
    limits: ResourceList = ResourceList()


class Managed(Model):
    """A server that the operator runs: one pod, one volume. For evaluation."""

    storage: Quantity = "10Gi"
    resources: Resources = Resources()


class External(Model):
    """A server that somebody else runs. The Secret has `username`, `password` and, where needed, `ca.crt`."""

    host: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$")]
    port: Annotated[int, Field(ge=1, le=65535)]
    tls: Tls = Tls.VERIFY
    secret_name: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]


class ExternalDatabase(External):
    database: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z_][a-z0-9_-]*$")]


class Placed(Model):
    """A server of the data plane: Managed has `managed`, External has `external`, and the mode is for good."""

    mode: Mode = Mode.MANAGED
    managed: Managed | None = None
    external: External | None = None


class Postgres(Model):
    mode: Mode = Mode.MANAGED
    timescale: Timescale = Timescale.PREFERRED
    managed: Managed | None = None
    external: ExternalDatabase | None = None


class DataPlane(Model):
    postgres: Postgres = Postgres()
    kafka: Placed = Placed()
    nats: Placed = Placed()
    redis: Placed = Placed()

    def of(self, server: Server) -> Placed | Postgres:
        """One server's part."""
        part: Placed | Postgres = getattr(self, server.value)
        return part


class Retention(Model):
    """How long rows are kept; what is older is dropped, whole partitions at a time."""

    trades_days: Annotated[int, Field(ge=1, le=3650)] = 90


class PlatformSpec(Model):
    paused: bool = False
    progress_deadline_seconds: Annotated[int, Field(ge=10, le=86400)] = 300
    data_plane: DataPlane = DataPlane()
    retention: Retention = Retention()


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """A TradingPlatform whose spec was understood."""

    namespace: str
    name: str
    uid: str
    generation: int
    spec: PlatformSpec
