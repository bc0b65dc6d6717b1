"""PersistentVolumeClaims of managed servers and of components."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aether_operator.catalog import components, names
from aether_operator.desired import metadata, quantities
from aether_operator.observed import kinds

if TYPE_CHECKING:
    from aether_operator.api.platforms import Managed, Platform, Server
    from aether_operator.catalog.components import Component
    from aether_operator.catalog.releases import Release
    from aether_operator.observed.kinds import Manifest


def for_server(server: Server, managed: Managed, platform: Platform, release: Release) -> Manifest:
    """The claim with a server's data; the default StorageClass provisions the volume."""
    return _claim(names.server_claim(platform, server), managed.storage, platform, server.value, release)


def for_component(component: Component, storage: str, platform: Platform, release: Release) -> Manifest:
    """The claim with a component's data."""
    return _claim(
        names.component_claim(platform, component), storage, platform, components.COMPONENTS[component].name, release
    )


def _claim(name: str, storage: str, platform: Platform, component: str, release: Release) -> Manifest:
    manifest = metadata.retained(kinds.CLAIMS, name, platform.owner, component, release)
    manifest["spec"] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": quantities.canonical(storage)}},
    }
    return manifest
