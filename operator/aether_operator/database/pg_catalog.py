"""A database as values: the server, our tables as they are and as they should be, policies, rollups, logins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import datetime
    from collections.abc import Mapping

    from aether_operator.catalog.logins import DatabaseUser
    from aether_operator.observed.reports import Engine

SCHEMA: Final = "aether"
INTERNAL_TABLES: Final = {
    "ownership": "id int PRIMARY KEY CHECK (id = 1), owner text NOT NULL, since timestamptz NOT NULL DEFAULT now(), "
    "venue text",
    "fence": "id int PRIMARY KEY CHECK (id = 1), epoch bigint NOT NULL, holder text NOT NULL, "
    "since timestamptz NOT NULL",
    "settings": "name text PRIMARY KEY, value text NOT NULL",
    "progress": "revision text PRIMARY KEY, done int NOT NULL, digest text NOT NULL",
    "alembic_version": "version_num varchar(32) NOT NULL CONSTRAINT alembic_version_pkc PRIMARY KEY",
}
"""The operator's own tables, in the order of their creation: `ownership` is the first."""
COMPRESSION: Final = ("symbol", "ts DESC")
"""How chunks are compressed: the segment column, and the order within a segment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """An extension: its installed version and the available one; each is empty where there is none."""

    installed: str = ""
    available: str = ""
    schema: str = ""
    """The schema that it is installed in."""

    @property
    def version(self) -> str:
        """The installed version, else the available one."""
        return self.installed or self.available


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What a connection check reads."""

    version: str
    major: int
    timescale: Extension = Extension()
    timescale_licence: str = ""
    partman: Extension = Extension()
    superuser: bool = False
    creates_roles: bool = False
    may_create: bool = True
    """Whether the login may create the schema, or objects in it once it exists."""
    partman_rights: tuple[str, ...] = ()
    """The rights that the login lacks to use the installed pg_partman."""
    standby: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: str
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table's definition. Constraints and indexes are as PostgreSQL's catalog prints them."""

    name: str
    columns: tuple[Column, ...]
    constraints: Mapping[str, str] = field(default_factory=dict)
    indexes: Mapping[str, str] = field(default_factory=dict)
    """Indexes that belong to no constraint: name → `btree (…)`."""
    size: int = 0
    """Bytes, partitions included."""
    kind: str = "r"
    """`relkind`: `r` is a table, `p` a partitioned one."""
    owned: bool = True
    """Whether our login may alter it."""


INSTRUMENTS: Final = Table(
    name="instruments",
    columns=(
        Column("symbol", "text"),
        Column("altname", "text"),
        Column("base", "text"),
        Column("quote", "text"),
        Column("status", "text"),
        Column("price_decimals", "smallint"),
        Column("lot_decimals", "smallint"),
        Column("cost_decimals", "smallint"),
        Column("tick_size", "numeric"),
        Column("order_min", "numeric"),
        Column("cost_min", "numeric"),
        Column("updated_at", "timestamp with time zone"),
        Column("wsname", "text", required=False),
        Column("rest_id", "text", required=False),
    ),
    constraints={
        "instruments_pkey": "PRIMARY KEY (symbol)",
        "instruments_decimals": "CHECK (((price_decimals >= 0) AND (lot_decimals >= 0) AND (cost_decimals >= 0)))",
        "instruments_steps": "CHECK (((tick_size > (0)::numeric) AND (order_min >= (0)::numeric) "
        "AND (cost_min >= (0)::numeric)))",
    },
)
TRADES_TABLE: Final = Table(
    name="trades",
    columns=(
        Column("symbol", "text"),
        Column("trade_id", "bigint"),
        Column("ts", "timestamp with time zone"),
        Column("side", "text"),
        Column("price", "numeric"),
        Column("qty", "numeric"),
        Column("ord_type", "text"),
        Column("received_at", "timestamp with time zone"),
    ),
    constraints={
        "trades_pkey": "PRIMARY KEY (symbol, trade_id, ts)",
        "trades_side": "CHECK ((side = ANY (ARRAY['buy'::text, 'sell'::text])))",
        "trades_ord_type": "CHECK ((ord_type = ANY (ARRAY['limit'::text, 'market'::text])))",
        "trades_amounts": "CHECK (((price > (0)::numeric) AND (qty > (0)::numeric)))",
    },
    indexes={"trades_symbol_ts": "btree (symbol, ts DESC)"},
)
PROGRESS: Final = Table(
    name="ingest_progress",
    columns=(
        Column("symbol", "text"),
        Column("trade_id", "bigint"),
        Column("ts", "timestamp with time zone"),
        Column("candles_until", "timestamp with time zone", required=False),
    ),
    constraints={"ingest_progress_pkey": "PRIMARY KEY (symbol)"},
)
_LEVELS: Final = (
    "CHECK (((cardinality({side}_prices) = cardinality({side}_qtys)) AND (cardinality({side}_prices) <= 10)))"
)
BOOKS_TABLE: Final = Table(
    name="books",
    columns=(
        Column("symbol", "text"),
        Column("ts", "timestamp with time zone"),
        Column("received_at", "timestamp with time zone"),
        Column("checksum", "bigint"),
        Column("bid_prices", "numeric[]"),
        Column("bid_qtys", "numeric[]"),
        Column("ask_prices", "numeric[]"),
        Column("ask_qtys", "numeric[]"),
    ),
    constraints={
        "books_pkey": "PRIMARY KEY (symbol, ts)",
        "books_bids": _LEVELS.format(side="bid"),
        "books_asks": _LEVELS.format(side="ask"),
    },
)
TICKERS: Final = Table(
    name="tickers",
    columns=(
        Column("symbol", "text"),
        Column("ts", "timestamp with time zone"),
        Column("bid", "numeric"),
        Column("bid_qty", "numeric"),
        Column("ask", "numeric"),
        Column("ask_qty", "numeric"),
        Column("last", "numeric"),
        Column("volume", "numeric"),
        Column("vwap", "numeric"),
        Column("low", "numeric"),
        Column("high", "numeric"),
        Column("change", "numeric"),
        Column("change_pct", "numeric"),
        Column("received_at", "timestamp with time zone"),
    ),
    constraints={"tickers_pkey": "PRIMARY KEY (symbol, ts)"},
)
CANDLES: Final = Table(
    name="candles",
    columns=(
        Column("symbol", "text"),
        Column("ts", "timestamp with time zone"),
        Column("open", "numeric"),
        Column("high", "numeric"),
        Column("low", "numeric"),
        Column("close", "numeric"),
        Column("vwap", "numeric"),
        Column("volume", "numeric"),
        Column("cost", "numeric"),
        Column("trades", "bigint"),
    ),
    constraints={
        "candles_pkey": "PRIMARY KEY (symbol, ts)",
        "candles_minute": "CHECK ((ts = date_bin('00:01:00'::interval, ts, "
        "'2000-01-01 00:00:00+00'::timestamp with time zone)))",
        "candles_prices": "CHECK (((low <= LEAST(open, close)) AND (high >= GREATEST(open, close))))",
        "candles_amounts": "CHECK (((volume >= (0)::numeric) AND (cost >= (0)::numeric) AND (trades >= 0) "
        "AND ((trades = 0) = (volume = (0)::numeric))))",
    },
)
TABLES: Final = {table.name: table for table in (INSTRUMENTS, TRADES_TABLE, PROGRESS, BOOKS_TABLE, TICKERS, CANDLES)}
"""The tables of the newest revision: the result of the migrations, which drift is compared with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowingTable:
    """The fixed partitioning of a table that grows with time; its retention is in the spec."""

    partition_days: int
    """Days of a partition or chunk."""
    compress_days: int
    """Days after which a chunk is compressed."""


GROWING_TABLES: Final[Mapping[str, GrowingTable]] = {
    "trades": GrowingTable(partition_days=1, compress_days=7),
    "books": GrowingTable(partition_days=1, compress_days=1),
    "tickers": GrowingTable(partition_days=1, compress_days=7),
    "candles": GrowingTable(partition_days=7, compress_days=30),
}
"""The tables with a retention. Older rows are dropped, whole partitions at a time."""


@dataclass(frozen=True, slots=True)
class Rollup:
    """Candles longer than a minute, computed from `candles`: a view, with TimescaleDB over a continuous aggregate."""

    name: str
    minutes: int

    @property
    def sums(self) -> str:
        """The continuous aggregate: all columns but the vwap, which needs a join with the instruments."""
        return f"{self.name}_sums"


ROLLUPS: Final = tuple(
    Rollup(f"candles_{name}", minutes)
    for name, minutes in (("5m", 5), ("15m", 15), ("1h", 60), ("4h", 240), ("1d", 1440))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A partition or chunk, and the time range of its rows."""

    name: str
    start: datetime.datetime
    end: datetime.datetime
    rows: int | None = None
    """The planner's estimate; None where there is none yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partitioning:
    """How a growing table is partitioned and retained."""

    engine: Engine | None = None
    """None while the table is neither a hypertable nor configured in pg_partman."""
    days: float | None = None
    """The configured retention; None where there is none."""
    drops: bool = True
    """Whether old partitions are dropped (pg_partman can also only detach them)."""
    compress_days: float | None = None
    compressed: bool = False
    """Whether compression is set up as in COMPRESSION."""
    paused: tuple[str, ...] = ()
    """Policies that a person has paused."""
    premake: int = 0
    """How many future partitions pg_partman creates (`premake`)."""
    premakes_without_rows: bool = True
    """Whether it creates them even without new rows."""
    ignores_default: bool = True
    """Whether it ignores the rows of the default partition when it creates them."""
    partitions: tuple[Partition, ...] = ()
    default: str = ""
    """The default partition, which takes the rows outside of all others."""
    default_starts: tuple[datetime.datetime, ...] = ()
    """The start times of the regular partitions that its rows would belong to, sorted."""
    has_older_rows: bool = False
    """Whether rows are, or may be, older than the desired retention."""

    @property
    def effective_days(self) -> float | None:
        """Days after which rows are really dropped; None while none are: no retention, detached only, or paused."""
        return self.days if self.drops and "policy_retention" not in self.paused else None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A rollup's view, or its continuous aggregate."""

    kind: str
    """`relkind`: `v` for a view and for a continuous aggregate."""
    columns: tuple[Column, ...]
    digest: str
    """Hash of its definition: tells whether it is still the one that was created."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """How a continuous aggregate is refreshed."""

    real_time: bool = True
    """Whether queries also include rows that are not materialized yet."""
    refreshed: tuple[tuple[float | None, float | None, float], ...] = ()
    """Its refresh policies in seconds: start offset (None: unlimited), end offset, interval."""
    paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A login role as it exists."""

    comment: str
    """Its comment: that of a role of a platform names the owner."""
    excess_attributes: tuple[str, ...] = ()
    """Attributes that it should not have, such as SUPERUSER."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """The settings that its sessions start with."""
    can_connect: bool = True
    can_create_temporary: bool = True
    """Whether it may create temporary tables."""
    grantable: bool = True
    """Whether our login may grant it CONNECT and TEMPORARY, as only the database's owner may."""
    can_use_schema: bool = True
    can_create_tables: bool = False
    """Whether it may create tables in our schema."""
    tables: frozenset[str] = frozenset()
    """The tables and views that exist."""
    unreadable_tables: tuple[str, ...] = ()
    """Tables and views that it may not read."""
    granted: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Table → its privileges."""
    reads_future_tables: bool = True
    """Whether it may read future tables (default privileges)."""
    password_works: bool | None = None
    """Whether it accepts the desired password; None where that is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The progress of an interrupted migration: the number of executed statements, and their hash."""

    revision: str
    done: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseState:
    """A database as it was just read."""

    now: datetime.datetime
    server: ServerFacts
    schema: bool = False
    relations: frozenset[str] = frozenset()
    """The names of all tables in the schema."""
    owner: str | None = None
    """Empty where a person released it; the venue of its data stays."""
    owned_since: datetime.datetime | None = None
    venue: str | None = None
    """None where it was never recorded."""
    rows: bool = False
    """Whether there are, or may be, market data; read only where no venue is recorded."""
    epoch: int | None = None
    holder: str = ""
    revision: str | None = None
    progress: Progress | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    """What we set last, which tells an edit by others from a change of the spec."""
    tables: Mapping[str, Table] = field(default_factory=dict)
    partitioning: Mapping[str, Partitioning] = field(default_factory=dict)
    """Of each growing table that exists."""
    views: Mapping[str, View] = field(default_factory=dict)
    aggregates: Mapping[str, Aggregate] = field(default_factory=dict)
    roles: Mapping[DatabaseUser, Role] = field(default_factory=dict)
    """The desired logins that exist, without our own."""
