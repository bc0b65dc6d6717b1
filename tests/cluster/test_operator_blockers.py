"""What the operator cannot do: requests and specs that are rejected, immutable fields, names that are taken."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

from aether_cli import explanation, problems
from aether_cli.local import volumes
from aether_operator.api import crds, models
from aether_operator.api.platform_definition import DEFINITION
from aether_testing.processes import installations, planes
from aether_testing.values import audits, kstatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from aether_testing.processes.operator_environments import Environment

Object = dict[str, Any]


def test_status_is_still_written_after_limits_were_removed(env: Environment) -> None:
    name, platform = env.ready_managed()
    limits = {"limits": {"cpu": "1", "memory": "1Gi"}}
    platform["spec"]["dataPlane"]["redis"] = {"managed": {"resources": limits}}
    without_limits = {"spec": {"dataPlane": {"redis": {"managed": {"resources": {"limits": None}}}}}}
    bare = {**platform["spec"], "dataPlane": {**platform["spec"]["dataPlane"], "redis": {"managed": {}}}}
    takes: list[Callable[[], object]] = [
        lambda: env.edit("tp", name, without_limits),
        lambda: planes.apply(env.namespace, {**platform, "spec": bare}),
    ]
    for take in takes:
        planes.apply(env.namespace, platform)
        ready = planes.until(env.namespace, "Ready", "True", name=name)
        assert ready["status"]["applied"]["dataPlane"]["redis"]["managed"]["resources"] == limits
        take()
        ready = planes.until(env.namespace, "Ready", "True", name=name)
        assert ready["status"]["applied"]["dataPlane"]["redis"]["managed"] == {"storage": "10Gi"}
    failed = [line for line in env.operator.lines if line.get("event") == "reconcile_failed"]
    assert [line for line in failed if line["key"].endswith(f"/{name}")] == []


def test_rejected_status_is_reported_in_the_status_or_an_event(env: Environment) -> None:
    """A foreign admission policy rejects a part of the status for one edit, and all of it for another."""
    name, platform = env.ready_external()
    seconds = "object.spec.progressDeadlineSeconds"
    applied = "object.status.applied.progressDeadlineSeconds"
    rule = f"{seconds} != 302 && ({seconds} != 301 || {applied} != 301) && object.status.message != 'probe'"
    match = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": env.namespace.name}},
        "resourceRules": [
            {
                "apiGroups": [models.GROUP], "apiVersions": ["*"], "operations": ["UPDATE"],
                "resources": ["tradingplatforms/status"],
            }
        ],
    }  # fmt: skip
    api, called = "admissionregistration.k8s.io/v1", f"odd-{env.namespace.name}"
    condition = {"name": "mine", "expression": f"object.metadata.name == '{name}'"}
    env.cluster.kubectl.apply(
        {
            "apiVersion": api, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": called},
            "spec": {
                "matchConstraints": match, "matchConditions": [condition],
                # Multi-byte characters, since an event's note is limited in bytes.
                "validations": [{"expression": rule, "message": f"not this status{'…' * 900}"}],
            },
        },
        {
            "apiVersion": api, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": called},
            "spec": {"policyName": called, "validationActions": ["Deny"]},
        },
    )  # fmt: skip
    about = f"--field-selector=regarding.name={name}"
    try:
        env.until("tp", name, lambda _: _rejects_a_probe(env, name), "the policy is in force")
        platform["spec"]["progressDeadlineSeconds"] = 302
        planes.apply(env.namespace, platform)
        failed = f"{about},reason=ReconcileFailed,type=Warning"
        env.namespace.until(bool, "events.events.k8s.io", failed, expected="an event reports it")
        events = env.namespace.get("events.events.k8s.io", about)["items"]
        text = "\n".join(explanation.explanation_lines(env.child("tp", name), events))
        assert "A reconcile failed at" in text
        assert "not this status" in text
        platform["spec"]["progressDeadlineSeconds"] = 300
        planes.apply(env.namespace, platform)
        env.namespace.until(bool, "events.events.k8s.io", f"{about},reason=Reconciled", expected="and that it is over")
        platform["spec"]["progressDeadlineSeconds"] = 301
        planes.apply(env.namespace, platform)
        late = env.until("tp", name, lambda one: one["status"]["reason"] == "ReconcileFailed", "the status reports it")
        assert "not this status" in late["status"]["message"]
        assert late["status"]["observedGeneration"] < late["metadata"]["generation"]
        assert kstatus.compute(late) == "InProgress"
        assert late["status"]["applied"]["progressDeadlineSeconds"] == 300
    finally:
        env.cluster.kubectl.text("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", called)
    ready = planes.until(env.namespace, "Ready", "True", name=name)
    assert ready["status"]["applied"]["progressDeadlineSeconds"] == 301


def _rejects_a_probe(env: Environment, name: str) -> bool:
    patch = json.dumps({"status": {"message": "probe"}})
    try:
        words = ("--subresource=status", "--type=merge", "--dry-run=server", f"--patch={patch}")
        env.namespace.text("patch", "tp", name, *words)
    except problems.ProgramFailed as error:
        return "not this status" in error.cause
    return False


def test_volume_that_cannot_grow_is_reported_and_reverting_recovers(env: Environment) -> None:
    name, platform = env.ready_managed()
    platform["spec"]["dataPlane"]["redis"] = {"managed": {"storage": "20Gi"}}
    planes.apply(env.namespace, platform)
    stalled = planes.until(env.namespace, "Stalled", "True", name=name, reason="RequestRejected")
    assert "does not allow volume expansion" in stalled["status"]["message"]
    assert env.child("pvc", f"{name}-redis-data")["spec"]["resources"]["requests"]["storage"] == "10Gi"


def test_volume_grows_where_its_class_allows_and_the_platform_waits(env: Environment) -> None:
    name, platform = env.ready_managed()
    kubectl, claim = env.cluster.kubectl, f"{name}-redis-data"
    grow = '--patch={{"allowVolumeExpansion": {}}}'
    kubectl.text("patch", "storageclass", volumes.CLASS, grow.format("true"))
    try:
        platform["spec"]["dataPlane"]["redis"] = {"managed": {"storage": "20Gi"}}
        planes.apply(env.namespace, platform)
        waiting = planes.until(env.namespace, "RedisReady", "False", name=name)
        assert f"PersistentVolumeClaim {claim} is being resized from 10Gi to 20Gi" in waiting["status"]["message"]
        # The volume's resizer, which this cluster lacks, reports the end of the expansion.
        done = {"status": {"capacity": {"storage": "20Gi"}}}
        env.namespace.text("patch", "pvc", claim, "--subresource=status", "--type=merge", f"--patch={json.dumps(done)}")
        planes.until(env.namespace, "Ready", "True", name=name)
        assert env.child("pvc", claim)["spec"]["resources"]["requests"]["storage"] == "20Gi"
    finally:
        kubectl.text("patch", "storageclass", volumes.CLASS, grow.format("false"))


def test_name_of_a_foreign_object_is_left_alone_and_reported(env: Environment) -> None:
    name = env.release_managed("taken")
    theirs = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"{name}-redis"},
        "spec": {"ports": [{"port": 80}]},
    }
    planes.apply(env.namespace, theirs, planes.login_secret(), planes.a_platform(env.plane.mixed(), name))
    stalled = planes.until(env.namespace, "Stalled", "True", name=name, reason="NameTaken")
    assert f"Service {name}-redis" in stalled["status"]["message"]
    assert env.child("service", f"{name}-redis")["spec"]["ports"][0]["port"] == 80
    env.namespace.text("delete", "service", f"{name}-redis")
    planes.until(env.namespace, "Ready", "True", name=name)


def test_immutable_field_names_the_manual_step_that_resolves_it(env: Environment) -> None:
    name, platform = env.ready_managed()
    workload = f"{name}-redis"
    planes.apply(env.namespace, {**platform, "spec": platform["spec"] | {"paused": True}})
    planes.until(env.namespace, "Paused", "True", name=name)
    env.namespace.text("scale", "statefulset", f"{name}-nats", "--replicas=0")
    planes.until(env.namespace, "NatsReady", "False", name=name, reason="PausedBySpec")
    live = env.child("statefulset", workload)
    other = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {key: live["metadata"][key] for key in ("name", "labels", "ownerReferences")},
        "spec": {**live["spec"], "serviceName": "another"},
    }
    env.namespace.text("replace", "--force", "--filename=-", stdin=json.dumps(other))
    planes.apply(env.namespace, {**platform, "spec": platform["spec"] | {"paused": False}})
    stalled = planes.until(env.namespace, "Stalled", "True", name=name, reason="ImmutableField")
    assert f"delete statefulset {workload}" in stalled["status"]["message"]
    env.namespace.text("delete", "statefulset", workload)
    planes.until(env.namespace, "Ready", "True", name=name)
    assert env.child("statefulset", workload)["spec"]["serviceName"] == workload


def test_invalid_spec_keeps_the_last_good_one_repaired_until_reverted(env: Environment) -> None:
    name, platform = env.ready_managed()
    loose = copy.deepcopy(crds.of(DEFINITION))
    schema = loose["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    schema["retention"]["properties"]["tradesDays"].pop("maximum")
    try:  # an API server that accepts values the models reject
        env.cluster.kubectl.apply(loose)
        broken = json.loads(json.dumps(platform))
        broken["spec"]["retention"] = {"tradesDays": 99999}
        env.until("tp", name, lambda _: _accepts(env, broken), "the loose schema is in force")
        stalled = planes.until(env.namespace, "Stalled", "True", name=name, reason="InvalidSpec")
        assert "spec.retention.tradesDays" in stalled["status"]["message"]
        assert stalled["status"]["applied"]["retention"]["tradesDays"] == 90
        env.edit("service", f"{name}-redis", {"spec": {"selector": {"app": "theirs"}}})
        env.until(
            "service", f"{name}-redis", lambda one: "app" not in one["spec"]["selector"], "it is repaired all the same"
        )
        platform["spec"]["retention"] = {"tradesDays": 90}
        planes.apply(env.namespace, platform)
        planes.until(env.namespace, "Ready", "True", name=name)
    finally:
        installations.install_crds(env.cluster)


def _accepts(env: Environment, platform: Object) -> bool:
    try:
        planes.apply(env.namespace, platform)
    except problems.ProgramFailed:
        return False
    return True


def test_operator_is_never_denied_and_reveals_no_secret(env: Environment) -> None:
    """The last test of this module: it checks what all of them left."""
    assert audits.forbidden(env.requests()) == []
    assert env.revealed() == []
