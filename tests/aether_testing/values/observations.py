"""Builders of platforms and of observed state: objects as an API server would have stored them."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import json
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from aether_operator import desired
from aether_operator.api import labels
from aether_operator.api.platforms import KIND, Platform, PlatformSpec, Server
from aether_operator.api.reasons import Reason
from aether_operator.catalog.components import STATUS_VERSION, TOPICS, Component
from aether_operator.catalog.releases import Release
from aether_operator.observed import child_refs, kinds
from aether_operator.observed.components import expected
from aether_operator.observed.platforms import ObservedPlatform
from aether_operator.observed.reports import Engine, SchemaReport, ServerReport, TopicsReport
from aether_operator.observed.server_owners import Ownership
from aether_operator.status import components as component_status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from aether_operator.api.owners import Owner
    from aether_operator.observed.components import ComponentReport
    from aether_operator.observed.kinds import Manifest, Ref

CREATED: Final = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
EXTERNAL: Final[dict[str, Any]] = {
    server.value: {
        "mode": "External",
        "external": {
            "host": f"{server.value}.example.org",
            "port": 1000 + place,
            "tls": "Verify",
            "secretName": f"my-{server.value}",
            **({"database": "desk"} if server is Server.POSTGRES else {}),
        },
    }
    for place, server in enumerate(Server)
}
"""A data plane of External servers."""


def a_platform(name: str = "paper", namespace: str = "desk", generation: int = 1, **spec: Any) -> Platform:
    """A platform with a spec in the form of JSON."""
    return Platform(
        kind=KIND,
        namespace=namespace,
        name=name,
        uid=f"uid-of-{namespace}-{name}",
        generation=generation,
        created=CREATED,
        spec=PlatformSpec.model_validate(spec),
    )


def an_owner(name: str = "paper", namespace: str = "desk") -> Owner:
    """The platform of this name, as the owner of its children."""
    return a_platform(name, namespace).owner


def an_external_platform(**spec: Any) -> Platform:
    """A platform whose servers are all External."""
    return a_platform(dataPlane=EXTERNAL, **spec)


def a_release(**parts: Any) -> Release:
    """A release, with test images."""
    images = {server: f"images.example.org/{server.value}:1" for server in Server}
    return Release(**{"images": images, "service_image": "images.example.org/service:1", **parts})


def tokens(start: str = "w") -> Callable[[], str]:
    """A predictable source of tokens: distinct, of 32 characters, different from the first characters on."""
    numbers = count(1)
    return lambda: f"{start}{next(numbers):04d}".ljust(32, "x")


# Stored objects.

_ITEM_KEYS: Final = {
    "containers": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "ownerReferences": ("uid",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
}
_WHOLE_ITEMS: Final = frozenset({"imagePullSecrets", "ownerReferences"})
_WHOLE: Final = frozenset({
    "accessModes", "args", "command", "drop", "egress", "fieldRef", "ingress", "items", "matchLabels", "nodeSelector",
    "podSelector", "policyTypes", "selector", "sources", "tolerations",
})  # fmt: skip


def owned(value: Any, name: str = "") -> dict[str, Any]:
    """The owned fields of a manifest in the FieldsV1 format, for the kinds of children."""
    if name in _WHOLE or not value:
        return {}
    if isinstance(value, dict):
        below = {f"f:{key}": owned(part, key) for key, part in value.items()}
        return {".": {}, **below} if name in {"annotations", "labels", "data", "requests", "limits"} else below
    if isinstance(value, list):
        keys = _ITEM_KEYS.get(name) or (("containerPort" if "containerPort" in value[0] else "port"), "protocol")
        items = {f"k:{json.dumps({key: item[key] for key in keys}, separators=(',', ':'))}": item for item in value}
        return {key: {} if name in _WHOLE_ITEMS else {".": {}, **owned(item)} for key, item in items.items()}
    return {}


def stored(manifest: Manifest, generation: int = 1) -> Manifest:
    """A manifest after the operator applied it: with the API server's additions, and the status of a healthy object."""
    live = copy.deepcopy(manifest)
    fields = owned({key: value for key, value in manifest.items() if key not in {"apiVersion", "kind"}})
    fields["f:metadata"] = {
        key: part for key, part in fields["f:metadata"].items() if key not in {"f:name", "f:namespace"}
    }
    entry = {
        "manager": labels.OPERATOR,
        "operation": "Apply",
        "apiVersion": manifest["apiVersion"],
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }
    others = {"manager": "kube-controller-manager", "operation": "Update", "subresource": "status", "fieldsV1": {}}
    live["metadata"] |= {
        "uid": f"uid-of-{manifest['kind']}-{manifest['metadata']['name']}",
        "resourceVersion": "7",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [others, entry],
    }
    match manifest["kind"]:
        case "StatefulSet":
            live["metadata"]["generation"] = generation
            live["spec"] |= {
                "revisionHistoryLimit": 10,
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain"},
            }
            live["spec"]["template"]["spec"] |= {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst"}
            live["spec"]["template"]["spec"]["containers"][0]["terminationMessagePath"] = "/dev/termination-log"
            live["status"] = rolled_out(generation, live["spec"]["replicas"])
        case "PersistentVolumeClaim":
            live["spec"] |= {"volumeMode": "Filesystem", "storageClassName": "standard"}
            live["status"] = {"phase": "Bound"}
        case "Service":
            live["spec"] = {"clusterIP": "10.0.0.7", "sessionAffinity": "None", **live["spec"]}
    return live


def rolled_out(generation: int = 1, replicas: int = 1) -> dict[str, Any]:
    """The status of a StatefulSet that is fully rolled out."""
    return {
        "observedGeneration": generation,
        "replicas": replicas,
        "readyReplicas": replicas,
        "availableReplicas": replicas,
        "updatedReplicas": replicas,
        "currentRevision": "r1",
        "updateRevision": "r1",
    }


def overwritten(live: Manifest, *path: str, by: Any, manager: str = "kubectl-edit") -> Manifest:
    """An object after another field manager changed a field, which the operator no longer owns."""
    changed = copy.deepcopy(live)
    place, fields = changed, _ours(changed)
    for step in path[:-1]:
        place, fields = place[step], fields[f"f:{step}"]
    place[path[-1]] = by
    del fields[f"f:{path[-1]}"]
    changed["metadata"]["managedFields"].append({"manager": manager, "operation": "Update", "fieldsV1": {}})
    return changed


def _ours(live: Manifest) -> dict[str, Any]:
    (entry,) = [one for one in live["metadata"]["managedFields"] if one["manager"] == labels.OPERATOR]
    fields: dict[str, Any] = entry["fieldsV1"]
    return fields


# Observed state.


def empty(**parts: Any) -> ObservedPlatform:
    """No child, and all servers belong to the platform."""
    return ObservedPlatform(**{"children": {}, "owners": dict.fromkeys(Server, Ownership.OURS), **parts})


def created(
    platform: Platform, release: Release | None = None, fresh: Callable[[], str] | None = None
) -> ObservedPlatform:
    """Every child was applied once and is healthy; servers and components were not checked yet."""
    nothing = empty(secrets=user_secrets(platform))
    children = desired.children(platform, nothing, release or a_release(), fresh or tokens())
    live = {kinds.ref(one): stored(one) for one in children}
    return dataclasses.replace(nothing, children=live, pods=tuple(_pods_of_components(platform, live)))


def _pods_of_components(platform: Platform, live: Mapping[Ref, Manifest]) -> Iterator[Manifest]:
    """The running pods of components, synced to the newest settings."""
    for component in child_refs.components_of(platform):
        stateful_set = live.get(child_refs.component_stateful_set(component, platform))
        if stateful_set is None:
            continue
        settings = live.get(child_refs.settings_config_map(component, platform))
        notes = settings["metadata"]["annotations"] if settings is not None else {}
        for replica in range(child_refs.replicas(component, platform)):
            pod = a_pod_of(stateful_set, replica, phase="Running", podIP=f"10.1.0.{replica + 7}")
            pod["metadata"]["annotations"] = dict(notes)
            yield pod


def previous_release() -> ObservedPlatform:
    """The children of a platform without a spec, as recorded from the release before components existed."""
    return empty(children={kinds.ref(one): stored(one) for one in recorded("before-rooms")})


def recorded(what: str) -> list[Manifest]:
    """Objects recorded from an earlier release."""
    text = (Path(__file__).parent / f"releases/{what}.yaml").read_text(encoding="utf-8")
    return list(yaml.safe_load_all(text))


def user_secrets(platform: Platform) -> dict[str, dict[str, str] | None]:
    """The complete user's Secrets that a platform names."""
    parts = [platform.spec.data_plane.of(server).external for server in Server]
    return {part.secret_name: {"username": "desk", "password": "canary"} for part in parts if part is not None}


def healthy(platform: Platform, release: Release | None = None) -> ObservedPlatform:
    """Everything is ready."""
    observed = created(platform, release)
    return dataclasses.replace(
        observed,
        component_reports=healthy_reports(platform, observed),
        servers={
            server: ServerReport(server=server, reason=Reason.READY, version="15.8", ownership=Ownership.OURS)
            for server in Server
        },
        schema=SchemaReport(
            reason=Reason.READY,
            ownership=Ownership.OURS,
            revision="0001",
            engine=Engine.TIMESCALE,
            days={"trades": 90},
        ),
        topics=TopicsReport(reason=Reason.READY, topics=tuple(sorted(topic.name for topic in TOPICS))),
    )


def healthy_reports(platform: Platform, observed: ObservedPlatform) -> dict[str, ComponentReport]:
    """Pod → a healthy report, for all components."""
    own: dict[Component, dict[str, Any]] = {
        Component.EXCHANGE_SIM: {"system": "online"},
        Component.INGEST: {
            "feed": {"connected": True, "system": "online", "age_seconds": 0},
            "books": {pair: {"usable": True} for pair in platform.spec.pairs},
            "outputs": {output: {"ok": True} for output in ("kafka", "nats", "tables")},
        },
    }
    found: dict[str, ComponentReport] = {}
    for component in child_refs.components_of(platform):
        live = observed.children.get(child_refs.settings_config_map(component, platform))
        common = {
            "version": STATUS_VERSION,
            "service": component.value,
            "ready": True,
            "settings": live["metadata"]["annotations"][labels.SETTINGS] if live is not None else "",
        }
        report = component_status.read(json.dumps({**common, **own.get(component, {})}), component)
        found |= dict.fromkeys(expected(component, platform), report)
    return found


def with_report(observed: ObservedPlatform, pod: str, **changes: Any) -> ObservedPlatform:
    """Observed state in which a component's pod reports something else."""
    report = dataclasses.replace(observed.component_reports[pod], **changes)
    return dataclasses.replace(observed, component_reports={**observed.component_reports, pod: report})


def with_objects(observed: ObservedPlatform, *things: Manifest) -> ObservedPlatform:
    """Observed state with objects replaced or added."""
    return dataclasses.replace(observed, children={**observed.children, **{kinds.ref(one): one for one in things}})


def with_pods(observed: ObservedPlatform, *pods: Manifest) -> ObservedPlatform:
    """Observed state with exactly these pods."""
    return dataclasses.replace(observed, pods=pods)


def without(observed: ObservedPlatform, *refs: Ref) -> ObservedPlatform:
    """Observed state without some objects."""
    return dataclasses.replace(
        observed, children={ref: one for ref, one in observed.children.items() if ref not in refs}
    )


def with_server_report(observed: ObservedPlatform, report: ServerReport) -> ObservedPlatform:
    """Observed state with another result of a server's check."""
    return dataclasses.replace(observed, servers={**observed.servers, report.server: report})


def a_pod_of(stateful_set: Manifest, replica: int = 0, **status: Any) -> Manifest:
    """A pod of a StatefulSet."""
    owner = {"kind": "StatefulSet", "uid": stateful_set["metadata"]["uid"], "controller": True}
    name = f"{stateful_set['metadata']['name']}-{replica}"
    meta = {
        "name": name,
        "namespace": stateful_set["metadata"]["namespace"],
        "uid": f"uid-of-Pod-{name}",
        "ownerReferences": [owner],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "status": status}


def an_event(about: Manifest, reason: str, note: str, at: str = "2026-01-01T12:00:00Z") -> Manifest:
    """An event about an object, in the older form that controllers still use."""
    meta = about["metadata"]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{meta['name']}.1", "creationTimestamp": at},
        "eventTime": None,
        "deprecatedLastTimestamp": at,
        "reason": reason,
        "note": note,
        "regarding": {"kind": about["kind"], "name": meta["name"], "uid": meta["uid"]},
    }
