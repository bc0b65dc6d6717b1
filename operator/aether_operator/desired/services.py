"""The name and port by which clients reach a managed server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aether_operator.api import labels
from aether_operator.catalog import names, servers
from aether_operator.desired import metadata
from aether_operator.observed import kinds

if TYPE_CHECKING:
    from aether_operator.api.platforms import Platform, Server
    from aether_operator.catalog.releases import Release
    from aether_operator.observed.kinds import Manifest


def before(server: Server, platform: Platform, release: Release) -> Manifest:
    """The Service before a server's pod."""
    running = servers.SERVERS[server]
    thing = metadata.owned(kinds.SERVICES, names.child(platform, server), platform, server.value, release)
    thing["spec"] = {
        "type": "ClusterIP",
        "selector": labels.selecting(platform.name, server.value),
        "ports": [
            {"name": running.port_name, "port": running.port, "protocol": "TCP", "targetPort": running.port_name}
        ],
    }
    return thing
