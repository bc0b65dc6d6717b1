"""Results of checking the servers of a data plane, the database schema and the topics."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from aether_operator.api.reasons import Reason

if TYPE_CHECKING:
    import datetime
    from collections.abc import Mapping

    from aether_operator.api.platforms import Server, Timescale
    from aether_operator.catalog.schemas import SchemaDefinition
    from aether_operator.observed.endpoints import SecretText
    from aether_operator.observed.server_owners import Ownership


class Engine(StrEnum):
    """What manages the partitions of time-series tables."""

    TIMESCALE = "TimescaleDB"
    PARTMAN = "pg_partman"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerReport:
    """The result of a connection check. `reason` is READY, or why not; `message` names what is missing, never a secret.

    `version` is as the server reports it; `timescale` and `partman` are versions of extensions that are installed or
    available, empty if they are not (PostgreSQL only).
    """

    server: Server
    reason: Reason
    message: str = ""
    version: str = ""
    ownership: Ownership | None = None
    """Which platform owns it; for PostgreSQL the schema's report has it."""
    timescale: str = ""
    partman: str = ""

    @property
    def ok(self) -> bool:
        """Whether the server can be used."""
        return self.reason is Reason.READY


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A username and its password."""

    username: str
    password: SecretText
    kept_in: str = ""
    """The Secret with the login, for messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredSchema:
    """The schema that a database must have, and for whom."""

    definition: SchemaDefinition
    owner: str
    """The owner of the database: `<namespace>/<name>` and the uid of the namespace, as one readable text."""
    venue: str
    """The venue whose data the database holds."""
    created: datetime.datetime
    """When the platform was created: claims since then are its own, not an earlier platform's of the same name."""
    may_claim: bool = True
    """Whether the platform may claim a database that has no owner."""
    timescale: Timescale
    days: Mapping[str, int]
    """Table → days to keep its rows."""
    logins: Mapping[str, Login] = field(default_factory=dict)
    """The users beside the operator's own that have a valid Secret → their logins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """An object that differs from the schema: its name, the difference, and whether it was repaired just now."""

    name: str
    what: str
    repaired: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaReport:
    """The result of bringing the schema up to date."""

    reason: Reason
    message: str = ""
    ownership: Ownership | None = None
    """Which platform owns the database."""
    revision: str = ""
    engine: Engine | None = None
    days: Mapping[str, int] = field(default_factory=dict)
    """Table → the retention in force, which a held reduction does not change; without tables that have none."""
    held: tuple[str, ...] = ()
    """Retention reductions that wait for approval: one line each."""
    drift: tuple[Drift, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the schema can be used."""
        return self.reason is Reason.READY


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicsReport:
    """The result of bringing the Kafka topics up to date."""

    reason: Reason
    message: str = ""
    created: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    """The topics whose configuration was corrected just now."""
    topics: tuple[str, ...] = ()
    """The topics that exist."""
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the topics can be used."""
        return self.reason is Reason.READY
