"""Watches that end, fail or fall silent, and outdated lists: the operator still reconciles correctly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from aether_operator.api import labels, models
from aether_operator.handlers import watcher
from aether_operator.kube import api_client
from aether_operator.observed import kinds
from aether_testing import wait
from aether_testing.cluster import namespaces
from aether_testing.processes import installations, operators, planes
from aether_testing.servers import counting_proxy
from aether_testing.values import audits, observations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aether_cli.local.startup import Cluster
    from aether_testing.cluster.namespaces import Namespace
    from aether_testing.processes.installations import Installation
    from aether_testing.processes.operators import Operator
    from aether_testing.processes.planes import Plane
    from aether_testing.servers.counting_proxy import Proxy
    from aether_testing.servers.fake_services import FakeServices

NAME = "paper"
SLOW = 3600
"""Seconds between resyncs: longer than a test, so that repairs are due to events."""


ALL = 2 * len(watcher.watched((kinds.PLATFORMS,)))
"""The number of watches in both namespaces."""
SILENCE = 5
"""Seconds after which a silent watch is restarted."""


@dataclass
class Environment:
    cluster: Cluster
    plane: Plane
    installation: Installation
    namespace: Namespace
    other: Namespace
    """A second watched namespace, without a platform."""
    proxy: Proxy
    operator: Operator

    def wait_watching(self) -> None:
        """Wait until every watch is open; watches are started a moment after the lists."""
        wait.until(lambda: self.proxy.watching >= ALL, "everything is watched")

    def delete_and_await(self, kind: str, child: str) -> None:
        """Delete a child, and wait until it is recreated."""
        uid = self.namespace.get(kind, child)["metadata"]["uid"]
        self.namespace.text("delete", kind, child, "--wait=false")
        self.wait_recreated(kind, child, uid)

    def wait_recreated(self, kind: str, child: str, uid: str) -> None:
        self.namespace.until(
            lambda seen: any(one["metadata"]["uid"] != uid for one in seen.values()),
            kind,
            f"--field-selector=metadata.name={child}",
            expected=f"{kind} {child} is there again",
            deadline=120,
        )


@pytest.fixture(scope="module")
def env(
    control_plane: Cluster, plane: Plane, fakes: FakeServices, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Environment]:
    namespace = namespaces.create(control_plane, "operator-watches")
    other = namespaces.create(control_plane, "operator-watches")
    folder = tmp_path_factory.mktemp("operator")
    installation = installations.prepare(control_plane, namespace, folder, fakes, others=[other.name])
    plane.forget_managed()
    config: dict[str, Any] = {
        "namespaces": [namespace.name, other.name],
        "managedAddresses": plane.addresses(),
        "resyncSeconds": SLOW,
    }
    with (
        counting_proxy.between(control_plane) as proxy,
        installation.operator(proxy=proxy, supervised=True, **config) as operator,
    ):
        operator.wait_leading()
        planes.apply(namespace, planes.login_secret(), planes.a_platform(plane.mixed(), NAME))
        planes.until(namespace, "Ready", "True", name=NAME)
        yield Environment(control_plane, plane, installation, namespace, other, proxy, operator)
    namespace.kubectl.text("delete", "namespace", namespace.name, other.name, "--wait=false")


@pytest.mark.parametrize("code", [410, 500])
def test_watch_is_restarted_after_an_error_event(env: Environment, code: int) -> None:
    env.wait_watching()
    assert env.proxy.fail_watches(code) > 0
    env.delete_and_await("service", f"{NAME}-redis")


def test_interrupted_watches_are_restarted(env: Environment) -> None:
    env.wait_watching()
    assert env.proxy.cut_watches() > 0
    env.delete_and_await("networkpolicy", f"{NAME}-nats")


def test_deleted_namespace_disturbs_no_other_and_can_be_recreated(env: Environment) -> None:
    """Its Role is deleted with it, so every request for it is forbidden from then on."""
    other, starts = env.other.name, env.operator.starts
    waiting = planes.a_platform(env.plane.external("none"), "waiting")
    planes.apply(env.other, waiting)
    planes.until(env.other, "Ready", "False", name="waiting", reason="SecretMissing")
    env.cluster.kubectl.text("delete", "namespace", other, "--wait=false")
    assert env.operator.wait_logged("namespace_not_watched")["namespace"] == other
    before = audits.mark(env.cluster)
    env.delete_and_await("service", f"{NAME}-redis")
    gauge = {one: f'aether_operator_namespace_watched{{namespace="{one}"}}' for one in (env.namespace.name, other)}
    assert [env.operator.metrics()[gauge[one]] for one in gauge] == [1, 0]
    assert env.operator.http_get("/livez")[0] == 200
    forbidden = audits.forbidden(audits.of(audits.since(env.cluster, before), env.installation.account))
    assert {(one.namespace, one.verb, one.kind) for one in forbidden} <= {(other, "list", "tradingplatforms")}
    env.cluster.kubectl.text("wait", "--for=delete", f"namespace/{other}", f"--timeout={namespaces.DEADLINE:g}s")
    namespaces.create(env.cluster, "operator-watches", other)
    env.cluster.kubectl.apply(*installations.rights(env.namespace.name, other))
    planes.apply(env.other, waiting)
    planes.until(env.other, "Ready", "False", name="waiting", reason="SecretMissing")
    assert env.operator.starts == starts
    lines = [line for line in env.operator.current_lines if line["event"].startswith("namespace_")]
    assert [line["event"] for line in lines] == ["namespace_not_watched", "namespace_watched"]
    assert not any("kopf" in line.get("logger", "") for line in env.operator.current_lines)


def test_objects_deleted_while_watches_stalled_return_once_they_reconnect(env: Environment) -> None:
    env.proxy.stall_watches()
    uid = env.namespace.get("service", f"{NAME}-nats")["metadata"]["uid"]
    env.namespace.text("delete", "service", f"{NAME}-nats")
    env.proxy.resume()
    env.proxy.cut_watches()
    env.wait_recreated("service", f"{NAME}-nats", uid)


def test_stale_list_causes_no_deletion_and_no_scale_down(env: Environment) -> None:
    """The stale list has a child of another release that was deleted; a foreign object has its name now."""
    env.operator.end()  # it would delete that child
    owner = {key: env.namespace.get("tp", NAME)["metadata"][key] for key in ("name", "uid")}
    former = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": f"{NAME}-former",
            "labels": labels.for_child(observations.an_owner(NAME), "former"),
            "ownerReferences": [{"apiVersion": models.API_VERSION, "kind": "TradingPlatform", **owner}],
        },
        "spec": {"ports": [{"port": 80}]},
    }
    planes.apply(env.namespace, former)
    env.proxy.snapshot()
    env.namespace.text("delete", "service", f"{NAME}-former")
    theirs = {**former, "metadata": {"name": f"{NAME}-former"}}
    planes.apply(env.namespace, theirs)
    env.proxy.serve_old_lists()
    before = audits.mark(env.cluster)
    try:
        env.operator.start()  # this run gets stale lists only
        env.operator.wait_leading()
        wait.until(lambda: env.operator.reconciles() >= 1, "the restarted operator has reconciled")
        operators.wait_settled(env.operator, resyncs=0)
    finally:
        env.proxy.serve_fresh()
    written = audits.writes(audits.of(audits.since(env.cluster, before), env.installation.account))
    assert [one for one in written if one.verb in {"delete", "deletecollection"}] == []
    assert env.namespace.get("service", f"{NAME}-former")
    assert env.namespace.get("statefulset", f"{NAME}-redis")["spec"]["replicas"] == 1
    planes.until(env.namespace, "Ready", "True", name=NAME)


def test_silent_watch_is_replaced_and_objects_deleted_meanwhile_return(env: Environment) -> None:
    """The watches stay silent, as behind a load balancer that dropped them."""
    env.operator.configure(watchSilenceSeconds=SILENCE)
    env.operator.stop()  # it is restarted at once
    env.operator.wait_leading()
    wait.until(lambda: env.proxy.stall_watches(existing_only=True) >= ALL, "every watch is open, and silent")
    path = api_client.path(kinds.STATEFUL_SETS, env.namespace.name)
    begun = env.proxy.watched[path]
    env.delete_and_await("statefulset", f"{NAME}-redis")
    env.proxy.until(lambda proxy: proxy.watched[path] > begun, "a silent watch is restarted")
    planes.until(env.namespace, "Ready", "True", name=NAME)
