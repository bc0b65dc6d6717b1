"""TradingPlatform: the data plane, the market data pipeline and the venue that trading accounts and strategies use.

Field docstrings become the descriptions in the CRD, which `kubectl explain` prints.
"""

from __future__ import annotations

import functools
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias, get_args

from pydantic import Field

from aether_operator.api.models import PROGRESS_DEADLINE_SECONDS, Model, Quantity
from aether_operator.api.resources import Resource

if TYPE_CHECKING:
    from collections.abc import Mapping

KIND: Final = "TradingPlatform"
PLURAL: Final = "tradingplatforms"
SHORT: Final = "tp"
MAX_NAME_LENGTH: Final = 40
"""The maximum length of a platform's name: the names of its children contain it."""
MAX_DATABASE_LENGTH: Final = 63
"""The maximum length of a database's name in PostgreSQL."""
DEFAULT_STORAGE: Final = "10Gi"
MAX_PAIRS: Final = 64
MAX_REPLICAS: Final = 8
DEFAULT_PAIRS: Final = (
    "BTC/USD", "ETH/USD", "SOL/USD", "XRP/USD", "ADA/USD", "DOGE/USD", "LTC/USD", "LINK/USD", "DOT/USD", "AVAX/USD",
)  # fmt: skip
"""The markets of the simulated venue."""


class Server(StrEnum):
    """The servers of a data plane."""

    POSTGRES = "postgres"
    KAFKA = "kafka"
    NATS = "nats"
    REDIS = "redis"


class Mode(StrEnum):
    """Who runs a server."""

    MANAGED = "Managed"
    """The operator runs it: one node, for evaluation."""
    EXTERNAL = "External"
    """Somebody else runs it; the spec has its address."""


class Tls(StrEnum):
    """How a connection to an external server is protected."""

    VERIFY = "Verify"
    """Encrypted; the server's certificate is verified with `ca.crt` of the Secret, or with the system's CAs."""
    OFF = "Disabled"


class Timescale(StrEnum):
    """What to do without TimescaleDB."""

    REQUIRED = "Required"
    """The platform is not Ready without TimescaleDB."""
    PREFERRED = "Preferred"
    """Use native partitions, managed by pg_partman, and report a Warning."""


class ResourceList(Model):
    """An amount of CPU and memory."""

    cpu: Quantity | None = None
    """Cores, as `500m` or `2`."""
    memory: Quantity | None = None
    """Bytes, as `512Mi` or `2Gi`."""


class Resources(Model):
    """Resource requests and limits of a container; the operator has defaults for what is left out."""

    requests: ResourceList = ResourceList()
    """The resources that the node must have available."""
    limits: ResourceList = ResourceList()
    """The most that the container may use."""


class Managed(Model):
    """A server that the operator runs: one pod, one volume. For evaluation, not for production."""

    storage: Quantity = DEFAULT_STORAGE
    """Size of the volume. It may grow if the StorageClass allows expansion; it never shrinks."""
    resources: Resources = Resources()
    """Resource requests and limits of its pod."""


LOGIN_KEYS: Final = ("username", "password")
"""The keys that the Secret of an External server must have."""
CA_KEY: Final = "ca.crt"
"""Its optional key with the CA certificates that the server's certificate is verified with."""


class External(Model):
    """A server that somebody else runs."""

    host: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$")]
    """Host name or IP address."""
    port: Annotated[int, Field(strict=True, ge=1, le=65535)]
    """TCP port."""
    tls: Tls = Tls.VERIFY
    """Verify: use TLS and verify the server's certificate. Disabled: no encryption."""
    secret_name: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]
    """Name of the Secret in this namespace with the login: keys `username`, `password`, and `ca.crt` if the server's
    certificate is not signed by one of the system's CAs."""


class ExternalDatabase(External):
    """A PostgreSQL server that somebody else runs."""

    database: Annotated[str, Field(min_length=1, max_length=MAX_DATABASE_LENGTH, pattern=r"^[a-z_][a-z0-9_-]*$")]
    """Name of the database. A database belongs to one platform."""


class ServerSpec(Model):
    """A server of the data plane: who runs it, and its settings or its address."""

    mode: Mode = Mode.MANAGED
    """Managed: the operator runs it, for evaluation. External: somebody else runs it. Immutable."""
    managed: Managed | None = None
    """Settings of a Managed server; only with mode Managed."""
    external: External | None = None
    """Address of an External server; required with mode External."""


class Postgres(Model):
    """PostgreSQL: who runs it, its settings or its address, and whether TimescaleDB is required."""

    mode: Mode = Mode.MANAGED
    """Managed: the operator runs it, for evaluation. External: somebody else runs it. Immutable."""
    timescale: Timescale = Timescale.PREFERRED
    """Preferred: without TimescaleDB, use native partitions managed by pg_partman and report a Warning. Required:
    without TimescaleDB the platform is not Ready."""
    managed: Managed | None = None
    """Settings of a Managed server; only with mode Managed."""
    external: ExternalDatabase | None = None
    """Address of an External server; required with mode External."""


class DataPlane(Model):
    """The servers that the platform uses."""

    postgres: Postgres = Postgres()
    """PostgreSQL: tables of market data and instruments."""
    kafka: ServerSpec = ServerSpec()
    """Kafka: durable streams of market data."""
    nats: ServerSpec = ServerSpec()
    """NATS: low-latency market data; JetStream must be enabled."""
    redis: ServerSpec = ServerSpec()
    """Redis: key-value cache."""

    def of(self, server: Server) -> ServerSpec | Postgres:
        """The part of one server."""
        part: ServerSpec | Postgres = getattr(self, server.value)
        return part


class VenueName(StrEnum):
    """The venue that the platform trades on."""

    SIMULATED = "Simulated"
    """The platform's own simulated exchange, for paper trading."""
    KRAKEN = "Kraken"


class Feed(StrEnum):
    """The source of a venue's market data."""

    SYNTHETIC = "Synthetic"
    """Generated by the simulated venue."""
    LIVE = "Live"
    """The venue's own market data, in real time."""


FEEDS: Final = {VenueName.SIMULATED: Feed.SYNTHETIC, VenueName.KRAKEN: Feed.LIVE}
"""Venue → its feed; no other combination is valid."""


class Venue(Model):
    """The venue that the platform trades on, and the source of its market data."""

    name: VenueName = VenueName.SIMULATED
    """Simulated: the platform's own exchange, for paper trading. Kraken: the real exchange. Immutable, since data of
    simulated and real markets must not mix in one database."""
    feed: Feed | None = None
    """Synthetic: generated, only with Simulated. Live: the venue's own, only with Kraken. If left out, the feed of the
    venue is used."""

    @property
    def effective_feed(self) -> Feed:
        """The feed, or the venue's default if the spec leaves it out."""
        return self.feed or FEEDS[self.name]


Pair = Annotated[
    str,
    Field(min_length=5, max_length=20, pattern=r"^[A-Z0-9]{1,16}/USD$", description="A market, such as BTC/USD."),
]


class ComponentSpec(Model):
    """What the settings of every component have."""

    resources: Resources = Resources()
    """Resource requests and limits of each pod."""


class Replicated(Model):
    """What the settings of a component have that may run in several pods; any other has one."""

    replicas: Annotated[int, Field(strict=True, ge=1, le=MAX_REPLICAS)] = 1
    """Number of pods."""


class Stored(Model):
    """What the settings of a component have that keeps data on a volume."""

    storage: Quantity = "1Gi"
    """Size of the volume. It may grow if the StorageClass allows expansion."""


class Ingest(ComponentSpec, Replicated):
    """The service that publishes market data from the venue to Kafka and NATS, and stores them in the database."""

    replicas: Annotated[int, Field(strict=True, ge=1, le=MAX_REPLICAS)] = 1
    """Number of pods. They share the markets, and take over the markets of a pod that fails."""


class ExchangeSim(ComponentSpec, Stored):
    """The simulated venue."""

    storage: Quantity = "1Gi"
    """Size of the volume with its journal of all trades. It may grow if the StorageClass allows expansion."""
    resources: Resources = Resources()
    """Resource requests and limits of its pod."""
    speed: Annotated[int, Field(strict=True, ge=1, le=10)] = 1
    """Activity of its markets, as a multiple of the usual rate."""


class Components(Model):
    """Settings of the platform's services.

    A field has the name of a service, and a model that derives from `ComponentSpec`. A component that only some venues
    have is None if the spec leaves it out.
    """

    ingest: Ingest = Ingest()
    """The service that publishes market data from the venue to Kafka and NATS, and stores them in the database."""
    exchange_sim: ExchangeSim | None = None
    """The simulated venue; only with venue Simulated."""

    def of(self, component: str) -> ComponentSpec:
        """The settings of one component; the defaults if the spec leaves it out."""
        given: ComponentSpec | None = getattr(self, component)
        return component_models()[component]() if given is None else given

    def replicas(self, component: str) -> int:
        """The number of a component's pods."""
        part: Model = self.of(component)
        return part.replicas if isinstance(part, Replicated) else 1

    def storage(self, component: str) -> str | None:
        """The size of a component's volume; None if it has none."""
        part: Model = self.of(component)
        return part.storage if isinstance(part, Stored) else None


@functools.cache
def component_models() -> Mapping[str, type[ComponentSpec]]:
    """Component → the model of its settings."""
    found = {}
    for name, field in Components.model_fields.items():
        (found[name],) = (
            one
            for one in (field.annotation, *get_args(field.annotation))
            if isinstance(one, type) and issubclass(one, ComponentSpec)
        )
    return found


def component_field(component: str) -> str:
    """The name of a component's settings in `spec.components`."""
    alias = Components.model_fields[component].alias
    if alias is None:
        raise TypeError("the models of the API have an alias generator")
    return alias


class Retention(Model):
    """How long rows are kept; older partitions are dropped."""

    trades_days: Annotated[int, Field(strict=True, ge=1, le=3650)] = 90
    """Days to keep trades. A reduction that would drop existing rows is held and shown in the status until it can be
    approved."""
    books_days: Annotated[int, Field(strict=True, ge=1, le=3650)] = 7
    """Days to keep order books; a reduction is held as with trades."""
    tickers_days: Annotated[int, Field(strict=True, ge=1, le=3650)] = 30
    """Days to keep tickers; a reduction is held as with trades."""
    candles_days: Annotated[int, Field(strict=True, ge=1, le=3650)] = 1825
    """Days to keep one-minute candles and the longer candles derived from them, in whole weeks; a reduction is held as
    with trades."""

    def by_table(self) -> dict[str, int]:
        """Table → days to keep its rows."""
        return {
            "trades": self.trades_days,
            "books": self.books_days,
            "tickers": self.tickers_days,
            "candles": self.candles_days,
        }


class PlatformSpec(Model):
    """The desired state of a platform."""

    paused: Annotated[bool, Field(strict=True)] = False
    """If true, the operator changes nothing; it still updates the status and handles deletion."""
    progress_deadline_seconds: Annotated[int, Field(strict=True, ge=10, le=86400)] = PROGRESS_DEADLINE_SECONDS
    """Seconds without becoming Ready after which the platform is Stalled."""
    data_plane: DataPlane = DataPlane()
    """The servers that the platform uses."""
    venue: Venue = Venue()
    """The venue that the platform trades on, and the source of its market data."""
    pairs: Annotated[tuple[Pair, ...], Field(min_length=1, max_length=MAX_PAIRS)] = DEFAULT_PAIRS
    """The markets to ingest, without duplicates. A change takes effect without a restart."""
    components: Components = Components()
    """Settings of the platform's services."""
    retention: Retention = Retention()
    """How long rows are kept."""


Platform: TypeAlias = Resource[PlatformSpec]
"""A TradingPlatform with a valid spec."""
