"""A database as values: the server, the owner, and one schema as it is: tables, policies, rollups, logins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aether_operator.catalog import owners
from aether_operator.catalog.schemas import Table

if TYPE_CHECKING:
    import datetime
    from collections.abc import Mapping

    from aether_operator.catalog.schemas import Column
    from aether_operator.observed.reports import Engine

OWNERSHIP: Final = f"{owners.SCHEMA}.ownership"
FENCE: Final = f"{owners.SCHEMA}.fence"
DATABASE_TABLES: Final = {
    "ownership": "id int PRIMARY KEY CHECK (id = 1), owner text NOT NULL, since timestamptz NOT NULL DEFAULT now(), "
    "venue text",
    "fence": "id int PRIMARY KEY CHECK (id = 1), epoch bigint NOT NULL, holder text NOT NULL, "
    "since timestamptz NOT NULL",
}
"""The operator's tables that a database has once, in `owners.SCHEMA`, in the order of their creation."""
SCHEMA_TABLES: Final = {
    "settings": "name text PRIMARY KEY, value text NOT NULL",
    "progress": "revision text PRIMARY KEY, done int NOT NULL, digest text NOT NULL",
    "alembic_version": "version_num varchar(32) NOT NULL CONSTRAINT alembic_version_pkc PRIMARY KEY",
}
"""The operator's tables that each schema has."""


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
    """Whether the login may create the schema of interest, or objects in it once it exists."""
    partman_rights: tuple[str, ...] = ()
    """The rights that the login lacks to use the installed pg_partman."""
    standby: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveTable(Table):
    """A table as it exists."""

    size: int = 0
    """Bytes, partitions included."""
    kind: str = "r"
    """`relkind`: `r` is a table, `p` a partitioned one."""


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
    """Whether compression is set up with the desired columns."""
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
    """A database, and one of its schemas, as they were just read."""

    now: datetime.datetime
    server: ServerFacts
    database_schema: bool = False
    """Whether `owners.SCHEMA` exists."""
    database_tables: frozenset[str] = frozenset()
    """Those of DATABASE_TABLES that exist."""
    schema: bool = False
    """Whether the schema exists."""
    relations: frozenset[str] = frozenset()
    """The names of all tables in the schema."""
    owner: str | None = None
    """Empty where a person released it; the venue of its data stays."""
    owned_since: datetime.datetime | None = None
    venue: str | None = None
    """None where it was never recorded."""
    rows: bool = False
    """Whether there are, or may be, data of a venue; read only where no venue is recorded."""
    epoch: int | None = None
    holder: str = ""
    revision: str | None = None
    progress: Progress | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    """What we set last, which tells an edit by others from a change of the spec."""
    tables: Mapping[str, LiveTable] = field(default_factory=dict)
    partitioning: Mapping[str, Partitioning] = field(default_factory=dict)
    """Of each growing table that exists."""
    views: Mapping[str, View] = field(default_factory=dict)
    aggregates: Mapping[str, Aggregate] = field(default_factory=dict)
    roles: Mapping[str, Role] = field(default_factory=dict)
    """User → its role, of the desired logins that exist; without our own."""
