"""Who may call whom: the call graph that network policies are made of. Data only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aether_operator.api.platforms import Server

if TYPE_CHECKING:
    from collections.abc import Mapping

OPERATOR: Final = "operator"
"""The caller that is not of a platform: the operator's pods, in their own namespace."""

CALLERS: Final[Mapping[str, frozenset[str]]] = {server.value: frozenset({OPERATOR}) for server in Server}
"""Component → who may call it: `OPERATOR`, or components of the same platform. Nobody else may; none calls out."""
