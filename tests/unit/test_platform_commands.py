"""The commands status, book and explain, with a fake kubectl."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from aether_cli import kubectl_client, platform_commands, problems, targets
from aether_cli.local import inspection
from aether_testing.processes import command_line

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def books(tmp_path: Path) -> Path:
    """The folder of a fake kubectl."""
    return command_line.kubectl_with_books(tmp_path)


def test_response_that_is_not_json_is_an_error_without_traceback(tmp_path: Path) -> None:
    prints = command_line.kubectl_that_prints(tmp_path)
    done = command_line.aether(tmp_path, "status", "--context", "dev", assets=prints)
    assert done.returncode == 1
    assert f"error: Context dev  {command_line.SERVER}: kubectl get did not print JSON" in done.stderr
    assert "Traceback" not in done.stderr


def test_status_shows_the_market_data_flow_and_unreachable_pods(tmp_path: Path) -> None:
    ready = [{"type": "Ready", "status": "True"}]
    pod_labels = {"trading.aether.io/platform": "paper", "app.kubernetes.io/component": "ingest"}
    pods = [
        {
            "metadata": {"namespace": "aether", "name": f"paper-ingest-{number}", "labels": pod_labels},
            "status": {"phase": "Running", "conditions": ready},
        }
        for number in (0, 1)
    ]
    assets = command_line.a_kubectl(
        tmp_path,
        {
            "ingest-0:8000/proxy/status": {"feed": {"connected": True, "age_seconds": 0.2}, "books": {}},
            "ingest-1:8000/proxy/status": "Error from server: no route",
            "get pods --namespace=aether --selector=app.kubernetes.io/managed-by": {"items": pods},
        },
    )
    done = command_line.aether(tmp_path, "status", "--context", "dev", assets=assets)
    assert (done.returncode, done.stderr.splitlines()) == (0, [f"Context dev  {command_line.SERVER}  no platform"])
    assert "Market data paper  namespace aether" in done.stdout
    assert "paper-ingest-0  0.2 s" in done.stdout
    assert "paper-ingest-1: not reachable: kubectl ended with 1: Error from server: no route" in done.stdout
    output = json.loads(command_line.aether(tmp_path, "status", "--context", "dev", "--json", assets=assets).stdout)[
        "marketData"
    ]
    assert [(one["pod"], "status" in one) for one in output] == [("paper-ingest-0", True), ("paper-ingest-1", False)]


def a_cluster_with_long_names(folder: Path) -> Path:
    """Write a fake kubectl with a platform that is not Ready, and the status of one of its pods; returns its folder."""
    name, namespace = "production-paper-trading-europe-1", "team-quantitative-trading"
    message = (
        f"Secret {name}-login does not exist, and a cause with many words follows it until the line is longer than 80"
    )
    bad = {"type": "KafkaReady", "status": "False", "reason": "SecretMissing", "message": message}
    ready = {"type": "Ready", "status": "False", "reason": "SecretMissing", "message": f"kafka: {message}"}
    external = {"secretName": f"{name}-login"}
    endpoint = {"host": f"{name}-kafka.svc", "port": 9092, "secretName": f"{name}-login"}
    platform = command_line.a_platform(namespace, conditions=[ready, bad], endpoints={"kafka": endpoint})
    platform["metadata"]["name"] = name
    platform["spec"]["dataPlane"] = {"kafka": {"mode": "External", "external": external}}
    pod_labels = {"trading.aether.io/platform": name, "app.kubernetes.io/component": "ingest"}
    pods = [
        {"metadata": {"namespace": namespace, "name": f"{name}-ingest-{nth}", "labels": pod_labels},
         "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": str(nth == 0)}]}}
        for nth in (0, 1)
    ]  # fmt: skip
    outputs = {
        one: {"ok": True, "lag_seconds": 1234.5, "rate": 1234.5, "conflated": 123456} for one in ("kafka", "nats")
    }
    books = {"BTC/USD": {"usable": False, "reason": "Resyncing", "age_seconds": 1234.5}}
    event = {"eventTime": "2026-11-27T10:00:00Z", "reason": "Failed", "message": f"Another {message}"}
    return command_line.a_kubectl(
        folder,
        {
            "nosuch --namespace": 'Error from server (NotFound): "nosuch" not found',
            f"{name} --namespace": platform,
            "get tradingplatforms": {"items": [platform]},
            "ingest-0:8000/proxy/status": {
                "feed": {"connected": False, "detail": message, "age_seconds": 1234.5},
                "books": books, "outputs": outputs,
            },
            "ingest-1:8000/proxy/status": f"Error from server: no route to {name}-ingest-1.svc on that network",
            "--selector=app.kubernetes.io/managed-by": {"items": pods},
            "get events": {"items": [event]},
        },
    )  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        ["status", "-A"],
        ["explain", "tp/production-paper-trading-europe-1", "-n", "team-quantitative-trading"],
        ["book", "BTC/USD", "--platform", "nosuch", "-n", "team-quantitative-trading"],
    ],
)
def test_output_at_80_columns_breaks_no_word(tmp_path: Path, words: list[str]) -> None:
    assets = a_cluster_with_long_names(tmp_path)
    narrow = command_line.aether(tmp_path, *words, "--context", "dev", assets=assets, terminal=80)
    wide = command_line.aether(tmp_path, *words, "--context", "dev", assets=assets, terminal=1000)
    shown = f"{narrow.stdout}{narrow.stderr}"
    assert max(map(len, shown.splitlines())) <= 80
    assert sorted(set(f"{wide.stdout}{wide.stderr}".split())) == sorted(set(shown.split()) - {"\\"})


def test_book_is_shown_once_without_a_terminal(tmp_path: Path, books: Path) -> None:
    (books / "book").write_text(command_line.a_book(usable=True))
    done = command_line.aether(tmp_path, "book", "btc/usd", "--context", "dev", assets=books)
    assert (done.returncode, done.stderr.splitlines()) == (0, [command_line.DEV])
    assert "spread 0.2" in done.stdout
    output = command_line.aether(tmp_path, "book", "BTC/USD", "--once", "--json", "--context", "dev", assets=books)
    printed = json.loads(output.stdout)
    assert printed["asks"] == [["100.1", "2"]]
    assert list(printed)[:2] == ["cluster", "venue"]
    assert printed["cluster"] == {"context": "dev", "server": command_line.SERVER}
    assert printed["venue"] == {"name": "Simulated", "feed": "Synthetic"}


def test_terminal_output_begins_with_cluster_and_venue(tmp_path: Path, books: Path) -> None:
    (books / "book").write_text(command_line.a_book(usable=True))
    theirs, ours = os.openpty()
    command = [sys.executable, "-m", "aether_cli", "book", "BTC/USD", "--once", "--context", "dev"]
    env = {**os.environ, "HOME": str(tmp_path), "KUBEBUILDER_ASSETS": str(books), "TERM": "dumb"}
    done = subprocess.run(command, stdout=ours, stderr=subprocess.PIPE, check=True, timeout=60, env=env)
    os.close(ours)
    with os.fdopen(theirs, "rb", buffering=0) as screen:
        shown = screen.read(65536)
    assert (done.stderr, shown.decode().splitlines()[0]) == (b"", command_line.DEV)


def test_command_fails_for_an_unusable_book(tmp_path: Path, books: Path) -> None:
    (books / "book").write_text(command_line.a_book(usable=False))
    done = command_line.aether(tmp_path, "book", "BTC/USD", "--once", "--context", "dev", assets=books)
    assert (done.returncode, done.stderr.splitlines()) == (problems.NotReady.exit_code, [command_line.DEV])
    assert "UNUSABLE Resyncing" in done.stdout


def test_watched_book_survives_temporary_errors_and_ends_quietly(tmp_path: Path, books: Path) -> None:
    (books / "book").write_text(command_line.a_book(usable=True))
    env = {
        "HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path),
        "KUBEBUILDER_ASSETS": str(books),
    }  # fmt: skip
    # Where the tests run in the background of a shell, Ctrl-C is ignored, and so it would be here.
    python = ["env", "--default-signal=INT", sys.executable]
    command = [*python, "-m", "aether_cli", "book", "BTC/USD", "--json", "--context", "dev"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=tmp_path
    ) as watching:
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())["usable"] is True
        (books / "pods").rename(books / "away")
        (books / "book").rename(books / "gone")
        while json.loads(line := watching.stdout.readline())["usable"]:
            pass
        unusable = json.loads(line)
        assert (unusable["bids"], unusable["asks"]) == ([], [])
        assert unusable["reason"]
        (books / "away").rename(books / "pods")
        (books / "gone").rename(books / "book")
        while not json.loads(watching.stdout.readline())["usable"]:
            pass
        watching.send_signal(signal.SIGINT)
        printed, errors = watching.communicate(timeout=60)
    assert (watching.returncode, errors) == (0, "")
    assert all(json.loads(line)["symbol"] == "BTC/USD" for line in printed.splitlines())
    assert all(json.loads(line)["venue"]["name"] == "Simulated" for line in printed.splitlines())


@pytest.mark.parametrize(
    ("words", "error", "code"),
    [
        (["book", "BTC/USD"], "Unable to connect to the server: dial tcp: no such host", 4),
        (["explain", "tp/paper"], "The connection to the server 10.1.2.3:6443 was refused", 4),
        (["status"], "error: You must be logged in to the server (Unauthorized)", 1),
        (["status", "--json"], "Unable to connect to the server: dial tcp: i/o timeout", 4),
    ],
)
def test_unresponsive_cluster_is_named(tmp_path: Path, words: list[str], error: str, code: int) -> None:
    assets = command_line.a_kubectl(tmp_path, {" get ": error})
    done = command_line.aether(tmp_path, *words, "--context", "dev", assets=assets)
    assert (done.returncode, done.stdout) == (code, "")
    assert f"error: Context dev  {command_line.SERVER}: kubectl ended with 1: {error}" in done.stderr


def test_edit_no_operator_has_observed_is_not_shown_as_ready(tmp_path: Path) -> None:
    edited = command_line.a_platform(observedGeneration=1)
    answers = {"paper --namespace": edited, "get tradingplatforms": {"items": [edited]}}
    assets = command_line.a_kubectl(tmp_path, answers)
    for words in (["status"], ["explain", "tp/paper"]):
        done = command_line.aether(tmp_path, *words, "--context", "dev", assets=assets)
        assert done.returncode == problems.NotReady.exit_code
        assert "ot yet reconciled" in done.stdout
        assert "generation 2, the status is of generation 1" in done.stdout
        assert "True Ready" not in done.stdout
    (output,) = json.loads(command_line.aether(tmp_path, "status", "--context", "dev", "--json", assets=assets).stdout)[
        "platforms"
    ]
    assert (output["generation"], output["reconciled"]) == (2, False)


def test_first_line_distinguishes_platforms_of_several_venues(tmp_path: Path) -> None:
    two = [command_line.a_platform(), command_line.a_platform("live", "Kraken")]
    assets = command_line.a_kubectl(tmp_path, {"get tradingplatforms": {"items": two}})
    done = command_line.aether(tmp_path, "status", "-A", "--context", "dev", assets=assets)
    assert done.stderr.splitlines()[0] == (
        f"Context dev  {command_line.SERVER}  aether/paper: venue Simulated, feed Synthetic; "
        "live/paper: venue Kraken, feed Live"
    )


def test_status_of_a_namespace_without_platform_suggests_all_namespaces(tmp_path: Path) -> None:
    done = command_line.aether(
        tmp_path, "status", assets=command_line.a_kubectl(tmp_path, {}), program="kubectl-aether"
    )
    assert (done.returncode, done.stderr.splitlines()[0]) == (0, "Context prod  https://10.9.9.9:6443  no platform")
    assert "No TradingPlatform; for all namespaces: kubectl aether status -A --context prod" in done.stdout
    assert "Aether's pods in namespace live, and the operator's: 0 of 0 healthy" in done.stdout


def test_status_without_a_response_does_not_claim_no_platform(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refuses = kubectl_client.Kubectl(program=command_line.a_kubectl(tmp_path, {}, "exit 1") / "kubectl")
    target = targets.Target(
        kubectl=refuses, name="aether", server=command_line.SERVER, namespace="aether", local=True, command="aether"
    )
    local = inspection.LocalState(
        name="aether", running=True, profile="node", server=command_line.SERVER, kubeconfig="", egress=False,
        uptime_seconds=1, memory_bytes=1, components=(),
    )  # fmt: skip
    with pytest.raises(problems.NotReady):
        platform_commands._status(target, local, (), as_json=False)  # noqa: SLF001 - a real one would take a cluster
    assert capsys.readouterr().err.splitlines()[0] == "Cluster aether  venue not known"


def test_missing_platform_is_named_with_its_cluster(tmp_path: Path) -> None:
    assets = command_line.a_kubectl(
        tmp_path, {"get tradingplatforms": 'Error from server (NotFound): "paper" not found'}
    )
    done = command_line.aether(tmp_path, "explain", "tp/paper", "--context", "dev", "-n", "x", assets=assets)
    assert (done.returncode, done.stdout) == (problems.BadInput.exit_code, "")
    assert f"Context dev  {command_line.SERVER}: no TradingPlatform paper in namespace x" in done.stderr
    assert "aether status -A --context dev shows all" in done.stderr


@pytest.mark.parametrize(
    ("namespaces", "advice"),
    [
        (["aether"], "In namespace aether: paper"),
        (["aether"] * 7, "In namespace aether: paper, paper, paper, paper, paper and 2 more; {all} shows all"),
        (["live", "test"], "In other namespaces: live/paper, test/paper"),
        ([], "{all} shows all"),
    ],
)
@pytest.mark.parametrize("words", [["explain", "tp/nosuch"], ["book", "BTC/USD", "--platform", "nosuch"]])
def test_missing_platform_is_reported_with_existing_ones(
    tmp_path: Path, words: list[str], namespaces: list[str], advice: str
) -> None:
    existing = [command_line.a_platform(namespace) for namespace in namespaces]
    answers = {
        "get tradingplatforms.trading.aether.io nosuch": 'Error from server (NotFound): "nosuch" not found',
        "--namespace=aether": {"items": [one for one in existing if one["metadata"]["namespace"] == "aether"]},
        "--all-namespaces": {"items": existing},
    }
    assets = command_line.a_kubectl(tmp_path, answers)
    done = command_line.aether(tmp_path, *words, "--context", "dev", assets=assets)
    assert (done.returncode, done.stdout) == (problems.BadInput.exit_code, "")
    assert done.stderr.splitlines() == [
        f"error: Context dev  {command_line.SERVER}: no TradingPlatform nosuch in namespace aether",
        advice.format(all="aether status -A --context dev"),
    ]


def test_cluster_without_our_kinds_is_named_for_a_platform(tmp_path: Path) -> None:
    answers = {
        "get tradingplatforms": "error: the server doesn't have a resource type",
        "/apis/": "Error from server (NotFound): the server could not find the requested resource",
    }
    done = command_line.aether(
        tmp_path, "explain", "tp/paper", "--context", "dev", assets=command_line.a_kubectl(tmp_path, answers)
    )
    assert done.returncode == problems.NotReady.exit_code
    assert "Aether is not installed: the cluster has no kind TradingPlatform" in done.stderr


def test_pair_missing_in_the_platform_is_reported_with_its_pairs(tmp_path: Path) -> None:
    platform = command_line.a_platform()
    platform["spec"]["pairs"] = ["BTC/USD", "ETH/USD"]
    assets = command_line.a_kubectl(tmp_path, {"get tradingplatforms": platform})
    done = command_line.aether(tmp_path, "book", "FOO/USD", "--context", "dev", assets=assets)
    assert done.returncode == problems.NotReady.exit_code
    assert "FOO/USD: not in spec.pairs of TradingPlatform paper in namespace aether" in done.stderr
    assert done.stderr.splitlines()[-1] == "Its pairs: BTC/USD, ETH/USD"


@pytest.mark.parametrize(
    ("local", "options", "text", "expected"),
    [
        (True, ("--name", "x"), "log: aether logs -n s deploy/o. R", "log: aether logs -n s deploy/o --name x. R"),
        (True, ("--name", "x"), "(aether up --egress), or", "(aether up --egress --name x), or"),
        (True, ("--name", "x"), "`aether status` lists", "`aether status --name x` lists"),
        (True, ("--name", "x"), "see: kubectl --namespace n describe pod p",
         "see: aether kubectl --name x --namespace n describe pod p"),
        (True, (), "with kubectl describe pod.", "with aether kubectl describe pod."),
        (True, (), "aether kubectl get pods", "aether kubectl get pods"),
        (False, ("--context", "c"), "(aether up --egress)", "(aether up --egress)"),
        (False, ("--context", "c"), "aether logs deploy/o", "aether logs deploy/o --context c"),
        (False, ("--context", "c"), "see: kubectl --namespace n get pods",
         "see: kubectl --context c --namespace n get pods"),
    ],
)  # fmt: skip
def test_commands_in_texts_get_the_options_of_the_cluster(
    local: bool,  # noqa: FBT001 - a case
    options: tuple[str, ...],
    text: str,
    expected: str,
) -> None:
    target = targets.Target(
        kubectl=kubectl_client.Kubectl(program="kubectl"), name="x", server="", namespace="n", local=local,
        command="aether", options=options,
    )  # fmt: skip
    assert target.with_options(text) == expected


def test_forbidden_platform_is_named_with_what_to_do(tmp_path: Path) -> None:
    forbidden = 'Error from server (Forbidden): tradingplatforms "paper" is forbidden: User "v" cannot get'
    assets = command_line.a_kubectl(tmp_path, {"get tradingplatforms": forbidden})
    for words in (["explain", "tp/paper"], ["book", "BTC/USD"]):
        done = command_line.aether(tmp_path, *words, "--context", "dev", "-n", "x", assets=assets)
        assert (done.returncode, done.stdout) == (kubectl_client.Forbidden.exit_code, "")
        assert done.stderr.splitlines() == [
            f"error: Context dev  {command_line.SERVER}: you may not read TradingPlatform paper in namespace x",
            "Name a namespace that you may read: -n NAMESPACE",
        ]
