"""What the servers of a data plane and the schema said when they were asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from aether_operator.api.reasons import Reason

if TYPE_CHECKING:
    import datetime
    from collections.abc import Mapping

    from aether_operator.api.platforms import Server, Timescale
    from aether_operator.catalog.logins import DatabaseUser
    from aether_operator.observed.endpoints import SecretText
    from aether_operator.observed.owners import Ownership


class Engine(StrEnum):
    """What keeps the partitions of tables that grow with time."""

    TIMESCALE = "TimescaleDB"
    PARTMAN = "pg_partman"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerReport:
    """A connection check. `reason` is READY, or why not; `message` names what is missing and never a secret value.

    `version` is the server's own word; `timescale` and `partman` are versions of extensions that are installed or can
    be, empty where they cannot (PostgreSQL only).
    """

    server: Server
    reason: Reason
    message: str = ""
    version: str = ""
    ownership: Ownership | None = None
    """Whose it is; of PostgreSQL the schema's report says it."""
    timescale: str = ""
    partman: str = ""

    @property
    def ok(self) -> bool:
        """Whether what depends on it may go on."""
        return self.reason is Reason.READY


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A login and its password."""

    username: str
    password: SecretText
    kept_in: str = ""
    """The Secret that has it, for a person who must look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredSchema:
    """What a platform wants of its database."""

    owner: str
    """Who claims the database: `<namespace>/<name>` and the uid of the namespace, as one text; a person reads it."""
    venue: str
    """Whose data it holds, or will."""
    created: datetime.datetime
    """When the platform was: what it claimed since then, nobody of its name claimed before it."""
    may_claim: bool = True
    """Whether a database that is nobody's is taken."""
    timescale: Timescale
    days: Mapping[str, int]
    """Table → days for which its rows are kept."""
    logins: Mapping[DatabaseUser, Login] = field(default_factory=dict)
    """The logins beside the operator's own, without those that are not wanted yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """An object that is not as the schema says: its name, what is different, and whether it was mended just now."""

    name: str
    what: str
    repaired: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaReport:
    """What became of the schema."""

    reason: Reason
    message: str = ""
    ownership: Ownership | None = None
    """Whose the database is."""
    revision: str = ""
    engine: Engine | None = None
    days: Mapping[str, int] = field(default_factory=dict)
    """Table → the retention in force, which a held shortening leaves as it was; without a table that has none."""
    held: tuple[str, ...] = ()
    """What would be dropped, and is not before somebody approves: one line each."""
    drift: tuple[Drift, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether what depends on it may go on."""
        return self.reason is Reason.READY


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicsReport:
    """What became of the topics of Kafka."""

    reason: Reason
    message: str = ""
    created: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    """Those whose settings were put right just now."""
    topics: tuple[str, ...] = ()
    """Those that are there."""
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether what depends on them may go on."""
        return self.reason is Reason.READY
