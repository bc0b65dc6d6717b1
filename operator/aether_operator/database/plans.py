"""What is to be done to a database: decided from what was seen and what is wanted. Values only.

The phases: whose it is, the fence, the extension, the migrations; then shape, policies and reader.
"""

# ruff: noqa: S608 - statements are made of constants, whole numbers and quoted literals

from __future__ import annotations

import datetime
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from aether_operator.api.platforms import Timescale
from aether_operator.api.reasons import Reason
from aether_operator.database import catalogues, drifts, readers, servers
from aether_operator.database.steps import Claim, Prepare, Step, Write, literal, quoted, remember
from aether_operator.observed.reports import Drift, Engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aether_operator.database.catalogues import Seen
    from aether_operator.database.revisions import Migration
    from aether_operator.observed.reports import SchemaWanted

COMPRESS_DAYS: Final = 7
"""Days after which a chunk is compressed."""
INSTALL_TIMESCALE: Final = "install timescaledb"
AHEAD: Final = 4
"""Partitions that pg_partman makes ahead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What this process knows beside the database."""

    login: str
    database: str
    leads: bool
    """Whether the fence's row is ours."""
    timescale_refused: str = ""
    """Why the extension could not be installed, when we tried."""
    verifier: Callable[[], str]
    """Makes what the server keeps of the reader's password."""
    password_useless: bool = False
    """Whether the server refused the reader just after that password was set."""


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


@dataclass(slots=True)
class _Notes:
    """A plan in the making."""

    steps: list[Step] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    drift: list[Drift] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def owned_by_another(seen: Seen, wanted: SchemaWanted) -> Plan | None:
    """The refusal, if another platform has the database."""
    if seen.owner is None or seen.owner == wanted.owner:
        return None
    since = f"{seen.owned_since:%Y-%m-%d %H:%M} UTC" if seen.owned_since else "an unknown time"
    return Plan(reason=Reason.DATABASE_OWNED_BY_ANOTHER, message=f"the database belongs to {seen.owner}, since {since}")


def newer(seen: Seen) -> Plan:
    """The refusal of a schema that another release made."""
    return Plan(
        reason=Reason.SCHEMA_NEWER,
        message=f"the schema is at revision {seen.revision}, which this release does not know: nothing was changed",
    )


def engine_of(seen: Seen, wanted: SchemaWanted, memory: Memory) -> Engine | servers.Unfit:
    """Which engine the trades have, or will get."""
    server = seen.server
    if memory.timescale_refused and not server.timescale.installed:
        if wanted.timescale is Timescale.REQUIRED:
            return servers.Unfit(Reason.TIMESCALE_MISSING, memory.timescale_refused)
        server = replace(seen.server, timescale=catalogues.Extension())
    chosen = servers.choose(server, wanted.timescale, login=memory.login, database=memory.database)
    trades = seen.tables.get("trades")
    if trades is None or (isinstance(chosen, servers.Unfit) and chosen.reason is Reason.VERSION_UNSUPPORTED):
        return chosen
    if trades.kind != "p":
        return Engine.TIMESCALE
    if wanted.timescale is Timescale.REQUIRED:
        return servers.Unfit(
            Reason.TIMESCALE_MISSING,
            f"{catalogues.TRADES} was made as native partitions, and TimescaleDB is required now: "
            "say Preferred, or name a fresh database",
        )
    if isinstance(chosen, servers.Unfit) and chosen.reason is not Reason.TIMESCALE_MISSING:
        return chosen
    return Engine.PARTMAN


def plan(  # noqa: PLR0911 - a return for each phase
    seen: Seen, wanted: SchemaWanted, memory: Memory, pending: Callable[[Engine], tuple[Migration, ...]]
) -> Plan:
    """The next phase.

    Args:
        seen: The database as it is.
        wanted: What the platform says.
        memory: What this process knows.
        pending: The migrations that the schema still lacks.
    """
    if (refusal := owned_by_another(seen, wanted)) is not None:
        return refusal
    engine = engine_of(seen, wanted, memory)
    if isinstance(engine, servers.Unfit):
        return Plan(reason=engine.reason, message=engine.message)
    if seen.owner is None:
        return Plan(steps=tuple(_claim_database(seen, wanted)), engine=engine)
    if missing := [name for name in catalogues.BOOKS if name not in seen.relations]:
        return Plan(steps=tuple(_book(name) for name in missing), engine=engine)
    if not memory.leads:
        return Plan(steps=(Claim(),), engine=engine)
    if extension := tuple(_extension(seen, engine)):
        return Plan(steps=extension, engine=engine)
    migrations = pending(engine)
    if migrations:
        return _migrate(seen, migrations, engine)
    return _keep(seen, wanted, memory, engine)


def _claim_database(seen: Seen, wanted: SchemaWanted) -> Iterator[Step]:
    if not seen.schema:
        yield Prepare("CREATE SCHEMA IF NOT EXISTS aether")
    if "ownership" not in seen.relations:
        yield _book("ownership")
    yield Prepare(
        f"INSERT INTO aether.ownership (id, owner) VALUES (1, {literal(wanted.owner)}) ON CONFLICT (id) DO NOTHING"
    )


def _book(name: str) -> Prepare:
    return Prepare(f"CREATE TABLE IF NOT EXISTS aether.{name} ({catalogues.BOOKS[name]})")


def _extension(seen: Seen, engine: Engine) -> Iterator[Write]:
    if engine is Engine.TIMESCALE and not seen.server.timescale.installed and "trades" not in seen.tables:
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


def _keep(seen: Seen, wanted: SchemaWanted, memory: Memory, engine: Engine) -> Plan:
    notes = _Notes()
    mendable, drifted = drifts.compare(seen.tables)
    notes.steps += mendable
    notes.drift += drifted
    if drifts.keepable(seen.tables):
        if engine is Engine.TIMESCALE:
            _by_timescale(seen, wanted, notes)
        else:
            _by_partman(seen, wanted, memory, notes)
    if wanted.reader is not None:
        steps, warnings = readers.plan(
            seen,
            readers.Wanted(name=wanted.reader.username, owner=wanted.owner, database=memory.database),
            memory.verifier,
            useless=memory.password_useless,
        )
        notes.steps += steps
        notes.warnings += warnings
    return Plan(
        steps=tuple(notes.steps),
        reason=Reason.DRIFTED if notes.drift else Reason.READY,
        message="; ".join(f"{one.name} {one.what}" for one in notes.drift),
        engine=engine,
        held=tuple(notes.held),
        drift=tuple(notes.drift),
        warnings=tuple(notes.warnings),
    )


def _was(seen: Seen, setting: str, name: str, what: str) -> tuple[Drift, ...]:
    """The drift that a step mends, if we had set that up before."""
    return (Drift(name=name, what=what, repaired=True),) if setting in seen.settings else ()


def _by_timescale(seen: Seen, wanted: SchemaWanted, notes: _Notes) -> None:
    keeping, schema = seen.keeping, quoted(seen.server.timescale.schema)
    if keeping.engine is None:
        if "engine" in seen.settings or not seen.server.timescale.installed:
            lost = Drift(name=catalogues.TRADES, what="is not a hypertable any more", repaired=False)
            notes.drift.append(lost)
        else:
            notes.steps.append(
                Write(
                    "make the hypertable",
                    (
                        (
                            f"SELECT {schema}.create_hypertable('aether.trades', "
                            f"{schema}.by_range('ts', INTERVAL '1 day'), "
                            "create_default_indexes => false, if_not_exists => true)"
                        ),
                        remember("engine", Engine.TIMESCALE.value),
                    ),
                )
            )
        return
    if not keeping.compressed:
        notes.steps.append(
            Write(
                "set compression up",
                (
                    (
                        "ALTER TABLE aether.trades SET (timescaledb.compress, "
                        "timescaledb.compress_segmentby = 'symbol', timescaledb.compress_orderby = 'ts DESC')"
                    ),
                ),
                _was(seen, "compress_days", catalogues.TRADES, "was not compressed by symbol and ts"),
            )
        )
    if keeping.compress_days != COMPRESS_DAYS:
        notes.steps.append(
            Write(
                "compress after a while",
                (
                    f"SELECT {schema}.remove_compression_policy('aether.trades', if_exists => true)",
                    f"SELECT {schema}.add_compression_policy('aether.trades', INTERVAL '{COMPRESS_DAYS} days')",
                    remember("compress_days", str(COMPRESS_DAYS)),
                ),
                _was(seen, "compress_days", catalogues.TRADES, _said("compression", keeping.compress_days)),
            )
        )
    notes.warnings += [f"{policy} of {catalogues.TRADES} is paused" for policy in keeping.paused]
    _retain(
        seen,
        wanted,
        notes,
        lambda days: (
            f"SELECT {schema}.remove_retention_policy('aether.trades', if_exists => true)",
            f"SELECT {schema}.add_retention_policy('aether.trades', INTERVAL '{days} days')",
        ),
    )


def _said(policy: str, days: float | None) -> str:
    return f"had no {policy} policy" if days is None else f"had a {policy} policy of {days:g} days"


def _retain(seen: Seen, wanted: SchemaWanted, notes: _Notes, keep: Callable[[int], tuple[str, ...]]) -> None:
    """Have trades kept for as long as is wanted, unless that would drop what is kept now.

    A policy that drops already loses nothing by keeping longer. Anything else is asked first: are there, or may there
    be, rows that would go?
    """
    keeping = seen.keeping
    live, want = keeping.in_force, wanted.trades_days
    told = int(seen.settings["trades_days"]) if "trades_days" in seen.settings else None
    if live == want:
        if told != want:
            notes.steps.append(Write("note the retention", (remember("trades_days", str(want)),)))
        return
    if live is None and keeping.days == want and keeping.drops:
        return  # somebody paused it, which a warning says
    days = want
    if keeping.older and (live is None or want < max(live, told or 0)):
        notes.held.append(would_drop(seen, want))
        if live is None or told is None or told <= live:
            return
        days = told  # others made it shorter: what was in force is put back
    by_others = told is not None and live != told
    mended = (Drift(name=catalogues.TRADES, what=_said("retention", live), repaired=True),) if by_others else ()
    unseen = (_nothing_older(days),) if live is None or days < live else ()
    statements = (*unseen, *keep(days), remember("trades_days", str(days)))
    notes.steps.append(Write(f"keep trades for {days} days", statements, mended))


def _nothing_older(days: int) -> str:
    """Fails where rows came in, since we looked, that a shorter retention would drop."""
    return (
        f"DO $$BEGIN IF EXISTS (SELECT FROM aether.trades WHERE ts < now() - INTERVAL '{days} days') "
        "THEN RAISE EXCEPTION 'rows have come in that would be dropped'; END IF; END$$"
    )


def would_drop(seen: Seen, days: int) -> str:
    """What a shorter retention would drop, in one line."""
    keeping = seen.keeping
    limit = seen.now - datetime.timedelta(days=days)
    gone = [part for part in keeping.parts if part.start < limit]
    parts = "chunk" if keeping.engine is Engine.TIMESCALE else "partition"
    live = "no limit" if keeping.in_force is None else f"{keeping.in_force:g} days"
    head = f"{catalogues.TRADES} stays at {live}: {days} days"
    if not gone:
        return f"{head} would drop rows older than {limit:%Y-%m-%d}"
    known = [part.rows for part in gone if part.rows is not None]
    # Roughly, since the estimate changes with every ANALYZE, and a status that changes is written.
    rows = f"about {float(f'{sum(known):.1e}'):.0f} rows" if len(known) == len(gone) else "rows not counted yet"
    first, last = min(part.start for part in gone), max(part.end for part in gone)
    return (
        f"{head} would drop {len(gone)} {parts}{'s' if len(gone) != 1 else ''} "
        f"from {first:%Y-%m-%d} to {last:%Y-%m-%d}, {rows}"
    )


def _by_partman(seen: Seen, wanted: SchemaWanted, memory: Memory, notes: _Notes) -> None:
    keeping, schema = seen.keeping, quoted(seen.server.partman.schema)
    notes.warnings.append(
        memory.timescale_refused
        or (
            "trades were made as native partitions before TimescaleDB was there, and stay so"
            if seen.server.timescale.version
            else "TimescaleDB is not there: trades are native partitions kept by pg_partman, without compression"
        )
    )
    if keeping.stray:
        notes.warnings.append(f"the default partition of {catalogues.TRADES} holds rows, which no retention finds")
    config = f"UPDATE {schema}.part_config SET %s WHERE parent_table = 'aether.trades'"
    shape = config % f"premake = {AHEAD}, infinite_time_partitions = true, automatic_maintenance = 'on'"
    if keeping.engine is None:
        major = servers.version_of(seen.server.partman.installed)[0]
        kind = "p_type => 'native', p_interval => 'daily'" if major < 5 else "p_interval => '1 day'"  # noqa: PLR2004
        notes.steps.append(
            Write(
                "make the partitions",
                (
                    (
                        f"SELECT {schema}.create_parent(p_parent_table => 'aether.trades', p_control => 'ts', "
                        f"{kind}, p_premake => {AHEAD})"
                    ),
                    shape,
                    remember("engine", Engine.PARTMAN.value),
                ),
                _was(seen, "engine", catalogues.TRADES, "was not known to pg_partman"),
            )
        )
        return
    if keeping.ahead != AHEAD or not keeping.ahead_always:
        what = Drift(name=catalogues.TRADES, what="was not partitioned ahead as it should be", repaired=True)
        notes.steps.append(Write("partition ahead", (shape,), (what,)))
    keep = "retention = '{} days', retention_keep_table = false, retention_keep_index = false"
    _retain(seen, wanted, notes, lambda days: (config % keep.format(days),))
    if not notes.steps and maintenance_due(seen):
        call = f"SELECT {schema}.run_maintenance(p_parent_table => 'aether.trades', p_analyze => false)"
        notes.steps.append(Write("maintain the partitions", (call,), once=True))


def maintenance_due(seen: Seen) -> bool:
    """Whether partitions lack ahead, or some are older than the retention in force keeps."""
    keeping = seen.keeping
    day = datetime.timedelta(days=1)
    newest = max((part.end for part in keeping.parts), default=seen.now)
    oldest = min((part.end for part in keeping.parts), default=seen.now)
    lacking = newest < seen.now + day * AHEAD
    stale = keeping.in_force is not None and oldest < seen.now - day * keeping.in_force
    return lacking or stale
