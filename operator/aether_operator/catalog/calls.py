"""Who may call whom: the call graph that network policies are made of. Data only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aether_operator.api.platforms import Server
from aether_operator.catalog.components import ROOMS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_operator.catalog.components import Room

OPERATOR: Final = "operator"
"""The caller that is not of a platform: the operator's pods, in their own namespace."""
ANYBODY: Final = "anybody"
"""Whoever reaches it. Prometheus, and the API server when it proxies for `aether book`, come from addresses that nobody
can write down; what a public room tells is public: prices, and how it is."""


def _rooms_that_need(server: Server) -> frozenset[str]:
    return frozenset(run.component for run in ROOMS.values() if server in run.servers)


def _rooms_that_call(room: Room) -> frozenset[str]:
    return frozenset(run.component for run in ROOMS.values() if room in run.calls)


CALLERS: Final[Mapping[str, frozenset[str]]] = {
    **{server.value: frozenset({OPERATOR}) | _rooms_that_need(server) for server in Server},
    **{
        # The simulated venue is not public: a stranger's connections count against its limits, as a venue's do.
        run.component: frozenset({OPERATOR, *([ANYBODY] if run.public else ())}) | _rooms_that_call(run.room)
        for run in ROOMS.values()
    },
}
"""Component → who may call it: `OPERATOR`, `ANYBODY`, or components of the same platform. Nobody else may.

Servers call nobody out of themselves; a room calls those who let it in, and the venue.
"""
