"""The command line: its exit codes, its errors, and what it hands on to kubectl."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from aether_cli import app, asking, problems, targets
from aether_cli.local import inspecting

SERVER: Final = "https://10.1.2.3:6443"
CONFIG: Final = {
    "current-context": "prod",
    "contexts": [
        {"name": "desk", "context": {"cluster": "one", "user": "u"}},
        {"name": "prod", "context": {"cluster": "two", "user": "u", "namespace": "live"}},
        {"name": "lost", "context": {"cluster": "three", "user": "u"}},
    ],
    "clusters": [
        {"name": "one", "cluster": {"server": SERVER}},
        {"name": "two", "cluster": {"server": "https://me:secret@10.9.9.9:6443"}},
    ],
}
DESK: Final = f"Context desk  {SERVER}  venue Simulated, feed Synthetic"
PROD: Final = "Context prod  https://10.9.9.9:6443  venue Kraken, feed Live"
Thing = dict[str, Any]


def a_platform(namespace: str = "aether", venue: str = "Simulated", **status: Any) -> Thing:
    meta = {"namespace": namespace, "name": "paper", "uid": "0-1", "generation": 2}
    ready = {"type": "Ready", "status": "True", "reason": "Ready"}
    told = {"observedGeneration": 2, "conditions": [ready], **status}
    return {"kind": "TradingPlatform", "metadata": meta, "spec": {"venue": {"name": venue}}, "status": told}


def a_kubectl(folder: Path, answers: dict[str, Any], otherwise: str = "cat empty") -> Path:
    """A program in kubectl's place; the folder to look it up in.

    Args:
        folder: Where it is made.
        answers: What a command line has in it → the JSON that is the answer, or the error where it is a text.
        otherwise: What it does with every other command line.
    """
    assets = folder / "assets"
    assets.mkdir()
    (assets / "empty").write_text('{"items": []}')
    cases = []
    for number, (words, answer) in enumerate({"config view": CONFIG, **answers}.items()):
        (assets / f"answer-{number}").write_text(answer if isinstance(answer, str) else json.dumps(answer))
        ending = ">&2; exit 1" if isinstance(answer, str) else "; exit 0"
        cases.append(f'*"{words}"*) cat {assets}/answer-{number} {ending};;\n')
    program = assets / "kubectl"
    program.write_text(f'#!/bin/sh\ncd {assets}\necho "$*" >> asked\ncase "$*" in\n{"".join(cases)}esac\n{otherwise}\n')
    program.chmod(0o755)
    return assets


@pytest.fixture
def kubectl(tmp_path: Path) -> Path:
    """A program in kubectl's place that prints how it was called; the folder to look it up in."""
    return a_kubectl(
        tmp_path,
        {"get tradingplatforms": {"items": [a_platform()]}},
        'for word in "$@"; do printf "%s\\n" "$word"; done',
    )


PROGRAMS: Final = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["scripts"]


def aether(
    home: Path, *words: str, assets: Path | None = None, program: str = "aether"
) -> subprocess.CompletedProcess[str]:
    env = {"HOME": str(home), "PATH": os.environ["PATH"], "COLUMNS": "120", "PYTHONPATH": os.pathsep.join(sys.path)}
    if assets:
        env["KUBEBUILDER_ASSETS"] = str(assets)
    module, _, function = PROGRAMS[program].partition(":")
    command = [sys.executable, "-c", f"import {module} as it; it.{function}()", *words]
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
    assert done.stderr.splitlines() == [DESK]


def test_an_answer_that_is_not_json_is_an_error_and_not_a_traceback(tmp_path: Path, kubectl: Path) -> None:
    done = aether(tmp_path, "status", "--context", "desk", assets=kubectl)
    assert done.returncode == 1
    assert f"error: Context desk  {SERVER}: kubectl get did not answer in JSON" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def books(tmp_path: Path) -> Path:
    """A program in kubectl's place that lists one pod of ingest, and answers with what is in the file `book`."""
    pod = {
        "metadata": {"namespace": "aether", "name": "paper-ingest-0", "labels": {}}, "status": {"phase": "Running"},
    }  # fmt: skip
    answers = {
        "tradingplatforms.trading.aether.io paper --namespace=live": a_platform("live", "Kraken"),
        "get tradingplatforms": a_platform(),
    }
    assets = a_kubectl(tmp_path, answers, 'case "$*" in *--raw*) exec cat book;; *) exec cat pods;; esac')
    (assets / "pods").write_text(json.dumps({"items": [pod]}))
    return assets


def a_book(*, usable: bool) -> str:
    levels = {"bids": [["99.9", "1"]], "asks": [["100.1", "2"]]} if usable else {"reason": "Resyncing"}
    view = {"symbol": "BTC/USD", "usable": usable, "proved": 10, "checksum": 7, "received": "2026-01-01T12:00:00Z"}
    return json.dumps({**view, **levels})


def test_status_shows_how_market_data_flow_and_that_a_pod_is_not_reached_is_a_line(tmp_path: Path) -> None:
    ready = [{"type": "Ready", "status": "True"}]
    marks = {"trading.aether.io/platform": "paper", "app.kubernetes.io/component": "ingest"}
    pods = [
        {
            "metadata": {"namespace": "aether", "name": f"paper-ingest-{number}", "labels": marks},
            "status": {"phase": "Running", "conditions": ready},
        }
        for number in (0, 1)
    ]
    assets = a_kubectl(
        tmp_path,
        {
            "ingest-0:8000/proxy/status": {"feed": {"connected": True, "age_seconds": 0.2}, "books": {}},
            "ingest-1:8000/proxy/status": "Error from server: no route",
            "get pods --namespace=aether --selector=trading.aether.io/platform": {"items": pods},
        },
    )
    done = aether(tmp_path, "status", "--context", "desk", assets=assets)
    assert (done.returncode, done.stderr.splitlines()) == (0, [f"Context desk  {SERVER}  no platform"])
    assert "Market data paper  namespace aether" in done.stdout
    assert "paper-ingest-0  0.2 s" in done.stdout
    assert "paper-ingest-1: not reached: kubectl ended with 1: Error from server: no route" in done.stdout
    told = json.loads(aether(tmp_path, "status", "--context", "desk", "--json", assets=assets).stdout)["marketData"]
    assert [(one["pod"], "status" in one) for one in told] == [("paper-ingest-0", True), ("paper-ingest-1", False)]


def test_a_book_is_shown_once_where_nobody_watches_a_terminal(tmp_path: Path, books: Path) -> None:
    (books / "book").write_text(a_book(usable=True))
    done = aether(tmp_path, "book", "btc/usd", "--context", "desk", assets=books)
    assert (done.returncode, done.stderr.splitlines()) == (0, [DESK])
    assert "spread 0.2" in done.stdout
    told = aether(tmp_path, "book", "BTC/USD", "--once", "--json", "--context", "desk", assets=books)
    said = json.loads(told.stdout)
    assert said["asks"] == [["100.1", "2"]]
    assert list(said)[:2] == ["cluster", "venue"]
    assert said["cluster"] == {"context": "desk", "server": SERVER}
    assert said["venue"] == {"name": "Simulated", "feed": "Synthetic"}


def test_in_a_terminal_the_cluster_and_the_venue_come_first(tmp_path: Path, books: Path) -> None:
    (books / "book").write_text(a_book(usable=True))
    theirs, ours = os.openpty()
    command = [sys.executable, "-m", "aether_cli", "book", "BTC/USD", "--once", "--context", "desk"]
    env = {**os.environ, "HOME": str(tmp_path), "KUBEBUILDER_ASSETS": str(books), "TERM": "dumb"}
    done = subprocess.run(command, stdout=ours, stderr=subprocess.PIPE, check=True, timeout=60, env=env)
    os.close(ours)
    with os.fdopen(theirs, "rb", buffering=0) as screen:
        shown = screen.read(65536)
    assert (done.stderr, shown.decode().splitlines()[0]) == (b"", DESK)


def test_a_book_that_is_not_usable_is_not_as_it_should_be(tmp_path: Path, books: Path) -> None:
    (books / "book").write_text(a_book(usable=False))
    done = aether(tmp_path, "book", "BTC/USD", "--once", "--context", "desk", assets=books)
    assert (done.returncode, done.stderr.splitlines()) == (problems.NotReady.exit_code, [DESK])
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
    assert all(json.loads(line)["venue"]["name"] == "Simulated" for line in said.splitlines())


@pytest.mark.parametrize("words", [["book", "BTC/USD", "--once"], ["explain", "tp/paper"], ["status"]])
def test_kubectl_s_plugin_asks_the_current_context_and_its_namespace(
    tmp_path: Path, books: Path, words: list[str]
) -> None:
    (books / "book").write_text(a_book(usable=True))
    (books / "pods").write_text((books / "pods").read_text().replace('"namespace": "aether"', '"namespace": "live"'))
    if words == ["status"]:
        (books / "book").write_text("{}")
        (books / "pods").write_text(json.dumps({"items": []}))
        (books / "answer-1").write_text(json.dumps(a_platform("live", "Kraken")))
        (books / "answer-2").write_text(json.dumps({"items": [a_platform("live", "Kraken")]}))
    done = aether(tmp_path, *words, assets=books, program="kubectl-aether")
    assert done.stderr.splitlines()[0] == PROD, done.stderr
    asked = (books / "asked").read_text().splitlines()
    assert asked[0].startswith("config view")
    assert all(line.startswith("--context=prod ") for line in asked[1:])
    namespaces = {word for line in asked[1:] for word in line.split() if word.startswith("--namespace=")}
    assert namespaces <= {"--namespace=live", "--namespace=aether-system"}
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], ["--context", "desk", "-n", "aether"]),
        (["--kubeconfig", "/some/file", "--context=desk", "--namespace=aether"], []),
        (["--context", "prod", "-n", "x"], ["--context", "desk", "-n", "aether"]),
    ],
)
def test_kubectl_s_options_are_taken_on_either_side_of_the_command(
    tmp_path: Path, books: Path, before: list[str], after: list[str]
) -> None:
    (books / "book").write_text(a_book(usable=True))
    done = aether(tmp_path, *before, "book", "BTC/USD", *after, assets=books, program="kubectl-aether")
    assert done.stderr.splitlines()[0] == DESK, done.stderr
    asked = (books / "asked").read_text().splitlines()
    file = "--kubeconfig=/some/file " if "--kubeconfig" in before else ""
    assert all(line.startswith(file) for line in asked)
    assert f"{file}--context=desk get pods --namespace=aether" in "\n".join(asked)


def test_the_plugin_says_kubectl_aether_and_knows_no_local_cluster(tmp_path: Path) -> None:
    usage = aether(tmp_path, "--help", program="kubectl-aether").stdout
    assert "Usage: kubectl aether [OPTIONS]" in usage
    of_status = aether(tmp_path, "status", "-h", program="kubectl-aether").stdout
    assert "Usage: kubectl aether status" in of_status
    assert "--name " not in of_status


@pytest.mark.parametrize("command", ["up", "down", "build", "kubectl", "logs"])
def test_the_plugin_refuses_what_is_about_this_machine(tmp_path: Path, books: Path, command: str) -> None:
    done = aether(tmp_path, command, "--purge", "x", assets=books, program="kubectl-aether")
    assert (done.returncode, done.stdout) == (problems.BadInput.exit_code, "")
    assert f"kubectl aether has no command {command}" in done.stderr
    assert not (books / "asked").exists()


def test_aether_without_a_context_asks_no_kubeconfig(tmp_path: Path, books: Path) -> None:
    done = aether(tmp_path, "book", "BTC/USD", "--once", assets=books)
    assert done.returncode == problems.NotRunning.exit_code
    assert not (books / "asked").exists()


@pytest.mark.parametrize(
    ("config", "context", "said"),
    [
        (CONFIG, ["--context", "gone"], "context gone: not in the kubeconfig\nThere are: desk, lost, prod"),
        (CONFIG, ["--context", "lost"], "context lost: its cluster 'three' is not in the kubeconfig"),
        ({**CONFIG, "current-context": ""}, [], "no current context"),
        ({"contexts": None, "clusters": None}, [], "no current context"),
    ],
)
def test_a_context_that_is_not_there_is_named_and_nothing_is_asked(
    tmp_path: Path, books: Path, config: Thing, context: list[str], said: str
) -> None:
    (books / "answer-0").write_text(json.dumps(config))
    done = aether(tmp_path, "book", "BTC/USD", *context, assets=books, program="kubectl-aether")
    assert (done.returncode, done.stdout) == (problems.NotRunning.exit_code, "")
    assert said in done.stderr
    assert len((books / "asked").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "refusal", "code"),
    [
        (["book", "BTC/USD"], "Unable to connect to the server: dial tcp: no such host", 4),
        (["explain", "tp/paper"], "The connection to the server 10.1.2.3:6443 was refused", 4),
        (["status"], "error: You must be logged in to the server (Unauthorized)", 1),
        (["status", "--json"], "Unable to connect to the server: dial tcp: i/o timeout", 4),
    ],
)
def test_a_cluster_that_does_not_answer_is_named(tmp_path: Path, words: list[str], refusal: str, code: int) -> None:
    assets = a_kubectl(tmp_path, {" get ": refusal})
    done = aether(tmp_path, *words, "--context", "desk", assets=assets)
    assert (done.returncode, done.stdout) == (code, "")
    assert f"error: Context desk  {SERVER}: kubectl ended with 1: {refusal}" in done.stderr


def test_an_edit_that_no_operator_has_seen_is_not_shown_as_ready(tmp_path: Path) -> None:
    edited = a_platform(observedGeneration=1)
    answers = {"paper --namespace": edited, "get tradingplatforms": {"items": [edited]}}
    assets = a_kubectl(tmp_path, answers)
    for words in (["status"], ["explain", "tp/paper"]):
        done = aether(tmp_path, *words, "--context", "desk", assets=assets)
        assert done.returncode == problems.NotReady.exit_code
        assert "ot yet reconciled" in done.stdout
        assert "generation 2; what follows is of 1" in done.stdout
        assert "True Ready" not in done.stdout
    (told,) = json.loads(aether(tmp_path, "status", "--context", "desk", "--json", assets=assets).stdout)["platforms"]
    assert (told["generation"], told["reconciled"]) == (2, False)


def test_platforms_of_several_venues_are_told_apart_in_the_first_line(tmp_path: Path) -> None:
    two = [a_platform(), a_platform("live", "Kraken")]
    assets = a_kubectl(tmp_path, {"get tradingplatforms": {"items": two}})
    done = aether(tmp_path, "status", "-A", "--context", "desk", assets=assets)
    assert done.stderr.splitlines()[0] == (
        f"Context desk  {SERVER}  aether/paper: venue Simulated, feed Synthetic; live/paper: venue Kraken, feed Live"
    )


def test_status_of_a_namespace_without_a_platform_says_where_to_look(tmp_path: Path) -> None:
    done = aether(tmp_path, "status", assets=a_kubectl(tmp_path, {}), program="kubectl-aether")
    assert (done.returncode, done.stderr.splitlines()[0]) == (0, "Context prod  https://10.9.9.9:6443  no platform")
    assert "No TradingPlatform is there: kubectl aether status -A --context prod shows all namespaces" in done.stdout
    assert "Aether's pods in namespace live, and the operator's: 0 of 0 well" in done.stdout


def test_status_without_an_answer_does_not_say_that_there_is_no_platform(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refuses = asking.Kubectl(program=a_kubectl(tmp_path, {}, "exit 1") / "kubectl")
    target = targets.Target(
        kubectl=refuses, name="aether", server=SERVER, namespace="aether", local=True, command="aether"
    )
    local = inspecting.LocalState(
        name="aether", running=True, profile="node", server=SERVER, kubeconfig="", egress=False, uptime_seconds=1,
        memory_bytes=1, components=(),
    )  # fmt: skip
    with pytest.raises(problems.NotReady):
        app._status(target, local, (), as_json=False)  # noqa: SLF001 - a real one would take a cluster
    assert capsys.readouterr().err.splitlines()[0] == "Cluster aether  venue not known"


def test_a_platform_that_is_not_there_is_named_with_its_cluster(tmp_path: Path) -> None:
    assets = a_kubectl(tmp_path, {"get tradingplatforms": 'Error from server (NotFound): "paper" not found'})
    done = aether(tmp_path, "explain", "tp/paper", "--context", "desk", "-n", "x", assets=assets)
    assert (done.returncode, done.stdout) == (problems.BadInput.exit_code, "")
    assert f"Context desk  {SERVER}: there is no TradingPlatform paper in namespace x" in done.stderr
    assert "aether status -A --context desk shows all" in done.stderr


@pytest.mark.parametrize(
    ("kinds", "said"),
    [({"kind": "APIResourceList"}, "venue not known"), ("Error from server (NotFound): no such group", "no platform")],
)
def test_kubectl_still_runs_where_the_venue_cannot_be_asked(tmp_path: Path, kinds: Any, said: str) -> None:
    refused = 'Error from server (Forbidden): tradingplatforms is forbidden: User "v" cannot list'
    answers = {"get tradingplatforms": refused, "/apis/trading.aether.io/v1alpha1": kinds}
    assets = a_kubectl(tmp_path, answers, 'echo "$*"')
    done = aether(tmp_path, "kubectl", "--context", "desk", "get", "pods", assets=assets)
    assert done.stdout.splitlines() == ["--context=desk get pods"]
    assert done.stderr.splitlines() == [f"Context desk  {SERVER}  {said}"]


def test_logs_of_a_workload_are_kubectl_s(tmp_path: Path, kubectl: Path) -> None:
    done = aether(tmp_path, "logs", "deploy/web", "--context", "desk", "-f", "--lines", "3", assets=kubectl)
    assert done.stdout.splitlines() == [
        "--context=desk", "logs", "deploy/web", "--namespace=aether", "--tail=3", "--follow",
    ]  # fmt: skip
    assert done.stderr.splitlines() == [DESK]


def test_kubectl_completes_the_plugin_s_words(tmp_path: Path) -> None:
    assert aether(tmp_path, "u", program="kubectl_complete-aether").stdout.split() == [":4"]
    done = aether(tmp_path, "st", program="kubectl_complete-aether")
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
