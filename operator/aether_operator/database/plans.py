"""What is to be done to a database: decided from what was seen and what is wanted. Values only.

The phases: whose it is, the fence, the extension, the migrations; then shape, policies, candles and logins.
"""

# ruff: noqa: S608 - statements are made of constants, whole numbers and quoted literals

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from aether_operator.api.platforms import Timescale
from aether_operator.api.reasons import Reason
from aether_operator.database import candles, drifts, logins, pg_catalog, policies, servers
from aether_operator.database.steps import Claim, Notes, Prepare, Step, Write, literal
from aether_operator.observed import owners
from aether_operator.observed.owners import Ownership
from aether_operator.observed.reports import Engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aether_operator.catalog.logins import DatabaseUser
    from aether_operator.database.pg_catalog import Seen
    from aether_operator.database.revisions import Migration
    from aether_operator.observed.reports import DesiredSchema, Drift

INSTALL_TIMESCALE: Final = "install timescaledb"
ADD_VENUE: Final = "ALTER TABLE aether.ownership ADD COLUMN IF NOT EXISTS venue text"
"""The releases before did not have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What this process knows beside the database."""

    database: str
    leads: bool
    """Whether the fence's row is ours."""
    timescale_refused: str = ""
    """Why the extension could not be installed, when we tried."""
    verifier: Callable[[DatabaseUser], str]
    """Makes what the server keeps of a login's password."""
    useless: frozenset[DatabaseUser] = frozenset()
    """The logins that the server refused just after that password was set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do next, or why nothing can be; and what a person should know."""

    steps: tuple[Step, ...] = ()
    reason: Reason = Reason.READY
    message: str = ""
    engine: Engine | None = None
    held: tuple[str, ...] = ()
    drift: tuple[Drift, ...] = ()
    """Only what is not mended by the steps."""
    warnings: tuple[str, ...] = ()


REFUSALS: Final = {
    Reason.DATABASE_OWNED_BY_ANOTHER: Ownership.OWNED_BY_ANOTHER,
    Reason.VENUE_MISMATCH: Ownership.OWNED_BY_ANOTHER,
    Reason.VENUE_UNKNOWN: Ownership.UNKNOWN,
}
"""Why a database is not this platform's as it is, and whose it is then."""


def refusal(seen: Seen, wanted: DesiredSchema) -> Plan | None:
    """Why the database is not this platform's: another has it, or its data are of another venue, or of an unknown one.

    Releases before wrote down no venue. A platform's venue never changes, so what it claimed itself is of its venue.
    The API server's clock says when the platform was created, and the database's when it was claimed: where the latter
    is behind, a claim of the platform's own may look older than the platform, and a person has to say.
    """
    if seen.owner and seen.owner != wanted.owner:
        since = f"{seen.owned_since:%Y-%m-%d %H:%M} UTC" if seen.owned_since else "an unknown time"
        venue = f", venue {seen.venue}" if seen.venue else ""
        message = f"the database belongs to {seen.owner}{venue}, since {since}; name another database in the spec"
        return Plan(reason=Reason.DATABASE_OWNED_BY_ANOTHER, message=message)
    if seen.venue is not None and seen.venue != wanted.venue:
        message = f"the database holds {owners.venue_mismatch(seen.venue, wanted.venue)}"
        return Plan(reason=Reason.VENUE_MISMATCH, message=message)
    claimed_itself = seen.owner and seen.owned_since is not None and wanted.created <= seen.owned_since
    if seen.venue is None and seen.rows and not claimed_itself:
        return Plan(
            reason=Reason.VENUE_UNKNOWN,
            message="the database holds market data, and nobody wrote down of which venue. Whoever knows it, say "
            f"Simulated or Kraken: {ADD_VENUE}; INSERT INTO aether.ownership (id, owner, venue) "
            "VALUES (1, '', 'their venue') ON CONFLICT (id) DO UPDATE SET venue = excluded.venue",
        )
    return None


def ownership(seen: Seen, wanted: DesiredSchema) -> Ownership:
    """Whose the database is."""
    if (seen.owner, seen.venue) == (wanted.owner, wanted.venue):
        return Ownership.OURS
    refused = refusal(seen, wanted)
    return Ownership.UNCLAIMED if refused is None else REFUSALS[refused.reason]


def newer(seen: Seen) -> Plan:
    """The refusal of a schema that another release made."""
    return Plan(
        reason=Reason.SCHEMA_NEWER,
        message=f"the schema is at revision {seen.revision}, which this release does not know: nothing was changed",
    )


def engine_of(seen: Seen, wanted: DesiredSchema, memory: Memory) -> Engine | servers.Unfit:
    """Which engine the tables have, or will get."""
    server = seen.server
    if memory.timescale_refused and not server.timescale.installed:
        if wanted.timescale is Timescale.REQUIRED:
            return servers.Unfit(Reason.TIMESCALE_MISSING, memory.timescale_refused)
        server = replace(seen.server, timescale=pg_catalog.Extension())
    chosen = servers.choose(server, wanted.timescale, database=memory.database)
    made = next((seen.tables[name] for name in pg_catalog.GROWING_TABLES if name in seen.tables), None)
    if made is None or (isinstance(chosen, servers.Unfit) and chosen.reason is Reason.VERSION_UNSUPPORTED):
        return chosen
    if made.kind != "p":
        return Engine.TIMESCALE
    if wanted.timescale is Timescale.REQUIRED:
        return servers.Unfit(
            Reason.TIMESCALE_MISSING,
            f"{pg_catalog.SCHEMA}.{made.name} was made as native partitions, and TimescaleDB is required now: "
            "say Preferred, or name a fresh database",
        )
    if isinstance(chosen, servers.Unfit) and chosen.reason is not Reason.TIMESCALE_MISSING:
        return chosen
    return Engine.PARTMAN


def plan(  # noqa: PLR0911 - a return for each phase
    seen: Seen, wanted: DesiredSchema, memory: Memory, pending: Callable[[Engine], tuple[Migration, ...]]
) -> Plan:
    """The next phase.

    Args:
        seen: The database as it is.
        wanted: What the platform says.
        memory: What this process knows.
        pending: The migrations that the schema still lacks.
    """
    if (refused := refusal(seen, wanted)) is not None:
        return refused
    engine = engine_of(seen, wanted, memory)
    if isinstance(engine, servers.Unfit):
        return Plan(reason=engine.reason, message=engine.message)
    if not seen.owner:
        if not wanted.may_claim:
            message = "the database is nobody's, and is not taken while another server refuses the platform"
            return Plan(reason=Reason.PROGRESSING, message=message, engine=engine)
        return Plan(steps=tuple(_claim_database(seen, wanted)), engine=engine)
    if missing := [name for name in pg_catalog.BOOKS if name not in seen.relations]:
        return Plan(steps=tuple(_book(name) for name in missing), engine=engine)
    if not memory.leads:
        return Plan(steps=(Claim(),), engine=engine)
    if seen.venue is None:
        note = f"UPDATE aether.ownership SET venue = {literal(wanted.venue)} WHERE venue IS NULL"
        return Plan(steps=(Write("write down the venue", (ADD_VENUE, note)),), engine=engine)
    if extension := tuple(_extension(seen, engine)):
        return Plan(steps=extension, engine=engine)
    migrations = pending(engine)
    if migrations:
        return _migrate(seen, migrations, engine)
    return _keep(seen, wanted, memory, engine)


def _claim_database(seen: Seen, wanted: DesiredSchema) -> Iterator[Step]:
    if not seen.schema:
        yield Prepare("CREATE SCHEMA IF NOT EXISTS aether")
    yield _book("ownership") if "ownership" not in seen.relations else Prepare(ADD_VENUE)
    yield Prepare(
        "INSERT INTO aether.ownership AS o (id, owner, venue) "
        f"VALUES (1, {literal(wanted.owner)}, {literal(wanted.venue)}) "
        "ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, venue = excluded.venue, since = now() "
        "WHERE o.owner = '' AND coalesce(o.venue, excluded.venue) = excluded.venue"
    )


def _book(name: str) -> Prepare:
    return Prepare(f"CREATE TABLE IF NOT EXISTS aether.{name} ({pg_catalog.BOOKS[name]})")


def _extension(seen: Seen, engine: Engine) -> Iterator[Write]:
    if (
        engine is Engine.TIMESCALE
        and not seen.server.timescale.installed
        and not pg_catalog.GROWING_TABLES.keys() & seen.tables.keys()
    ):
        yield Write(INSTALL_TIMESCALE, ("CREATE EXTENSION IF NOT EXISTS timescaledb SCHEMA public",))
    if engine is Engine.PARTMAN and not seen.server.partman.installed:
        yield Write(
            "install pg_partman",
            (
                "CREATE SCHEMA IF NOT EXISTS partman",
                "CREATE EXTENSION IF NOT EXISTS pg_partman SCHEMA partman",
            ),
        )


def _migrate(seen: Seen, migrations: tuple[Migration, ...], engine: Engine) -> Plan:
    first, progress = migrations[0], seen.progress
    if progress is not None and (progress.revision != first.revision or progress.digest != first.digest(progress.done)):
        return Plan(
            reason=Reason.FAILED,
            message=f"another release was interrupted at revision {progress.revision}: let that release finish it",
        )
    steps: list[Step] = []
    for migration in migrations:
        done = progress.done if progress is not None and migration is first else 0
        for number, statement in enumerate(migration.statements[done:], done + 1):
            note = (
                "INSERT INTO aether.progress AS p (revision, done, digest) "
                f"VALUES ({literal(migration.revision)}, {number}, {literal(migration.digest(number))}) "
                "ON CONFLICT (revision) DO UPDATE SET done = excluded.done, digest = excluded.digest"
            )
            steps.append(Write(f"revision {migration.revision}, statement {number}", (statement, note)))
        steps.append(
            Write(
                f"revision {migration.revision} is done",
                (
                    "DELETE FROM aether.alembic_version",
                    f"INSERT INTO aether.alembic_version (version_num) VALUES ({literal(migration.revision)})",
                    f"DELETE FROM aether.progress WHERE revision = {literal(migration.revision)}",
                ),
            )
        )
    return Plan(steps=tuple(steps), engine=engine)


def _keep(seen: Seen, wanted: DesiredSchema, memory: Memory, engine: Engine) -> Plan:
    notes = Notes()
    mendable, drifted = drifts.compare(seen.tables)
    notes.steps += mendable
    notes.drift += drifted
    if engine is Engine.PARTMAN:
        notes.warnings.append(memory.timescale_refused or _without_timescale(seen))
    policies.plan(seen, wanted, engine, notes)
    if not notes.drift:
        candles.plan(seen, engine, notes)
    for user, login in wanted.logins.items():
        logins.plan(
            seen,
            logins.Wanted(
                user=user,
                name=login.username,
                owner=wanted.owner,
                database=memory.database,
                secret=login.kept_in,
            ),
            functools.partial(memory.verifier, user),
            notes,
            useless=user in memory.useless,
        )
    said = [f"{one.name} {one.what}" for one in notes.drift] + notes.lacking
    return Plan(
        steps=tuple(notes.steps),
        reason=Reason.SCHEMA_DRIFTED if notes.drift else Reason.PERMISSION_DENIED if notes.lacking else Reason.READY,
        message="; ".join(said),
        engine=engine,
        held=tuple(notes.held),
        drift=tuple(notes.drift),
        warnings=tuple(notes.warnings),
    )


def _without_timescale(seen: Seen) -> str:
    if seen.server.timescale.version:
        return "the tables were made as native partitions before TimescaleDB was there, and stay so"
    return "TimescaleDB is not there: tables are native partitions kept by pg_partman, without compression"
