"""What a database looks like, as values: the server, our tables and how they should be, policies, candles, logins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import datetime
    from collections.abc import Mapping

    from aether_operator.catalog.logins import DatabaseUser
    from aether_operator.observed.reports import Engine

SCHEMA: Final = "aether"
BOOKS: Final = {
    "ownership": "id int PRIMARY KEY CHECK (id = 1), owner text NOT NULL, since timestamptz NOT NULL DEFAULT now(), "
    "venue text",
    "fence": "id int PRIMARY KEY CHECK (id = 1), epoch bigint NOT NULL, holder text NOT NULL, "
    "since timestamptz NOT NULL",
    "settings": "name text PRIMARY KEY, value text NOT NULL",
    "progress": "revision text PRIMARY KEY, done int NOT NULL, digest text NOT NULL",
    "alembic_version": "version_num varchar(32) NOT NULL CONSTRAINT alembic_version_pkc PRIMARY KEY",
}
"""What the operator keeps there for itself, in the order in which it is made: whose the database is comes first."""
COMPRESSION: Final = ("symbol", "ts DESC")
"""How chunks are compressed: segments, and the order within."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """An extension: the version that is installed, and the one that could be; empty where it is not."""

    installed: str = ""
    available: str = ""
    schema: str = ""
    """Where it is installed."""

    @property
    def version(self) -> str:
        """The version that counts."""
        return self.installed or self.available


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What a connection check asks."""

    version: str
    major: int
    timescale: Extension = Extension()
    timescale_licence: str = ""
    partman: Extension = Extension()
    superuser: bool = False
    creates_roles: bool = False
    may_create: bool = True
    """Whether the login may create the schema, or things in it once it is there."""
    partman_rights: tuple[str, ...] = ()
    """What the login lacks to use the installed pg_partman."""
    standby: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: str
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table's shape. Definitions are PostgreSQL's own, as its catalogue prints them."""

    name: str
    columns: tuple[Column, ...]
    constraints: Mapping[str, str] = field(default_factory=dict)
    indexes: Mapping[str, str] = field(default_factory=dict)
    """Those that belong to no constraint: name → `btree (…)`."""
    size: int = 0
    """Bytes, partitions included."""
    kind: str = "r"
    """`r` is a table, `p` a partitioned one."""
    owned: bool = True
    """Whether our login may change it."""


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
"""The tables of the newest revision: what migrations end at, and what drift is measured by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowingTable:
    """How a table is kept that grows with time, as far as nobody chooses it."""

    part_days: int
    """Days in a partition or chunk."""
    compress_days: int
    """Days after which a chunk is compressed."""


GROWING_TABLES: Final[Mapping[str, GrowingTable]] = {
    "trades": GrowingTable(part_days=1, compress_days=7),
    "books": GrowingTable(part_days=1, compress_days=1),
    "tickers": GrowingTable(part_days=1, compress_days=7),
    "candles": GrowingTable(part_days=7, compress_days=30),
}
"""The tables that are kept for a while. What is older than the retention is dropped, whole parts at a time."""


@dataclass(frozen=True, slots=True)
class Rollup:
    """Candles longer than a minute, made of those of a minute: a view, on TimescaleDB over a continuous aggregate."""

    name: str
    minutes: int

    @property
    def sums(self) -> str:
        """The continuous aggregate: all but what needs the market's decimals, which it could not join."""
        return f"{self.name}_sums"


ROLLUPS: Final = tuple(
    Rollup(f"candles_{name}", minutes)
    for name, minutes in (("5m", 5), ("15m", 15), ("1h", 60), ("4h", 240), ("1d", 1440))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A partition or chunk, and the times it holds."""

    name: str
    start: datetime.datetime
    end: datetime.datetime
    rows: int | None = None
    """As the planner guesses; None when it never looked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How a table is kept: by whom, for how long, in which parts."""

    engine: Engine | None = None
    """None while the table is neither a hypertable nor known to pg_partman."""
    days: float | None = None
    """The retention in force, None where there is none."""
    drops: bool = True
    """Whether what is too old is dropped (pg_partman can also only detach it)."""
    compress_days: float | None = None
    compressed: bool = False
    """Whether compression is set up as we mean it."""
    paused: tuple[str, ...] = ()
    """Policies that somebody has paused."""
    ahead: int = 0
    """How many parts pg_partman makes ahead."""
    ahead_always: bool = True
    """Whether it makes them even where no rows come in."""
    past_default: bool = True
    """Whether it makes them whatever rows lie in the default partition."""
    parts: tuple[Part, ...] = ()
    default: str = ""
    """The default partition, which takes the rows that no other has a place for."""
    strays: tuple[datetime.datetime, ...] = ()
    """Where partitions would begin that had a place for the rows in it, in order."""
    older: bool = False
    """Whether rows are, or may be, older than what is wanted would keep."""

    @property
    def in_force(self) -> float | None:
        """Days after which rows are really dropped; None while none are, since nobody drops or it is paused."""
        return self.days if self.drops and "policy_retention" not in self.paused else None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A view of longer candles, or a continuous aggregate under one."""

    kind: str
    """`v` is a view, and so is what shows of a continuous aggregate."""
    columns: tuple[Column, ...]
    digest: str
    """Of its definition: tells whether it is still the one that we made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """How a continuous aggregate is kept up to date."""

    real_time: bool = True
    """Whether it also shows what it has not taken in yet."""
    refreshed: tuple[tuple[float | None, float | None, float], ...] = ()
    """Its refresh policies in seconds: from how far back, until how long ago, how often. Back is None for all."""
    paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A login as it is."""

    comment: str
    """Whose it is; ours say so."""
    powers: tuple[str, ...] = ()
    """What it may and should not."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """How its sessions begin."""
    connects: bool = True
    temporary: bool = True
    """Whether it may make temporary tables."""
    grantable: bool = True
    """Whether our login may let it connect and make temporary tables: that is the database's owner's."""
    uses: bool = True
    creates: bool = False
    """Whether it may make tables in our schema."""
    tables: frozenset[str] = frozenset()
    """The tables and views that are there."""
    unread: tuple[str, ...] = ()
    """Those that it may not read."""
    granted: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Table → what it was granted there."""
    future: bool = True
    """Whether it may read the tables to come."""
    works: bool | None = None
    """Whether the wanted password opens it; None where nobody can tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a migration came that was interrupted: statements done, and what they were."""

    revision: str
    done: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A database, as it was read just now."""

    now: datetime.datetime
    server: ServerFacts
    schema: bool = False
    relations: frozenset[str] = frozenset()
    """The names of all tables in the schema."""
    owner: str | None = None
    """Empty where somebody gave it free, and the venue of what is in it stays."""
    owned_since: datetime.datetime | None = None
    venue: str | None = None
    """None where it was never written down."""
    rows: bool = False
    """Whether there are, or may be, market data; only looked at where nobody wrote down of which venue."""
    epoch: int | None = None
    holder: str = ""
    revision: str | None = None
    progress: Progress | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    """What we did last, so that an edit by others can be told from a new wish."""
    tables: Mapping[str, Table] = field(default_factory=dict)
    keeping: Mapping[str, Keeping] = field(default_factory=dict)
    """Of each growing table that is there."""
    views: Mapping[str, View] = field(default_factory=dict)
    aggregates: Mapping[str, Aggregate] = field(default_factory=dict)
    roles: Mapping[DatabaseUser, Role] = field(default_factory=dict)
    """The logins beside our own that are there, of those that are wanted."""
