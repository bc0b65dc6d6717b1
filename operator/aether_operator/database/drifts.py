"""Compares the live tables with the schema's newest revision, and decides which differences may be repaired. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aether_operator.database.steps import Write
from aether_operator.observed.reports import Drift

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from aether_operator.catalog.schemas import Column, SchemaDefinition, Table
    from aether_operator.database.pg_catalog import LiveTable


LARGE: Final = 256 << 20
"""Bytes of a table above which a missing index is not created: nobody could write to the table meanwhile."""


def compare(live: Mapping[str, LiveTable], definition: SchemaDefinition) -> tuple[list[Write], list[Drift]]:
    """Steps for what can be repaired, and the drift that only a person can repair: nothing is dropped or rewritten."""
    steps: list[Write] = []
    drift: list[Drift] = []
    for name, desired in definition.tables.items():
        full = f"{definition.name}.{name}"
        table = live.get(name)
        if table is None:
            drift.append(Drift(name=full, what="is missing", repaired=False))
            continue
        drift += columns(full, table.columns, desired.columns)
        drift += _constraints(full, table, desired)
        for index, method in desired.indexes.items():
            found = table.indexes.get(index)
            index_name = f"{definition.name}.{index}"
            if found is None and table.size > LARGE:
                statement = f"CREATE INDEX {index} ON {full} USING {method}"
                what = f"is missing; creating it would lock a large table: {statement}"
                drift.append(Drift(name=index_name, what=what, repaired=False))
            elif found is None:
                repaired = Drift(name=index_name, what="was missing", repaired=True)
                statement = f"CREATE INDEX IF NOT EXISTS {index} ON {full} USING {method}"
                steps.append(Write(f"create the index {index}", (statement,), (repaired,)))
            elif found != method:
                drift.append(Drift(name=index_name, what=f"is {found}, should be {method}", repaired=False))
    return steps, drift


def can_be_partitioned(live: Mapping[str, LiveTable], definition: SchemaDefinition, name: str) -> bool:
    """Whether a growing table still has the columns that partitioning, compression and retention need."""
    table = live.get(name)
    needed = {definition.growing[name].time, definition.growing[name].segment}
    desired = {column for column in definition.tables[name].columns if column.name in needed}
    return table is not None and desired <= set(table.columns)


def columns(full: str, live: Sequence[Column], desired: Sequence[Column]) -> Iterator[Drift]:
    """The differences in the columns of a table or a view."""
    live_columns = {column.name: column for column in live}
    known = {column.name for column in desired}
    for column in desired:
        name, found = f"{full}.{column.name}", live_columns.get(column.name)
        if found is None:
            yield Drift(name=name, what="is missing", repaired=False)
        elif found.type != column.type:
            yield Drift(name=name, what=f"is {found.type}, should be {column.type}", repaired=False)
        elif found.required != column.required:
            yield Drift(name=name, what="may be null" if column.required else "may not be null", repaired=False)
    for name in live_columns:
        if name not in known:
            yield Drift(name=f"{full}.{name}", what="is not part of the schema", repaired=False)


def _constraints(full: str, live: Table, desired: Table) -> Iterator[Drift]:
    for name, definition in desired.constraints.items():
        found = live.constraints.get(name)
        if found is None:
            yield Drift(name=f"{full}, constraint {name}", what="is missing", repaired=False)
        elif found != definition:
            yield Drift(name=f"{full}, constraint {name}", what=f"is {found}, should be {definition}", repaired=False)
    for name in live.constraints:
        if name not in desired.constraints:
            yield Drift(name=f"{full}, constraint {name}", what="is not part of the schema", repaired=False)
