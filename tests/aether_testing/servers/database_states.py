"""States of a database, as values, and the plan for them: what the tables of plans begin with."""

from __future__ import annotations

import dataclasses
import datetime
from typing import TYPE_CHECKING, Any

from aether_operator.catalog.platform_schema import PLATFORM_SCHEMA
from aether_operator.database import plans, policies, rollups
from aether_operator.database.pg_catalog import (
    Aggregate,
    DatabaseState,
    Extension,
    LiveTable,
    Partition,
    Partitioning,
    ServerFacts,
    View,
)
from aether_operator.observed.reports import Engine
from aether_testing.servers import postgres

if TYPE_CHECKING:
    from aether_operator.database.revisions import Migration

NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
TODAY = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)
GROWING = PLATFORM_SCHEMA.growing
TABLES = {
    name: LiveTable(name=name, columns=table.columns, constraints=table.constraints, indexes=table.indexes)
    for name, table in PLATFORM_SCHEMA.tables.items()
}
"""The platform's tables, in a database where each is as it should be."""


def facts(timescale: str = "", partman: str = "4.7.2", *, installed: bool = True, **other: Any) -> ServerFacts:
    """The facts of a PostgreSQL 15 with these versions of the extensions; an empty version is not available."""

    def extension(version: str) -> Extension:
        return Extension(installed=version if installed else "", available=version, schema="partman")

    return (
        ServerFacts(version="15.18", major=15, timescale=extension(timescale), partman=extension(partman))
        if not other
        else dataclasses.replace(facts(timescale, partman, installed=installed), **other)
    )


def a_part(days_ago: int, rows: int | None = 10) -> Partition:
    """The partition of one day, so many days before `TODAY`."""
    start = TODAY - DAY * days_ago
    return Partition(name=f"p{days_ago}", start=start, end=start + DAY, rows=rows)


def a_state(**other: Any) -> DatabaseState:
    """A database of the platform with the newest schema, whose tables are not partitioned yet."""
    return dataclasses.replace(
        DatabaseState(
            now=NOW,
            server=facts(),
            database_schema=True,
            database_tables=frozenset({"ownership", "fence"}),
            schema=True,
            relations=frozenset({"settings", "progress", "alembic_version"}),
            owner=postgres.a_schema().owner,
            owned_since=NOW,
            venue="Simulated",
            tables=TABLES,
            revision="0002",
        ),
        **other,
    )


def a_maintained(engine: Engine, trades: Partitioning, **recorded: str) -> dict[str, Any]:
    """The state of a database in which only the trades' partitioning may differ from what is desired."""
    growing = GROWING.items()
    unchanged = {
        name: Partitioning(
            engine=engine,
            days=postgres.DAYS[name],
            compress_days=one.compress_days,
            compressed=True,
            premake=policies.PREMAKE,
            partitions=(
                Partition(name=f"{name}_p", start=TODAY, end=TODAY + DAY * one.partition_days * (policies.PREMAKE + 1)),
            ),
        )
        for name, one in growing
    }
    trades = dataclasses.replace(trades, engine=engine, compress_days=7, compressed=True, premake=policies.PREMAKE)
    partitioned = {
        name: dataclasses.replace(table, kind="p" if name in unchanged and engine is Engine.PARTMAN else "r")
        for name, table in TABLES.items()
    }
    settings = {f"{name}_days": str(postgres.DAYS[name]) for name in unchanged}
    settings |= {f"{name}_compress_days": str(one.compress_days) for name, one in growing}
    settings |= {f"{name}_engine": engine.value for name in unchanged}
    return {
        "server": facts("2.20.0") if engine is Engine.TIMESCALE else facts(),
        "partitioning": unchanged | {"trades": trades},
        "tables": partitioned,
        "settings": settings | {rollup.name: "digest" for rollup in PLATFORM_SCHEMA.rollups} | recorded,
        "views": {
            name: View(kind="v", columns=columns, digest="digest")
            for rollup in PLATFORM_SCHEMA.rollups
            for name, columns in ((rollup.name, rollup.columns), (rollup.sums, rollup.sums_columns))
        },
        "aggregates": {
            rollup.sums: Aggregate(refreshed=((None, rollup.minutes * 60.0, float(rollups.REFRESH_SECONDS)),))
            for rollup in PLATFORM_SCHEMA.rollups
        },
    }


def planned_for(state: DatabaseState, pending: tuple[Migration, ...] = (), **desired: Any) -> plans.SchemaPlan:
    """The plan for the platform's schema; `desired` differs from `postgres.a_schema`, without logins."""
    context = plans.PlanContext(database="desk", leads=True, verifier=lambda _: "verifier")
    return plans.plan(state, postgres.a_schema(**{"logins": {}, **desired}), context, lambda _: pending)
