"""What the operator renders for one component beyond what all have: one module per component, named like its service.

A module has `environment`: the environment variables of its service. Those that follow from the component's row in the
catalog are not among them: the name of the replica, the release, the servers, the venue, the file of live settings
(`environments` adds them). If the row has live settings, the module also has `live_settings`: what that file says.
Number and size of the pods are in the spec (`Components.of`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from aether_operator.catalog import module_lookup
from aether_operator.catalog.components import COMPONENTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_operator.api.platforms import Platform
    from aether_operator.catalog.components import Component


class ComponentModule(Protocol):
    """A module of this package."""

    def environment(self, platform: Platform) -> Mapping[str, str]:
        """The environment variables that only this service has: name → value."""
        ...

    def live_settings(self, platform: Platform) -> Mapping[str, Any]:
        """The settings that change while the service runs, as JSON values in a fixed order: independent of the spec's.

        Only a module whose row has live settings has it.
        """
        ...


_MODULES: Final = module_lookup.load(
    __name__,
    {
        component: ("environment", *(("live_settings",) if row.has_live_settings else ()))
        for component, row in COMPONENTS.items()
    },
)


def module_of(component: Component) -> ComponentModule:
    """The module of a component."""
    return cast("ComponentModule", _MODULES[component])
