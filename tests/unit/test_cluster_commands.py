"""The commands that only `aether` has: down, kubectl and logs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from aether_cli import problems
from aether_testing.processes import command_line

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def kubectl(tmp_path: Path) -> Path:
    """The folder of a fake kubectl."""
    return command_line.kubectl_that_prints(tmp_path)


def test_down_without_a_cluster_is_no_error(tmp_path: Path) -> None:
    done = command_line.aether(tmp_path, "down", "--json")
    output = json.loads(done.stdout)
    assert (done.returncode, output["stopped"]) == (0, False)


def test_arguments_after_kubectl_are_passed_on_unchanged(tmp_path: Path, kubectl: Path) -> None:
    words = ["exec", "pod", "--name", "x", "-it", "--", "ls", "-l", "--help"]
    done = command_line.aether_process(tmp_path, "kubectl", "--context", "dev", *words, assets=kubectl)
    assert done.stdout.splitlines() == ["--context=dev", *words]
    assert done.stderr.splitlines() == [command_line.DEV]


@pytest.mark.parametrize(
    ("kinds", "message"),
    [({"kind": "APIResourceList"}, "venue not known"), ("Error from server (NotFound): no such group", "no platform")],
)
def test_kubectl_still_runs_where_the_venue_is_unknown(tmp_path: Path, kinds: Any, message: str) -> None:
    forbidden = 'Error from server (Forbidden): tradingplatforms is forbidden: User "v" cannot list'
    answers = {"get tradingplatforms": forbidden, "/apis/trading.aether.io/v1alpha1": kinds}
    assets = command_line.a_kubectl(tmp_path, answers, 'echo "$*"')
    done = command_line.aether_process(tmp_path, "kubectl", "--context", "dev", "get", "pods", assets=assets)
    assert done.stdout.splitlines() == ["--context=dev get pods"]
    assert done.stderr.splitlines() == [f"Context dev  {command_line.SERVER}  {message}"]


def test_workload_logs_are_read_by_kubectl(tmp_path: Path, kubectl: Path) -> None:
    done = command_line.aether_process(
        tmp_path, "logs", "deploy/web", "--context", "dev", "-f", "--lines", "3", assets=kubectl
    )
    assert done.stdout.splitlines() == [
        "--context=dev", "logs", "deploy/web", "--namespace=aether", "--tail=3", "--follow",
    ]  # fmt: skip
    assert done.stderr.splitlines() == [command_line.DEV]


def test_log_of_a_pod_without_its_kind_suggests_the_kind(tmp_path: Path) -> None:
    logs = tmp_path / ".local/state/aether/clusters/other/logs"
    logs.mkdir(parents=True)
    (logs / "etcd.log").touch()
    done = command_line.aether(tmp_path, "logs", "paper-ingest-0", "--name", "other", "-n", "live")
    assert (done.returncode, done.stdout) == (problems.BadInput.exit_code, "")
    assert done.stderr.splitlines() == [
        "error: what: no component 'paper-ingest-0'",
        "Components: etcd. A pod's log: aether logs pod/paper-ingest-0 -n live --name other",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["get", "pods", "--kubeconfig", "/other"], "--kubeconfig"),
        (["get", "pods", "--context=prod"], "--context"),
        (["get", "pods", "--cluster=two"], "--cluster"),
        (["-s", "https://10.9.9.9:6443", "get", "pods"], "--server"),
        (["get", "pods", "-shttps://10.9.9.9:6443"], "--server"),
    ],
)
def test_kubectl_arguments_cannot_select_a_cluster_other_than_printed(
    tmp_path: Path, kubectl: Path, words: list[str], message: str
) -> None:
    done = command_line.aether(tmp_path, "kubectl", "--context", "dev", *words, assets=kubectl)
    assert (done.returncode, done.stdout) == (problems.BadInput.exit_code, "")
    assert f"error: {message}: kubectl would talk to another cluster" in done.stderr
    assert "aether kubectl --context NAME" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["exec", "pod", "--", "client", "--server", "x", "--context=y"],
        ["config", "set-cluster", "one", "--server=https://10.9.9.9:6443"],
        ["get", "pods", "--server-print=false"],
    ],
)
def test_arguments_that_select_no_cluster_are_kubectls(tmp_path: Path, kubectl: Path, words: list[str]) -> None:
    done = command_line.aether_process(tmp_path, "kubectl", "--context", "dev", *words, assets=kubectl)
    assert done.stdout.splitlines() == ["--context=dev", *words]


@pytest.mark.parametrize(
    ("words", "namespace"),
    [
        (["get", "pods", "-n", "live"], "live"),
        (["get", "pods", "--namespace=live"], "live"),
        (["-nlive", "get", "pods"], "live"),
        (["exec", "-n", "live", "pod", "--", "head", "-n", "1"], "live"),
        (["get", "pods"], "aether"),
    ],
)
def test_user_limited_to_one_namespace_sees_its_venue(tmp_path: Path, words: list[str], namespace: str) -> None:
    forbidden = 'Error from server (Forbidden): tradingplatforms is forbidden: User "v" cannot list'
    answers = {
        "--all-namespaces": forbidden,
        "get tradingplatforms.trading.aether.io --namespace=live": {
            "items": [command_line.a_platform("live", "Kraken")]
        },
        "get tradingplatforms.trading.aether.io --namespace=aether": {"items": [command_line.a_platform()]},
        "/apis/": {"kind": "APIResourceList"},
    }
    assets = command_line.a_kubectl(tmp_path, answers, 'echo "$*"')
    done = command_line.aether_process(tmp_path, "kubectl", "--context", "dev", *words, assets=assets)
    venue = {"live": "venue Kraken, feed Live", "aether": "venue Simulated, feed Synthetic"}[namespace]
    message = f"Context dev  {command_line.SERVER}  namespace {namespace}: {venue}"
    assert (done.returncode, done.stderr.splitlines()) == (0, [message])
