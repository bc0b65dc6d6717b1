"""Children on a real API server: stored objects equal the desired ones, and foreign changes are detected."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from aether_operator import desired, planning
from aether_operator.api import labels
from aether_operator.api.platforms import Platform, Server
from aether_operator.catalog import components
from aether_operator.observed import kinds
from aether_operator.observed.kinds import Ref
from aether_operator.planning import child_kinds
from aether_testing.processes import installations, planes
from aether_testing.values import observations

if TYPE_CHECKING:
    from aether_cli.local.startup import Cluster
    from aether_operator.observed.kinds import Manifest
    from aether_operator.observed.platforms import ObservedPlatform
    from aether_testing.cluster.namespaces import Namespace

RELEASE = observations.a_release(
    image_pull_secrets=("pull",),
    node_selector={"kubernetes.io/os": "linux"},
    tolerations=({"key": "data", "operator": "Exists", "effect": "NoSchedule"},),
    priority_class_name="system-cluster-critical",
    extra_labels={"team": "a"},
)
SIZES = {
    "storage": "1536Mi",
    "resources": {"requests": {"cpu": "0.25", "memory": "0.5Gi"}, "limits": {"cpu": "1000m", "memory": "1024Mi"}},
}

FRESH: Final = observations.tokens()
FOREIGN_EDITS: Final[list[tuple[Ref, dict[str, Any]]]] = [
    (Ref("Secret", "paper-redis"), {"data": {"password": "Y2hvc2VuLWJ5LXNvbWVib2R5LWVsc2UtMDEyMzQ1Njc="}}),
    (Ref("Secret", "paper-redis"), {"metadata": {"annotations": {labels.CREDENTIALS: None}}}),
    (Ref("Secret", "paper-postgres-reader"), {"data": {"host": None}}),
    (Ref("Service", "paper-redis"), {"spec": {"selector": {"more": "than-that"}}}),
    (Ref("Service", "paper-redis"), {"metadata": {"labels": {"team": "another"}}}),
    (Ref("NetworkPolicy", "paper-redis"), {"spec": {"ingress": [{}]}}),
    (Ref("NetworkPolicy", "paper-redis"), {"spec": {"policyTypes": ["Ingress"]}}),
    (Ref("PersistentVolumeClaim", "paper-redis-data"), {"metadata": {"labels": {labels.COMPONENT: "other"}}}),
    (Ref("ConfigMap", "paper-ingest-settings"), {"data": {"live.json": "{}"}}),
    (Ref("ConfigMap", "paper-ingest-settings"), {"metadata": {"annotations": {labels.SETTINGS: "other"}}}),
    (Ref("Service", "paper-ingest"), {"spec": {"publishNotReadyAddresses": None}}),
    (Ref("NetworkPolicy", "paper-ingest"), {"spec": {"egress": [{}]}}),
    (Ref("PodDisruptionBudget", "paper-ingest"), {"spec": {"maxUnavailable": 2}}),
    (Ref("StatefulSet", "paper-ingest"), {"spec": {"replicas": 1}}),
    (Ref("StatefulSet", "paper-exchange"), {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}}),
    (Ref("StatefulSet", "paper-redis"), {"spec": {"replicas": 0}}),
    (Ref("StatefulSet", "paper-redis"), {"metadata": {"ownerReferences": []}}),
    (
        Ref("StatefulSet", "paper-redis"),
        {"spec": {"template": {"spec": {"containers": [{"name": "redis", "image": "of/somebody:else"}]}}}},
    ),
    (
        Ref("StatefulSet", "paper-redis"),
        {"spec": {"template": {"spec": {"securityContext": {"runAsNonRoot": False}}}}},
    ),
    (
        Ref("StatefulSet", "paper-redis"),
        {"spec": {"template": {"metadata": {"annotations": {labels.CREDENTIALS: "other"}}}}},
    ),
]


def _platform(namespace: Namespace) -> Platform:
    managed = {server.value: {"managed": SIZES} for server in (Server.POSTGRES, Server.NATS)}
    several = {"ingest": {"replicas": 2}}
    platform = observations.a_platform(namespace=namespace.name, dataPlane=managed, components=several)
    # An existing owner: the garbage collector deletes children without one.
    return dataclasses.replace(platform, uid=namespace.get("tp", platform.name)["metadata"]["uid"])


def _look(namespace: Namespace) -> ObservedPlatform:
    what = ",".join(kind.plural for kind in child_kinds.KINDS)
    chosen = f"--selector={labels.PLATFORM}=paper"
    found = json.loads(namespace.text("get", what, chosen, "--show-managed-fields", "--output=json"))["items"]
    return observations.empty(children={kinds.ref(one): one for one in found})


def _plan(namespace: Namespace, observed: ObservedPlatform) -> tuple[planning.Action, ...]:
    platform = _platform(namespace)
    wanted = desired.children(platform, observed, RELEASE, FRESH)
    plan = planning.plan(wanted, observed, platform.owner)
    assert plan.blockers == ()
    return plan.actions


def _carry_out(namespace: Namespace, actions: tuple[planning.Action, ...]) -> list[Ref]:
    things: list[Manifest] = [action.manifest for action in actions if isinstance(action, planning.Apply)]
    how = ("--server-side", "--force-conflicts", f"--field-manager={labels.OPERATOR}", "--validate=strict")
    namespace.text(
        "apply", *how, "--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": things})
    )
    return [kinds.ref(one) for one in things]


@pytest.fixture
def settled(control_plane: Cluster, namespace: Namespace) -> Namespace:
    """A namespace with all children, after Kubernetes' controllers have handled them."""
    installations.install_crds(control_plane)
    planes.apply(namespace, planes.a_platform({}))
    _carry_out(namespace, _plan(namespace, observations.empty()))
    namespace.until(
        lambda seen: (
            len(seen) == len(Server) + len(components.Component)
            and all(one.get("status", {}).get("replicas") for one in seen.values())
        ),
        "statefulsets",
        expected="every StatefulSet has its pod",
    )
    return namespace


def test_foreign_change_is_detected_and_repaired_by_one_apply(settled: Namespace) -> None:
    for ref, patch in FOREIGN_EDITS:
        # A strategic patch finds the container by its name; for a policy's rules it equals a merge patch.
        how = "strategic" if "template" in patch.get("spec", {}) else "merge"
        settled.text("patch", ref.kind, ref.name, f"--type={how}", f"--patch={json.dumps(patch)}")
        repaired = _carry_out(settled, _plan(settled, _look(settled)))
        # New credentials change the hash in the pod template; other changes affect one object.
        expected = [ref, Ref("StatefulSet", "paper-redis")] if ref == Ref("Secret", "paper-redis") else [ref]
        assert repaired == expected, (ref, patch)
        assert _plan(settled, _look(settled)) == (), (ref, patch)


def test_stored_objects_equal_desired_ones_and_keep_foreign_additions(settled: Namespace) -> None:
    assert set(_look(settled).children) == set(desired.child_refs(_platform(settled)))
    assert _plan(settled, _look(settled)) == ()
    settled.text("annotate", "statefulset", "paper-redis", "example.org/note=mine")
    settled.text("label", "service", "paper-redis", "example.org/team=mine")
    settled.text("patch", "statefulset", "paper-redis", "--patch", json.dumps({"spec": {"minReadySeconds": 3}}))
    env = [{"op": "add", "path": "/spec/template/spec/containers/0/env/-", "value": {"name": "X", "value": "y"}}]
    settled.text("patch", "statefulset", "paper-redis", "--type=json", "--patch", json.dumps(env))
    assert _plan(settled, _look(settled)) == ()


def test_children_dropped_by_a_release_are_removed(settled: Namespace) -> None:
    platform, observed = _platform(settled), _look(settled)
    wanted = desired.children(platform, observed, observations.a_release(), observations.tokens())
    _carry_out(settled, planning.plan(wanted, observed, platform.owner).actions)
    observed = _look(settled)
    assert planning.plan(wanted, observed, platform.owner).actions == ()
    live = observed.children[Ref("StatefulSet", "paper-redis")]
    pod = live["spec"]["template"]["spec"]
    assert not {"imagePullSecrets", "nodeSelector", "tolerations", "priorityClassName"} & pod.keys()
    assert "team" not in live["metadata"]["labels"]


def test_upgrade_over_the_last_release_recreates_nothing(control_plane: Cluster, namespace: Namespace) -> None:
    installations.install_crds(control_plane)
    recorded = observations.recorded("before-owner-labels-platform")[0]
    planes.apply(namespace, planes.a_platform(recorded["spec"]))
    uid = namespace.get("tp", "paper")["metadata"]["uid"]
    platform = dataclasses.replace(observations.a_platform(namespace=namespace.name, **recorded["spec"]), uid=uid)
    text = json.dumps(observations.recorded("before-owner-labels"))
    items = json.loads(text.replace(observations.a_platform().uid, uid).replace('"desk"', f'"{namespace.name}"'))
    _carry_out(namespace, tuple(planning.Apply(manifest=one, live=None) for one in items))
    before = _look(namespace)

    def planned() -> planning.Plan:
        observed = dataclasses.replace(_look(namespace), secrets=observations.user_secrets(platform))
        wanted = desired.children(platform, observed, observations.a_release(), FRESH)
        return planning.plan(wanted, observed, platform.owner)

    first = planned()
    assert first.blockers == ()
    assert set(_carry_out(namespace, first.actions)) == set(before.children)
    assert planned() == planning.Plan((), ())
    after = _look(namespace)
    for ref, old in before.children.items():
        new = after.children[ref]
        assert new["metadata"]["uid"] == old["metadata"]["uid"]
        assert new.get("data", {}).get("password") == old.get("data", {}).get("password"), ref
        assert new["metadata"]["labels"].items() > old["metadata"]["labels"].items()
        if ref.kind != "StatefulSet":
            assert new.get("spec") == old.get("spec"), ref
        else:
            assert new["spec"].pop("template") != old["spec"].pop("template"), "each pod restarts once, for its labels"
            assert new["spec"] == old["spec"]
