"""The command line: its exit codes, its errors, and what it hands on to kubectl."""

from __future__ import annotations

import json
import os
import signal
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
        (["book", "BTC-USD", "--context", "c"], problems.BadInput.exit_code, "pair: 'BTC-USD' is no market"),
        (["book", "BTC/USD"], problems.NotRunning.exit_code, "cluster aether is not running"),
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


@pytest.fixture
def books(tmp_path: Path) -> Path:
    """A program in kubectl's place that lists one pod of ingest, and answers with what is in the file `book`."""
    pod = {
        "metadata": {"namespace": "aether", "name": "paper-ingest-0", "labels": {}}, "status": {"phase": "Running"},
    }  # fmt: skip
    assets = tmp_path / "assets"
    assets.mkdir()
    (assets / "pods").write_text(json.dumps({"items": [pod]}))
    program = assets / "kubectl"
    program.write_text(f'#!/bin/sh\ncd {assets}\ncase "$*" in *--raw*) exec cat book;; *) exec cat pods;; esac\n')
    program.chmod(0o755)
    return assets


def a_book(*, usable: bool) -> str:
    levels = {"bids": [["99.9", "1"]], "asks": [["100.1", "2"]]} if usable else {"reason": "Resyncing"}
    view = {"symbol": "BTC/USD", "usable": usable, "proved": 10, "checksum": 7, "received": "2026-01-01T12:00:00Z"}
    return json.dumps({**view, **levels})


def test_status_shows_how_market_data_flow_and_that_a_pod_is_not_reached_is_a_line(tmp_path: Path) -> None:
    assets, ready = tmp_path / "assets", [{"type": "Ready", "status": "True"}]
    assets.mkdir()
    marks = {"trading.aether.io/platform": "paper", "app.kubernetes.io/component": "ingest"}
    pods = [
        {
            "metadata": {"namespace": "aether", "name": f"paper-ingest-{number}", "labels": marks},
            "status": {"phase": "Running", "conditions": ready},
        }
        for number in (0, 1)
    ]
    (assets / "pods").write_text(json.dumps({"items": pods}))
    (assets / "status").write_text(json.dumps({"feed": {"connected": True, "age_seconds": 0.2}, "books": {}}))
    program = assets / "kubectl"
    program.write_text(
        f"#!/bin/sh\ncd {assets}\n"
        'case "$*" in\n'
        "*ingest-0:8000/proxy/status*) exec cat status;;\n"
        "*--raw*) echo 'Error from server: no route' >&2; exit 1;;\n"
        "*pods*) exec cat pods;;\n*nodes*) echo '{\"items\": []}';;\nesac\n"
    )
    program.chmod(0o755)
    done = aether(tmp_path, "status", "--context", "desk", assets=assets)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Market data paper  namespace aether" in done.stdout
    assert "paper-ingest-0  0.2 s" in done.stdout
    assert "paper-ingest-1: not reached: kubectl ended with 1: Error from server: no route" in done.stdout
    told = json.loads(aether(tmp_path, "status", "--context", "desk", "--json", assets=assets).stdout)["marketData"]
    assert [(one["pod"], "status" in one) for one in told] == [("paper-ingest-0", True), ("paper-ingest-1", False)]


def test_a_book_is_shown_once_where_nobody_watches_a_terminal(tmp_path: Path, books: Path) -> None:
    (books / "book").write_text(a_book(usable=True))
    done = aether(tmp_path, "book", "btc/usd", "--context", "desk", assets=books)
    assert (done.returncode, done.stderr) == (0, "")
    assert "spread 0.2" in done.stdout
    told = aether(tmp_path, "book", "BTC/USD", "--once", "--json", "--context", "desk", assets=books)
    assert json.loads(told.stdout)["asks"] == [["100.1", "2"]]


def test_a_book_that_is_not_usable_is_not_as_it_should_be(tmp_path: Path, books: Path) -> None:
    (books / "book").write_text(a_book(usable=False))
    done = aether(tmp_path, "book", "BTC/USD", "--once", "--context", "desk", assets=books)
    assert (done.returncode, done.stderr) == (problems.NotReady.exit_code, "")
    assert "UNUSABLE Resyncing" in done.stdout


def test_a_book_that_is_watched_goes_on_through_what_passes_and_ends_quietly(tmp_path: Path, books: Path) -> None:
    (books / "book").write_text(a_book(usable=True))
    env = {
        "HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path),
        "KUBEBUILDER_ASSETS": str(books),
    }  # fmt: skip
    # Where the tests run in the background of a shell, Ctrl-C is ignored, and so it would be here.
    python = ["env", "--default-signal=INT", sys.executable]
    command = [*python, "-m", "aether_cli", "book", "BTC/USD", "--json", "--context", "desk"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=tmp_path
    ) as watching:
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())["usable"] is True
        (books / "pods").rename(books / "away")
        (books / "book").rename(books / "gone")
        while json.loads(line := watching.stdout.readline())["usable"]:
            pass
        gone = json.loads(line)
        assert (gone["bids"], gone["asks"]) == ([], [])
        assert gone["reason"]
        (books / "away").rename(books / "pods")
        (books / "gone").rename(books / "book")
        while not json.loads(watching.stdout.readline())["usable"]:
            pass
        watching.send_signal(signal.SIGINT)
        said, errors = watching.communicate(timeout=60)
    assert (watching.returncode, errors) == (0, "")
    assert all(json.loads(line)["symbol"] == "BTC/USD" for line in said.splitlines())


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
