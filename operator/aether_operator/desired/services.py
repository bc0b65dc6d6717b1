"""The name and port by which clients reach a managed server, or a room."""

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
"""IPv4 and IPv6 where the cluster has both; else the one that it has."""


def before(server: Server, platform: Platform, release: Release) -> Manifest:
    """The Service before a server's pod."""
    running = servers.SERVERS[server]
    thing = metadata.owned(kinds.SERVICES, names.child(platform, server), platform, server.value, release)
    thing["spec"] = {
        "type": "ClusterIP",
        **BOTH_FAMILIES,
        "selector": labels.selecting(platform.name, server.value),
        "ports": [
            {"name": running.port_name, "port": running.port, "protocol": "TCP", "targetPort": running.port_name}
        ],
    }
    return thing


def before_component(component: Component, platform: Platform, release: Release) -> Manifest:
    """The Service before a room's pods.

    Of a room whose replicas call each other it is without an address of its own, and gives each pod a name, also one
    that is not ready: how it is, its peers ask itself.
    """
    running = components.COMPONENTS[component]
    thing = metadata.owned(kinds.SERVICES, names.component(platform, component), platform, running.name, release)
    thing["spec"] = {
        "type": "ClusterIP",
        **BOTH_FAMILIES,
        **({"clusterIP": "None", "publishNotReadyAddresses": True} if component in running.calls else {}),
        "selector": labels.selecting(platform.name, running.name),
        "ports": [
            {
                "name": components.PORT_NAME,
                "port": components.PORT,
                "protocol": "TCP",
                "targetPort": components.PORT_NAME,
            },
        ],
    }
    return thing
