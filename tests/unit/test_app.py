"""The command line: its exit codes, its errors, and what it hands on to kubectl."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aether_cli import problems


@pytest.fixture
def kubectl(tmp_path: Path) -> Path:
    """A program in kubectl's place that prints how it was called; the folder to look it up in."""
    assets = tmp_path / "assets"
    assets.mkdir()
    program = assets / "kubectl"
    program.write_text('#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "$word"; done\n')
    program.chmod(0o755)
    return assets


def aether(home: Path, *words: str, assets: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {"HOME": str(home), "PATH": os.environ["PATH"], "COLUMNS": "120", "PYTHONPATH": os.pathsep.join(sys.path)}
    if assets:
        env["KUBEBUILDER_ASSETS"] = str(assets)
    command = [sys.executable, "-m", "aether_cli", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=env, cwd=home)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["up", "--port", "70000"], 2, "less than or equal to 65535"),
        (["up", "--profile", "large"], 2, "'large' is not one of"),
        (["status", "--name", "Not A Name"], problems.BadInput.exit_code, "name: 'Not A Name' is not a cluster's name"),
        (["status"], problems.NotRunning.exit_code, "cluster aether is not running"),
        (["kubectl", "get", "pods"], problems.NotRunning.exit_code, "cluster aether is not running"),
        (["logs", "etcd"], problems.NotRunning.exit_code, "cluster aether has no logs"),
        (["logs", "--context", "c"], problems.BadInput.exit_code, "what: name a workload"),
    ],
)
def test_what_cannot_be_done_ends_with_its_code_and_says_why(
    tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    done = aether(tmp_path, *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_asking_leaves_no_folder_behind(tmp_path: Path) -> None:
    aether(tmp_path, "status")
    aether(tmp_path, "down")
    assert list(tmp_path.iterdir()) == []


def test_down_without_a_cluster_is_no_error(tmp_path: Path) -> None:
    done = aether(tmp_path, "down", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["stopped"]) == (0, False)


def test_every_word_after_kubectl_s_first_is_kubectl_s(tmp_path: Path, kubectl: Path) -> None:
    words = ["exec", "pod", "--name", "x", "-it", "--", "ls", "-l", "--help"]
    done = aether(tmp_path, "kubectl", "--context", "desk", *words, assets=kubectl)
    assert done.stdout.splitlines() == ["--context=desk", *words]


def test_an_answer_that_is_not_json_is_an_error_and_not_a_traceback(tmp_path: Path, kubectl: Path) -> None:
    done = aether(tmp_path, "status", "--context", "desk", assets=kubectl)
    assert done.returncode == 1
    assert "kubectl get did not answer in JSON" in done.stderr
    assert "Traceback" not in done.stderr


def test_logs_of_a_workload_are_kubectl_s(tmp_path: Path, kubectl: Path) -> None:
    done = aether(tmp_path, "logs", "deploy/web", "--context", "desk", "-f", "--lines", "3", assets=kubectl)
    assert done.stdout.splitlines() == [
        "--context=desk", "logs", "deploy/web", "--namespace=aether", "--tail=3", "--follow",
    ]  # fmt: skip


def test_kubectl_completes_the_plugin_s_words(tmp_path: Path) -> None:
    code = "from aether_cli import __main__; __main__.complete_for_kubectl()"
    done = subprocess.run(
        [sys.executable, "-c", code, "st"],
        capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[0].startswith("status"), done.stdout + done.stderr
    assert lines[-1] == ":4"


def test_it_says_its_version(tmp_path: Path) -> None:
    assert aether(tmp_path, "--version").stdout.startswith("aether 0.")


def test_a_shell_completes_its_words(tmp_path: Path) -> None:
    words = {"_AETHER_COMPLETE": "complete_bash", "COMP_WORDS": "aether st", "COMP_CWORD": "1"}
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], **words}
    script = Path(sys.executable).parent / "aether"
    done = subprocess.run([script], capture_output=True, text=True, check=False, timeout=60, env=env)
    assert done.stdout.split() == ["status"], done.stderr
