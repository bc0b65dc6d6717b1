"""How tables that grow with time are kept: hypertables or partitions, compression, retention. Values only."""

# ruff: noqa: S608 - statements are made of constants, whole numbers and quoted literals

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aether_operator.database import drifts, pg_catalog, servers
from aether_operator.database.pg_catalog import Keeping
from aether_operator.database.steps import Write, literal, quoted, remember
from aether_operator.observed.reports import Drift, Engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from aether_operator.database.pg_catalog import GrowingTable, Seen
    from aether_operator.database.steps import Notes
    from aether_operator.observed.reports import DesiredSchema

AHEAD: Final = 4
"""Partitions that pg_partman makes ahead."""
_PARTMAN_INTERVALS: Final = {1: ("daily", "1 day"), 7: ("weekly", "1 week")}
"""Days → what pg_partman 4 calls that, and what 5 does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """One growing table: what is wanted of it, and how it is."""

    name: str
    growing: GrowingTable
    days: int
    keeping: Keeping
    seen: Seen
    notes: Notes

    @property
    def full(self) -> str:
        return f"{pg_catalog.SCHEMA}.{self.name}"

    def setting(self, what: str) -> str:
        """Under which name we note what we did to it."""
        return f"{self.name}_{what}"

    def lost(self, what: str) -> None:
        """Only a person can mend it."""
        self.notes.drift.append(Drift(name=self.full, what=what, repaired=False))

    def was(self, setting: str, what: str) -> tuple[Drift, ...]:
        """The drift that a step mends, if we had set that up before."""
        known = self.setting(setting) in self.seen.settings
        return (Drift(name=self.full, what=what, repaired=True),) if known else ()

    def write(self, what: str, *statements: str, mends: tuple[Drift, ...] = (), once: bool = False) -> None:
        self.notes.steps.append(Write(what, statements, mends, once=once))


def plan(seen: Seen, wanted: DesiredSchema, engine: Engine, notes: Notes) -> None:
    """What is to be done, so that each growing table that is there is kept as is wanted."""
    tables = [
        _Table(
            name=name,
            growing=growing,
            days=wanted.days[name],
            keeping=seen.keeping.get(name, Keeping()),
            seen=seen,
            notes=notes,
        )
        for name, growing in pg_catalog.GROWING_TABLES.items()
        if drifts.keepable(seen.tables, name)
    ]
    for table in tables:
        if engine is Engine.TIMESCALE:
            _by_timescale(table)
        else:
            _by_partman(table)
    if engine is Engine.PARTMAN and not notes.steps:
        for table in tables:
            if maintenance_due(table.growing, table.keeping, seen.now):
                schema = quoted(seen.server.partman.schema)
                call = f"SELECT {schema}.run_maintenance(p_parent_table => {literal(table.full)}, p_analyze => false)"
                table.write(f"maintain the partitions of {table.name}", call, once=True)


def _by_timescale(table: _Table) -> None:
    keeping, schema, full = table.keeping, quoted(table.seen.server.timescale.schema), literal(table.full)
    if keeping.engine is not Engine.TIMESCALE:
        made = table.setting("engine") in table.seen.settings or keeping.engine is not None
        if made or not table.seen.server.timescale.installed:
            table.lost("is not a hypertable any more")
            return
        table.write(
            f"make the hypertable {table.name}",
            f"SELECT {schema}.create_hypertable({full}, "
            f"{schema}.by_range('ts', INTERVAL '{table.growing.part_days} day'), "
            "create_default_indexes => false, if_not_exists => true)",
            remember(table.setting("engine"), Engine.TIMESCALE.value),
        )
        return
    if not keeping.compressed:
        table.write(
            f"set compression of {table.name} up",
            f"ALTER TABLE {table.full} SET (timescaledb.compress, "
            "timescaledb.compress_segmentby = 'symbol', timescaledb.compress_orderby = 'ts DESC')",
            mends=table.was("compress_days", "was not compressed by symbol and ts"),
        )
    after = table.growing.compress_days
    if keeping.compress_days != after:
        table.write(
            f"compress {table.name} after a while",
            f"SELECT {schema}.remove_compression_policy({full}, if_exists => true)",
            f"SELECT {schema}.add_compression_policy({full}, INTERVAL '{after} days')",
            remember(table.setting("compress_days"), str(after)),
            mends=table.was("compress_days", _said("compression", keeping.compress_days)),
        )
    table.notes.warnings += [f"{policy} of {table.full} is paused" for policy in keeping.paused]
    _retain(
        table,
        lambda days: (
            f"SELECT {schema}.remove_retention_policy({full}, if_exists => true)",
            f"SELECT {schema}.add_retention_policy({full}, INTERVAL '{days} days')",
        ),
    )


def _said(policy: str, days: float | None) -> str:
    return f"had no {policy} policy" if days is None else f"had a {policy} policy of {days:g} days"


def _retain(table: _Table, keep: Callable[[int], tuple[str, ...]]) -> None:
    """Have rows kept for as long as is wanted, unless that would drop what is kept now.

    A policy that drops already loses nothing by keeping longer. Anything else is asked first: are there, or may there
    be, rows that would go?
    """
    keeping, setting, settings = table.keeping, table.setting("days"), table.seen.settings
    live, want = keeping.in_force, table.days
    told = int(settings[setting]) if setting in settings else None
    if live == want:
        if told != want:
            table.write(f"note the retention of {table.name}", remember(setting, str(want)))
        return
    if live is None and keeping.days == want and keeping.drops:
        return  # somebody paused it, which a warning says
    days = want
    if keeping.older and (live is None or want < max(live, told or 0)):
        table.notes.held.append(would_drop(table.full, keeping, want, table.seen.now))
        if live is None or told is None or told <= live:
            return
        days = told  # others made it shorter: what was in force is put back
    by_others = told is not None and live != told
    mended = (Drift(name=table.full, what=_said("retention", live), repaired=True),) if by_others else ()
    unseen = (_nothing_older(table.full, days),) if live is None or days < live else ()
    table.write(f"keep {table.name} for {days} days", *unseen, *keep(days), remember(setting, str(days)), mends=mended)


def _nothing_older(full: str, days: int) -> str:
    """Fails where rows came in, since we looked, that a shorter retention would drop."""
    return (
        f"DO $$BEGIN IF EXISTS (SELECT FROM {full} WHERE ts < now() - INTERVAL '{days} days') "
        "THEN RAISE EXCEPTION 'rows have come in that would be dropped'; END IF; END$$"
    )


def would_drop(full: str, keeping: Keeping, days: int, now: datetime.datetime) -> str:
    """What a shorter retention would drop, in one line."""
    limit = now - datetime.timedelta(days=days)
    gone = [part for part in keeping.parts if part.start < limit]
    parts = "chunk" if keeping.engine is Engine.TIMESCALE else "partition"
    live = "no limit" if keeping.in_force is None else f"{keeping.in_force:g} days"
    head = f"{full} stays at {live}: {days} days"
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


def _by_partman(table: _Table) -> None:
    keeping, server, full = table.keeping, table.seen.server, literal(table.full)
    schema = quoted(server.partman.schema)
    if table.seen.tables[table.name].kind != "p":
        table.lost("is not a partitioned table")
        return
    config = f"UPDATE {schema}.part_config SET %s WHERE parent_table = {full}"
    # Where pg_partman looks at the default partition, one row of the far future has it make every partition until then.
    shape = config % (
        f"premake = {AHEAD}, infinite_time_partitions = true, ignore_default_data = true, automatic_maintenance = 'on'"
    )
    if keeping.engine is None:
        old, new = _PARTMAN_INTERVALS[table.growing.part_days]
        major = servers.version_of(server.partman.installed)[0]
        kind = f"p_type => 'native', p_interval => '{old}'" if major < 5 else f"p_interval => '{new}'"  # noqa: PLR2004
        table.write(
            f"make the partitions of {table.name}",
            f"SELECT {schema}.create_parent(p_parent_table => {full}, p_control => 'ts', {kind}, p_premake => {AHEAD})",
            shape,
            remember(table.setting("engine"), Engine.PARTMAN.value),
            remember(table.setting("past_default"), "true"),
            mends=table.was("engine", "was not known to pg_partman"),
        )
        return
    if keeping.ahead != AHEAD or not keeping.ahead_always:
        what = Drift(name=table.full, what="was not partitioned ahead as it should be", repaired=True)
        table.write(f"partition {table.name} ahead", shape, mends=(what,))
    elif not keeping.past_default:
        table.write(
            f"partition {table.name} ahead whatever lies in its default partition",
            shape,
            remember(table.setting("past_default"), "true"),
            mends=table.was("past_default", "was not partitioned ahead as it should be"),
        )
    keep = "retention = '{} days', retention_keep_table = false, retention_keep_index = false"
    _retain(table, lambda days: (config % keep.format(days),))
    if keeping.strays:
        _empty_default(table, schema)


def _empty_default(table: _Table, schema: str) -> None:
    """Move rows out of the default partition into partitions of their own, where that loses nothing.

    There no retention finds them, and they stand in the way of the partition that should have them: pg_partman makes
    none any more. Rows that the retention would drop stay. So do rows of a time that is far from all that pg_partman
    makes: it counts from the last partition, and would make none between.
    """
    keeping, now, size = table.keeping, table.seen.now, datetime.timedelta(days=table.growing.part_days)
    ends = max(part.end for part in keeping.parts)
    limit = None if keeping.in_force is None else now - datetime.timedelta(days=keeping.in_force)
    # It makes partitions ahead of the newest row that lies in one.
    ours, near = list[datetime.datetime](), max(ends, now) + (AHEAD + 1) * size
    for start in keeping.strays:
        if start <= near and (limit is None or start + size > limit):
            ours.append(start)
            near = max(near, start + (AHEAD + 1) * size)
    newest = max(ours, default=ends)
    between = {ends + number * size for number in range(max(0, (newest - ends) // size))}
    columns = ", ".join(column.name for column in pg_catalog.TABLES[table.name].columns)
    for start in sorted({*ours, *between}):
        within = f"ts >= '{start.isoformat()}' AND ts < '{(start + size).isoformat()}'"
        what = Drift(name=table.full, what=f"had rows of {start:%Y-%m-%d} in its default partition", repaired=True)
        table.write(
            f"make the partition of {start:%Y-%m-%d} for rows of {table.name} in the default partition",
            f"LOCK TABLE {keeping.default} IN ACCESS EXCLUSIVE MODE",
            f"CREATE TEMPORARY TABLE aether_moved ON COMMIT DROP AS SELECT * FROM {keeping.default} WHERE {within}",
            f"DELETE FROM {keeping.default} WHERE {within}",
            f"SELECT {schema}.create_partition_time({literal(table.full)}, ARRAY['{start.isoformat()}'::timestamptz])",
            f"INSERT INTO {table.full} ({columns}) SELECT {columns} FROM pg_temp.aether_moved",
            mends=(what,) if start in ours else (),
        )
    said = f"the default partition of {table.full} holds rows"
    if limit is not None and keeping.strays[0] + size <= limit:
        table.notes.warnings.append(
            f"{said} that are older than the {keeping.in_force:g} days that are kept, and no retention finds them: "
            f"DELETE FROM {keeping.default} WHERE ts < now() - interval '{keeping.in_force:g} days'"
        )
    if keeping.strays[-1] > near:
        table.notes.warnings.append(
            f"{said} of the future, the last of {keeping.strays[-1]:%Y-%m-%d}: they are moved when their time comes; "
            f"where they are wrong, DELETE FROM {keeping.default} WHERE ts > now() + interval '1 day'"
        )


def maintenance_due(growing: GrowingTable, keeping: Keeping, now: datetime.datetime) -> bool:
    """Whether partitions lack ahead, or some are older than the retention in force keeps."""
    day = datetime.timedelta(days=1)
    newest = max((part.end for part in keeping.parts), default=now)
    oldest = min((part.end for part in keeping.parts), default=now)
    lacking = newest < now + day * growing.part_days * AHEAD
    stale = keeping.in_force is not None and oldest < now - day * keeping.in_force
    return lacking or stale
