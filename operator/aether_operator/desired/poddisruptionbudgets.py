"""PodDisruptionBudgets of components."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aether_operator.api import labels
from aether_operator.catalog import components, names
from aether_operator.desired import metadata
from aether_operator.observed import kinds

if TYPE_CHECKING:
    from aether_operator.api.platforms import Platform
    from aether_operator.catalog.components import Component
    from aether_operator.catalog.releases import Release
    from aether_operator.observed.kinds import Manifest


def for_component(component: Component, platform: Platform, release: Release) -> Manifest:
    """The budget of a component with several pods. A single pod has none: it would block every drain."""
    name = components.COMPONENTS[component].name
    manifest = metadata.owned(kinds.BUDGETS, names.component_child(platform, component), platform.owner, name, release)
    manifest["spec"] = {
        "maxUnavailable": 1,
        # A pod that is not ready serves nobody, and must not block a drain.
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": labels.selector(platform.owner, name)},
    }
    return manifest
