"""An operator upgrade over a running platform of an earlier release: nothing is lost or recreated."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from aether_operator import desired
from aether_operator.api import labels
from aether_operator.catalog.components import TOPICS
from aether_operator.catalog.logins import DatabaseUser
from aether_operator.catalog.platform_schema import PLATFORM_SCHEMA
from aether_operator.database.revisions import Revisions
from aether_operator.observed import kinds
from aether_operator.observed.endpoints import SecretText
from aether_operator.observed.reports import Login
from aether_operator.planning import child_kinds
from aether_testing import fixtures, wait
from aether_testing.cluster import namespaces, previous_release
from aether_testing.processes import installations, operators, planes
from aether_testing.servers import postgres as servers
from aether_testing.values import observations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aether_cli.local.startup import Cluster
    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.kinds import Ref
    from aether_testing.cluster.namespaces import Namespace
    from aether_testing.processes.planes import Plane
    from aether_testing.servers.fake_services import FakeServices

Object = dict[str, Any]
PLATFORM = observations.a_platform()
CHILDREN = ",".join(kind.plural for kind in child_kinds.KINDS)
MINE = f"--selector={labels.PLATFORM}={PLATFORM.name}"
NEW = {
    "ConfigMap paper-ingest-settings",
    "NetworkPolicy paper-exchange",
    "NetworkPolicy paper-ingest",
    "PersistentVolumeClaim paper-exchange-data",
    "Secret paper-postgres-ingest",
    "Service paper-exchange",
    "Service paper-ingest",
    "StatefulSet paper-exchange",
    "StatefulSet paper-ingest",
}
LASTING = {"Secret", "PersistentVolumeClaim"}
"""Kinds without an owner reference, since they outlive the platform."""


@pytest.fixture
def namespace(control_plane: Cluster, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """The namespace of the recorded platform, by the recorded name."""
    one = namespaces.create(control_plane, request.node.name, PLATFORM.namespace)
    request.node.stash[fixtures.NAMESPACE] = one
    yield one
    installations.install_crds(control_plane)  # for later tests, after a failure
    one.kubectl.text("delete", "namespace", one.name, "--wait=false")


def test_upgrade_of_the_operator_adds_services_without_loss(
    control_plane: Cluster, namespace: Namespace, plane: Plane, fakes: FakeServices, tmp_path: Path
) -> None:
    installation = installations.prepare(control_plane, namespace, tmp_path, fakes)
    platform = _platform_of_before(namespace, plane)
    database = _database_of_before(namespace, plane, tmp_path / "migrations")
    before, pods, stored, logins = (
        _children(namespace),
        _pods(namespace),
        previous_release.content(database),
        _logins(plane),
    )

    installations.install_crds(control_plane)
    namespace.until(_all_have_pairs, "tp", expected="the kinds of now are in force")
    release = observations.a_release()
    now = {
        "images": {server.value: image for server, image in release.images.items()},  # as recorded
        "serviceImage": release.service_image,
        "operatorNamespace": release.operator_namespace,
    }
    with installation.operator(supervised=True, managedAddresses=plane.addresses(), release=now) as operator:
        planes.until(namespace, "IngestReady", "True")  # the recorded status is Ready and lacks this condition
        ready = planes.until(namespace, "Ready", "True")["status"]
        conditions = {one["type"]: one for one in ready["conditions"]}
        for kind in ("SchemaReady", "TopicsReady", "VenueReady", "IngestReady"):
            assert conditions[kind]["status"] == "True", conditions
        assert conditions["KafkaReady"]["lastTransitionTime"] == "2026-01-01T00:00:00Z", "a recorded condition is kept"
        assert ready["schema"]["revision"] == Revisions(PLATFORM_SCHEMA).head != previous_release.REVISION
        assert asyncio.run(_topics(plane)) >= {topic.name for topic in TOPICS}

        edited = {**platform["spec"], "pairs": ["ETH/USD", "BTC/USD"]}
        planes.apply(namespace, planes.a_platform(edited))
        planes.until(namespace, "IngestReady", "True")
        settings = namespace.get("configmap", "paper-ingest-settings")["data"]["live.json"]
        assert json.loads(settings)["pairs"] == ["BTC/USD", "ETH/USD"]
        operators.wait_settled(operator)

    reasons = {one["reason"] for one in namespace.get("events.events.k8s.io")["items"]}
    assert reasons
    assert "Repaired" not in reasons, "nobody had changed anything"
    after = _children(namespace)
    assert {str(which) for which in after.keys() - before.keys()} == NEW
    assert {str(which) for which in before if _without_labels(after[which]) != _without_labels(before[which])} == {
        # Their policies admit ingest.
        "NetworkPolicy paper-nats",
        "NetworkPolicy paper-postgres",
        # They are dual-stack.
        "Service paper-nats",
        "Service paper-postgres",
        "Service paper-redis",
    }
    owners = {
        which: [one["uid"] for one in child["metadata"].get("ownerReferences", ())] for which, child in after.items()
    }
    assert owners == {which: [] if which.kind in LASTING else [platform["metadata"]["uid"]] for which in owners}
    # Their labels restarted each pod, once: the revision before, and this one.
    workloads = [one for one in after.values() if one["kind"] == "StatefulSet" and kinds.ref(one) in before]
    assert {one["metadata"]["generation"] for one in workloads} == {2}
    assert pods.keys() <= _pods(namespace).keys()
    assert previous_release.content(database) == stored
    assert logins.items() <= _logins(plane).items()


def _platform_of_before(namespace: Namespace, plane: Plane) -> Object:
    """Apply the recorded platform with its status, and the children of its Managed servers with their manager."""
    namespace.kubectl.apply(previous_release.kind())
    text = json.dumps(observations.recorded("before-rooms-platform")[0]).replace("9092", str(plane.kafka.login))
    recorded = json.loads(text)
    new = planes.a_platform(recorded["spec"])
    wait.until(
        lambda: "pairs" not in json.loads(_written(namespace, "create", "--dry-run=server", thing=new))["spec"],
        "the kinds of then are in force",
    )
    planes.apply(namespace, planes.login_secret(), new)
    uid = namespace.get("tp", PLATFORM.name)["metadata"]["uid"]
    children = [
        one
        for one in observations.recorded("before-rooms")
        if one["metadata"]["labels"][labels.COMPONENT] != "kafka"  # External in this test
    ]
    items = json.loads(json.dumps(children).replace(PLATFORM.uid, uid))
    apply = ("apply", "--server-side", f"--field-manager={labels.OPERATOR}")
    _written(namespace, *apply, thing={"apiVersion": "v1", "kind": "List", "items": items})
    status = {key: value for key, value in recorded.items() if key != "spec"}
    _written(namespace, *apply, "--subresource=status", thing=status)
    namespace.until(
        lambda seen: len(seen) == 3 and all(map(_runs, seen.values())), "sts", MINE, expected="the servers run"
    )
    namespace.until(
        lambda seen: len(seen) == 3 and all(map(_bound, seen.values())), "pvc", MINE, expected="they have volumes"
    )
    platform = namespace.get("tp", PLATFORM.name)
    assert (platform["spec"], platform["status"]) == (recorded["spec"], recorded["status"])
    return platform


def _database_of_before(namespace: Namespace, plane: Plane, migrations: Path) -> Endpoint:
    """Create the Managed server's database, with rows."""
    plane.forget_managed()
    asyncio.run(_topics(plane, forget=True))  # of other tests
    wait.until(lambda: not asyncio.run(_topics(plane)), "there is no topic")
    database = plane.managed.endpoint("aether", "aether")
    login = desired.decoded(namespace.get("secret", "paper-postgres-reader"))
    reader = Login(username=login["username"], password=SecretText(login["password"]), kept_in="paper-postgres-reader")
    uid = namespace.kubectl.get("namespace", namespace.name)["metadata"]["uid"]
    schema = servers.a_schema(
        owner=f"{namespace.name}/{PLATFORM.name} of namespace {uid}", logins={DatabaseUser.READER: reader}
    )
    previous_release.make_database(database, previous_release.definition(migrations), schema)
    return database


async def _topics(plane: Plane, *, forget: bool = False) -> set[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=f"127.0.0.1:{plane.kafka.port}")
    await admin.start()
    try:
        if forget:
            await admin.delete_topics([topic.name for topic in TOPICS])
        return {name for name in await admin.list_topics() if name.startswith("md.")}
    finally:
        await admin.close()


def _written(namespace: Namespace, *words: str, thing: Object) -> str:
    return namespace.text(*words, "--output=json", "--filename=-", stdin=json.dumps(thing))


def _runs(workload: Object) -> bool:
    return bool(workload.get("status", {}).get("readyReplicas") == 1)


def _bound(claim: Object) -> bool:
    return bool(claim.get("status", {}).get("phase") == "Bound")


def _all_have_pairs(seen: dict[str, Object]) -> bool:
    return all("pairs" in one["spec"] for one in seen.values())


def _children(namespace: Namespace) -> dict[Ref, Object]:
    """A platform without the fields that the API server writes."""
    found = namespace.get(CHILDREN, MINE)["items"]
    for one in found:
        one.pop("status", None)
        del one["metadata"]["resourceVersion"]
    return {kinds.ref(one): one for one in found}


def _without_labels(child: Object) -> Object:
    """A child without the labels and the count of changes, which owner labels alone changed."""
    meta = {key: value for key, value in child["metadata"].items() if key not in {"labels", "generation"}}
    spec = dict(child.get("spec", {}))
    if "template" in spec:
        spec["template"] = {"spec": spec["template"]["spec"]}
    return {**child, "metadata": meta, "spec": spec}


def _pods(namespace: Namespace) -> dict[str, str]:
    return {one["metadata"]["name"]: one["metadata"]["uid"] for one in namespace.get("pods", MINE)["items"]}


def _logins(plane: Plane) -> dict[str, str]:
    """The role's OID and password hash of a login."""
    roles = plane.managed.run("postgres", "SELECT rolname, oid, rolpassword FROM pg_authid WHERE rolname ~ '^aether'")
    return {name: f"{oid} {password}" for name, oid, password in roles}
