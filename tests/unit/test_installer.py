"""Installing: the chart's values, Helm's command line, and waiting for a platform."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aether_cli import installer, kubectl_client, problems, progress
from aether_testing.values.progress_recorder import ProgressRecorder

Object = dict[str, Any]


def a_platform(ready: str = "True", *, stalled: str = "False", generation: int = 3, observed: int = 3) -> Object:
    return {
        "kind": "TradingPlatform",
        "metadata": {"name": "paper", "namespace": "aether", "generation": generation},
        "status": {
            "observedGeneration": observed,
            "message": "postgres: waits for its pod",
            "conditions": [
                {"type": "Ready", "status": ready},
                {"type": "Stalled", "status": stalled},
                {"type": "PostgresReady", "status": ready},
                {"type": "KafkaReady", "status": "True"},
            ],
        },
    }


def a_cluster(tmp_path: Path, *answers: Object) -> kubectl_client.Kubectl:
    """A fake kubectl that prints these objects, one a call, and then the last one for ever."""
    for number, answer in enumerate(answers):
        (tmp_path / f"{number}.json").write_text(json.dumps(answer))
    program = tmp_path / "kubectl"
    program.write_text(
        "#!/bin/sh\n"
        f"cd {tmp_path}\n"
        'echo "$@" >> calls\n'
        'case "$*" in *--watch*) exit 0;; *statefulsets*) echo \'{"items": []}\'; exit 0;; esac\n'
        "number=$(cat next 2>/dev/null || echo 0)\n"
        "echo $((number + 1)) > next\n"
        f"[ -f $number.json ] || number={len(answers) - 1}\n"
        "cat $number.json\n"
    )
    program.chmod(0o755)
    return kubectl_client.Kubectl(program=program)


def test_the_images_of_the_node_are_the_chart_s_values() -> None:
    known = ("operator", "service", *installer.SERVERS, "pause")
    images = {name: f"localhost/aether/{name}:0123456789ab" for name in known}
    values = installer.values(images)
    assert values["image"] == {
        "repository": "localhost/aether/operator",
        "tag": "0123456789ab",
        "pullPolicy": "Never",
    }
    assert values["dataPlaneImages"] == {
        name: f"localhost/aether/{name}:0123456789ab" for name in ("kafka", "nats", "postgres", "redis")
    }
    assert values["serviceImage"] == "localhost/aether/service:0123456789ab"


def test_helm_uses_the_cluster_of_kubectl() -> None:
    local = kubectl_client.Kubectl(
        program="kubectl", kubeconfig=Path("/state/kubeconfig"), cache=Path("/state/kubectl")
    )
    theirs = kubectl_client.Kubectl(program="kubectl", context="dev")
    assert installer.Helm(program=Path("/bin/helm"), kubectl=local).command("list") == [
        "/bin/helm", "list", "--kubeconfig=/state/kubeconfig",
    ]  # fmt: skip
    assert installer.Helm(program=Path("/bin/helm"), kubectl=theirs).command("list") == [
        "/bin/helm", "list", "--kube-context=dev",
    ]  # fmt: skip


def test_status_of_an_older_generation_is_ignored() -> None:
    status = installer.platform_status(a_platform(generation=4, observed=3))
    assert (status.ready, status.stalled, status.message) == ("Unknown", False, "not reconciled yet")


def test_unreconciled_platform_is_not_ready() -> None:
    untouched = {**a_platform(), "status": {"observedGeneration": -1}}
    assert installer.platform_status(untouched).ready == "Unknown"


def test_up_waits_until_the_platform_is_ready_and_shows_why(tmp_path: Path) -> None:
    recorder = ProgressRecorder()
    kubectl = a_cluster(tmp_path, {"items": [a_platform("False")]}, {"items": [a_platform("True")]})
    ready = installer.wait_until_ready(kubectl, "aether", "paper", recorder)
    assert ready.ready == "True"
    assert recorder.lines[0] == "platform paper"
    assert "1/3 postgres: waits for its pod" in recorder.lines
    assert "--field-selector=metadata.name=paper" in (tmp_path / "calls").read_text()


def test_platform_that_only_an_edit_can_fix_is_not_awaited(tmp_path: Path) -> None:
    kubectl = a_cluster(tmp_path, {"items": [a_platform("False", stalled="True")]})
    with pytest.raises(problems.NotReady, match="TradingPlatform aether/paper is Ready: postgres: waits") as fault:
        installer.wait_until_ready(kubectl, "aether", "paper", progress.SilentReporter(), options=("--name", "x"))
    assert fault.value.remedy == "aether explain tp/paper -n aether --name x"


def test_the_platforms_of_an_example_are_those_that_it_applies(tmp_path: Path) -> None:
    secret = {"kind": "Secret", "metadata": {"name": "x", "namespace": "aether"}}
    several = a_cluster(tmp_path, {"kind": "List", "items": [secret, a_platform()]})
    assert installer.apply_manifests(several, tmp_path) == [("aether", "paper")]


def test_an_example_of_one_object_is_one_platform(tmp_path: Path) -> None:
    assert installer.apply_manifests(a_cluster(tmp_path, a_platform()), tmp_path) == [("aether", "paper")]


def test_outdated_helm_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "helm"
    old.write_text("#!/bin/sh\nprintf v3.22.0\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(problems.NotPossibleHere, match=r"helm: v3\.22\.0 found, version 4 is required"):
        installer.helm(kubectl_client.Kubectl(program="kubectl"), tmp_path / "no-cache", {})


def test_missing_helm_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(problems.NotPossibleHere, match="helm: not found"):
        installer.helm(kubectl_client.Kubectl(program="kubectl"), tmp_path / "no-cache", {})


def a_kubectl(tmp_path: Path, *, failures: int, cause: str, cache: Path | None) -> kubectl_client.Kubectl:
    """A fake kubectl that fails so many times for each different command line."""
    program = tmp_path / "kubectl"
    program.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {tmp_path}/calls\n'
        f'[ $(grep -cxF -- "$*" {tmp_path}/calls) -gt {failures} ] || {{ echo "error: {cause}" >&2; exit 1; }}\n'
    )
    program.chmod(0o755)
    return kubectl_client.Kubectl(program=program, cache=cache)


@pytest.mark.parametrize("used", [True, False])
def test_each_discovery_cache_is_refreshed_until_the_kinds_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, used: bool
) -> None:
    monkeypatch.setattr(installer, "DISCOVERY_POLL", 0)
    monkeypatch.setenv("KUBECACHEDIR", str(tmp_path / "own"))
    if used:
        (tmp_path / "own" / "discovery").mkdir(parents=True)
    unknown = "the server doesn't have a resource type" + ' \\"aether\\"'
    installer.wait_for_discovery(a_kubectl(tmp_path, failures=2, cause=unknown, cache=tmp_path / "ours"))
    words = "get aether --namespace=aether --output=name"
    calls = [f"--cache-dir={tmp_path / 'ours'} {words}"] * 3 + [words] * (3 if used else 0)
    assert (tmp_path / "calls").read_text().splitlines() == calls


def test_kinds_rejected_for_another_reason_are_not_awaited(tmp_path: Path) -> None:
    kubectl = a_kubectl(tmp_path, failures=1, cause="you may not (Forbidden)", cache=None)
    with pytest.raises(kubectl_client.Forbidden):
        installer.wait_for_discovery(kubectl)
