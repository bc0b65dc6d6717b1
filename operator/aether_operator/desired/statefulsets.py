"""The one pod of a managed server, under the restricted profile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aether_operator.api import labels
from aether_operator.catalog import names, servers
from aether_operator.desired import metadata, quantities
from aether_operator.observed import kinds

if TYPE_CHECKING:
    from aether_operator.api.platforms import Managed, Platform, Server
    from aether_operator.catalog.releases import Release
    from aether_operator.catalog.servers import Running
    from aether_operator.observed.kinds import Manifest

_GROUP_READS: Final = 0o440
_STARTUP_PERIOD: Final = 2
_MUTE_SECONDS: Final = 300
"""How long a server that never recovers while it runs may be mute before it is started anew."""


def running(server: Server, managed: Managed, platform: Platform, release: Release, word: str) -> Manifest:
    """The StatefulSet of a server that was given the credentials of this word.

    Parallel: the controller waits for no broken pod before it replaces it, so that a mended spec mends.
    """
    name = names.child(platform, server)
    thing = metadata.owned(kinds.STATEFUL_SETS, name, platform, server.value, release)
    thing["spec"] = {
        "replicas": 1,
        "serviceName": name,
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "RollingUpdate"},
        "selector": {"matchLabels": labels.selecting(platform.name, server.value)},
        "template": {
            "metadata": {
                "labels": metadata.marked(platform, server.value, release),
                "annotations": {labels.CREDENTIALS: word},
            },
            "spec": _pod(server, managed, platform, release),
        },
    }
    return thing


def _pod(server: Server, managed: Managed, platform: Platform, release: Release) -> dict[str, Any]:
    run, name = servers.SERVERS[server], names.child(platform, server)
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": run.grace_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": servers.USER,
            "runAsGroup": servers.USER,
            "fsGroup": servers.USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(run, managed, platform, release)],
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": names.claim(platform, server)}},
            {
                "name": "credentials",
                "secret": {"secretName": name, "defaultMode": _GROUP_READS},
            },
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    optional: dict[str, Any] = {
        "imagePullSecrets": [{"name": name} for name in release.image_pull_secrets],
        "nodeSelector": dict(release.node_selector),
        "tolerations": [dict(one) for one in release.tolerations],
        "priorityClassName": release.priority_class_name,
    }
    return pod | {key: value for key, value in optional.items() if value}


def _container(run: Running, managed: Managed, platform: Platform, release: Release) -> dict[str, Any]:
    return {
        "name": run.container,
        "image": release.images[run.server],
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": servers.HOST_VARIABLE, "value": names.host(platform, run.server)}],
        "ports": [{"name": run.port_name, "containerPort": run.port, "protocol": "TCP"}],
        "resources": quantities.merged(managed.resources, run.resources),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": "data", "mountPath": servers.DATA_PATH},
            {"name": "credentials", "mountPath": servers.CREDENTIALS_PATH, "readOnly": True},
            {"name": "tmp", "mountPath": servers.SCRATCH_PATH},
        ],
        **_probes(run),
    }


def _probes(run: Running) -> dict[str, Any]:
    asked = {"exec": {"command": list(servers.READY)}, "timeoutSeconds": run.probe_seconds}
    probes = {
        "startupProbe": {
            **asked,
            "periodSeconds": _STARTUP_PERIOD,
            "failureThreshold": servers.STARTUP_SECONDS // _STARTUP_PERIOD,
        },
        "readinessProbe": {**asked, "periodSeconds": run.probe_seconds, "failureThreshold": 3},
    }
    if run.restarts_when_mute:
        period = 2 * run.probe_seconds
        probes["livenessProbe"] = {**asked, "periodSeconds": period, "failureThreshold": _MUTE_SECONDS // period}
    return probes
