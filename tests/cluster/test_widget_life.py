"""A kind that the engine does not know goes through its whole life: Widget, with children, a finalizer, a lane."""

from __future__ import annotations

import contextlib
import json
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

from aether_operator.api import labels, models
from aether_operator.kube import api_client
from aether_operator.observed import kinds
from aether_testing import wait
from aether_testing.cluster import namespaces
from aether_testing.cluster.namespaces import Namespace
from aether_testing.processes import installations, operators, planes, widget_operator
from aether_testing.servers import counting_proxy
from aether_testing.servers.api_proxy import faults
from aether_testing.values import kstatus
from aether_testing.values.widgets import WIDGET, WITH_WIDGETS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aether_cli.local.startup import Cluster
    from aether_testing.processes.operators import Operator
    from aether_testing.servers.counting_proxy import Proxy

Object = dict[str, Any]
PLATFORM, SECRET = "parent", "mine"
SLOW: Final = 600
"""Seconds between resyncs, and of a widget's requeue: longer than any test, so whatever happens is due to an event."""
WORKERS: Final = 2
"""Of the normal lane."""
THEIRS: Final = "team.example/theirs"
"""The finalizer of another controller."""


@dataclass
class Environment:
    """A namespace with an operator behind the proxy, two more of its namespaces, and one that is not its own."""

    cluster: Cluster
    namespace: Namespace
    going: tuple[Namespace, Namespace]
    foreign: Namespace
    proxy: Proxy
    operator: Operator

    def recorded(self, name: str, namespace: str = "") -> str | None:
        """What is recorded outside of the cluster; None if nothing is."""
        path = self.record(name, namespace)
        return path.read_text() if path.exists() else None

    def record(self, name: str, namespace: str = "") -> Path:
        return self.operator.folder / f"{namespace or self.namespace.name}.{name}"

    def widget(self, name: str) -> Object:
        return self.namespace.get(WIDGET.resource, name)

    def edit(self, kind: str, name: str, patch: Object) -> None:
        """Merge-patch an object as somebody else."""
        self.namespace.text(
            "patch", kind, name, "--type=merge", "--field-manager=somebody", f"--patch={json.dumps(patch)}"
        )

    def until(self, kind: str, name: str, holds: Callable[[Object], bool], expected: str) -> Object:
        seen = self.namespace.until(
            lambda found: any(holds(one) for one in found.values()),
            kind,
            f"--field-selector=metadata.name={name}",
            expected=expected,
        )
        return next(iter(seen.values()))

    def until_gone(self, kind: str, name: str) -> None:
        self.namespace.until(
            lambda found: not found, kind, f"--field-selector=metadata.name={name}", expected=f"{kind} {name} is gone"
        )

    def restart(self, **config: Any) -> None:
        """End the operator and start it with another configuration; returns once it leads."""
        self.operator.stop()
        self.operator.configure(**config)
        self.operator.start()
        self.operator.wait_leading()

    def patch(self, namespace: Namespace, name: str, body: Object) -> tuple[int, str]:
        """Patch a widget with the operator's own token; returns the code, and the message of a rejection."""
        kubeconfig = json.loads((self.operator.folder / "kubeconfig").read_text())
        path = api_client.path(kinds.of_definition(WIDGET), namespace.name, name)
        request = urllib.request.Request(f"{self.proxy.url}{path}", json.dumps(body).encode(), method="PATCH")
        request.add_header("Content-Type", api_client.MERGE)
        request.add_header("Authorization", f"Bearer {kubeconfig['users'][0]['user']['token']}")
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, ""
        except urllib.error.HTTPError as rejected:
            with rejected:
                return rejected.code, json.loads(rejected.read())["message"]


def a_widget(name: str, **spec: Any) -> Object:
    return {
        "apiVersion": models.API_VERSION,
        "kind": WIDGET.kind,
        "metadata": {"name": name},
        "spec": {"platform": PLATFORM, "secretName": SECRET, **spec},
    }


def until_ready(namespace: Namespace, name: str) -> Object:
    return planes.until(namespace, "Ready", "True", name=name, definition=WIDGET)


def until_stalled(env: Environment, name: str, reason: str) -> str:
    """Wait until a widget is Stalled; returns the message."""
    stalled = planes.until(env.namespace, "Stalled", "True", name=name, reason=reason, definition=WIDGET)
    message: str = stalled["status"]["message"]
    return message


def what_it_needs() -> tuple[Object, Object]:
    """The Secret, and the platform: it is paused, so that it is only an object."""
    return planes.login_secret(SECRET), planes.a_platform({"paused": True}, PLATFORM)


@pytest.fixture(scope="module")
def env(control_plane: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    namespace, *others = [namespaces.create(control_plane, "widget-life") for _ in range(4)]
    first, second, foreign = others
    ours = [namespace.name, first.name, second.name]
    folder = tmp_path_factory.mktemp("operator")
    installation = installations.prepare(control_plane, namespace, folder, others=ours[1:], definitions=WITH_WIDGETS)
    config: Object = {"namespaces": ours, "resyncSeconds": SLOW, "maxConcurrentReconciles": WORKERS}
    with (
        counting_proxy.between(control_plane) as proxy,
        installation.operator(proxy=proxy, module=widget_operator.MODULE, **config) as operator,
    ):
        operator.wait_leading()
        yield Environment(control_plane, namespace, (first, second), foreign, proxy, operator)
    # Nobody releases the widgets any more: they would keep the namespaces, and the CRD.
    for one in control_plane.kubectl.get(WIDGET.resource, "--all-namespaces")["items"]:
        release(Namespace(one["metadata"]["namespace"], control_plane.kubectl), one["metadata"]["name"])
    control_plane.kubectl.text("delete", "crd", WIDGET.resource, "--wait=false")
    names = [namespace.name, *(one.name for one in others)]
    control_plane.kubectl.text("delete", "namespace", *names, "--ignore-not-found", "--wait=false")


@pytest.fixture(scope="module")
def needed(env: Environment) -> None:
    """What every widget needs is there, whichever test is run."""
    planes.apply(env.namespace, *what_it_needs())


def test_events_of_secret_and_parent_make_a_new_widget_ready(env: Environment) -> None:
    secret, platform = what_it_needs()
    planes.apply(env.namespace, a_widget("first", size=3))
    waiting = planes.until(env.namespace, "Ready", "False", name="first", reason="SecretMissing", definition=WIDGET)
    assert kstatus.compute(waiting) == kstatus.IN_PROGRESS
    planes.apply(env.namespace, secret)
    planes.until(env.namespace, "Ready", "False", name="first", reason="Progressing", definition=WIDGET)
    planes.apply(env.namespace, platform)
    ready = until_ready(env.namespace, "first")
    assert kstatus.compute(ready) == kstatus.CURRENT
    status = ready["status"]
    assert [one["type"] for one in status["conditions"]] == [one.value for one in WIDGET.all_conditions]
    assert status["applied"] == {**a_widget("first", size=3)["spec"], "paused": False, "progressDeadlineSeconds": 300}
    assert status["recorded"] == env.recorded("first") == "3"
    assert ready["metadata"]["finalizers"] == [labels.FINALIZER]
    config, token = env.namespace.get("configmap", "first-settings"), env.namespace.get("secret", "first-reader")
    assert config["data"] == {"size": "3"}
    for child, owners in ((config, [ready["metadata"]["uid"]]), (token, [])):
        marks = child["metadata"]["labels"]
        assert (marks[labels.OWNER_KIND], marks[labels.OWNER_NAME]) == (WIDGET.kind, "first")
        assert [one["uid"] for one in child["metadata"].get("ownerReferences", ())] == owners
    env.namespace.text("delete", "secret", SECRET)
    planes.until(env.namespace, "Ready", "False", name="first", reason="SecretMissing", definition=WIDGET)
    planes.apply(env.namespace, secret)
    until_ready(env.namespace, "first")


@pytest.mark.usefixtures("needed")
def test_unchanged_widget_is_not_written_over_two_resyncs(env: Environment) -> None:
    planes.apply(env.namespace, a_widget("steady"))
    until_ready(env.namespace, "steady")
    env.restart(resyncSeconds=1)
    try:
        operators.wait_settled(env.operator, resyncs=1, platforms=2)
        env.proxy.reset()
        reconciled = f'{operators.RECONCILES}{{controller="widget",result="success"}}'
        before = env.operator.metrics()[reconciled]
        widgets = len(env.namespace.get(WIDGET.resource)["items"])
        wait.until(
            lambda: env.operator.metrics()[reconciled] >= before + 2 * widgets + 1, "every widget had two resyncs"
        )
        assert env.proxy.writes == ()
    finally:
        env.restart(resyncSeconds=SLOW)


@pytest.mark.usefixtures("needed")
def test_edit_reaches_child_record_and_status(env: Environment) -> None:
    planes.apply(env.namespace, a_widget("edited", size=1))
    until_ready(env.namespace, "edited")
    planes.apply(env.namespace, a_widget("edited", size=5))
    status = until_ready(env.namespace, "edited")["status"]
    assert (status["applied"]["size"], status["recorded"], env.recorded("edited")) == (5, "5", "5")
    assert env.namespace.get("configmap", "edited-settings")["data"] == {"size": "5"}


@pytest.mark.usefixtures("needed")
def test_changed_deleted_or_unlabelled_children_are_repaired(env: Environment) -> None:
    planes.apply(env.namespace, a_widget("repaired", size=2))
    until_ready(env.namespace, "repaired")
    config, token = env.namespace.get("configmap", "repaired-settings"), env.namespace.get("secret", "repaired-reader")
    env.edit("configmap", "repaired-settings", {"data": {"size": "9"}})
    env.until("configmap", "repaired-settings", lambda one: one["data"] == config["data"], "the size is set back")
    for kind, live in (("configmap", config), ("secret", token)):
        name, marks = live["metadata"]["name"], live["metadata"]["labels"]
        for lost in ([labels.OWNER_NAME], list(marks)):
            env.edit(kind, name, {"metadata": {"labels": dict.fromkeys(lost)}})
            again = env.until(kind, name, lambda one: one["metadata"].get("labels") == marks, "the labels are back")  # noqa: B023
            assert again["metadata"]["uid"] == live["metadata"]["uid"]
    env.namespace.text("delete", "configmap", "repaired-settings", "--wait=false")
    uid = config["metadata"]["uid"]
    env.until("configmap", "repaired-settings", lambda one: one["metadata"]["uid"] != uid, "it is created again")
    assert env.namespace.get("secret", "repaired-reader")["data"] == token["data"]


@pytest.mark.usefixtures("needed")
def test_invalid_spec_keeps_the_last_good_state_repaired(env: Environment) -> None:
    planes.apply(env.namespace, a_widget("invalid", size=2))
    until_ready(env.namespace, "invalid")
    planes.apply(env.namespace, a_widget("invalid", size=7, secretName=PLATFORM))
    assert until_stalled(env, "invalid", "InvalidSpec").endswith("spec.secretName: it is the platform's name")
    env.namespace.text("delete", "configmap", "invalid-settings")
    env.until("configmap", "invalid-settings", lambda one: one["data"] == {"size": "2"}, "the last good one is back")
    status = env.widget("invalid")["status"]
    assert (status["applied"]["size"], env.recorded("invalid")) == (2, "2")
    planes.apply(env.namespace, a_widget("invalid", size=7))
    until_ready(env.namespace, "invalid")
    assert env.recorded("invalid") == "7"


@pytest.mark.usefixtures("needed")
def test_paused_widget_is_not_changed_until_it_is_resumed(env: Environment) -> None:
    planes.apply(env.namespace, a_widget("paused", size=2))
    until_ready(env.namespace, "paused")
    planes.apply(env.namespace, a_widget("paused", size=4, paused=True))
    until_stalled(env, "paused", "PausedBySpec")
    env.namespace.text("delete", "configmap", "paused-settings")
    env.until(
        WIDGET.resource,
        "paused",
        lambda one: "does not exist" in one["status"]["message"],
        "what is missing is reported",
    )
    assert env.recorded("paused") == "2"
    assert env.namespace.get("configmap", "--field-selector=metadata.name=paused-settings")["items"] == []
    planes.apply(env.namespace, a_widget("paused", size=4))
    until_ready(env.namespace, "paused")
    assert (env.recorded("paused"), env.namespace.get("configmap", "paused-settings")["data"]) == ("4", {"size": "4"})


@pytest.mark.usefixtures("needed")
@pytest.mark.parametrize(
    ("order", "widget", "kind", "child"),
    [
        (("TradingPlatform", "Widget"), "old-ingest", "ConfigMap", "old-ingest-settings"),
        (("Widget", "TradingPlatform"), "new-postgres", "Secret", "new-postgres-reader"),
    ],
    ids=["a widget", "a platform"],
)
def test_second_owner_of_a_child_name_is_stalled(
    env: Environment, order: tuple[str, str], widget: str, kind: str, child: str
) -> None:
    names = {"TradingPlatform": child.partition("-")[0], "Widget": widget}
    with socket.socket() as closed:  # nothing listens at the platform's servers: it has its children nevertheless
        closed.bind(("127.0.0.1", 0))
        platform = planes.a_platform(external(closed.getsockname()[1]), names["TradingPlatform"])
        objects = {"TradingPlatform": platform, "Widget": a_widget(widget)}
        planes.apply(env.namespace, objects[order[0]])
        before = env.until(kind, child, bool, "the first owner has its child")
        planes.apply(env.namespace, objects[order[1]])
        definition, name = WITH_WIDGETS[order[1]], names[order[1]]
        stalled = planes.until(env.namespace, "Stalled", "True", name=name, reason="NameTaken", definition=definition)
        expected = f"{kind} {child} exists and belongs to {order[0]} {names[order[0]]};"
        assert expected in stalled["status"]["message"]
        after = env.namespace.get(kind, child)
        assert (after["metadata"]["uid"], after["data"]) == (before["metadata"]["uid"], before["data"])
        env.namespace.text("delete", "tp", names["TradingPlatform"])
    until_ready(env.namespace, widget)


@pytest.mark.usefixtures("needed")
def test_deleted_widget_is_held_until_it_is_undone(env: Environment) -> None:
    planes.apply(env.namespace, a_widget("held"))
    until_ready(env.namespace, "held")
    token = env.namespace.get("secret", "held-reader")
    hold = env.record("held.hold")
    hold.touch()
    env.namespace.text("delete", WIDGET.resource, "held", "--wait=false")
    held = env.until(
        WIDGET.resource, "held", lambda one: one["status"]["state"] == "Terminating", "its status says what is left"
    )
    assert held["status"]["message"] == f"{WIDGET.terminating}: {hold.name} keeps the record"
    assert kstatus.compute(held) == kstatus.TERMINATING
    assert held["metadata"]["finalizers"] == [labels.FINALIZER]
    assert env.recorded("held") == "1"
    hold.unlink()
    env.until_gone(WIDGET.resource, "held")
    assert env.recorded("held") is None
    env.until_gone("configmap", "held-settings")
    assert env.namespace.get("secret", "held-reader")["metadata"]["uid"] == token["metadata"]["uid"]
    planes.apply(env.namespace, a_widget("held"))
    until_ready(env.namespace, "held")
    adopted = env.namespace.get("secret", "held-reader")
    assert (adopted["metadata"]["uid"], adopted["data"]) == (token["metadata"]["uid"], token["data"])


@pytest.mark.usefixtures("needed")
def test_children_orphaned_by_a_deletion_are_adopted_by_the_next(env: Environment) -> None:
    planes.apply(env.namespace, a_widget("orphaned"))
    until_ready(env.namespace, "orphaned")
    settings = env.namespace.get("configmap", "orphaned-settings")
    env.namespace.text("delete", WIDGET.resource, "orphaned", "--cascade=orphan", "--wait=false")
    env.until_gone(WIDGET.resource, "orphaned")
    assert env.recorded("orphaned") is None
    left = env.namespace.get("configmap", "orphaned-settings")
    assert left["metadata"]["uid"] == settings["metadata"]["uid"]
    assert "ownerReferences" not in left["metadata"]
    planes.apply(env.namespace, a_widget("orphaned"))
    widget = until_ready(env.namespace, "orphaned")
    adopted = env.namespace.get("configmap", "orphaned-settings")["metadata"]
    assert adopted["uid"] == settings["metadata"]["uid"]
    assert [one["uid"] for one in adopted["ownerReferences"]] == [widget["metadata"]["uid"]]


@pytest.mark.usefixtures("needed")
def test_next_process_releases_what_a_killed_one_has_undone(env: Environment) -> None:
    planes.apply(env.namespace, a_widget("killed"))
    until_ready(env.namespace, "killed")
    env.operator.wait_idle()
    env.proxy.reset()
    env.proxy.at(2, faults.KillBefore(env.operator.kill))
    env.namespace.text("delete", WIDGET.resource, "killed", "--wait=false")
    try:
        wait.until(lambda: not env.operator.alive, "it is killed")
        child, release = env.proxy.writes
        assert (child.verb, child.about.resource, child.about.name) == ("DELETE", "configmaps", "killed-settings")
        assert (release.about.resource, release.about.name, release.forwarded) == (WIDGET.plural, "killed", False)
        assert env.recorded("killed") is None
        assert env.widget("killed")["metadata"]["finalizers"] == [labels.FINALIZER]
    finally:
        env.operator.kill()
        env.operator.release_lease()
        env.operator.start()
    env.until_gone(WIDGET.resource, "killed")
    assert env.operator.leading


def denied(env: Environment, namespace: Namespace, finalizers: list[str], message: str) -> None:
    """Check that the operator's account may not change the widget `last`, not even while it removes its finalizer."""
    changes: list[Object] = [
        {"metadata": {"annotations": {"team.example/note": "x"}}},
        {"metadata": {"finalizers": [one for one in finalizers if one != THEIRS]}},
        {"metadata": {"finalizers": [THEIRS]}, "spec": {"size": 2}},
    ]
    for change in changes:
        code, rejection = env.patch(namespace, "last", change)
        assert (code, message in rejection) == (422, True), rejection


def test_namespace_that_is_deleted_is_not_held_up(env: Environment) -> None:
    """In the second one the RoleBinding is deleted first: the rights that are left are those of the ClusterRole."""
    widget = a_widget("last")
    widget["metadata"]["finalizers"] = [THEIRS]
    for namespace in env.going:
        planes.apply(namespace, *what_it_needs(), widget, a_widget("undone"))
        until_ready(namespace, "last")
        until_ready(namespace, "undone")
        env.record("last.hold", namespace.name).touch()  # nor by what cannot be undone
    env.going[1].text("delete", "rolebinding", installations.NAME)
    names = [one.name for one in env.going]
    env.cluster.kubectl.text("delete", "namespace", *names, "--wait=false")
    for namespace in env.going:
        namespace.until(
            lambda found: [one["metadata"]["finalizers"] for one in found.values()] == [[THEIRS]],
            WIDGET.resource,
            expected="the operator has released it",
        )
        denied(env, namespace, [THEIRS], f"namespace {namespace.name} {api_client.NAMESPACE_DELETING}")
        assert env.recorded("undone", namespace.name) is None, "what can be undone is, without any Role too"
        release(namespace, "last")
    paths = [f"namespace/{name}" for name in names]
    env.cluster.kubectl.text("wait", "--for=delete", *paths, f"--timeout={namespaces.DEADLINE:g}s", deadline=150)


def release(namespace: Namespace, name: str) -> None:
    """Remove all finalizers of a widget."""
    namespace.text("patch", WIDGET.resource, name, "--type=merge", '--patch={"metadata":{"finalizers":null}}')


def test_policy_denies_changes_in_a_namespace_not_its_own(env: Environment) -> None:
    widget = a_widget("last")
    widget["metadata"]["finalizers"] = [labels.FINALIZER, THEIRS]
    env.foreign.apply(widget)
    try:
        elsewhere = f"namespace {env.foreign.name} is not one of the operator's: only the finalizer may be removed"
        denied(env, env.foreign, widget["metadata"]["finalizers"], elsewhere)
        assert env.patch(env.foreign, "last", {"metadata": {"finalizers": [THEIRS]}}) == (200, "")
    finally:
        release(env.foreign, "last")


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """Accepts connections and never answers; yields the port."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as server:
        yield server.getsockname()[1]


def external(port: int) -> Object:
    """A spec of a platform with all servers at this port."""
    where = {"host": "127.0.0.1", "port": port, "tls": "Disabled", "secretName": SECRET}
    servers: Object = {name: {"mode": "External", "external": where} for name in ("postgres", "kafka", "nats", "redis")}
    servers["postgres"] = {"mode": "External", "external": {**where, "database": "none"}}
    return {"dataPlane": servers}


@pytest.mark.usefixtures("needed")
def test_urgent_widget_overtakes_platforms_whose_servers_hang(env: Environment) -> None:
    names = [f"hung-{number}" for number in range(4 * WORKERS)]

    def state() -> tuple[float, float, float]:
        """The normal lane's active workers, the keys that wait for one, and its finished reconciles."""
        seen = env.operator.metrics()
        lane = '{lane="normal"}'
        done = sum(
            value
            for name, value in seen.items()
            if name.startswith(operators.RECONCILES) and 'controller="tradingplatform"' in name
        )
        return seen[f"{operators.ACTIVE_WORKERS}{lane}"], seen[f"aether_operator_workqueue_depth{lane}"], done

    with silent_server() as port:
        try:
            planes.apply(env.namespace, *(planes.a_platform(external(port), name) for name in names))
            wait.until(lambda: state()[0] == WORKERS and state()[1] > WORKERS, "all workers are busy, keys wait")
            _, waiting, before = state()
            planes.apply(env.namespace, a_widget("urgent"))
            until_ready(env.namespace, "urgent")
            _, _, after = state()
            assert after - before < waiting, "it did not wait for those that waited before it"
        finally:
            env.namespace.text("delete", "tp", *names, "--ignore-not-found", "--wait=false")
