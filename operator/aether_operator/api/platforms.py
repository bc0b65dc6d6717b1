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
MAX_NAME_LENGTH: Final = 40
"""Letters in a platform's name: the names of its children are made of it."""


MAX_DATABASE_LENGTH: Final = 56
"""Letters in a database's name: with `_reader` it is the name of a login, which PostgreSQL cuts after 63."""
DEFAULT_STORAGE: Final = "10Gi"
MAX_PAIRS: Final = 64
MAX_REPLICAS: Final = 8
DEFAULT_PAIRS: Final = (
    "BTC/USD", "ETH/USD", "SOL/USD", "XRP/USD", "ADA/USD", "DOGE/USD", "LTC/USD", "LINK/USD", "DOT/USD", "AVAX/USD",
)  # fmt: skip
"""The markets that the simulated venue has."""


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
    OFF = "Disabled"


class Timescale(StrEnum):
    """What to do where TimescaleDB is not."""

    REQUIRED = "Required"
    """The platform is not Ready without it."""
    PREFERRED = "Preferred"
    """Native partitions kept by pg_partman, and a Warning."""


class ResourceList(Model):
    """Amounts of CPU and memory."""

    cpu: Quantity | None = None
    """Cores, as `500m` or `2`."""
    memory: Quantity | None = None
    """Bytes, as `512Mi` or `2Gi`."""


class Resources(Model):
    """What a server's container asks for and may use; what is left out is the operator's choice."""

    requests: ResourceList = ResourceList()
    """What the node must have free for it."""
    limits: ResourceList = ResourceList()
    """What it may use."""


class Managed(Model):
    """A server that the operator runs: one pod, one volume. For evaluation, not for production."""

    storage: Quantity = DEFAULT_STORAGE
    """The volume's size. It may grow, where the StorageClass can; a smaller one than it has is not done."""
    resources: Resources = Resources()
    """What its pod asks for and may use."""


class External(Model):
    """A server that somebody else runs."""

    host: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$")]
    """Its name or address."""
    port: Annotated[int, Field(strict=True, ge=1, le=65535)]
    """Its port."""
    tls: Tls = Tls.VERIFY
    """Verify: encrypted, and the server's certificate checked. Disabled: in the clear."""
    secret_name: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]
    """The Secret of this namespace with the login: keys `username`, `password`, and `ca.crt` where the server's
    authority is not one of the system's."""


class ExternalDatabase(External):
    """A PostgreSQL that somebody else runs."""

    database: Annotated[str, Field(min_length=1, max_length=MAX_DATABASE_LENGTH, pattern=r"^[a-z_][a-z0-9_-]*$")]
    """The database. It belongs to one platform."""


class ServerSpec(Model):
    """A server of the data plane: who runs it, and how it is run or where it is."""

    mode: Mode = Mode.MANAGED
    """Managed: by the operator, for evaluation. External: by somebody else. It cannot be changed."""
    managed: Managed | None = None
    """How it is run; only with mode Managed."""
    external: External | None = None
    """Where it is; needed with mode External."""


class Postgres(Model):
    """PostgreSQL: who runs it, how it is run or where it is, and whether it must have TimescaleDB."""

    mode: Mode = Mode.MANAGED
    """Managed: by the operator, for evaluation. External: by somebody else. It cannot be changed."""
    timescale: Timescale = Timescale.PREFERRED
    """Preferred: without TimescaleDB tables are native partitions kept by pg_partman, with a Warning. Required: without
    it the platform is not Ready."""
    managed: Managed | None = None
    """How it is run; only with mode Managed."""
    external: ExternalDatabase | None = None
    """Where it is; needed with mode External."""


class DataPlane(Model):
    """The servers that the platform stands on."""

    postgres: Postgres = Postgres()
    """Tables."""
    kafka: ServerSpec = ServerSpec()
    """Streams that are kept."""
    nats: ServerSpec = ServerSpec()
    """Messages that are fast; JetStream must be on."""
    redis: ServerSpec = ServerSpec()
    """Values that are looked up often."""

    def of(self, server: Server) -> ServerSpec | Postgres:
        """One server's part."""
        part: ServerSpec | Postgres = getattr(self, server.value)
        return part


class VenueName(StrEnum):
    """Where the desk trades."""

    SIMULATED = "Simulated"
    """A venue of our own, for paper."""
    KRAKEN = "Kraken"


class Feed(StrEnum):
    """Where a venue's market data come from."""

    SYNTHETIC = "Synthetic"
    """They are made up."""
    LIVE = "Live"
    """They are the venue's own, as they happen."""


FEEDS: Final = {VenueName.SIMULATED: Feed.SYNTHETIC, VenueName.KRAKEN: Feed.LIVE}
"""Which feed goes with which venue; there are no other pairs of these."""


class Venue(Model):
    """Where the desk trades, and where its market data come from."""

    name: VenueName = VenueName.SIMULATED
    """Simulated: a venue of the platform's own, for paper. Kraken: the real one. It cannot be changed, since data of
    paper and real markets never mix in one database."""
    feed: Feed | None = None
    """Synthetic: made up, and goes with Simulated. Live: the venue's own, and goes with Kraken. Left out: the one that
    goes with the venue."""

    @property
    def effective_feed(self) -> Feed:
        """The feed, said or not."""
        return self.feed or FEEDS[self.name]


Pair = Annotated[
    str,
    Field(min_length=5, max_length=20, pattern=r"^[A-Z0-9]{1,16}/USD$", description="A market, as BTC/USD."),
]


class Ingest(Model):
    """The room that brings market data from the venue to Kafka, NATS and the tables."""

    replicas: Annotated[int, Field(strict=True, ge=1, le=MAX_REPLICAS)] = 1
    """Its pods. They share the markets, and each takes over from one that is not there."""
    resources: Resources = Resources()
    """What each of its pods asks for and may use."""


class ExchangeSim(Model):
    """The room that is the simulated venue."""

    storage: Quantity = "1Gi"
    """The size of the volume with its journal, which all its trades are in. It may grow, where the StorageClass can."""
    resources: Resources = Resources()
    """What its pod asks for and may use."""
    speed: Annotated[int, Field(strict=True, ge=1, le=10)] = 1
    """How many times as much happens in its markets as usually does."""


class Components(Model):
    """The rooms of the platform, one by one."""

    ingest: Ingest = Ingest()
    """Brings market data from the venue to Kafka, NATS and the tables."""
    exchange_sim: ExchangeSim | None = None
    """The simulated venue; only with venue Simulated."""


class Retention(Model):
    """How long rows are kept; what is older is dropped, whole partitions at a time."""

    trades_days: Annotated[int, Field(strict=True, ge=1, le=3650)] = 90
    """Days for which trades are kept. Making it shorter over data that is there already is shown in the status, and
    not done before somebody may approve it."""
    books_days: Annotated[int, Field(strict=True, ge=1, le=3650)] = 7
    """Days for which books are kept; shorter as with trades."""
    tickers_days: Annotated[int, Field(strict=True, ge=1, le=3650)] = 30
    """Days for which tickers are kept; shorter as with trades."""
    candles_days: Annotated[int, Field(strict=True, ge=1, le=3650)] = 1825
    """Days for which candles of a minute are kept, and the longer ones that are made of them; shorter as with trades,
    and whole weeks at a time."""

    def by_table(self) -> dict[str, int]:
        """Table → days."""
        return {
            "trades": self.trades_days,
            "books": self.books_days,
            "tickers": self.tickers_days,
            "candles": self.candles_days,
        }


class PlatformSpec(Model):
    """What the platform should be."""

    paused: Annotated[bool, Field(strict=True)] = False
    """While it is true nothing is changed; the status and a deletion go on."""
    progress_deadline_seconds: Annotated[int, Field(strict=True, ge=10, le=86400)] = 300
    """Seconds for which something may be missing before the platform counts as Stalled."""
    data_plane: DataPlane = DataPlane()
    """The servers that the platform stands on."""
    venue: Venue = Venue()
    """Where the desk trades, and where its market data come from."""
    pairs: Annotated[tuple[Pair, ...], Field(min_length=1, max_length=MAX_PAIRS)] = DEFAULT_PAIRS
    """The markets whose data are brought in, each once. An edit takes effect while everything runs on."""
    components: Components = Components()
    """The rooms of the platform."""
    retention: Retention = Retention()
    """How long rows are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """A TradingPlatform whose spec was understood."""

    namespace: str
    name: str
    uid: str
    generation: int
    spec: PlatformSpec
