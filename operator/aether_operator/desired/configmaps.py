"""The live settings of a component, as one file in a ConfigMap: they may change while it runs."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from aether_operator.api import labels
from aether_operator.catalog import components, names
from aether_operator.desired import components as component_modules
from aether_operator.desired import metadata
from aether_operator.observed import kinds

if TYPE_CHECKING:
    from aether_operator.api.platforms import Platform
    from aether_operator.catalog.components import Component
    from aether_operator.catalog.releases import Release
    from aether_operator.observed.kinds import Manifest


def live_settings(component: Component, platform: Platform, release: Release) -> Manifest:
    """The ConfigMap that a component reads again whenever it changes, with the settings' digest as an annotation."""
    name, text = components.COMPONENTS[component].name, settings_text(component, platform)
    manifest = metadata.owned(
        kinds.CONFIG_MAPS, names.component_settings(platform, component), platform.owner, name, release
    )
    manifest["metadata"]["annotations"] = {labels.SETTINGS: digest(text)}
    manifest["data"] = {components.SETTINGS_KEY: text}
    return manifest


def settings_text(component: Component, platform: Platform) -> str:
    """The content of a component's file, which does not depend on the order in the spec."""
    own = component_modules.module_of(component).live_settings(platform)
    return json.dumps({"version": components.SETTINGS_VERSION, **own}, separators=(",", ":"))


def digest(text: str) -> str:
    """Identifies settings; a component reports the digest of the settings that it read."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]
