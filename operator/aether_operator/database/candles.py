"""Candles longer than a minute: what makes them of those of a minute, and what puts that right. Values only.

They are always what the minutes say: on TimescaleDB a continuous aggregate whose refresh reaches back to the first
minute that changed, elsewhere a view. A longer candle is what the venue's would be: it opens with the first trade in
it, and an interval without any carries the last close.
"""

# ruff: noqa: S608 - statements are made of constants, whole numbers and quoted names

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aether_operator.database import drifts, pg_catalog
from aether_operator.database.pg_catalog import Aggregate, Column
from aether_operator.database.steps import Write, literal, quoted, remember
from aether_operator.observed.reports import Drift, Engine

if TYPE_CHECKING:
    from aether_operator.database.pg_catalog import Rollup, Seen
    from aether_operator.database.steps import Notes

REFRESH_SECONDS: Final = 300
"""How often an aggregate takes in what has changed; what came after its last interval shows at once."""
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
# Without trades the high and the low are the close of before; a division that is not cut off too early is one of whole
# numbers.
_VWAP: Final = """
SELECT c.symbol, c.ts, c.open, c.high, c.low, c.close,
    CASE WHEN c.volume = 0 THEN 0
         ELSE trunc(div(c.cost * ('1e' || i.price_decimals)::numeric, c.volume)
                    * ('1e-' || i.price_decimals)::numeric, i.price_decimals) END AS vwap,
    c.volume, c.cost, c.trades
FROM {sums} c LEFT JOIN aether.instruments i ON i.symbol = c.symbol
"""


def plan(seen: Seen, engine: Engine, notes: Notes) -> None:
    """What is to be done, so that longer candles are there; the tables that they are made of are as they should be."""
    if engine is Engine.TIMESCALE and getattr(seen.keeping.get("candles"), "engine", None) is not engine:
        return  # first the hypertable
    for rollup in pg_catalog.ROLLUPS:
        if engine is Engine.TIMESCALE:
            _aggregate(seen, rollup, notes)
        _view(seen, rollup, engine, notes)


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


def _aggregate(seen: Seen, rollup: Rollup, notes: Notes) -> None:
    name, full, schema = rollup.sums, f"{pg_catalog.SCHEMA}.{rollup.sums}", quoted(seen.server.timescale.schema)
    there, kept = seen.views.get(name), seen.aggregates.get(name, Aggregate())
    end = rollup.minutes * 60.0
    policy = (
        f"SELECT {schema}.remove_continuous_aggregate_policy({literal(full)}, if_exists => true)",
        # Without a start: what came late, or was dropped, counts however old it is.
        (
            f"SELECT {schema}.add_continuous_aggregate_policy({literal(full)}, start_offset => NULL, "
            f"end_offset => INTERVAL '{rollup.minutes} minutes', "
            f"schedule_interval => INTERVAL '{REFRESH_SECONDS} seconds')"
        ),
    )
    if there is None:
        if name not in seen.relations:
            statements = (
                (
                    f"CREATE MATERIALIZED VIEW {full} WITH (timescaledb.continuous, "
                    f"timescaledb.materialized_only = false) AS {_sums_by_timescale(rollup, schema)} WITH NO DATA"
                ),
                *policy,
                remember(name, str(rollup.minutes)),
            )
            notes.steps.append(Write(f"make the aggregate {name}", statements, _was(seen, name)))
        return
    if name not in seen.aggregates:
        notes.drift.append(Drift(name=full, what="is not a continuous aggregate", repaired=False))
        return
    notes.drift += drifts.columns(full, there.columns, SUMS)
    if not kept.real_time:
        mended = Drift(name=full, what="did not show what is newest", repaired=True)
        statement = f"ALTER MATERIALIZED VIEW {full} SET (timescaledb.materialized_only = false)"
        notes.steps.append(Write(f"have the aggregate {name} show what is newest", (statement,), (mended,)))
    if kept.refreshed != ((None, end, float(REFRESH_SECONDS)),):
        mended = Drift(name=full, what="was not refreshed as it should be", repaired=True)
        notes.steps.append(Write(f"refresh the aggregate {name}", policy, (mended,)))
    if kept.paused:
        notes.warnings.append(f"the refresh of {full} is paused")


def _view(seen: Seen, rollup: Rollup, engine: Engine, notes: Notes) -> None:
    name, full, there = rollup.name, f"{pg_catalog.SCHEMA}.{rollup.name}", seen.views.get(rollup.name)
    if there is None and name in seen.relations:
        notes.drift.append(Drift(name=full, what="is not a view", repaired=False))
        return
    if there is not None:
        changed = list(drifts.columns(full, there.columns, COLUMNS))
        notes.drift += changed
        if changed or there.digest == seen.settings.get(name):
            return
    sums = f"aether.{rollup.sums}" if engine is Engine.TIMESCALE else f"({_sums_by_postgres(rollup)})"
    statements = (
        # A view that others changed has the same columns: nothing that stands on it is lost.
        f"CREATE OR REPLACE VIEW {full} AS {_VWAP.format(sums=sums)}",
        (
            "INSERT INTO aether.settings (name, value) "
            f"VALUES ({literal(name)}, md5(pg_get_viewdef({literal(full)}::regclass))) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        ),
    )
    mends = _was(seen, name, "was missing" if there is None else "was changed")
    notes.steps.append(Write(f"make the view {name}", statements, mends))


def _was(seen: Seen, name: str, what: str = "was missing") -> tuple[Drift, ...]:
    """The drift that a step mends, if we had made that before."""
    return (Drift(name=f"{pg_catalog.SCHEMA}.{name}", what=what, repaired=True),) if name in seen.settings else ()
