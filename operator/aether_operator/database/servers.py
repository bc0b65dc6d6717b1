"""Whether a server will do, and which engine keeps the trades on it: decided from what it said. Values only."""

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
"""pg_partman 4.7 and every 5: their functions differ."""


@dataclass(frozen=True, slots=True)
class Unfit:
    """The server will not do: why, and what is missing."""

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


def choose(facts: ServerFacts, timescale: Timescale, *, database: str) -> Engine | Unfit:
    """Which engine a fresh schema gets, or why none."""
    if facts.major not in MAJORS:
        return Unfit(
            Reason.VERSION_UNSUPPORTED, f"PostgreSQL {facts.version}: supported are {MAJORS[0]} to {MAJORS[-1]}"
        )
    if facts.standby:
        return Unfit(Reason.PERMISSION_DENIED, "this server is a standby, which only reads: name the primary")
    engine = _engine(facts, timescale)
    if isinstance(engine, Engine) and not facts.may_create:
        return Unfit(
            Reason.PERMISSION_DENIED,
            f'the login may not create the schema "aether": grant it CREATE on the database "{database}"',
        )
    return engine


def _engine(facts: ServerFacts, timescale: Timescale) -> Engine | Unfit:
    if facts.timescale.version:
        unfit = _timescale_unfit(facts)
        if unfit is None:
            return Engine.TIMESCALE
        # What is installed is what tables would be made with; what only could be is not asked where it is not needed.
        # The edition is known only once it is installed, and native partitions do well beside it.
        apache = facts.timescale_licence == "apache"
        if timescale is Timescale.REQUIRED or (facts.timescale.installed and not apache):
            return unfit
    elif timescale is Timescale.REQUIRED:
        return Unfit(Reason.TIMESCALE_MISSING, "the extension timescaledb is required, and the server does not have it")
    return _partman(facts)


def _timescale_unfit(facts: ServerFacts) -> Unfit | None:
    if version_of(facts.timescale.version) < TIMESCALE_FROM:
        wanted = ".".join(map(str, TIMESCALE_FROM))
        return Unfit(
            Reason.VERSION_UNSUPPORTED, f"TimescaleDB {facts.timescale.version}: supported are {wanted} and later"
        )
    if facts.timescale_licence == "apache":
        return Unfit(
            Reason.VERSION_UNSUPPORTED,
            "TimescaleDB is the Apache edition, without compression and retention: set timescaledb.license",
        )
    return None


def _partman(facts: ServerFacts) -> Engine | Unfit:
    if not facts.partman.version:
        return Unfit(
            Reason.PARTMAN_MISSING, "neither of the extensions timescaledb and pg_partman is there; one is needed"
        )
    numbers = version_of(facts.partman.version)
    if numbers[:2] != PARTMAN[0] and numbers[:1] != PARTMAN[1]:
        return Unfit(Reason.VERSION_UNSUPPORTED, f"pg_partman {facts.partman.version}: supported are 4.7 and 5")
    if not facts.partman.installed and not facts.superuser:
        return Unfit(
            Reason.PERMISSION_DENIED,
            "only a superuser can install pg_partman: "
            "have one run CREATE SCHEMA partman; CREATE EXTENSION pg_partman SCHEMA partman",
        )
    if facts.partman_rights:
        return Unfit(Reason.PERMISSION_DENIED, f"pg_partman cannot be used: missing {', '.join(facts.partman_rights)}")
    return Engine.PARTMAN
