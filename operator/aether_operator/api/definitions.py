"""The table of kinds. CRDs, pages, watches, the chart's rights, the command line and the tests walk it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aether_operator.api import platform_definition

if TYPE_CHECKING:
    from aether_operator.api.definition import Definitions

DEFINITIONS: Final[Definitions] = {one.kind: one for one in (platform_definition.DEFINITION,)}
"""Kind → its definition, in the order in which pages and commands list the kinds."""
