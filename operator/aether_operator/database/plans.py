"""Plans the next steps for a database from its observed state and the desired schema. Pure functions.

The phases are: ownership and the fence, which a database has once; the schema, the extension, the migrations; then
drift, policies, rollups and logins.
"""

# ruff: noqa: S608 - statements are made of constants, whole numbers and quoted literals

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from aether_operator.api.platforms import Timescale
from aether_operator.api.reasons import Reason
from aether_operator.catalog import owners
from aether_operator.database import drifts, logins, pg_catalog, policies, rollups, servers
from aether_operator.database.steps import LOCK_DATABASE, Claim, PlanBuilder, Prepare, Step, Write, literal
from aether_operator.observed import server_owners
from aether_operator.observed.reports import Engine
from aether_operator.observed.server_owners import Ownership

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aether_operator.catalog.schemas import SchemaDefinition
    from aether_operator.database.pg_catalog import DatabaseState
    from aether_operator.database.revisions import Migration
    from aether_operator.observed.reports import DesiredSchema, Drift

INSTALL_TIMESCALE: Final = "install timescaledb"
ADD_VENUE: Final = f"ALTER TABLE {pg_catalog.OWNERSHIP} ADD COLUMN IF NOT EXISTS venue text"
"""Earlier releases did not have the column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanContext:
    """What this process knows beyond the observed database."""

    database: str
    leads: bool
    """Whether this process holds the fence."""
    timescale_error: str = ""
    """Why installing TimescaleDB failed lately; empty where it did not."""
    verifier: Callable[[str], str]
    """Computes the SCRAM verifier of a user's password."""
    rejected_passwords: frozenset[str] = frozenset()
    """The users that the server rejected right after their password was set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaPlan:
    """The next steps, or why there can be none; and what a person should know."""

    steps: tuple[Step, ...] = ()
    reason: Reason = Reason.READY
    message: str = ""
    engine: Engine | None = None
    held: tuple[str, ...] = ()
    drift: tuple[Drift, ...] = ()
    """Only drift that no step repairs."""
    warnings: tuple[str, ...] = ()


OWNERSHIP_BY_REASON: Final = {
    Reason.DATABASE_OWNED_BY_ANOTHER: Ownership.OWNED_BY_ANOTHER,
    Reason.VENUE_MISMATCH: Ownership.OWNED_BY_ANOTHER,
    Reason.VENUE_UNKNOWN: Ownership.UNKNOWN,
}
"""The reasons for which a platform may not use a database → its ownership then."""


def ownership_problem(observed: DatabaseState, desired: DesiredSchema) -> SchemaPlan | None:
    """Why a platform may not use the database: another owns it, or its data are of another venue, or of an unknown one.

    Earlier releases recorded no venue. A platform's venue never changes, so what it claimed itself is of its venue. The
    API server's clock says when the platform was created, and the database's when it was claimed: where the latter is
    behind, the platform's own claim may look older than the platform, and a person has to name the venue.
    """
    if observed.owner and observed.owner != desired.owner:
        since = f"{observed.owned_since:%Y-%m-%d %H:%M} UTC" if observed.owned_since else "an unknown time"
        venue = f", venue {observed.venue}" if observed.venue else ""
        message = f"the database belongs to {observed.owner}{venue}, since {since}; name another database in the spec"
        return SchemaPlan(reason=Reason.DATABASE_OWNED_BY_ANOTHER, message=message)
    if observed.venue is not None and observed.venue != desired.venue:
        message = f"the database holds {server_owners.venue_mismatch(observed.venue, desired.venue)}"
        return SchemaPlan(reason=Reason.VENUE_MISMATCH, message=message)
    claimed_itself = observed.owner and observed.owned_since is not None and desired.created <= observed.owned_since
    if observed.venue is None and observed.rows and not claimed_itself:
        return SchemaPlan(
            reason=Reason.VENUE_UNKNOWN,
            message="the database holds market data of a venue that is not recorded. If you know it, run this with "
            f"Simulated or Kraken: {ADD_VENUE}; INSERT INTO {pg_catalog.OWNERSHIP} (id, owner, venue) "
            "VALUES (1, '', 'VENUE') ON CONFLICT (id) DO UPDATE SET venue = excluded.venue",
        )
    return None


def ownership(observed: DatabaseState, desired: DesiredSchema) -> Ownership:
    """Who owns the database, for this platform."""
    if (observed.owner, observed.venue) == (desired.owner, desired.venue):
        return Ownership.OURS
    problem = ownership_problem(observed, desired)
    return Ownership.UNCLAIMED if problem is None else OWNERSHIP_BY_REASON[problem.reason]


def schema_newer(observed: DatabaseState) -> SchemaPlan:
    """The plan for a schema that a newer release migrated: nothing is changed."""
    return SchemaPlan(
        reason=Reason.SCHEMA_NEWER,
        message=f"the schema is at revision {observed.revision}, which this release does not know: nothing was changed",
    )


def engine_of(observed: DatabaseState, desired: DesiredSchema, context: PlanContext) -> Engine | servers.Unsuitable:
    """The engine that the growing tables have, or will get."""
    server, definition = observed.server, desired.definition
    if context.timescale_error and not server.timescale.installed:
        if desired.timescale is Timescale.REQUIRED:
            return servers.Unsuitable(Reason.TIMESCALE_MISSING, context.timescale_error)
        server = replace(server, timescale=pg_catalog.Extension())
    chosen = servers.choose(server, desired.timescale, database=context.database, schema=definition.name)
    existing = next((observed.tables[name] for name in definition.growing if name in observed.tables), None)
    if existing is None or (isinstance(chosen, servers.Unsuitable) and chosen.reason is Reason.VERSION_UNSUPPORTED):
        return chosen
    if existing.kind != "p":
        return Engine.TIMESCALE
    if desired.timescale is Timescale.REQUIRED:
        return servers.Unsuitable(
            Reason.TIMESCALE_MISSING,
            f"{definition.name}.{existing.name} was created with native partitions, and TimescaleDB is required now: "
            "set timescale to Preferred, or name a new database",
        )
    if isinstance(chosen, servers.Unsuitable) and chosen.reason is not Reason.TIMESCALE_MISSING:
        return chosen
    return Engine.PARTMAN


def plan(  # noqa: PLR0911 - a return for each phase
    observed: DatabaseState,
    desired: DesiredSchema,
    context: PlanContext,
    pending: Callable[[Engine], tuple[Migration, ...]],
) -> SchemaPlan:
    """The next phase of the plan.

    Args:
        observed: The database as it is.
        desired: The schema as the platform's spec asks for it.
        context: What this process knows.
        pending: The migrations that the schema still lacks, for an engine.
    """
    if (conflict := ownership_problem(observed, desired)) is not None:
        return conflict
    engine = engine_of(observed, desired, context)
    if isinstance(engine, servers.Unsuitable):
        return SchemaPlan(reason=engine.reason, message=engine.message)
    database = _plan_database(observed, desired, context, engine)
    if database is not None:
        return database
    if created := tuple(_create_schema(observed, desired.definition)):
        return SchemaPlan(steps=(Write(f"create the schema {desired.definition.name}", created),), engine=engine)
    if extension := tuple(_install_extension(observed, desired.definition, engine)):
        return SchemaPlan(steps=extension, engine=engine)
    migrations = pending(engine)
    if migrations:
        return _plan_migrations(observed, desired.definition, migrations, engine)
    return _plan_maintenance(observed, desired, context, engine)


def _plan_database(
    observed: DatabaseState, desired: DesiredSchema, context: PlanContext, engine: Engine
) -> SchemaPlan | None:
    """The next phase of what a database has once: its owner and its fence; None where nothing is missing."""
    if not observed.owner:
        if not desired.may_claim:
            message = "the database has no owner; it is not claimed while another server belongs to another platform"
            return SchemaPlan(reason=Reason.PROGRESSING, message=message, engine=engine)
        return SchemaPlan(steps=tuple(_claim_database(observed, desired)), engine=engine)
    if missing := [name for name in pg_catalog.DATABASE_TABLES if name not in observed.database_tables]:
        return SchemaPlan(steps=tuple(_create_database_table(name) for name in missing), engine=engine)
    if not context.leads:
        return SchemaPlan(steps=(Claim(),), engine=engine)
    if observed.venue is None:
        note = f"UPDATE {pg_catalog.OWNERSHIP} SET venue = {literal(desired.venue)} WHERE venue IS NULL"
        return SchemaPlan(steps=(Write("record the venue", (ADD_VENUE, note)),), engine=engine)
    return None


def _claim_database(observed: DatabaseState, desired: DesiredSchema) -> Iterator[Step]:
    if not observed.database_schema:
        yield Prepare(f"CREATE SCHEMA IF NOT EXISTS {owners.SCHEMA}")
    yield _create_database_table("ownership") if "ownership" not in observed.database_tables else Prepare(ADD_VENUE)
    yield Prepare(
        f"INSERT INTO {pg_catalog.OWNERSHIP} AS o (id, owner, venue) "
        f"VALUES (1, {literal(desired.owner)}, {literal(desired.venue)}) "
        "ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, venue = excluded.venue, since = now() "
        "WHERE o.owner = '' AND coalesce(o.venue, excluded.venue) = excluded.venue"
    )


def _create_database_table(name: str) -> Prepare:
    return Prepare(f"CREATE TABLE IF NOT EXISTS {owners.SCHEMA}.{name} ({pg_catalog.DATABASE_TABLES[name]})")


def _create_schema(observed: DatabaseState, definition: SchemaDefinition) -> Iterator[str]:
    if not observed.schema:
        yield f"CREATE SCHEMA {definition.name}"
    for name, columns in pg_catalog.SCHEMA_TABLES.items():
        if name not in observed.relations:
            yield f"CREATE TABLE {definition.name}.{name} ({columns})"


def _install_extension(observed: DatabaseState, definition: SchemaDefinition, engine: Engine) -> Iterator[Write]:
    if (
        engine is Engine.TIMESCALE
        and not observed.server.timescale.installed
        and not definition.growing.keys() & observed.tables.keys()
    ):
        yield Write(INSTALL_TIMESCALE, (LOCK_DATABASE, "CREATE EXTENSION IF NOT EXISTS timescaledb SCHEMA public"))
    if engine is Engine.PARTMAN and not observed.server.partman.installed:
        yield Write(
            "install pg_partman",
            (
                LOCK_DATABASE,
                "CREATE SCHEMA IF NOT EXISTS partman",
                "CREATE EXTENSION IF NOT EXISTS pg_partman SCHEMA partman",
            ),
        )


def _plan_migrations(
    observed: DatabaseState, definition: SchemaDefinition, migrations: tuple[Migration, ...], engine: Engine
) -> SchemaPlan:
    first, progress, schema = migrations[0], observed.progress, definition.name
    if progress is not None and (progress.revision != first.revision or progress.digest != first.digest(progress.done)):
        message = f"another release was interrupted at revision {progress.revision}: let that release finish it"
        return SchemaPlan(reason=Reason.FAILED, message=message)
    steps: list[Step] = []
    for migration in migrations:
        done = progress.done if progress is not None and migration is first else 0
        for number, statement in enumerate(migration.statements[done:], done + 1):
            note = (
                f"INSERT INTO {schema}.progress AS p (revision, done, digest) "
                f"VALUES ({literal(migration.revision)}, {number}, {literal(migration.digest(number))}) "
                "ON CONFLICT (revision) DO UPDATE SET done = excluded.done, digest = excluded.digest"
            )
            steps.append(Write(f"revision {migration.revision}, statement {number}", (statement, note)))
        steps.append(
            Write(
                f"revision {migration.revision} is done",
                (
                    f"DELETE FROM {schema}.alembic_version",
                    f"INSERT INTO {schema}.alembic_version (version_num) VALUES ({literal(migration.revision)})",
                    f"DELETE FROM {schema}.progress WHERE revision = {literal(migration.revision)}",
                ),
            )
        )
    return SchemaPlan(steps=tuple(steps), engine=engine)


def _plan_maintenance(
    observed: DatabaseState, desired: DesiredSchema, context: PlanContext, engine: Engine
) -> SchemaPlan:
    builder, definition = PlanBuilder(), desired.definition
    repairs, drift = drifts.compare(observed.tables, definition)
    builder.steps += repairs
    builder.drift += drift
    if engine is Engine.PARTMAN:
        builder.warnings.append(context.timescale_error or _without_timescale(observed))
    policies.plan(observed, desired, engine, builder)
    if not builder.drift:
        rollups.plan(observed, definition, engine, builder)
    for user, login in desired.logins.items():
        logins.plan(
            observed,
            logins.DesiredLogin(
                user=user,
                name=login.username,
                rights=definition.users[user],
                owner=desired.owner,
                database=context.database,
                schema=definition.name,
                secret=login.kept_in,
            ),
            functools.partial(context.verifier, user),
            builder,
            password_rejected=user in context.rejected_passwords,
        )
    problems = [f"{one.name} {one.what}" for one in builder.drift] + builder.blockers
    reason = Reason.PERMISSION_DENIED if builder.blockers else Reason.READY
    return SchemaPlan(
        steps=tuple(builder.steps),
        reason=Reason.SCHEMA_DRIFTED if builder.drift else reason,
        message="; ".join(problems),
        engine=engine,
        held=tuple(builder.held),
        drift=tuple(builder.drift),
        warnings=tuple(builder.warnings),
    )


def _without_timescale(observed: DatabaseState) -> str:
    if observed.server.timescale.version:
        return "the tables were created with native partitions before TimescaleDB was available, and keep them"
    return "TimescaleDB is not installed: tables are native partitions kept by pg_partman, without compression"
