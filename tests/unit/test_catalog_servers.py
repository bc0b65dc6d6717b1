"""The catalog: every server and component has a row, and the rows are consistent."""

from __future__ import annotations

from aether_operator.api import models
from aether_operator.api.platforms import MAX_NAME_LENGTH, Server
from aether_operator.catalog import call_graph, components, names, servers
from aether_operator.observed import child_refs
from aether_testing import observations


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
