"""Who may call whom: the call graph that network policies are made of. Data only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aether_operator.api.platforms import Server
from aether_operator.catalog.components import COMPONENTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_operator.catalog.components import Component

OPERATOR: Final = "operator"
"""The caller that is not of a platform: the operator's pods, in their own namespace."""
ANYBODY: Final = "anybody"
"""Whoever reaches it. Prometheus, and the API server when it proxies for `aether book`, come from addresses that nobody
can write down; what a public room tells is public: prices, and how it is."""


def _components_that_need(server: Server) -> frozenset[str]:
    return frozenset(run.name for run in COMPONENTS.values() if server in run.servers)


def _components_that_call(component: Component) -> frozenset[str]:
    return frozenset(run.name for run in COMPONENTS.values() if component in run.calls)


CALLERS: Final[Mapping[str, frozenset[str]]] = {
    **{server.value: frozenset({OPERATOR}) | _components_that_need(server) for server in Server},
    **{
        # The simulated venue is not public: a stranger's connections count against its limits, as a venue's do.
        run.name: frozenset({OPERATOR, *([ANYBODY] if run.public else ())}) | _components_that_call(run.component)
        for run in COMPONENTS.values()
    },
}
"""Component → who may call it: `OPERATOR`, `ANYBODY`, or components of the same platform. Nobody else may.

Servers call nobody out of themselves; a room calls those who let it in, and the venue.
"""
