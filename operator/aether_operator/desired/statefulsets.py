"""StatefulSets of managed servers (one pod) and of components, under the restricted Pod Security profile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aether_operator.api import labels
from aether_operator.catalog import components, names, servers
from aether_operator.desired import environments, metadata, quantities
from aether_operator.observed import child_refs, kinds

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from aether_operator.api.platforms import Managed, Platform, Resources, Server
    from aether_operator.catalog.components import Component
    from aether_operator.catalog.releases import Release
    from aether_operator.catalog.servers import ServerDefinition
    from aether_operator.observed.kinds import Manifest

_GROUP_READS: Final = 0o440
_STARTUP_PERIOD: Final = 2
_LIVENESS_SECONDS: Final = 300
"""Seconds without an answer after which a server is restarted, if it recovers only while it starts."""
_PROBE_TIMEOUT: Final = 5
_UNREADY_SECONDS: Final = 15
"""Seconds without a good answer to the readiness probe after which a component's pod is not ready."""
_LIVENESS_PERIOD: Final = 10


def for_server(server: Server, managed: Managed, platform: Platform, release: Release, credentials_id: str) -> Manifest:
    """The StatefulSet of a server that is started with these credentials.

    Parallel: the StatefulSet controller replaces a broken pod without waiting for it, so that a corrected spec takes
    effect.
    """
    name = names.server_child(platform, server)
    manifest = metadata.workload(kinds.STATEFUL_SETS, name, platform.owner, server.value, release)
    manifest["spec"] = {
        "replicas": 1,
        "serviceName": name,
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "RollingUpdate"},
        "selector": {"matchLabels": labels.selector(platform.owner, server.value)},
        "template": {
            "metadata": {
                "labels": metadata.child_labels(platform.owner, server.value, release),
                "annotations": {labels.CREDENTIALS: credentials_id},
            },
            "spec": _pod(server, managed, platform, release),
        },
    }
    return manifest


def _pod(server: Server, managed: Managed, platform: Platform, release: Release) -> dict[str, Any]:
    definition, name = servers.SERVERS[server], names.server_child(platform, server)
    volumes = [
        {"name": "data", "persistentVolumeClaim": {"claimName": names.server_claim(platform, server)}},
        {
            "name": "credentials",
            "secret": {"secretName": name, "defaultMode": _GROUP_READS},
        },
        {"name": "tmp", "emptyDir": {}},
    ]
    return _restricted_pod(
        definition.grace_seconds, _container(definition, managed, platform, release), volumes, release
    )


def _restricted_pod(
    grace: int, container: dict[str, Any], volumes: list[dict[str, Any]], release: Release
) -> dict[str, Any]:
    """A pod with one container, with the scheduling settings of the release."""
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": servers.USER,
            "runAsGroup": servers.USER,
            "fsGroup": servers.USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
    }
    optional: dict[str, Any] = {
        "imagePullSecrets": [{"name": name} for name in release.image_pull_secrets],
        "nodeSelector": dict(release.node_selector),
        "tolerations": [dict(one) for one in release.tolerations],
        "priorityClassName": release.priority_class_name,
    }
    return pod | {key: value for key, value in optional.items() if value}


def _container(definition: ServerDefinition, managed: Managed, platform: Platform, release: Release) -> dict[str, Any]:
    return {
        "name": definition.container,
        "image": release.images[definition.server],
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": servers.HOST_VARIABLE, "value": names.server_host(platform, definition.server)}],
        "ports": [{"name": definition.port_name, "containerPort": definition.port, "protocol": "TCP"}],
        "resources": quantities.merged(managed.resources, definition.resources),
        "securityContext": _container_security(),
        "volumeMounts": [
            {"name": "data", "mountPath": servers.DATA_PATH},
            {"name": "credentials", "mountPath": servers.CREDENTIALS_PATH, "readOnly": True},
            {"name": "tmp", "mountPath": servers.SCRATCH_PATH},
        ],
        **_exec_probes(definition),
    }


def _exec_probes(definition: ServerDefinition) -> dict[str, Any]:
    probe = {"exec": {"command": list(servers.READY)}, "timeoutSeconds": definition.probe_seconds}
    probes = {
        "startupProbe": {
            **probe,
            "periodSeconds": _STARTUP_PERIOD,
            "failureThreshold": servers.STARTUP_SECONDS // _STARTUP_PERIOD,
        },
        "readinessProbe": {**probe, "periodSeconds": definition.probe_seconds, "failureThreshold": 3},
    }
    if definition.has_liveness_probe:
        period = 2 * definition.probe_seconds
        probes["livenessProbe"] = {**probe, "periodSeconds": period, "failureThreshold": _LIVENESS_SECONDS // period}
    return probes


def _container_security() -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


# Components.


def for_component(  # noqa: PLR0913 - the parts of a workload
    component: Component,
    resources: Resources,
    platform: Platform,
    release: Release,
    unconfirmed: AbstractSet[Server] = frozenset(),
    live: Manifest | None = None,
) -> Manifest:
    """The StatefulSet of a component. For the servers in `unconfirmed` it keeps the login of the live one.

    Neither settings nor credentials are in the pod template: a component reads both again while it runs, so that a
    change restarts nothing.
    """
    definition, name = components.COMPONENTS[component], names.component_child(platform, component)
    manifest = metadata.workload(kinds.STATEFUL_SETS, name, platform.owner, definition.name, release)
    volumes, mounts = _volumes(component, platform, _logins(component, platform, unconfirmed, live))
    container = {
        "name": definition.name,
        "image": release.service_image,
        "imagePullPolicy": "IfNotPresent",
        "args": [component.value],
        "env": environments.for_component(component, platform, release, unconfirmed, live),
        "ports": [{"name": components.PORT_NAME, "containerPort": components.PORT, "protocol": "TCP"}],
        "resources": quantities.merged(resources, definition.resources),
        "securityContext": _container_security(),
        "volumeMounts": mounts,
        **_http_probes(definition),
    }
    manifest["spec"] = {
        "replicas": child_refs.replicas(component, platform),
        "serviceName": name,
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "RollingUpdate"},
        "selector": {"matchLabels": labels.selector(platform.owner, definition.name)},
        "template": {
            "metadata": {
                "labels": metadata.child_labels(platform.owner, definition.name, release),
                "annotations": labels.prometheus_annotations(components.PORT, components.METRICS_PATH),
            },
            "spec": _restricted_pod(definition.grace_seconds, container, volumes, release),
        },
    }
    return manifest


def _logins(
    component: Component, platform: Platform, unconfirmed: AbstractSet[Server], live: Manifest | None
) -> Mapping[Server, str]:
    """The Secret with the login at each server."""
    logins = dict(environments.secret_names(component, platform))
    volumes = live["spec"]["template"]["spec"].get("volumes") or () if live is not None else ()
    sources = [one for volume in volumes for one in (volume.get("projected") or {}).get("sources") or ()]
    kept = {item["path"]: one["secret"]["name"] for one in sources for item in one.get("secret", {}).get("items") or ()}
    for server in unconfirmed:
        secret = kept.get(f"{server.value}/username")
        logins.pop(server, None)
        logins |= {server: secret} if secret is not None else {}
    return {server: logins[server] for server in components.COMPONENTS[component].servers if server in logins}


def _volumes(
    component: Component, platform: Platform, logins: Mapping[Server, str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The volumes of a component's pod, and the volume mounts of its container."""
    definition = components.COMPONENTS[component]
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    if definition.has_volume:
        volumes.append(
            {"name": "data", "persistentVolumeClaim": {"claimName": names.component_claim(platform, component)}}
        )
        mounts.append({"name": "data", "mountPath": components.DATA_PATH})
    if definition.servers:
        sources = [one for server, secret in logins.items() for one in _credential_files(server, secret)]
        volumes.append({"name": "credentials", "projected": {"sources": sources, "defaultMode": _GROUP_READS}})
        mounts.append({"name": "credentials", "mountPath": components.CREDENTIALS_PATH, "readOnly": True})
    if definition.has_live_settings:
        volumes.append({"name": "settings", "configMap": {"name": names.component_settings(platform, component)}})
        mounts.append({"name": "settings", "mountPath": components.SETTINGS_PATH, "readOnly": True})
    volumes.append({"name": "tmp", "emptyDir": {}})
    mounts.append({"name": "tmp", "mountPath": servers.SCRATCH_PATH})
    return volumes, mounts


def _credential_files(server: Server, secret: str) -> list[dict[str, Any]]:
    """The projected files of one server's login, without other keys of the user's Secret."""
    needed = [{"key": key, "path": f"{server.value}/{key}"} for key in ("username", "password")]
    ca = [{"key": "ca.crt", "path": f"{server.value}/ca.crt"}]
    return [
        {"secret": {"name": secret, "items": needed}},
        {"secret": {"name": secret, "items": ca, "optional": True}},
    ]


def _http_probes(definition: components.ComponentDefinition) -> dict[str, Any]:
    """The probes of a component: a missing dependency makes it not ready; only silence gets it restarted."""

    def probe(path: str, period: int, failures: int, timeout: int = _PROBE_TIMEOUT) -> dict[str, Any]:
        get = {"path": path, "port": components.PORT_NAME}
        return {"httpGet": get, "periodSeconds": period, "timeoutSeconds": timeout, "failureThreshold": failures}

    return {
        "startupProbe": probe("/healthz", 1, definition.startup_seconds),
        # A pod serves as soon as it can. With a longer timeout, one that hangs would stay ready for as many timeouts.
        "readinessProbe": probe("/readyz", 1, _UNREADY_SECONDS, timeout=1),
        "livenessProbe": probe("/healthz", _LIVENESS_PERIOD, definition.liveness_seconds // _LIVENESS_PERIOD),
    }
