"""`--context` and `kubectl aether`: the commands on an existing cluster, with the user's own rights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from aether_cli import problems
from aether_testing import wait
from aether_testing.cluster import charts, namespaces
from aether_testing.processes import installations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aether_cli.local.startup import Cluster
    from aether_testing.cluster.namespaces import Namespace

PLUGIN = "from aether_cli import __main__; __main__.main_of_plugin()"


def asked(kubeconfig: Path, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command with this kubeconfig and without a local cluster."""
    env = {**os.environ, "KUBECONFIG": str(kubeconfig), "XDG_STATE_HOME": str(home), "COLUMNS": "80"}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, timeout=60, env=env)


def aether(cluster: Cluster, home: Path, *words: str, context: str = "") -> subprocess.CompletedProcess[str]:
    named = ("--context", context or f"aether-{cluster.name}")
    return asked(cluster.kubeconfig, home, "-m", "aether_cli", *words, *named)


def heading(cluster: Cluster, context: str = "") -> str:
    return f"Context {context or f'aether-{cluster.name}'}  {cluster.server}"


def test_status_shows_its_nodes_and_pods(control_plane: Cluster, tmp_path: Path) -> None:
    installations.install_crds(control_plane)
    control_plane.kubectl.until(
        lambda seen: not seen,
        "tradingplatforms",
        "--all-namespaces",
        deadline=namespaces.DEADLINE,
        expected="the platforms of other tests are deleted with their namespaces",
    )
    done = aether(control_plane, tmp_path, "status")
    assert (done.returncode, done.stderr) == (0, f"{heading(control_plane)}  no platform\n")
    assert "node kwok: Ready" in done.stdout


def test_unknown_context_is_named(control_plane: Cluster, tmp_path: Path) -> None:
    done = aether(control_plane, tmp_path, "status", context="nowhere")
    assert (done.returncode, done.stdout) == (problems.NotRunning.exit_code, "")
    assert f"context nowhere: not in the kubeconfig\nContexts: aether-{control_plane.name}" in done.stderr


def test_unreachable_cluster_is_named(control_plane: Cluster, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(control_plane.kubeconfig.read_text().replace(control_plane.server, "https://127.0.0.1:1"))
    done = asked(config, tmp_path, "-c", PLUGIN, "book", "BTC/USD")
    assert (done.returncode, done.stdout) == (problems.NotRunning.exit_code, "")
    assert f"Context aether-{control_plane.name}  https://127.0.0.1:1: kubectl ended with 1: The conn" in done.stderr


# ---- with a viewer's rights


@pytest.fixture
def viewed(control_plane: Cluster, namespace: Namespace) -> Iterator[Namespace]:
    """A namespace with a Ready platform, one pod of it, and a foreign pod that never runs."""
    installations.install_crds(control_plane)
    (viewers,) = [one for one in charts.rendered(namespace=namespace.name) if one["kind"] == "ClusterRole"]
    control_plane.kubectl.apply(viewers)
    marks = {
        "app.kubernetes.io/managed-by": "aether-operator", "trading.aether.io/platform": "paper",
        "app.kubernetes.io/component": "ingest",
    }  # fmt: skip
    namespace.apply(a_pod("paper-ingest-0", marks), a_pod("stranger", {}, nodeSelector={"no": "such"}))
    namespace.apply(
        {
            "apiVersion": "trading.aether.io/v1alpha1", "kind": "TradingPlatform", "metadata": {"name": "paper"},
            "spec": {},
        },
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "viewer"}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "viewer"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "ServiceAccount", "name": "viewer", "namespace": namespace.name}],
        },
    )  # fmt: skip
    now = "2026-01-01T00:00:00Z"
    ready = {"type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": now}
    body = {"status": {"observedGeneration": 1, "conditions": [ready]}}
    namespace.text("patch", "tp", "paper", "--subresource=status", "--type=merge", f"--patch={json.dumps(body)}")
    namespace.until(
        lambda seen: any(name.endswith("/paper-ingest-0") and is_ready(pod) for name, pod in seen.items()),
        "pods",
        expected="the platform's pod is Ready",
    )
    yield namespace
    control_plane.kubectl.text("delete", "clusterrole", viewers["metadata"]["name"])


def a_pod(name: str, marks: dict[str, str], **spec: Any) -> dict[str, Any]:
    closed = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    within = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    container = {"name": "c", "image": "none", "securityContext": closed}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": marks},
        "spec": {"containers": [container], "securityContext": within, **spec},
    }  # fmt: skip


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any((one["type"], one["status"]) == ("Ready", "True") for one in conditions)


@pytest.fixture
def viewer(control_plane: Cluster, viewed: Namespace, tmp_path: Path) -> Path:
    """A kubeconfig of a user bound to the role `view` in the namespace only."""
    config = json.loads(control_plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": viewed.text("create", "token", "viewer").strip()}
    config["contexts"][0]["name"] = config["current-context"] = "viewing"
    config["contexts"][0]["context"]["namespace"] = viewed.name
    path = tmp_path / "viewer"
    path.write_text(json.dumps(config))
    path.chmod(0o600)

    def may() -> bool:
        account = f"--as=system:serviceaccount:{viewed.name}:viewer"
        return viewed.text("auth", "can-i", "list", "tradingplatforms.trading.aether.io", account).strip() == "yes"

    def aggregated() -> bool:
        try:
            return may()
        except problems.ProgramFailed:  # `auth can-i` exits with 1 for no
            return False

    wait.until(aggregated, "the controller has put our kinds into the role view")
    return path


def test_namespaced_view_role_is_enough_for_status(
    control_plane: Cluster, viewed: Namespace, viewer: Path, tmp_path: Path
) -> None:
    commands = (["-m", "aether_cli", "status", "--context", "viewing"], ["-c", PLUGIN, "status"])
    for done in [asked(viewer, tmp_path, *command) for command in commands]:
        whose = f"{heading(control_plane, 'viewing')}  venue Simulated, feed Synthetic"
        assert (done.returncode, done.stderr.splitlines()) == (0, [whose]), done.stdout
        first, *rest = done.stdout.splitlines()
        assert first == f"  Aether's pods in namespace {viewed.name}, and the operator's: 1 of 1 healthy"
        assert "stranger" not in done.stdout
        assert rest[-1].startswith("Not shown: forbidden to you  ")
        for hidden in (
            "nodes", "deployments in namespace aether-system", f"pods/proxy in namespace {viewed.name}",
        ):  # fmt: skip
            assert hidden in rest[-1]
    status = json.loads(asked(viewer, tmp_path, "-c", PLUGIN, "status", "--json").stdout)
    assert [one["name"] for one in status["pods"]] == ["paper-ingest-0"]
    assert {"resource": "nodes", "namespace": ""} in status["forbidden"]


def test_viewer_can_use_explain(control_plane: Cluster, viewer: Path, tmp_path: Path) -> None:
    done = asked(viewer, tmp_path, "-c", PLUGIN, "explain", "tp/paper")
    assert done.returncode == 0
    assert [line.startswith(heading(control_plane, "viewing")) for line in done.stderr.splitlines()] == [True]
    assert "is Ready." in done.stdout


def test_forbidden_read_names_the_permission_it_needs(
    control_plane: Cluster, viewed: Namespace, viewer: Path, tmp_path: Path
) -> None:
    book = asked(viewer, tmp_path, "-c", PLUGIN, "book", "BTC/USD", "--once")
    assert (book.returncode, book.stdout) == (problems.ProgramFailed.exit_code, "")
    assert f"It needs the verb get on pods/proxy in namespace {viewed.name}." in book.stderr
    for words in (["-A"], ["-n", "kube-system"]):
        done = asked(viewer, tmp_path, "-c", PLUGIN, "status", *words)
        assert (done.returncode, done.stdout) == (problems.ProgramFailed.exit_code, "")
        assert f"{heading(control_plane, 'viewing')}: you may not list tradingplatforms in " in done.stderr
