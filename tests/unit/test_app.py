"""The programs `aether` and `kubectl aether`: exit codes, errors, selection of the cluster, completion."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from aether_cli import app, problems
from aether_testing.processes import command_line


@pytest.fixture
def books(tmp_path: Path) -> Path:
    """The folder of a fake kubectl."""
    return command_line.kubectl_with_books(tmp_path)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["up", "--port", "70000"], 2, "less than or equal to 65535"),
        (["up", "--profile", "large"], 2, "'large' is not one of"),
        (["status", "--name", "Not A Name"], problems.BadInput.exit_code, "name: 'Not A Name' is not a cluster's name"),
        (["status"], problems.NotRunning.exit_code, "cluster aether is not running"),
        (["kubectl", "get", "pods"], problems.NotRunning.exit_code, "cluster aether is not running"),
        (["logs", "etcd"], problems.NotRunning.exit_code, "cluster aether has no logs"),
        (["logs", "--context", "c"], problems.BadInput.exit_code, "what: a workload is missing"),
        (["book", "BTC-USD", "--context", "c"], problems.BadInput.exit_code, "pair: 'BTC-USD' is not a pair"),
        (["status", "--kubeconfig", "gone"], problems.BadInput.exit_code, "file 'gone' does not exist"),
        (["book", "BTC/USD"], problems.NotRunning.exit_code, "cluster aether is not running"),
    ],
)
def test_failed_command_exits_with_its_code_and_a_cause(
    tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    done = command_line.aether(tmp_path, *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["status"], "Start it: aether up --name other"),
        (["book", "BTC/USD"], "Start it: aether up --name other"),
        (["explain", "tp/paper"], "Start it: aether up --name other"),
        (["kubectl"], "Start it: aether up --name other"),
        (["logs", "etcd"], "Start it: aether up --name other. A pod's log: aether logs pod/etcd --name other"),
        (["logs", "--context", "two words"], "For example: aether logs deploy/web --context 'two words'"),
    ],
)
def test_advice_repeats_the_options_that_select_the_cluster(tmp_path: Path, words: list[str], advice: str) -> None:
    command, *rest = words
    done = command_line.aether(tmp_path, command, "--name", "other", *rest)
    assert done.stderr.splitlines()[1:] == [advice]


def test_stopped_cluster_is_reported_with_the_running_ones(tmp_path: Path) -> None:
    state = tmp_path / ".local/state/aether/clusters/first"
    state.mkdir(parents=True)
    with (state / "holder.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = command_line.aether(tmp_path, "status", "--name", "nosuch")
    assert done.returncode == problems.NotRunning.exit_code
    assert done.stderr.splitlines() == [
        "error: cluster nosuch is not running",
        "Start it: aether up --name nosuch. Clusters that run: first",
    ]


def test_read_only_commands_leave_no_folder_behind(tmp_path: Path) -> None:
    command_line.aether(tmp_path, "status")
    command_line.aether(tmp_path, "down")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["book", "BTC/USD", "--once"], ["explain", "tp/paper"], ["status"]])
def test_kubectl_plugin_uses_the_current_context_and_namespace(tmp_path: Path, books: Path, words: list[str]) -> None:
    (books / "book").write_text(command_line.a_book(usable=True))
    (books / "pods").write_text((books / "pods").read_text().replace('"namespace": "aether"', '"namespace": "live"'))
    if words == ["status"]:
        (books / "book").write_text("{}")
        (books / "pods").write_text(json.dumps({"items": []}))
        (books / "answer-1").write_text(json.dumps(command_line.a_platform("live", "Kraken")))
        (books / "answer-2").write_text(json.dumps({"items": [command_line.a_platform("live", "Kraken")]}))
    done = command_line.aether(tmp_path, *words, assets=books, program="kubectl-aether")
    assert done.stderr.splitlines()[0] == command_line.PROD, done.stderr
    calls = (books / "calls").read_text().splitlines()
    assert calls[0].startswith("config view")
    assert all(line.startswith("--context=prod ") for line in calls[1:])
    namespaces = {word for line in calls[1:] for word in line.split() if word.startswith("--namespace=")}
    assert namespaces <= {"--namespace=live", "--namespace=aether-system"}
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], ["--context", "dev", "-n", "aether"]),
        (["--kubeconfig", "config", "--context=dev", "--namespace=aether"], []),
        (["--context", "prod", "-n", "x"], ["--context", "dev", "-n", "aether"]),
    ],
)
def test_kubectl_options_are_accepted_before_and_after_the_command(
    tmp_path: Path, books: Path, before: list[str], after: list[str]
) -> None:
    (tmp_path / "config").touch()
    (books / "book").write_text(command_line.a_book(usable=True))
    done = command_line.aether(tmp_path, *before, "book", "BTC/USD", *after, assets=books, program="kubectl-aether")
    assert done.stderr.splitlines()[0] == command_line.DEV, done.stderr
    calls = (books / "calls").read_text().splitlines()
    file = "--kubeconfig=config " if "--kubeconfig" in before else ""
    assert all(line.startswith(file) for line in calls)
    assert f"{file}--context=dev get pods --namespace=aether" in "\n".join(calls)


def test_plugin_is_called_kubectl_aether_and_has_no_local_cluster(tmp_path: Path) -> None:
    usage = command_line.aether(tmp_path, "--help", program="kubectl-aether").stdout
    assert "Usage: kubectl aether [OPTIONS]" in usage
    of_status = command_line.aether(tmp_path, "status", "-h", program="kubectl-aether").stdout
    assert "Usage: kubectl aether status" in of_status
    assert "--name " not in of_status


@pytest.mark.parametrize("command", ["up", "down", "build", "kubectl", "logs"])
def test_plugin_rejects_commands_about_this_machine(tmp_path: Path, books: Path, command: str) -> None:
    done = command_line.aether(tmp_path, command, "--purge", "x", assets=books, program="kubectl-aether")
    assert (done.returncode, done.stdout) == (problems.BadInput.exit_code, "")
    assert f"kubectl aether has no command {command}" in done.stderr
    assert not (books / "calls").exists()


def test_aether_without_a_context_reads_no_kubeconfig(tmp_path: Path, books: Path) -> None:
    done = command_line.aether(tmp_path, "book", "BTC/USD", "--once", assets=books)
    assert done.returncode == problems.NotRunning.exit_code
    assert not (books / "calls").exists()


@pytest.mark.parametrize(
    ("config", "context", "message"),
    [
        (
            command_line.CONFIG,
            ["--context", "gone"],
            "context gone: not in the kubeconfig\nContexts: dev, lost, prod",
        ),
        (command_line.CONFIG, ["--context", "lost"], "context lost: its cluster 'three' is not in the kubeconfig"),
        ({**command_line.CONFIG, "current-context": ""}, [], "no current context"),
        ({"contexts": None, "clusters": None}, [], "no current context"),
    ],
)
def test_unknown_context_is_named_and_no_request_is_sent(
    tmp_path: Path, books: Path, config: dict[str, Any], context: list[str], message: str
) -> None:
    (books / "answer-0").write_text(json.dumps(config))
    done = command_line.aether(tmp_path, "book", "BTC/USD", *context, assets=books, program="kubectl-aether")
    assert (done.returncode, done.stdout) == (problems.NotRunning.exit_code, "")
    assert message in done.stderr
    assert len((books / "calls").read_text().splitlines()) == 1


def test_kubectl_completes_the_words_of_the_plugin(tmp_path: Path) -> None:
    assert command_line.aether(tmp_path, "u", program="kubectl_complete-aether").stdout.split() == [":4"]
    done = command_line.aether(tmp_path, "st", program="kubectl_complete-aether")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("status"), done.stdout + done.stderr
    assert lines[-1] == ":4"


def test_version_is_printed(tmp_path: Path) -> None:
    assert command_line.aether(tmp_path, "--version").stdout.startswith("aether 0.")


def test_shell_completes_commands(tmp_path: Path) -> None:
    words = {"_AETHER_COMPLETE": "complete_bash", "COMP_WORDS": "aether st", "COMP_CWORD": "1"}
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], **words}
    script = Path(sys.executable).parent / "aether"
    done = subprocess.run([script], capture_output=True, text=True, check=False, timeout=60, env=env)
    assert done.stdout.split() == ["status"], done.stderr


def test_ctrl_c_during_imports_exits_quietly(tmp_path: Path) -> None:
    code = """
import sys, aether_cli.__main__ as it

class Interrupts:
    def find_spec(self, name, path, target=None):
        if name == "typer":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupts())
it.main()
"""
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, "book", "BTC/USD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=env)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def commands() -> list[tuple[str, list[str]]]:
    """Every command line that prints help: the program, and the words before `--help`."""
    return [
        (program, words)
        for program, group in (("aether", app.app), ("kubectl-aether", app.plugin))
        for words in ([], *([name] for name, one in typer.main.get_group(group).commands.items() if not one.hidden))
        if words != ["kubectl"]  # its --help is kubectl's
    ]


@pytest.mark.parametrize(("program", "words"), commands())
def test_help_at_80_columns_breaks_no_word(tmp_path: Path, program: str, words: list[str]) -> None:
    narrow, wide = (
        command_line.aether(tmp_path, *words, "--help", program=program, terminal=columns).stdout.replace("│", " ")
        for columns in (80, 1000)
    )
    assert max(map(len, narrow.splitlines())) <= 80
    assert set(re.sub("[╭╮╰╯─]", "", wide).split()) <= set(narrow.split())


@pytest.mark.parametrize(
    "words",
    [
        ["status", "--kubeconfig", f"/{'folder/' * 6}file-that-does-not-exist.yaml"],
        ["status", "--name", "a-name-that-is-valid"],
        ["up", "--profile", "a-profile-with-a-name-that-ends-in-the-middle-of-a-line-of-80-columns"],
        ["logs", "paper-ingest-0", "--name", "other", "-n", "a-namespace-with-a-long-name-for-the-line"],
        ["a-command-that-nobody-has-and-that-is-almost-as-long-as-a-whole-line-of-80"],
    ],
)
def test_error_at_80_columns_breaks_no_word(tmp_path: Path, words: list[str]) -> None:
    narrow = command_line.aether(tmp_path, *words, terminal=80)
    assert max(map(len, narrow.stderr.splitlines())) <= 80
    assert narrow.stderr.split() == command_line.aether(tmp_path, *words).stderr.split()
    assert narrow.stderr.startswith("error: ")
    assert narrow.returncode in {problems.BadInput.exit_code, problems.NotRunning.exit_code}
