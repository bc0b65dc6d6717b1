"""A platform's life with the real operator: created, ready, edited, repaired, paused, deleted; and its rights."""

from __future__ import annotations

import base64
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from aether_cli import problems
from aether_operator.api import labels
from aether_operator.catalog.logins import DatabaseUser
from aether_testing.cluster import namespaces
from aether_testing.processes import installations, operators, planes
from aether_testing.values import audits, kstatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from aether_testing.processes.operator_environments import Environment

Object = dict[str, Any]
MANAGED = ("postgres", "nats", "redis")


def test_platform_names_its_missing_secret_and_when_ready_writes_nothing(env: Environment) -> None:
    name = "first"
    planes.apply(env.namespace, planes.a_platform(env.plane.external(env.plane.database()), name))
    waiting = planes.until(env.namespace, "Ready", "False", name=name, reason="SecretMissing")
    assert planes.SECRET in waiting["status"]["message"]
    assert kstatus.compute(waiting) == "InProgress"
    planes.apply(env.namespace, planes.login_secret())
    ready = planes.until(env.namespace, "Ready", "True", name=name)
    assert kstatus.compute(ready) == "Current"
    assert ready["status"]["schema"]["engine"] == "pg_partman"
    assert ready["status"]["endpoints"]["postgres"]["port"] == env.plane.postgres.port
    operators.wait_settled(env.operator, resyncs=2)
    before = audits.mark(env.cluster)
    operators.wait_settled(env.operator, resyncs=10)
    written = audits.writes(audits.of(audits.since(env.cluster, before), env.installation.account))
    assert written == []
    settings = env.child("configmap", f"{name}-ingest-settings")["metadata"]["annotations"][labels.SETTINGS]
    assert env.child("pod", f"{name}-ingest-0")["metadata"]["annotations"][labels.SETTINGS] == settings


def test_clean_start_has_no_warning_event_or_log_line(env: Environment) -> None:
    name, _ = env.ready_managed()
    about = f"--field-selector=regarding.name={name}"
    events = [
        (one["type"], one["reason"], one["note"]) for one in env.namespace.get("events.events.k8s.io", about)["items"]
    ]
    assert "Ready" in {reason for _, reason, _ in events}
    assert [one for one in events if one[0] != "Normal"] == []
    lines = [one for one in env.operator.lines if one.get("key", "").endswith(f"/{name}")]
    assert [one for one in lines if one["level"] not in {"info", "debug"}] == []
    changes = [one["event"] for one in lines if one["event"] in {"ready", "progressing", "stalled"}]
    assert (changes[0], changes.count("ready"), changes[-1]) == ("progressing", 1, "ready")
    steps = [one for one in env.operator.lines if one["event"] == "schema_step" and one["time"] > lines[0]["time"]]
    assert steps, "the database threads log their steps"
    assert all(one["key"].endswith(f"/{name}") and one["reconcile_id"] for one in steps)


def test_forbidden_secrets_stop_their_dependents_without_a_busy_loop(env: Environment) -> None:
    name = env.release_managed("poor")
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "no-secrets"},
        "spec": {"hard": {"count/secrets": "0"}},
    }
    planes.apply(env.namespace, planes.login_secret(), quota)
    try:
        env.until("resourcequota", "no-secrets", lambda one: "used" in one.get("status", {}), "the quota is in force")
        planes.apply(env.namespace, planes.a_platform(env.plane.mixed(), name))
        stalled = planes.until(env.namespace, "Stalled", "True", name=name, reason="RequestRejected")
        assert "ResourceQuota" in stalled["status"]["message"]
        mine = f"--selector={labels.PLATFORM}={name}"
        operators.wait_settled(env.operator, resyncs=3)
        # The simulated venue needs none.
        started = [one["metadata"]["name"] for one in env.namespace.get("statefulset", mine)["items"]]
        assert started == [f"{name}-exchange"]
    finally:
        env.namespace.text("delete", "resourcequota", "no-secrets")
    planes.until(env.namespace, "Ready", "True", name=name)
    forbidden(env, name)


def forbidden(env: Environment, name: str) -> None:
    """No pod can be created in the namespace, and Redis loses its pod: the message has the cause and a command."""
    quota: Object = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "no-pods"},
        "spec": {"hard": {"pods": 0}},
    }
    limits: Object = {"type": "Container", "max": {"memory": "1Mi"}}
    ranges: Object = {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "small"},
        "spec": {"limits": [limits]},
    }
    for thing, named in (
        (quota, "ResourceQuota no-pods forbids a pod: it requests pods=1"),
        (ranges, "LimitRange"),
    ):
        planes.apply(env.namespace, thing)
        kind, called = thing["kind"], thing["metadata"]["name"]
        try:
            if kind == "ResourceQuota":
                env.until("resourcequota", called, lambda one: "used" in one.get("status", {}), "the quota is in force")
            env.namespace.text("delete", "pod", f"{name}-redis-0", "--wait=false")
            waiting = planes.until(env.namespace, "RedisReady", "False", name=name, reason="PodForbidden")
            (message,) = [one["message"] for one in waiting["status"]["conditions"] if one["type"] == "RedisReady"]
            assert message.startswith(f"StatefulSet {name}-redis ")
            assert named in message
            command = message.partition("; see: kubectl ")[2].split(", ")[0].split()
            assert called in env.cluster.kubectl.text(*command)
        finally:
            env.namespace.text("delete", kind, called)
        planes.until(env.namespace, "Ready", "True", name=name)


def _written_since(env: Environment, before: audits.Mark, name: str) -> list[tuple[str, str]]:
    """The operator's writes for a platform and its children: verb and resource, each once, in order."""
    entries = audits.writes(audits.of(audits.since(env.cluster, before), env.installation.account))
    return list(dict.fromkeys((one.verb, one.kind) for one in entries if one.name.startswith(name)))


def test_edited_pairs_update_settings_and_pods_without_a_restart(env: Environment) -> None:
    name, platform = env.ready_external(components={"ingest": {"replicas": 2}})
    pods = [f"{name}-ingest-0", f"{name}-ingest-1", f"{name}-exchange-0"]
    uids = [env.child("pod", pod)["metadata"]["uid"] for pod in pods]
    operators.wait_settled(env.operator, resyncs=2, platforms=len(env.namespace.get("tp")["items"]))
    before = audits.mark(env.cluster)
    platform["spec"]["pairs"] = ["ETH/USD", "BTC/USD"]
    planes.apply(env.namespace, platform)
    ready = planes.until(env.namespace, "IngestReady", "True", name=name)
    (condition,) = [one for one in ready["status"]["conditions"] if one["type"] == "IngestReady"]
    assert condition["message"] == "2 markets on 2 replicas"
    settings = env.child("configmap", f"{name}-ingest-settings")
    assert settings["data"] == {"live.json": '{"version":1,"pairs":["BTC/USD","ETH/USD"],"replicas":2}'}
    digests = {env.child("pod", pod)["metadata"]["annotations"][labels.SETTINGS] for pod in pods[:2]}
    assert digests == {settings["metadata"]["annotations"][labels.SETTINGS]}
    operators.wait_settled(env.operator, resyncs=2, platforms=len(env.namespace.get("tp")["items"]))
    assert set(_written_since(env, before, name)) == {
        ("patch", "configmaps"), ("patch", "pods"), ("patch", "tradingplatforms/status"),
    }  # fmt: skip
    assert [env.child("pod", pod)["metadata"]["uid"] for pod in pods] == uids
    assert not any(f" {name}-" in one for one in env.repaired()), "it was an edit"


def _drains_what_is_unready(env: Environment, name: str) -> None:
    """Two of three pods of ingest are not ready: the ready one cannot be evicted, and the others can."""
    unready = json.dumps({"status": {"conditions": [{"type": "Ready", "status": "False"}]}})
    for number in (1, 2):
        env.namespace.text("patch", "pod", f"{name}-ingest-{number}", "--subresource=status", f"--patch={unready}")
    env.until(
        "poddisruptionbudget", f"{name}-ingest", lambda one: one["status"]["currentHealthy"] == 1, "two are not healthy"
    )
    with pytest.raises(problems.ProgramFailed) as rejected:
        _evict(env, f"{name}-ingest-0")
    assert "disruption budget" in rejected.value.cause
    for number in (1, 2):
        assert json.loads(_evict(env, f"{name}-ingest-{number}"))["status"] == "Success"


def _evict(env: Environment, pod: str) -> str:
    """Evict a pod as a drain does; returns the API server's response."""
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    path = f"/api/v1/namespaces/{env.namespace.name}/pods/{pod}/eviction"
    return env.namespace.text("create", f"--raw={path}", "--filename=-", stdin=json.dumps(eviction))


def test_disruption_budget_follows_the_number_of_replicas(env: Environment) -> None:
    name, platform = env.ready_external()
    first = env.child("pod", f"{name}-ingest-0")["metadata"]["uid"]
    platform["spec"]["components"] = {"ingest": {"replicas": 3}}
    planes.apply(env.namespace, platform)
    planes.until(env.namespace, "IngestReady", "True", name=name)
    budget = env.child("poddisruptionbudget", f"{name}-ingest")["spec"]
    assert (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")
    assert env.child("statefulset", f"{name}-ingest")["status"]["readyReplicas"] == 3
    _drains_what_is_unready(env, name)
    planes.until(env.namespace, "IngestReady", "True", name=name)
    assert env.child("pod", f"{name}-ingest-0")["metadata"]["uid"] == first
    platform["spec"]["components"] = {"ingest": {"replicas": 1}}
    planes.apply(env.namespace, platform)
    planes.until(env.namespace, "Ready", "True", name=name)
    env.namespace.until(
        lambda seen: not seen,
        "poddisruptionbudget",
        f"--field-selector=metadata.name={name}-ingest",
        expected="one replica needs no budget",
    )
    assert env.child("pod", f"{name}-ingest-0")["metadata"]["uid"] == first


def test_paused_platform_is_unchanged_and_applies_edits_on_resume(env: Environment) -> None:
    name, platform = env.ready_external()
    platform["spec"] |= {"paused": True, "retention": {"tradesDays": 111}}
    planes.apply(env.namespace, platform)
    paused = planes.until(env.namespace, "Paused", "True", name=name)
    assert paused["status"]["applied"]["retention"]["tradesDays"] == 90
    assert kstatus.compute(paused) != "Current"  # the edit is not applied
    operators.wait_settled(env.operator, resyncs=3)
    assert env.child("tp", name)["status"]["schema"]["tradesDays"] == 90
    platform["spec"]["paused"] = False
    planes.apply(env.namespace, platform)
    env.until("tp", name, lambda one: one["status"]["schema"]["tradesDays"] == 111, "111 days")
    planes.until(env.namespace, "Ready", "True", name=name)


def test_foreign_edits_of_every_child_are_reverted_and_additions_stay(env: Environment) -> None:
    name, _ = env.ready_managed()
    edits: list[tuple[str, str, Object, Callable[[Object], Any]]] = [
        ("service", f"{name}-redis", {"spec": {"selector": {"app": "theirs"}}}, lambda one: one["spec"]["selector"]),
        ("statefulset", f"{name}-nats", {"spec": {"replicas": 0}}, lambda one: one["spec"]["replicas"]),
        ("networkpolicy", f"{name}-postgres", {"spec": {"ingress": [{}]}}, lambda one: one["spec"]["ingress"]),
        (
            "persistentvolumeclaim",
            f"{name}-redis-data",
            {"metadata": {"labels": {labels.PLATFORM: "theirs"}}},
            lambda one: one["metadata"]["labels"][labels.PLATFORM],
        ),
        (
            "secret",
            f"{name}-postgres-reader",
            {"data": {"host": base64.b64encode(b"theirs").decode()}},
            lambda one: one["data"]["host"],
        ),
    ]
    for kind, child, patch, part in edits:
        good = part(env.child(kind, child))
        annotated = {**patch, "metadata": {**patch.get("metadata", {}), "annotations": {"team.example/note": "ours"}}}
        env.edit(kind, child, annotated)
        again = env.until(kind, child, partial(_is_again, part, good), f"{kind} is repaired")
        assert again["metadata"]["annotations"]["team.example/note"] == "ours"
    for kind, child in (
        ("service", f"{name}-redis"),
        ("networkpolicy", f"{name}-nats"),
        ("statefulset", f"{name}-redis"),
    ):
        uid = env.child(kind, child)["metadata"]["uid"]
        env.namespace.text("delete", kind, child, "--wait=false")
        env.until(kind, child, partial(_is_another, uid), f"{kind} comes back")
    planes.until(env.namespace, "Ready", "True", name=name)
    assert env.repaired() >= {
        f"Service {name}-redis", f"StatefulSet {name}-nats", f"StatefulSet {name}-redis", f"NetworkPolicy {name}-nats",
        f"NetworkPolicy {name}-postgres",
    }  # fmt: skip


def _is_again(part: Callable[[Object], Any], good: Any, thing: Object) -> bool:
    return bool(part(thing) == good)


def _is_another(uid: str, thing: Object) -> bool:
    return bool(thing["metadata"]["uid"] != uid)


def test_overwritten_password_is_replaced_and_the_server_restarted_with_it(env: Environment) -> None:
    name, _ = env.ready_managed()
    secret, workload = f"{name}-redis", f"{name}-redis"
    before = env.child("secret", secret)
    theirs = base64.b64encode(b"canary-somebody-knows-it").decode()
    env.edit("secret", secret, {"data": {"password": theirs}})
    old = before["data"]["password"]
    after = env.until("secret", secret, lambda one: one["data"]["password"] not in {old, theirs}, "a new password")
    word = after["metadata"]["annotations"][labels.CREDENTIALS]
    assert word != before["metadata"]["annotations"][labels.CREDENTIALS]
    env.until(
        "statefulset",
        workload,
        lambda one: one["spec"]["template"]["metadata"]["annotations"][labels.CREDENTIALS] == word,
        "the pod is started with it",
    )
    planes.until(env.namespace, "Ready", "True", name=name)


def test_platform_is_never_ready_with_an_unready_server(env: Environment) -> None:
    name, _ = env.ready_managed()
    env.edit("service", f"{name}-nats", {"metadata": {"annotations": {"team.example/note": "x"}}})
    env.namespace.text("patch", "tp", name, "--type=merge", "--patch", json.dumps(
        {"spec": {"dataPlane": {"nats": {"managed": {"resources": {"limits": {"memory": "600Mi"}}}}}}}
    ))  # fmt: skip
    generation = env.child("tp", name)["metadata"]["generation"]
    planes.until(env.namespace, "Ready", "True", name=name)
    workload = env.child("statefulset", f"{name}-nats")
    container = workload["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["memory"] == "600Mi"
    assert workload["status"]["updatedReplicas"] == workload["status"]["readyReplicas"] == 1
    assert env.child("tp", name)["status"]["observedGeneration"] == generation


def test_child_of_another_release_is_deleted_an_unowned_object_not(env: Environment) -> None:
    name, _ = env.ready_managed()
    uid = env.child("tp", name)["metadata"]["uid"]
    owner = {"apiVersion": "trading.aether.io/v1alpha1", "kind": "TradingPlatform", "name": name, "uid": uid}
    for kind, like in (("Service", f"{name}-nats"), ("NetworkPolicy", f"{name}-nats"), ("StatefulSet", f"{name}-nats")):
        live = env.child(kind, like)
        spec = {key: value for key, value in live["spec"].items() if key not in {"clusterIP", "clusterIPs"}}
        meta = {"name": f"{name}-former", "labels": live["metadata"]["labels"], "ownerReferences": [owner]}
        planes.apply(env.namespace, {"apiVersion": live["apiVersion"], "kind": kind, "metadata": meta, "spec": spec})
        env.namespace.until(
            lambda seen: not seen, kind, f"--field-selector=metadata.name={name}-former", expected=f"{kind} is deleted"
        )
    former = {"name": f"{name}-former", "labels": live["metadata"]["labels"], "ownerReferences": [owner]}
    planes.apply(env.namespace, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": former, "data": {"a": "b"}})
    env.namespace.until(
        lambda seen: not seen, "configmap", f"--field-selector=metadata.name={name}-former", expected="it is deleted"
    )
    kept = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"{name}-kept", "labels": live["metadata"]["labels"]},
    }
    planes.apply(env.namespace, kept)
    operators.wait_settled(env.operator, resyncs=2)
    assert env.child("secret", f"{name}-kept")


def test_deletion_keeps_data_for_a_platform_of_the_same_name(env: Environment) -> None:
    name, platform = env.ready_managed()
    mine = f"--selector={labels.PLATFORM}={name}"
    password = env.child("secret", f"{name}-postgres")["data"]["password"]
    env.delete(name)
    owned = "service,configmap,statefulset,networkpolicy"
    env.namespace.until(lambda seen: not seen, owned, mine, expected="the children are deleted")
    left = {f"{one['kind']}/{one['metadata']['name']}" for one in env.namespace.get("secret,pvc", mine)["items"]}
    assert left == {
        *(f"Secret/{name}-{server}" for server in MANAGED),
        *(f"PersistentVolumeClaim/{name}-{one}-data" for one in (*MANAGED, "exchange")),
        *(f"Secret/{name}-postgres-{user.value}" for user in DatabaseUser),
    }
    planes.apply(env.namespace, platform)
    planes.until(env.namespace, "Ready", "True", name=name)
    assert env.child("secret", f"{name}-postgres")["data"]["password"] == password


def test_all_rights_are_used_none_missing_and_no_secret_revealed(env: Environment) -> None:
    """The second last test of this module: it checks the audit log of all of them."""
    entries = env.requests()
    assert audits.forbidden(entries) == []
    granted = {
        (group, resource, verb)
        for role in installations.rendered(env.namespace.name)
        if role["kind"] == "Role"
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    # The harness creates the Lease, and an event is patched only if it repeats within ten minutes.
    seldom = {("coordination.k8s.io", "leases", "create"), ("events.k8s.io", "events", "patch")}
    assert granted - audits.used(entries) <= seldom
    assert audits.used(entries) - {("", "namespaces", "get")} <= granted
    assert env.revealed() == []


def test_namespace_is_deleted_with_its_platform_under_a_running_operator(env: Environment) -> None:
    """The last test of this module: its namespace is deleted."""
    env.ready_managed()
    name = env.namespace.name
    env.cluster.kubectl.text("delete", "namespace", name, "--wait=true", f"--timeout={namespaces.DEADLINE:g}s")
    assert name not in {one["metadata"]["name"] for one in env.cluster.kubectl.get("namespaces")["items"]}
