"""What a schema in a PostgreSQL database consists of, as the database engine takes it. Types only.

Each schema's definition is a module of its own, such as `platform_schema`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table or view; its type is as PostgreSQL's catalog prints it."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowingTable:
    """The fixed partitioning of a table that grows with time; how long its rows are kept is in an object's spec."""

    time: str
    """The column with a row's time, by which the table is partitioned."""
    segment: str
    """The column by which compressed chunks are segmented; within a segment rows are ordered by time, newest first."""
    partition_days: int
    """Days of a partition or chunk: 1 or 7."""
    compress_days: int
    """Days after which a chunk is compressed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollup:
    """A view that summarises a growing table over fixed intervals.

    With TimescaleDB it selects from a continuous aggregate, elsewhere from a query.
    """

    name: str
    source: str
    """The growing table."""
    minutes: int
    """The length of an interval."""
    columns: tuple[Column, ...]
    view: str
    """The view's query; `{sums}` stands for the aggregate, or for the query in its place."""
    sums_columns: tuple[Column, ...]
    """The columns of the aggregate."""
    sums_by_timescale: str
    """The aggregate's query; `{timescale}` stands for the schema with TimescaleDB's functions."""
    sums_by_postgres: str
    """The query with the same rows without TimescaleDB."""

    @property
    def sums(self) -> str:
        """The name of the continuous aggregate."""
        return f"{self.name}_sums"


@dataclass(frozen=True, slots=True, kw_only=True)
class Privileges:
    """What a user of the database may do in a schema beside reading."""

    description: str
    """Part of the role's comment in the database."""
    needed: bool = True
    """Whether a schema without the user is not Ready; otherwise its absence is a Warning."""
    writes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Table → privileges on it."""
    temporary: bool = False
    """Whether it may create temporary tables."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Session settings of the role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaDefinition:
    """A schema: what the database engine creates, upgrades and repairs.

    Its revision, its progress, its settings and its advisory lock are its own; the owner and the fence belong to the
    database (`owners.SCHEMA`).
    """

    name: str
    """Lowercase letters, digits and underscores: statements contain it without quotes."""
    migrations: Path
    """The folder of its migrations, relative to `aether_operator/database/migrations`."""
    tables: Mapping[str, Table]
    """The tables of the newest revision: the result of the migrations, which drift is compared with."""
    growing: Mapping[str, GrowingTable]
    """Those of them with a retention. Older rows are dropped, whole partitions at a time."""
    rollups: tuple[Rollup, ...] = ()
    users: Mapping[str, Privileges] = field(default_factory=dict)
    """User → its privileges. A role's name contains the user's, which is unique among the schemas of a database."""
    own_lock: int | None = None
    """An advisory lock that does not follow from the name, as that of earlier releases."""

    def __post_init__(self) -> None:
        """Reject a name that would need quotes."""
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"a schema cannot be named {self.name!r}")

    @property
    def advisory_lock(self) -> int:
        """The advisory lock that a process holds while it changes the schema. Locks are per database."""
        if self.own_lock is not None:
            return self.own_lock
        return int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:8], signed=True)
