"""Who may reach a managed server: nobody but those whom the call graph names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aether_operator.api import labels
from aether_operator.catalog import calls, names, servers
from aether_operator.desired import metadata
from aether_operator.observed import kinds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_operator.api.platforms import Platform, Server
    from aether_operator.catalog.releases import Release
    from aether_operator.observed.kinds import Manifest

NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"
"""The label with its name that Kubernetes gives to every namespace."""


def around(
    server: Server,
    platform: Platform,
    release: Release,
    callers: Mapping[str, frozenset[str]] = calls.CALLERS,
) -> Manifest:
    """The policy around a server's pod. It names `Egress` without a rule: a server calls nobody."""
    thing = metadata.owned(kinds.POLICIES, names.child(platform, server), platform, server.value, release)
    peers = [_peer(caller, platform, release) for caller in sorted(callers[server.value])]
    ports = [{"port": servers.SERVERS[server].port, "protocol": "TCP"}]
    thing["spec"] = {
        "podSelector": {"matchLabels": labels.selecting(platform.name, server.value)},
        "policyTypes": ["Ingress", "Egress"],
    }
    if peers:  # a rule without peers would let everybody in
        thing["spec"]["ingress"] = [{"from": peers, "ports": ports}]
    return thing


def _peer(caller: str, platform: Platform, release: Release) -> dict[str, Any]:
    if caller == calls.OPERATOR:
        return {
            "namespaceSelector": {"matchLabels": {NAMESPACE_NAME: release.operator_namespace}},
            "podSelector": {"matchLabels": dict(labels.OPERATOR_POD)},
        }
    return {"podSelector": {"matchLabels": labels.selecting(platform.name, caller)}}
