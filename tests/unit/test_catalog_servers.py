"""The catalog: every server and component has a row, and the rows are consistent."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from aether_operator.api import models
from aether_operator.api.platforms import MAX_NAME_LENGTH, Server
from aether_operator.catalog import call_graph, components, names, servers
from aether_operator.catalog.logins import DatabaseUser
from aether_operator.catalog.platform_schema import PLATFORM_SCHEMA
from aether_operator.observed import child_refs
from aether_testing.servers.toy_schemas import TOY
from aether_testing.values import observations

if TYPE_CHECKING:
    from aether_operator.catalog.schemas import SchemaDefinition


def test_every_server_has_a_catalog_row_and_call_graph_entry() -> None:
    assert set(servers.SERVERS) == set(Server)
    assert set(components.COMPONENTS) == set(components.Component)
    assert set(call_graph.CALLERS) == {
        *(server.value for server in Server),
        *(run.name for run in components.COMPONENTS.values()),
    }


def test_callers_are_the_operator_or_components() -> None:
    known = {call_graph.OPERATOR, call_graph.ANYBODY, *call_graph.CALLERS}
    assert {caller for callers in call_graph.CALLERS.values() for caller in callers} <= known


def test_ports_and_port_names_are_unique_and_valid() -> None:
    rows = servers.SERVERS.values()
    assert len({row.port for row in rows}) == len({row.port_name for row in rows}) == len(Server)
    assert all(0 < len(row.port_name) <= 15 for row in rows)


def test_default_requests_are_below_default_limits() -> None:
    rows = [row.resources for row in servers.SERVERS.values()] + [
        row.resources for row in components.COMPONENTS.values()
    ]
    for row in rows:
        request, limit = row.requests.memory, row.limits.memory
        assert request is not None
        assert limit is not None
        assert models.quantity(request) < models.quantity(limit)


def test_longest_platform_name_gives_valid_child_names() -> None:
    platform = observations.a_platform(name="p" * MAX_NAME_LENGTH)
    longest = [
        *(ref.name for ref in child_refs.all_of(platform)),
        *(names.server_pod(platform, one) for one in Server),
        *(names.component_pod(platform, one, 7) for one in components.Component),
    ]
    assert max(len(name) for name in longest) <= 63
    # The controller's revision label is the StatefulSet's name and a hash of up to eleven characters.
    workloads = [ref.name for ref in child_refs.all_of(platform) if ref.kind == "StatefulSet"]
    assert len(workloads) == len(Server) + len(components.Component)
    assert max(map(len, workloads)) + 11 <= 63


def test_an_ipv6_address_has_brackets_and_a_name_has_none() -> None:
    assert names.address("2001:db8::7", 5432) == "[2001:db8::7]:5432"
    assert names.address("10.0.0.7", "5432") == "10.0.0.7:5432"
    assert names.address("db.example.org", 5432) == "db.example.org:5432"


def test_component_has_a_database_user_exactly_where_it_needs_postgresql() -> None:
    for row in components.COMPONENTS.values():
        assert (row.database_user is not None) is (Server.POSTGRES in row.servers)


@pytest.mark.parametrize("schema", [PLATFORM_SCHEMA, TOY], ids=lambda schema: schema.name)
def test_schema_names_only_tables_and_columns_that_it_has(schema: SchemaDefinition) -> None:
    assert all(name == table.name for name, table in schema.tables.items())
    for name, growing in schema.growing.items():
        assert {growing.time, growing.segment} <= {column.name for column in schema.tables[name].columns}
    assert {rollup.source for rollup in schema.rollups} <= schema.growing.keys()
    assert {table for rights in schema.users.values() for table in rights.writes} <= schema.tables.keys()
    assert {rollup.name for rollup in schema.rollups}.isdisjoint(schema.tables)


def test_every_database_user_of_a_platform_has_privileges() -> None:
    assert list(PLATFORM_SCHEMA.users) == list(DatabaseUser)


def test_platform_schema_keeps_the_advisory_lock_of_earlier_releases() -> None:
    assert PLATFORM_SCHEMA.advisory_lock == int.from_bytes(b"Aether") == 0x416574686572


def test_advisory_lock_follows_from_the_name_of_a_schema() -> None:
    other = dataclasses.replace(TOY, name="acct_1")
    assert (TOY.advisory_lock, other.advisory_lock) == (1104247485905021160, 5152291999017996834)
    assert all(-(2**63) <= lock < 2**63 for lock in (TOY.advisory_lock, other.advisory_lock))


@pytest.mark.parametrize("name", ["", "Toy", "acct-1", 'toy"', "1st", "t" * 64, "tøy"])
def test_schema_name_that_needs_quotes_is_rejected(name: str) -> None:
    with pytest.raises(ValueError, match="a schema cannot be named"):
        dataclasses.replace(TOY, name=name)
