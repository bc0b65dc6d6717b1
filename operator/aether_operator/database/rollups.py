"""Plans the rollups: views that summarise a growing table over longer intervals. Pure functions.

They always agree with its rows: on TimescaleDB a continuous aggregate whose refresh reaches back to the first changed
row, elsewhere a query.
"""

# ruff: noqa: S608 - statements are made of constants, whole numbers and quoted names

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aether_operator.database import drifts
from aether_operator.database.pg_catalog import Aggregate
from aether_operator.database.steps import Write, literal, quoted, record_setting
from aether_operator.observed.reports import Drift, Engine

if TYPE_CHECKING:
    from aether_operator.catalog.schemas import Rollup, SchemaDefinition
    from aether_operator.database.pg_catalog import DatabaseState
    from aether_operator.database.steps import PlanBuilder

REFRESH_SECONDS: Final = 300
"""How often an aggregate is refreshed with changed rows; newer ones than its last interval show at once."""


def plan(observed: DatabaseState, definition: SchemaDefinition, engine: Engine, builder: PlanBuilder) -> None:
    """Add the steps that create or repair the rollups; their sources have no drift."""
    for rollup in definition.rollups:
        if engine is Engine.TIMESCALE:
            source = observed.partitioning.get(rollup.source)
            if source is None or source.engine is not engine:
                continue  # the hypertable comes first
            _aggregate(observed, definition.name, rollup, builder)
        _view(observed, definition.name, rollup, engine, builder)


def _aggregate(observed: DatabaseState, schema: str, rollup: Rollup, builder: PlanBuilder) -> None:
    name, full, timescale = rollup.sums, f"{schema}.{rollup.sums}", quoted(observed.server.timescale.schema)
    existing, state = observed.views.get(name), observed.aggregates.get(name, Aggregate())
    end = rollup.minutes * 60.0
    policy = (
        f"SELECT {timescale}.remove_continuous_aggregate_policy({literal(full)}, if_exists => true)",
        # No start offset: late and dropped rows count, however old they are.
        (
            f"SELECT {timescale}.add_continuous_aggregate_policy({literal(full)}, start_offset => NULL, "
            f"end_offset => INTERVAL '{rollup.minutes} minutes', "
            f"schedule_interval => INTERVAL '{REFRESH_SECONDS} seconds')"
        ),
    )
    if existing is None:
        if name not in observed.relations:
            query = rollup.sums_by_timescale.format(timescale=timescale)
            repairs = _repairs_if_known(observed, schema, name)
            statements = (
                (
                    f"CREATE MATERIALIZED VIEW {full} WITH (timescaledb.continuous, "
                    f"timescaledb.materialized_only = false) AS {query} WITH NO DATA"
                ),
                *policy,
                record_setting(schema, name, str(rollup.minutes)),
            )
            builder.steps.append(Write(f"create the aggregate {name}", statements, repairs))
        return
    if name not in observed.aggregates:
        builder.drift.append(Drift(name=full, what="is not a continuous aggregate", repaired=False))
        return
    builder.drift += drifts.columns(full, existing.columns, rollup.sums_columns)
    if not state.real_time:
        repaired = Drift(name=full, what="did not show the newest rows", repaired=True)
        statement = f"ALTER MATERIALIZED VIEW {full} SET (timescaledb.materialized_only = false)"
        builder.steps.append(Write(f"show the newest rows of the aggregate {name}", (statement,), (repaired,)))
    if state.refreshed != ((None, end, float(REFRESH_SECONDS)),):
        repaired = Drift(name=full, what="had another refresh policy", repaired=True)
        builder.steps.append(Write(f"set the refresh policy of {name}", policy, (repaired,)))
    if state.paused:
        builder.warnings.append(f"the refresh of {full} is paused")


def _view(observed: DatabaseState, schema: str, rollup: Rollup, engine: Engine, builder: PlanBuilder) -> None:
    name, full, existing = rollup.name, f"{schema}.{rollup.name}", observed.views.get(rollup.name)
    if existing is None and name in observed.relations:
        builder.drift.append(Drift(name=full, what="is not a view", repaired=False))
        return
    if existing is not None:
        changed = list(drifts.columns(full, existing.columns, rollup.columns))
        builder.drift += changed
        if changed or existing.digest == observed.settings.get(name):
            return
    sums = f"{schema}.{rollup.sums}" if engine is Engine.TIMESCALE else f"({rollup.sums_by_postgres})"
    statements = (
        # A view that others changed has the same columns: what depends on it is kept.
        f"CREATE OR REPLACE VIEW {full} AS {rollup.view.format(sums=sums)}",
        (
            f"INSERT INTO {schema}.settings (name, value) "
            f"VALUES ({literal(name)}, md5(pg_get_viewdef({literal(full)}::regclass))) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        ),
    )
    repairs = _repairs_if_known(observed, schema, name, "was missing" if existing is None else "was changed")
    builder.steps.append(Write(f"create the view {name}", statements, repairs))


def _repairs_if_known(observed: DatabaseState, schema: str, name: str, what: str = "was missing") -> tuple[Drift, ...]:
    """The drift that a step repairs, if we had created the object before."""
    return (Drift(name=f"{schema}.{name}", what=what, repaired=True),) if name in observed.settings else ()
