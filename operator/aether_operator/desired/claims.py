"""The volume of a managed server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aether_operator.catalog import names
from aether_operator.desired import metadata, quantities
from aether_operator.observed import kinds

if TYPE_CHECKING:
    from aether_operator.api.platforms import Managed, Platform, Server
    from aether_operator.catalog.releases import Release
    from aether_operator.observed.kinds import Manifest


def under(server: Server, managed: Managed, platform: Platform, release: Release) -> Manifest:
    """The claim that a server keeps its data in; the cluster's default class brings the volume."""
    thing = metadata.retained(kinds.CLAIMS, names.claim(platform, server), platform, server.value, release)
    thing["spec"] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": quantities.canonical(managed.storage)}},
    }
    return thing
