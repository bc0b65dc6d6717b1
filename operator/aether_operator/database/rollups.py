"""Plans the rollups: candles longer than a minute, computed from those of a minute. Pure functions.

They always agree with the minutes: on TimescaleDB a continuous aggregate whose refresh reaches back to the first
changed minute, elsewhere a view. A longer candle equals the venue's: it opens with the first trade in it, and an
interval without trades carries the last close.
"""

# ruff: noqa: S608 - statements are made of constants, whole numbers and quoted names

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aether_operator.database import drifts, pg_catalog
from aether_operator.database.pg_catalog import Aggregate, Column
from aether_operator.database.steps import Write, literal, quoted, record_setting
from aether_operator.observed.reports import Drift, Engine

if TYPE_CHECKING:
    from aether_operator.database.pg_catalog import DatabaseState, Rollup
    from aether_operator.database.steps import PlanBuilder

REFRESH_SECONDS: Final = 300
"""How often an aggregate is refreshed with changed minutes; newer ones than its last interval show at once."""
COLUMNS: Final = tuple(Column(column.name, column.type, required=False) for column in pg_catalog.CANDLES.columns)
SUMS: Final = tuple(column for column in COLUMNS if column.name != "vwap")
_SUMS: Final = """
SELECT symbol, {begin} AS ts,
    coalesce({first_trade}, {first}) AS open,
    coalesce(max(high) FILTER (WHERE trades > 0), max(high)) AS high,
    coalesce(min(low) FILTER (WHERE trades > 0), min(low)) AS low,
    {last} AS close,
    sum(volume) AS volume, sum(cost) AS cost, sum(trades)::bigint AS trades
FROM aether.candles GROUP BY symbol, {begin}
"""
# Without trades the high and the low are the previous close. The vwap is truncated exactly by an integer division.
_VWAP: Final = """
SELECT c.symbol, c.ts, c.open, c.high, c.low, c.close,
    CASE WHEN c.volume = 0 THEN 0
         ELSE trunc(div(c.cost * ('1e' || i.price_decimals)::numeric, c.volume)
                    * ('1e-' || i.price_decimals)::numeric, i.price_decimals) END AS vwap,
    c.volume, c.cost, c.trades
FROM {sums} c LEFT JOIN aether.instruments i ON i.symbol = c.symbol
"""


def plan(observed: DatabaseState, engine: Engine, builder: PlanBuilder) -> None:
    """Add the steps that create or repair the rollups; `candles` itself has no drift."""
    if engine is Engine.TIMESCALE and getattr(observed.partitioning.get("candles"), "engine", None) is not engine:
        return  # the hypertable comes first
    for rollup in pg_catalog.ROLLUPS:
        if engine is Engine.TIMESCALE:
            _aggregate(observed, rollup, builder)
        _view(observed, rollup, engine, builder)


def _sums_by_timescale(rollup: Rollup, schema: str) -> str:
    return _SUMS.format(
        begin=f"{schema}.time_bucket(INTERVAL '{rollup.minutes} minutes', ts)",
        first_trade=f"{schema}.first(open, ts) FILTER (WHERE trades > 0)",
        first=f"{schema}.first(open, ts)",
        last=f"{schema}.last(close, ts)",
    )


def _sums_by_postgres(rollup: Rollup) -> str:
    return _SUMS.format(
        begin=f"date_bin('{rollup.minutes} minutes', ts, '2000-01-01 00:00:00+00')",
        first_trade="(array_agg(open ORDER BY ts) FILTER (WHERE trades > 0))[1]",
        first="(array_agg(open ORDER BY ts))[1]",
        last="(array_agg(close ORDER BY ts DESC))[1]",
    )


def _aggregate(observed: DatabaseState, rollup: Rollup, builder: PlanBuilder) -> None:
    name, full, schema = rollup.sums, f"{pg_catalog.SCHEMA}.{rollup.sums}", quoted(observed.server.timescale.schema)
    existing, state = observed.views.get(name), observed.aggregates.get(name, Aggregate())
    end = rollup.minutes * 60.0
    policy = (
        f"SELECT {schema}.remove_continuous_aggregate_policy({literal(full)}, if_exists => true)",
        # No start offset: late and dropped rows count, however old they are.
        (
            f"SELECT {schema}.add_continuous_aggregate_policy({literal(full)}, start_offset => NULL, "
            f"end_offset => INTERVAL '{rollup.minutes} minutes', "
            f"schedule_interval => INTERVAL '{REFRESH_SECONDS} seconds')"
        ),
    )
    if existing is None:
        if name not in observed.relations:
            statements = (
                (
                    f"CREATE MATERIALIZED VIEW {full} WITH (timescaledb.continuous, "
                    f"timescaledb.materialized_only = false) AS {_sums_by_timescale(rollup, schema)} WITH NO DATA"
                ),
                *policy,
                record_setting(name, str(rollup.minutes)),
            )
            builder.steps.append(Write(f"create the aggregate {name}", statements, _repairs_if_known(observed, name)))
        return
    if name not in observed.aggregates:
        builder.drift.append(Drift(name=full, what="is not a continuous aggregate", repaired=False))
        return
    builder.drift += drifts.columns(full, existing.columns, SUMS)
    if not state.real_time:
        repaired = Drift(name=full, what="did not show the newest rows", repaired=True)
        statement = f"ALTER MATERIALIZED VIEW {full} SET (timescaledb.materialized_only = false)"
        builder.steps.append(Write(f"show the newest rows of the aggregate {name}", (statement,), (repaired,)))
    if state.refreshed != ((None, end, float(REFRESH_SECONDS)),):
        repaired = Drift(name=full, what="had another refresh policy", repaired=True)
        builder.steps.append(Write(f"set the refresh policy of {name}", policy, (repaired,)))
    if state.paused:
        builder.warnings.append(f"the refresh of {full} is paused")


def _view(observed: DatabaseState, rollup: Rollup, engine: Engine, builder: PlanBuilder) -> None:
    name, full, existing = rollup.name, f"{pg_catalog.SCHEMA}.{rollup.name}", observed.views.get(rollup.name)
    if existing is None and name in observed.relations:
        builder.drift.append(Drift(name=full, what="is not a view", repaired=False))
        return
    if existing is not None:
        changed = list(drifts.columns(full, existing.columns, COLUMNS))
        builder.drift += changed
        if changed or existing.digest == observed.settings.get(name):
            return
    sums = f"aether.{rollup.sums}" if engine is Engine.TIMESCALE else f"({_sums_by_postgres(rollup)})"
    statements = (
        # A view that others changed has the same columns: what depends on it is kept.
        f"CREATE OR REPLACE VIEW {full} AS {_VWAP.format(sums=sums)}",
        (
            "INSERT INTO aether.settings (name, value) "
            f"VALUES ({literal(name)}, md5(pg_get_viewdef({literal(full)}::regclass))) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        ),
    )
    repairs = _repairs_if_known(observed, name, "was missing" if existing is None else "was changed")
    builder.steps.append(Write(f"create the view {name}", statements, repairs))


def _repairs_if_known(observed: DatabaseState, name: str, what: str = "was missing") -> tuple[Drift, ...]:
    """The drift that a step repairs, if we had created the object before."""
    return (Drift(name=f"{pg_catalog.SCHEMA}.{name}", what=what, repaired=True),) if name in observed.settings else ()
