"""Who may call whom: the call graph from which network policies are made. Data only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aether_operator.api.platforms import Server
from aether_operator.catalog.components import COMPONENTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_operator.catalog.components import Component

OPERATOR: Final = "operator"
"""The operator's pods, in their own namespace."""
ANYBODY: Final = "anybody"
"""Any client. Prometheus, and the API server when it proxies for `aether book`, have addresses that are not known in
advance; a public component serves only public data: prices, and its own health."""


def _components_that_need(server: Server) -> frozenset[str]:
    return frozenset(run.name for run in COMPONENTS.values() if server in run.servers)


def _components_that_call(component: Component) -> frozenset[str]:
    return frozenset(run.name for run in COMPONENTS.values() if component in run.calls)


CALLERS: Final[Mapping[str, frozenset[str]]] = {
    **{server.value: frozenset({OPERATOR}) | _components_that_need(server) for server in Server},
    **{
        # The simulated venue is not public: connections of other clients would count against its limits.
        run.name: frozenset({OPERATOR, *([ANYBODY] if run.public else ())}) | _components_that_call(run.component)
        for run in COMPONENTS.values()
    },
}
"""Component → who may call it: `OPERATOR`, `ANYBODY`, or components of the same platform. Nobody else may.

Servers open no connections; a component calls those whose entry names it, and the venue.
"""
