"""The initial Kubernetes objects of a local cluster. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aether_cli.local import certificates, networks, volumes

if TYPE_CHECKING:
    from aether_cli.local.settings import Settings

RBAC: Final = "rbac.authorization.k8s.io"
NAMESPACES: Final = ("aether-system", "aether")
"""The operator's, and that of the examples."""
FAKE_NODE: Final = "kwok"


def initial_objects(chosen: Settings) -> list[dict[str, Any]]:
    """The initial objects of a cluster with these settings."""
    objects = [restricted_namespace(name) for name in NAMESPACES]
    if chosen.has_node:
        objects += [
            volumes.storage_class(),
            *_name_service(),
            *_role(
                "aether:volumes",
                certificates.IDENTITIES["volumes"],
                ("", ["persistentvolumes"], ["get", "list", "watch", "create", "patch", "delete"]),
            ),
            *_role(
                "aether:coredns",
                certificates.IDENTITIES["coredns"],
                ("", ["services", "pods", "namespaces"], ["list", "watch"]),
                ("discovery.k8s.io", ["endpointslices"], ["list", "watch"]),
            ),
            _binding(
                "aether:kubelet-clients",
                "system:kubelet-api-admin",
                {"kind": "Group", "name": certificates.IDENTITIES["apiserver-kubelet"].group, "apiGroup": RBAC},
            ),
        ]
    if chosen.kwok:
        objects += [_fake_node(), *(() if chosen.has_node else (volumes.empty_storage_class(),))]
    return objects


def restricted_namespace(name: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    """A namespace with the Pod Security Standard `restricted`."""
    security = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {**security, **(labels or {})}},
    }


def _role(
    name: str, identity: certificates.Identity, *rules: tuple[str, list[str], list[str]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    role = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": [{"apiGroups": [group], "resources": kinds, "verbs": verbs} for group, kinds, verbs in rules],
    }
    return role, _binding(name, name, {"kind": "User", "name": identity.user, "apiGroup": RBAC})


def _binding(name: str, role: str, subject: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [subject],
    }


def _name_service() -> list[dict[str, Any]]:
    """The Service kube-dns; its endpoint is CoreDNS, which runs outside of pods, on the node's address."""
    ports = [
        {"name": name, "port": 53, "protocol": protocol} for name, protocol in (("dns", "UDP"), ("dns-tcp", "TCP"))
    ]
    named = {"name": "kube-dns", "namespace": "kube-system"}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {**named, "labels": {"k8s-app": "kube-dns"}},
            "spec": {"clusterIP": networks.DNS_SERVICE, "ports": ports},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**named, "labels": {"kubernetes.io/service-name": "kube-dns"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [networks.NODE]}],
            "ports": ports,
        },
    ]


def _fake_node() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": FAKE_NODE,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {"kubernetes.io/hostname": FAKE_NODE, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
        },
    }
