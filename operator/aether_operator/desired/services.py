"""Services of managed servers and of components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aether_operator.api import labels
from aether_operator.catalog import components, names, servers
from aether_operator.desired import metadata
from aether_operator.observed import kinds

if TYPE_CHECKING:
    from aether_operator.api.platforms import Platform, Server
    from aether_operator.catalog.components import Component
    from aether_operator.catalog.releases import Release
    from aether_operator.observed.kinds import Manifest

BOTH_FAMILIES: Final = {"ipFamilyPolicy": "PreferDualStack"}
"""IPv4 and IPv6 if the cluster has both, else the one that it has."""


def for_server(server: Server, platform: Platform, release: Release) -> Manifest:
    """The Service of a server."""
    definition = servers.SERVERS[server]
    manifest = metadata.owned(
        kinds.SERVICES, names.server_child(platform, server), platform.owner, server.value, release
    )
    manifest["spec"] = {
        "type": "ClusterIP",
        **BOTH_FAMILIES,
        "selector": labels.selector(platform.owner, server.value),
        "ports": [
            {
                "name": definition.port_name,
                "port": definition.port,
                "protocol": "TCP",
                "targetPort": definition.port_name,
            }
        ],
    }
    return manifest


def for_component(component: Component, platform: Platform, release: Release) -> Manifest:
    """The Service of a component.

    If its replicas call each other it is headless, with a DNS name for each pod, including pods that are not ready:
    peers check each other's readiness themselves.
    """
    definition = components.COMPONENTS[component]
    manifest = metadata.owned(
        kinds.SERVICES, names.component_child(platform, component), platform.owner, definition.name, release
    )
    manifest["spec"] = {
        "type": "ClusterIP",
        **BOTH_FAMILIES,
        **({"clusterIP": "None", "publishNotReadyAddresses": True} if component in definition.calls else {}),
        "selector": labels.selector(platform.owner, definition.name),
        "ports": [
            {
                "name": components.PORT_NAME,
                "port": components.PORT,
                "protocol": "TCP",
                "targetPort": components.PORT_NAME,
            },
        ],
    }
    return manifest
