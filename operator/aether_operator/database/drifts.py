"""What is different from the schema's newest revision, and what of it is harmless. Values only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aether_operator.database import pg_catalog
from aether_operator.database.steps import Write
from aether_operator.observed.reports import Drift

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from aether_operator.database.pg_catalog import Column, Table


LARGE: Final = 256 << 20
"""Bytes of a table from which on an index is not made in passing: nobody could write to it meanwhile."""


def compare(live: Mapping[str, Table]) -> tuple[list[Write], list[Drift]]:
    """Steps for what may be mended, and what only a person can: nothing is dropped, retyped or rewritten."""
    steps: list[Write] = []
    drift: list[Drift] = []
    for name, wanted in pg_catalog.TABLES.items():
        full = f"{pg_catalog.SCHEMA}.{name}"
        table = live.get(name)
        if table is None:
            drift.append(Drift(name=full, what="is missing", repaired=False))
            continue
        drift += columns(full, table.columns, wanted.columns)
        drift += _constraints(full, table, wanted)
        for index, definition in wanted.indexes.items():
            seen = table.indexes.get(index)
            index_name = f"{pg_catalog.SCHEMA}.{index}"
            if seen is None and table.size > LARGE:
                statement = f"CREATE INDEX {index} ON {full} USING {definition}"
                what = f"is missing, and making it would lock a large table: {statement}"
                drift.append(Drift(name=index_name, what=what, repaired=False))
            elif seen is None:
                mended = Drift(name=index_name, what="was missing", repaired=True)
                statement = f"CREATE INDEX IF NOT EXISTS {index} ON {full} USING {definition}"
                steps.append(Write(f"make the index {index}", (statement,), (mended,)))
            elif seen != definition:
                drift.append(Drift(name=index_name, what=f"is {seen}, should be {definition}", repaired=False))
    return steps, drift


def keepable(live: Mapping[str, Table], name: str) -> bool:
    """Whether policies of a growing table still have what they work on."""
    table = live.get(name)
    wanted = {column for column in pg_catalog.TABLES[name].columns if column.name in {"symbol", "ts"}}
    return table is not None and wanted <= set(table.columns)


def columns(full: str, live: Sequence[Column], wanted: Sequence[Column]) -> Iterator[Drift]:
    """What is different in the columns of a table or a view."""
    seen = {column.name: column for column in live}
    known = {column.name for column in wanted}
    for column in wanted:
        name, there = f"{full}.{column.name}", seen.get(column.name)
        if there is None:
            yield Drift(name=name, what="is missing", repaired=False)
        elif there.type != column.type:
            yield Drift(name=name, what=f"is {there.type}, should be {column.type}", repaired=False)
        elif there.required != column.required:
            yield Drift(name=name, what="may be null" if column.required else "may not be null", repaired=False)
    for name in seen:
        if name not in known:
            yield Drift(name=f"{full}.{name}", what="is not of this schema", repaired=False)


def _constraints(full: str, live: Table, wanted: Table) -> Iterator[Drift]:
    for name, definition in wanted.constraints.items():
        seen = live.constraints.get(name)
        if seen is None:
            yield Drift(name=f"{full}, constraint {name}", what="is missing", repaired=False)
        elif seen != definition:
            yield Drift(name=f"{full}, constraint {name}", what=f"is {seen}, should be {definition}", repaired=False)
    for name in live.constraints:
        if name not in wanted.constraints:
            yield Drift(name=f"{full}, constraint {name}", what="is not of this schema", repaired=False)
