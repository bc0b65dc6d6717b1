"""Plans partitioning, compression and retention of the growing tables. Pure functions."""

# ruff: noqa: S608 - statements are made of constants, whole numbers and quoted literals

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aether_operator.database import drifts, servers
from aether_operator.database.pg_catalog import Partitioning
from aether_operator.database.steps import Write, literal, quoted, record_setting
from aether_operator.observed.reports import Drift, Engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from aether_operator.catalog.schemas import GrowingTable, SchemaDefinition
    from aether_operator.database.pg_catalog import DatabaseState
    from aether_operator.database.steps import PlanBuilder
    from aether_operator.observed.reports import DesiredSchema

PREMAKE: Final = 4
"""Future partitions that pg_partman creates."""
_PARTMAN_INTERVALS: Final = {1: ("daily", "1 day"), 7: ("weekly", "1 week")}
"""Days of a partition → the interval as pg_partman 4 and as pg_partman 5 spell it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """One growing table: its desired and its observed state."""

    name: str
    definition: SchemaDefinition
    days: int
    partitioning: Partitioning
    observed: DatabaseState
    builder: PlanBuilder

    @property
    def growing(self) -> GrowingTable:
        return self.definition.growing[self.name]

    @property
    def full(self) -> str:
        return f"{self.definition.name}.{self.name}"

    def setting(self, what: str) -> str:
        """The name of one of its rows in the schema's table `settings`."""
        return f"{self.name}_{what}"

    def record(self, what: str, value: str) -> str:
        """The statement that records one of its settings."""
        return record_setting(self.definition.name, self.setting(what), value)

    def report_drift(self, what: str) -> None:
        """Report drift that only a person can repair."""
        self.builder.drift.append(Drift(name=self.full, what=what, repaired=False))

    def repairs_if_known(self, setting: str, what: str) -> tuple[Drift, ...]:
        """The drift that a step repairs, if we had set that up before; else the step is no repair."""
        known = self.setting(setting) in self.observed.settings
        return (Drift(name=self.full, what=what, repaired=True),) if known else ()

    def write(self, what: str, *statements: str, repairs: tuple[Drift, ...] = (), once: bool = False) -> None:
        self.builder.steps.append(Write(what, statements, repairs, once=once))


def plan(observed: DatabaseState, desired: DesiredSchema, engine: Engine, builder: PlanBuilder) -> None:
    """Add the steps that partition, compress and retain each existing growing table as desired."""
    tables = [
        _Table(
            name=name,
            definition=desired.definition,
            days=desired.days[name],
            partitioning=observed.partitioning.get(name, Partitioning()),
            observed=observed,
            builder=builder,
        )
        for name in desired.definition.growing
        if drifts.can_be_partitioned(observed.tables, desired.definition, name)
    ]
    for table in tables:
        if engine is Engine.TIMESCALE:
            _by_timescale(table)
        else:
            _by_partman(table)
    if engine is Engine.PARTMAN and not builder.steps:
        for table in tables:
            if maintenance_due(table.growing, table.partitioning, observed.now):
                schema = quoted(observed.server.partman.schema)
                call = f"SELECT {schema}.run_maintenance(p_parent_table => {literal(table.full)}, p_analyze => false)"
                table.write(f"maintain the partitions of {table.name}", call, once=True)


def _by_timescale(table: _Table) -> None:
    partitioning, schema, full = table.partitioning, quoted(table.observed.server.timescale.schema), literal(table.full)
    if partitioning.engine is not Engine.TIMESCALE:
        known = table.setting("engine") in table.observed.settings or partitioning.engine is not None
        if known or not table.observed.server.timescale.installed:
            table.report_drift("is no longer a hypertable")
            return
        table.write(
            f"create the hypertable {table.name}",
            f"SELECT {schema}.create_hypertable({full}, "
            f"{schema}.by_range('{table.growing.time}', INTERVAL '{table.growing.partition_days} day'), "
            "create_default_indexes => false, if_not_exists => true)",
            table.record("engine", Engine.TIMESCALE.value),
        )
        return
    if not partitioning.compressed:
        segment, time = table.growing.segment, table.growing.time
        table.write(
            f"set up the compression of {table.name}",
            f"ALTER TABLE {table.full} SET (timescaledb.compress, "
            f"timescaledb.compress_segmentby = '{segment}', timescaledb.compress_orderby = '{time} DESC')",
            repairs=table.repairs_if_known("compress_days", f"was not compressed by {segment} and {time}"),
        )
    after = table.growing.compress_days
    if partitioning.compress_days != after:
        table.write(
            f"set the compression policy of {table.name}",
            f"SELECT {schema}.remove_compression_policy({full}, if_exists => true)",
            f"SELECT {schema}.add_compression_policy({full}, INTERVAL '{after} days')",
            table.record("compress_days", str(after)),
            repairs=table.repairs_if_known("compress_days", _policy_text("compression", partitioning.compress_days)),
        )
    table.builder.warnings += [f"{policy} of {table.full} is paused" for policy in partitioning.paused]
    _plan_retention(
        table,
        lambda days: (
            f"SELECT {schema}.remove_retention_policy({full}, if_exists => true)",
            f"SELECT {schema}.add_retention_policy({full}, INTERVAL '{days} days')",
        ),
    )


def _policy_text(policy: str, days: float | None) -> str:
    return f"had no {policy} policy" if days is None else f"had a {policy} policy of {days:g} days"


def _plan_retention(table: _Table, keep: Callable[[int], tuple[str, ...]]) -> None:
    """Plan the desired retention, unless that would drop rows that are kept now.

    Lengthening a retention that is in force loses nothing. Any other change is made only where no rows are, or may be,
    older than it.
    """
    partitioning, setting, settings = table.partitioning, table.setting("days"), table.observed.settings
    effective, desired_days = partitioning.effective_days, table.days
    recorded = int(settings[setting]) if setting in settings else None
    if effective == desired_days:
        if recorded != desired_days:
            table.write(f"record the retention of {table.name}", table.record("days", str(desired_days)))
        return
    if effective is None and partitioning.days == desired_days and partitioning.drops:
        return  # a person paused it, which a warning reports
    days = desired_days
    if partitioning.has_older_rows and (effective is None or desired_days < max(effective, recorded or 0)):
        table.builder.held.append(would_drop(table.full, partitioning, desired_days, table.observed.now))
        if effective is None or recorded is None or recorded <= effective:
            return
        days = recorded  # somebody else shortened it: the recorded retention is restored
    by_others = recorded is not None and effective != recorded
    repaired = (Drift(name=table.full, what=_policy_text("retention", effective), repaired=True),) if by_others else ()
    guard = (_assert_nothing_older(table, days),) if effective is None or days < effective else ()
    table.write(
        f"keep {table.name} for {days} days", *guard, *keep(days), table.record("days", str(days)), repairs=repaired
    )


def _assert_nothing_older(table: _Table, days: int) -> str:
    """A statement that fails where rows have arrived since the observation that a shorter retention would drop."""
    return (
        f"DO $$BEGIN IF EXISTS (SELECT FROM {table.full} WHERE {table.growing.time} < now() - INTERVAL '{days} days') "
        "THEN RAISE EXCEPTION 'rows have arrived that would be dropped'; END IF; END$$"
    )


def would_drop(full: str, partitioning: Partitioning, days: int, now: datetime.datetime) -> str:
    """One line about what a shorter retention would drop."""
    limit = now - datetime.timedelta(days=days)
    dropped = [part for part in partitioning.partitions if part.start < limit]
    partitions = "chunk" if partitioning.engine is Engine.TIMESCALE else "partition"
    effective = "no limit" if partitioning.effective_days is None else f"{partitioning.effective_days:g} days"
    head = f"{full} stays at {effective}: {days} days"
    if not dropped:
        return f"{head} would drop rows older than {limit:%Y-%m-%d}"
    known = [part.rows for part in dropped if part.rows is not None]
    # Two digits only: the estimate changes with every ANALYZE, and each change would write the status.
    rows = f"about {float(f'{sum(known):.1e}'):.0f} rows" if len(known) == len(dropped) else "rows not counted yet"
    first, last = min(part.start for part in dropped), max(part.end for part in dropped)
    return (
        f"{head} would drop {len(dropped)} {partitions}{'s' if len(dropped) != 1 else ''} "
        f"from {first:%Y-%m-%d} to {last:%Y-%m-%d}, {rows}"
    )


def _by_partman(table: _Table) -> None:
    partitioning, server, full = table.partitioning, table.observed.server, literal(table.full)
    schema = quoted(server.partman.schema)
    if table.observed.tables[table.name].kind != "p":
        table.report_drift("is not a partitioned table")
        return
    config = f"UPDATE {schema}.part_config SET %s WHERE parent_table = {full}"
    # Unless it ignores the default partition, pg_partman creates every partition up to a row of the far future there.
    shape = config % (
        f"premake = {PREMAKE}, infinite_time_partitions = true, ignore_default_data = true, "
        "automatic_maintenance = 'on'"
    )
    if partitioning.engine is None:
        old, new = _PARTMAN_INTERVALS[table.growing.partition_days]
        major = servers.version_of(server.partman.installed)[0]
        kind = f"p_type => 'native', p_interval => '{old}'" if major < 5 else f"p_interval => '{new}'"  # noqa: PLR2004
        table.write(
            f"create the partitions of {table.name}",
            f"SELECT {schema}.create_parent(p_parent_table => {full}, p_control => '{table.growing.time}', {kind}, "
            f"p_premake => {PREMAKE})",
            shape,
            table.record("engine", Engine.PARTMAN.value),
            table.record("past_default", "true"),
            repairs=table.repairs_if_known("engine", "was not configured in pg_partman"),
        )
        return
    if partitioning.premake != PREMAKE or not partitioning.premakes_without_rows:
        what = Drift(name=table.full, what="had other settings for future partitions", repaired=True)
        table.write(f"set up future partitions of {table.name}", shape, repairs=(what,))
    elif not partitioning.ignores_default:
        table.write(
            f"create future partitions of {table.name} despite rows in its default partition",
            shape,
            table.record("past_default", "true"),
            repairs=table.repairs_if_known("past_default", "had other settings for future partitions"),
        )
    keep = "retention = '{} days', retention_keep_table = false, retention_keep_index = false"
    _plan_retention(table, lambda days: (config % keep.format(days),))
    if partitioning.default_starts:
        _plan_default_rows(table, schema)


def _plan_default_rows(table: _Table, schema: str) -> None:
    """Move rows out of the default partition into regular ones, where that loses nothing.

    The retention does not reach rows there, and they block the creation of their regular partition. Rows that the
    retention would drop stay. So do rows far from the other partitions: pg_partman counts from the last one and would
    not create those between.
    """
    partitioning, now, size = (
        table.partitioning,
        table.observed.now,
        datetime.timedelta(days=table.growing.partition_days),
    )
    default = partitioning.default
    ends = max(part.end for part in partitioning.partitions)
    limit = None if partitioning.effective_days is None else now - datetime.timedelta(days=partitioning.effective_days)
    # It creates partitions ahead of the newest row of a regular one.
    ours, near = list[datetime.datetime](), max(ends, now) + (PREMAKE + 1) * size
    for start in partitioning.default_starts:
        if start <= near and (limit is None or start + size > limit):
            ours.append(start)
            near = max(near, start + (PREMAKE + 1) * size)
    newest = max(ours, default=ends)
    between = {ends + number * size for number in range(max(0, (newest - ends) // size))}
    columns = ", ".join(column.name for column in table.definition.tables[table.name].columns)
    time = table.growing.time
    for start in sorted({*ours, *between}):
        within = f"{time} >= '{start.isoformat()}' AND {time} < '{(start + size).isoformat()}'"
        what = Drift(name=table.full, what=f"had rows of {start:%Y-%m-%d} in its default partition", repaired=True)
        table.write(
            f"create the partition of {start:%Y-%m-%d} for rows of {table.name} in the default partition",
            f"LOCK TABLE {default} IN ACCESS EXCLUSIVE MODE",
            f"CREATE TEMPORARY TABLE moved_rows ON COMMIT DROP AS SELECT * FROM {default} WHERE {within}",
            f"DELETE FROM {default} WHERE {within}",
            f"SELECT {schema}.create_partition_time({literal(table.full)}, ARRAY['{start.isoformat()}'::timestamptz])",
            f"INSERT INTO {table.full} ({columns}) SELECT {columns} FROM pg_temp.moved_rows",
            repairs=(what,) if start in ours else (),
        )
    prefix = f"the default partition of {table.full} holds rows"
    if limit is not None and partitioning.default_starts[0] + size <= limit:
        table.builder.warnings.append(
            f"{prefix} older than the retention of {partitioning.effective_days:g} days, which does not reach them: "
            f"DELETE FROM {default} WHERE {time} < now() - interval '{partitioning.effective_days:g} days'"
        )
    if (last := partitioning.default_starts[-1]) > near:
        table.builder.warnings.append(
            f"{prefix} of the future, the last of {last:%Y-%m-%d}: they are moved in time; "
            f"if they are wrong, DELETE FROM {default} WHERE {time} > now() + interval '1 day'"
        )


def maintenance_due(growing: GrowingTable, partitioning: Partitioning, now: datetime.datetime) -> bool:
    """Whether future partitions are missing, or some are older than the retention in force."""
    day = datetime.timedelta(days=1)
    newest = max((part.end for part in partitioning.partitions), default=now)
    oldest = min((part.end for part in partitioning.partitions), default=now)
    missing = newest < now + day * growing.partition_days * PREMAKE
    stale = partitioning.effective_days is not None and oldest < now - day * partitioning.effective_days
    return missing or stale
