"""A platform's life with the real operator: created, ready, edited, repaired, paused, deleted."""

from __future__ import annotations

import base64
import copy
import itertools
import json
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import redis

from aether_cli import explanation, problems, status_view
from aether_cli.local import volumes
from aether_operator.api import crds, labels, models, platforms
from aether_operator.api.platform_definition import DEFINITION
from aether_operator.catalog import components, owners
from aether_operator.catalog.logins import DatabaseUser
from aether_runtime import network_errors
from aether_testing.cluster import namespaces
from aether_testing.processes import installations, operators, planes
from aether_testing.values import audits, kstatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aether_cli.local.startup import Cluster
    from aether_testing.cluster.namespaces import Namespace
    from aether_testing.processes.installations import Installation
    from aether_testing.processes.operators import Operator
    from aether_testing.processes.planes import Plane
    from aether_testing.servers.fake_services import FakeServices
    from aether_testing.servers.postgres import Postgres

Object = dict[str, Any]
MANAGED = ("postgres", "nats", "redis")


@dataclass
class Environment:
    """A namespace with an operator, and real servers; each test creates its own platforms."""

    cluster: Cluster
    installation: Installation
    operator: Operator
    namespace: Namespace
    plane: Plane
    fakes: FakeServices
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def external(self, **spec: Any) -> tuple[str, Object]:
        """A new platform on external servers, with its login in place and a database of its own; not created yet."""
        name = f"ext-{next(self.numbers)}"
        planes.apply(self.namespace, planes.login_secret())
        return name, planes.a_platform(self.plane.external(self.plane.database()) | spec, name)

    def ready_external(self, **spec: Any) -> tuple[str, Object]:
        name, platform = self.external(**spec)
        planes.apply(self.namespace, platform)
        planes.until(self.namespace, "Ready", "True", name=name)
        return name, platform

    def ready_managed(self) -> tuple[str, Object]:
        """A platform with all but Kafka Managed, on a new volume."""
        name = self.release_managed("man")
        planes.apply(self.namespace, planes.login_secret(), planes.a_platform(self.plane.mixed(), name))
        planes.until(self.namespace, "Ready", "True", name=name)
        return name, planes.a_platform(self.plane.mixed(), name)

    def release_managed(self, prefix: str) -> str:
        """Delete all platforms, which releases the only managed database; returns a new name."""
        for one in self.namespace.get("tp")["items"]:
            self.delete(one["metadata"]["name"])
        self.operator.wait_idle()  # a reconcile from before the deletion would claim the database again
        self.plane.forget_managed()
        return f"{prefix}-{next(self.numbers)}"

    def delete(self, name: str) -> None:
        self.namespace.text("delete", "tp", name, "--wait=true", f"--timeout={namespaces.DEADLINE:g}s")

    def child(self, kind: str, name: str) -> Object:
        return self.namespace.get(kind, name)

    def until(self, kind: str, name: str, holds: Callable[[Object], bool], expected: str) -> Object:
        seen = self.namespace.until(
            lambda all_of_it: any(holds(one) for one in all_of_it.values()),
            kind,
            f"--field-selector=metadata.name={name}",
            expected=expected,
        )
        return next(iter(seen.values()))

    def edit(self, kind: str, name: str, patch: Object) -> None:
        """Merge-patch an object with another field manager."""
        self.namespace.text(
            "patch", kind, name, "--type=merge", "--field-manager=somebody", f"--patch={json.dumps(patch)}"
        )

    def condition(self, name: str, kind: str) -> Object:
        conditions = self.namespace.get("tp", name)["status"]["conditions"]
        return next(one for one in conditions if one["type"] == kind)


@pytest.fixture(scope="module")
def env(
    control_plane: Cluster, plane: Plane, fakes: FakeServices, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Environment]:
    namespace = namespaces.create(control_plane, "operator-life")
    installation = installations.prepare(control_plane, namespace, tmp_path_factory.mktemp("operator"), fakes)
    with installation.operator(supervised=True, managedAddresses=plane.addresses()) as operator:
        operator.wait_leading()
        yield Environment(control_plane, installation, operator, namespace, plane, fakes)
    namespace.kubectl.text("delete", "namespace", namespace.name, "--ignore-not-found", "--wait=false")


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


def test_login_error_is_named_and_fixed_by_the_secret_immediately(env: Environment) -> None:
    name, platform = env.external()
    secret = f"login-{name}"
    for server in platform["spec"]["dataPlane"].values():
        server["external"]["secretName"] = secret
    planes.apply(env.namespace, planes.login_secret(secret, username=planes.LOGIN), platform)
    waiting = planes.until(env.namespace, "Ready", "False", name=name, reason="SecretKeyMissing")
    assert f"{secret} has no key password" in waiting["status"]["message"]
    planes.apply(env.namespace, planes.login_secret(secret, username=planes.LOGIN, password="canary-wrong"))  # noqa: S106
    planes.until(env.namespace, "PostgresReady", "False", name=name, reason="AuthenticationFailed")
    swapped = {"username": "canary-swapped", "password": planes.LOGIN, **planes.CANARIES}
    planes.apply(env.namespace, planes.login_secret(secret, **swapped))
    cause = network_errors.AUTHENTICATION_FAILED
    env.until("tp", name, lambda one: cause in one["status"]["message"], "the swapped login is reported without it")
    planes.apply(env.namespace, planes.login_secret(secret, username=planes.LOGIN, password=planes.PASSWORD))
    planes.until(env.namespace, "Ready", "True", name=name)
    assert not any(f" {name}-" in one for one in repaired(env)), "it was another login"


def test_secret_event_reconciles_every_platform_that_names_it(env: Environment) -> None:
    """The second platform is idle when the Secret changes: only the event triggers its reconcile."""
    names = []
    for _ in range(2):
        name, platform = env.external()
        for server in platform["spec"]["dataPlane"].values():
            server["external"]["secretName"] = "shared"
        planes.apply(env.namespace, planes.login_secret("shared"), platform)
        names.append(name)
    for name in names:
        planes.until(env.namespace, "Ready", "True", name=name)
    planes.apply(env.namespace, planes.login_secret("shared", username=planes.LOGIN, password="canary-other"))  # noqa: S106
    for name in names:
        planes.until(env.namespace, "PostgresReady", "False", name=name, reason="AuthenticationFailed")
    for name in names:
        env.delete(name)


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


def test_a_platform_that_requires_timescale_is_not_ready_without_it(env: Environment) -> None:
    name, platform = env.external()
    platform["spec"]["dataPlane"]["postgres"]["timescale"] = "Required"
    planes.apply(env.namespace, platform)
    planes.until(env.namespace, "PostgresReady", "False", name=name, reason="TimescaleMissing")
    assert env.condition(name, "Ready")["status"] == "False"


def test_second_platform_on_the_same_servers_stalls_and_writes_nothing(env: Environment) -> None:
    owner, platform = env.ready_external()
    pod = env.child("pod", f"{owner}-ingest-0")["metadata"]["uid"]
    database = env.plane.database()
    second = json.loads(json.dumps(planes.a_platform(platform["spec"], f"{owner}-again")))
    second["spec"]["dataPlane"]["postgres"]["external"]["database"] = database
    planes.apply(env.namespace, second)
    stalled = planes.until(env.namespace, "Stalled", "True", name=f"{owner}-again", reason="ServerOwnedByAnother")
    for server in ("kafka", "nats", "redis"):
        port = platform["spec"]["dataPlane"][server]["external"]["port"]
        owned = f"{server}: 127.0.0.1:{port}: it belongs to {env.namespace.name}/{owner} of namespace "
        assert owned in stalled["status"]["message"]
    assert "venue Simulated" in stalled["status"]["message"]
    assert kstatus.compute(stalled) == "Failed"
    planes.until(env.namespace, "VenueReady", "True", name=f"{owner}-again")
    mine = f"--selector={labels.PLATFORM}={owner}-again"
    started = [one["metadata"]["name"] for one in env.namespace.get("statefulset", mine)["items"]]
    assert started == [f"{owner}-again-exchange"]
    schemas = env.plane.postgres.run(database, "SELECT to_regnamespace('aether') IS NULL")
    assert schemas == [(True,)], "its own database is not taken either"
    second["spec"]["dataPlane"] = platform["spec"]["dataPlane"]
    planes.apply(env.namespace, second)
    taken = planes.until(env.namespace, "SchemaReady", "False", name=f"{owner}-again", reason="DatabaseOwnedByAnother")
    assert f"the database belongs to {env.namespace.name}/{owner} of namespace " in taken["status"]["message"]
    assert env.condition(owner, "Ready")["status"] == "True"
    assert env.child("pod", f"{owner}-ingest-0")["metadata"]["uid"] == pod


def test_platform_recreated_at_another_venue_gets_none_of_its_data(env: Environment) -> None:
    name, platform = env.ready_external()
    env.delete(name)
    mine = f"--selector={labels.PLATFORM}={name}"
    env.namespace.until(lambda seen: not seen, "statefulset", mine, expected="the workloads are deleted")
    planes.apply(env.namespace, {**platform, "spec": platform["spec"] | {"venue": {"name": "Kraken"}}})
    stalled = planes.until(env.namespace, "Stalled", "True", name=name, reason="VenueMismatch")
    way_out = "data of venue Simulated, and the platform says Kraken: apply it with venue Simulated, or as another"
    assert stalled["status"]["message"].count(way_out) >= 3
    assert env.condition(name, "SchemaReady")["reason"] == "VenueMismatch"
    assert env.namespace.get("statefulset", mine)["items"] == []
    env.delete(name)
    planes.apply(env.namespace, platform)
    planes.until(env.namespace, "Ready", "True", name=name)


def test_retention_changes_at_once_where_no_data_would_be_dropped(env: Environment) -> None:
    name, platform = env.ready_external()
    database = platform["spec"]["dataPlane"]["postgres"]["external"]["database"]
    kept = platforms.Retention().by_table()
    platform["spec"]["retention"] = {}
    for table, usual in tuple(kept.items()):
        for days in (usual + 110, usual - 2):
            kept[table] = platform["spec"]["retention"][f"{table}Days"] = days
            planes.apply(env.namespace, platform)
            env.until("tp", name, partial(_keeps, kept), f"{table} for {days} days")
            assert _in_force(env.plane.postgres, database) == kept
    planes.until(env.namespace, "Ready", "True", name=name)


def test_edited_external_endpoint_is_used_from_then_on(env: Environment) -> None:
    name, platform = env.ready_external()
    good = platform["spec"]["dataPlane"]["redis"]["external"]["port"]
    platform["spec"]["dataPlane"]["redis"]["external"]["port"] = 1
    planes.apply(env.namespace, platform)
    waiting = planes.until(env.namespace, "RedisReady", "False", name=name, reason="Unreachable")
    assert "127.0.0.1:1" in waiting["status"]["message"]
    platform["spec"]["dataPlane"]["redis"]["external"]["port"] = good
    planes.apply(env.namespace, platform)
    planes.until(env.namespace, "Ready", "True", name=name)


def test_servers_are_claimed_only_in_their_order(env: Environment) -> None:
    """While Kafka is unavailable, NATS and Redis stay unclaimed."""
    name, platform = env.external()
    kafka, cache = (platform["spec"]["dataPlane"][one]["external"] for one in ("kafka", "redis"))
    good, kafka["port"] = kafka["port"], 1
    planes.apply(env.namespace, platform)
    # A server is claimed before the status of that reconcile is written.
    planes.until(env.namespace, "SchemaReady", "True", name=name)
    planes.until(env.namespace, "RedisReady", "True", name=name)
    with redis.Redis(host=cache["host"], port=cache["port"], protocol=2) as client:
        assert client.get(owners.KEY) is None
        kafka["port"] = good
        planes.apply(env.namespace, platform)
        planes.until(env.namespace, "Ready", "True", name=name)
        assert f'"name":"{name}"' in str(client.get(owners.KEY))


def test_missing_server_stalls_after_the_deadline_and_recovers_by_itself(env: Environment) -> None:
    name, platform = env.external(progressDeadlineSeconds=10)
    for server in platform["spec"]["dataPlane"].values():
        server["external"]["secretName"] = f"late-{name}"
    planes.apply(env.namespace, platform)
    stalled = planes.until(env.namespace, "Stalled", "True", name=name, reason="ProgressDeadlineExceeded")
    assert f"late-{name}" in stalled["status"]["message"]
    planes.apply(env.namespace, planes.login_secret(f"late-{name}"))
    ready = planes.until(env.namespace, "Ready", "True", name=name)
    assert kstatus.compute(ready) == "Current"


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
    assert not any(f" {name}-" in one for one in repaired(env)), "it was an edit"


def test_unknown_pair_is_named_and_its_removal_recovers(env: Environment) -> None:
    name, platform = env.ready_external()
    platform["spec"]["pairs"] = ["BTC/USD", "FOO/USD"]
    planes.apply(env.namespace, platform)
    stalled = planes.until(env.namespace, "Stalled", "True", name=name, reason="UnknownPair")
    assert stalled["status"]["message"] == "ingest: FOO/USD: UnknownPair"
    assert kstatus.compute(stalled) == "Failed"
    platform["spec"]["pairs"] = ["BTC/USD"]
    planes.apply(env.namespace, platform)
    planes.until(env.namespace, "Ready", "True", name=name)


def test_unavailable_output_or_venue_is_named_and_recovers_by_itself(env: Environment) -> None:
    name, _ = env.ready_external()
    ingest, exchange = f"{name}-ingest-0", f"{name}-exchange-0"
    broken = {"kafka": {"ok": False, "detail": "no broker answers"}}
    env.fakes.overrides[ingest] = lambda status: {**status, "outputs": broken}
    waiting = planes.until(env.namespace, "IngestReady", "False", name=name, reason="OutputFailed")
    assert waiting["status"]["message"] == "ingest: kafka: no broker answers"
    del env.fakes.overrides[ingest]
    planes.until(env.namespace, "Ready", "True", name=name)
    env.fakes.overrides[exchange] = lambda status: {**status, "version": components.STATUS_VERSION + 1}
    newer = planes.until(env.namespace, "VenueReady", "False", name=name, reason="VersionUnsupported")
    assert f"Pod {exchange}" in newer["status"]["message"]
    del env.fakes.overrides[exchange]
    planes.until(env.namespace, "Ready", "True", name=name)


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


def test_ingest_is_not_started_before_its_secrets_exist(env: Environment) -> None:
    name, platform = env.external()
    for server in platform["spec"]["dataPlane"].values():
        server["external"]["secretName"] = f"later-{name}"
    planes.apply(env.namespace, platform)
    planes.until(env.namespace, "VenueReady", "True", name=name)
    mine = f"--selector={labels.PLATFORM}={name}"
    assert [one["metadata"]["name"] for one in env.namespace.get("statefulset", mine)["items"]] == [f"{name}-exchange"]
    planes.apply(env.namespace, planes.login_secret(f"later-{name}"))
    planes.until(env.namespace, "Ready", "True", name=name)


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
    assert repaired(env) >= {
        f"Service {name}-redis", f"StatefulSet {name}-nats", f"StatefulSet {name}-redis", f"NetworkPolicy {name}-nats",
        f"NetworkPolicy {name}-postgres",
    }  # fmt: skip


def repaired(env: Environment) -> set[str]:
    """The children that `Repaired` events name."""
    events = env.namespace.get("events.events.k8s.io")["items"]
    return {" ".join(one["note"].split()[:2]) for one in events if one["reason"] == "Repaired"}


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


def _keeps(days: dict[str, int], platform: Object) -> bool:
    schema = platform["status"].get("schema", {})
    return {table: schema.get(f"{table}Days") for table in days} == days


def _in_force(server: Postgres, database: str) -> dict[str, int]:
    """Table → retention in days, from pg_partman's configuration."""
    rows = server.run(database, "SELECT parent_table, retention FROM partman.part_config")
    return {table.removeprefix("aether."): int(retention.removesuffix(" days")) for table, retention in rows}


def _is_again(part: Callable[[Object], Any], good: Any, thing: Object) -> bool:
    return bool(part(thing) == good)


def _is_another(uid: str, thing: Object) -> bool:
    return bool(thing["metadata"]["uid"] != uid)


def _accepts(env: Environment, platform: Object) -> bool:
    try:
        planes.apply(env.namespace, platform)
    except problems.ProgramFailed:
        return False
    return True


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
    entries = [
        one
        for one in audits.since(env.cluster, audits.Mark(inode=audits.mark(env.cluster).inode, offset=0))
        if one.user == env.installation.account
    ]
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
    canaries = [planes.PASSWORD, "canary-"]
    canaries += [
        base64.b64decode(value).decode()
        for one in env.namespace.get("secrets")["items"]
        for key, value in one.get("data", {}).items()
        if key == "password"
    ]
    output = env.operator.text
    for one in env.namespace.get("tp")["items"]:
        about = f"--field-selector=regarding.name={one['metadata']['name']}"
        lines = explanation.explanation_lines(one, env.namespace.get("events.events.k8s.io", about)["items"])
        output += "\n".join([*lines, *status_view.status_lines(status_view.AetherState(platforms=[one]))])
    for what in ("tp", "events.events.k8s.io", "statefulset", "service", "configmap", "pvc", "networkpolicy", "pods"):
        output += json.dumps(env.namespace.get(what))
    output += json.dumps([one["metadata"] for one in env.namespace.get("secrets")["items"]])
    assert [word for word in canaries if word in output] == []


def test_namespace_is_deleted_with_its_platform_under_a_running_operator(env: Environment) -> None:
    """The last test of this module: its namespace is deleted."""
    env.ready_managed()
    name = env.namespace.name
    env.cluster.kubectl.text("delete", "namespace", name, "--wait=true", f"--timeout={namespaces.DEADLINE:g}s")
    assert name not in {one["metadata"]["name"] for one in env.cluster.kubectl.get("namespaces")["items"]}
