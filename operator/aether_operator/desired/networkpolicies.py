"""NetworkPolicies: only callers in the call graph are admitted, and components reach only what they call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aether_operator.api import labels
from aether_operator.api.platforms import VenueName
from aether_operator.catalog import call_graph, components, names, servers
from aether_operator.desired import metadata
from aether_operator.observed import kinds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_operator.api.platforms import Platform, Server
    from aether_operator.catalog.components import Component
    from aether_operator.catalog.releases import Release
    from aether_operator.observed.kinds import Manifest

NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"
"""The label with a namespace's name, which Kubernetes sets on every namespace."""
DNS_PORT: Final = 53
HTTPS_PORT: Final = 443
_INTERNET: Final = (
    {
        "cidr": "0.0.0.0/0",
        "except": [
            "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16",
        ],
    },
    {"cidr": "::/0", "except": ["fc00::/7", "fe80::/10"]},
)  # fmt: skip
"""All addresses except those of clusters, link-local services and private networks."""


def for_server(
    server: Server,
    platform: Platform,
    release: Release,
    callers: Mapping[str, frozenset[str]] = call_graph.CALLERS,
) -> Manifest:
    """The policy of a server's pod. Its policy types include Egress without a rule: a server opens no connections."""
    manifest = metadata.owned(
        kinds.POLICIES, names.server_child(platform, server), platform.owner, server.value, release
    )
    manifest["spec"] = {
        "podSelector": {"matchLabels": labels.selector(platform.owner, server.value)},
        "policyTypes": ["Ingress", "Egress"],
    }
    ingress = _ingress(server.value, servers.SERVERS[server].port, platform, release, callers)
    return _with(manifest, ingress=ingress)


def for_component(
    component: Component,
    platform: Platform,
    release: Release,
    callers: Mapping[str, frozenset[str]] = call_graph.CALLERS,
) -> Manifest:
    """The policy of a component's pods: who may call them, and whom they may call."""
    name = components.COMPONENTS[component].name
    manifest = metadata.owned(kinds.POLICIES, names.component_child(platform, component), platform.owner, name, release)
    manifest["spec"] = {
        "podSelector": {"matchLabels": labels.selector(platform.owner, name)},
        "policyTypes": ["Ingress", "Egress"],
    }
    return _with(
        manifest,
        ingress=_ingress(name, components.PORT, platform, release, callers),
        egress=_egress(component, platform, release, callers),
    )


def _with(manifest: Manifest, **ways: list[dict[str, Any]]) -> Manifest:
    manifest["spec"] |= {way: found for way, found in ways.items() if found}
    return manifest


def _ingress(
    name: str, port: int, platform: Platform, release: Release, callers: Mapping[str, frozenset[str]]
) -> list[dict[str, Any]]:
    if call_graph.ANYBODY in callers[name]:
        return [{"ports": [_tcp(port)]}]
    peers = [_peer(caller, platform, release) for caller in sorted(callers[name])]
    # A rule without peers would admit everybody.
    return [{"from": peers, "ports": [_tcp(port)]}] if peers else []


def _egress(
    component: Component, platform: Platform, release: Release, callers: Mapping[str, frozenset[str]]
) -> list[dict[str, Any]]:
    definition, plane = components.COMPONENTS[component], platform.spec.data_plane
    found: list[dict[str, Any]] = []
    for server in definition.servers:
        external = plane.of(server).external
        if external is not None:
            found.append({"ports": [_tcp(external.port)]})  # policies cannot match host names: any address
        elif definition.name in callers[server.value]:
            found.append(_to(server.value, servers.SERVERS[server].port, platform, release))
    for called in definition.calls:
        other = components.COMPONENTS[called]
        if other.runs_at(platform.spec.venue.name) and definition.name in callers[other.name]:
            found.append(_to(other.name, components.PORT, platform, release))
    if definition.calls_venue and platform.spec.venue.name is not VenueName.SIMULATED:
        found.append({"to": [{"ipBlock": block} for block in _INTERNET], "ports": [_tcp(HTTPS_PORT)]})
    if found:
        # DNS servers run on nodes, in pods or in another namespace, depending on the cluster.
        found.append({"ports": [{"port": DNS_PORT, "protocol": "UDP"}, _tcp(DNS_PORT)]})
    return found


def _to(name: str, port: int, platform: Platform, release: Release) -> dict[str, Any]:
    return {"to": [_peer(name, platform, release)], "ports": [_tcp(port)]}


def _tcp(port: int) -> dict[str, Any]:
    return {"port": port, "protocol": "TCP"}


def _peer(caller: str, platform: Platform, release: Release) -> dict[str, Any]:
    if caller == call_graph.OPERATOR:
        return {
            "namespaceSelector": {"matchLabels": {NAMESPACE_NAME: release.operator_namespace}},
            "podSelector": {"matchLabels": dict(labels.OPERATOR_POD)},
        }
    return {"podSelector": {"matchLabels": labels.selector(platform.owner, caller)}}
