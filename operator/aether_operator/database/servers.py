"""Whether a server is suitable, and which engine its growing tables use. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aether_operator.api.platforms import Timescale
from aether_operator.api.reasons import Reason
from aether_operator.observed.reports import Engine

if TYPE_CHECKING:
    from aether_operator.database.pg_catalog import ServerFacts

MAJORS: Final = (15, 16, 17)
TIMESCALE_FROM: Final = (2, 17)
PARTMAN: Final = ((4, 7), (5,))
"""Supported versions: 4.7 and every 5. Their functions differ."""


@dataclass(frozen=True, slots=True)
class Unsuitable:
    """Why a server is not suitable, and what is missing."""

    reason: Reason
    message: str


def version_of(text: str) -> tuple[int, ...]:
    """`2.23.1-dev` → (2, 23, 1)."""
    numbers: list[int] = []
    for part in text.split("-", maxsplit=1)[0].split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)


def choose(facts: ServerFacts, timescale: Timescale, *, database: str, schema: str) -> Engine | Unsuitable:
    """The engine of a new schema, or why the server is not suitable."""
    if facts.major not in MAJORS:
        return Unsuitable(
            Reason.VERSION_UNSUPPORTED, f"PostgreSQL {facts.version}: supported are {MAJORS[0]} to {MAJORS[-1]}"
        )
    if facts.standby:
        return Unsuitable(Reason.PERMISSION_DENIED, "this server is a read-only standby: use the primary")
    engine = _engine(facts, timescale)
    if isinstance(engine, Engine) and not facts.may_create:
        return Unsuitable(
            Reason.PERMISSION_DENIED,
            f'the login may not create the schema "{schema}": grant it CREATE on the database "{database}"',
        )
    return engine


def _engine(facts: ServerFacts, timescale: Timescale) -> Engine | Unsuitable:
    if facts.timescale.version:
        problem = _timescale_unfit(facts)
        if problem is None:
            return Engine.TIMESCALE
        # An installed extension would create the tables, so its fault counts; one that is only available is not needed.
        # The edition is known only once it is installed; beside the Apache edition native partitions work.
        apache = facts.timescale_licence == "apache"
        if timescale is Timescale.REQUIRED or (facts.timescale.installed and not apache):
            return problem
    elif timescale is Timescale.REQUIRED:
        return Unsuitable(Reason.TIMESCALE_MISSING, "the extension timescaledb is required and not available")
    return _partman(facts)


def _timescale_unfit(facts: ServerFacts) -> Unsuitable | None:
    if version_of(facts.timescale.version) < TIMESCALE_FROM:
        minimum = ".".join(map(str, TIMESCALE_FROM))
        return Unsuitable(
            Reason.VERSION_UNSUPPORTED, f"TimescaleDB {facts.timescale.version}: supported are {minimum} and later"
        )
    if facts.timescale_licence == "apache":
        return Unsuitable(
            Reason.VERSION_UNSUPPORTED,
            "TimescaleDB is the Apache edition, without compression and retention: set timescaledb.license",
        )
    return None


def _partman(facts: ServerFacts) -> Engine | Unsuitable:
    if not facts.partman.version:
        return Unsuitable(
            Reason.PARTMAN_MISSING, "neither extension is available, timescaledb or pg_partman: one is required"
        )
    numbers = version_of(facts.partman.version)
    if numbers[:2] != PARTMAN[0] and numbers[:1] != PARTMAN[1]:
        return Unsuitable(Reason.VERSION_UNSUPPORTED, f"pg_partman {facts.partman.version}: supported are 4.7 and 5")
    if not facts.partman.installed and not facts.superuser:
        return Unsuitable(
            Reason.PERMISSION_DENIED,
            "only a superuser can install pg_partman: "
            "have one run CREATE SCHEMA partman; CREATE EXTENSION pg_partman SCHEMA partman",
        )
    if facts.partman_rights:
        return Unsuitable(
            Reason.PERMISSION_DENIED, f"pg_partman cannot be used: missing {', '.join(facts.partman_rights)}"
        )
    return Engine.PARTMAN
