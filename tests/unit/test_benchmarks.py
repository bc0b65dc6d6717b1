"""What `make bench` prints."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aether_testing.bench import benchmarks

SLOW = """\
import contextlib, sys, time

@contextlib.contextmanager
def server():
    try:
        yield
    finally:
        print("server ended", file=sys.stderr, flush=True)

def figures():
    with server():
        print("started", file=sys.stderr, flush=True)
        time.sleep(60)
    yield
"""
"""A benchmark that runs a server in a block."""


def test_latency_has_two_percentiles_in_milliseconds_and_the_ratio() -> None:
    samples = [n / 1000 for n in range(1, 101)]
    lines = [json.loads(one.line()) for one in benchmarks.latencies("x", samples, "peer", [2 * s for s in samples])]
    assert [(one["name"], one["value"], one["unit"]) for one in lines] == [("x-p50", 50, "ms"), ("x-p99", 99, "ms")]
    assert {one["ratio"] for one in lines} == {2}


def test_higher_throughput_gives_a_ratio_above_one() -> None:
    figure = benchmarks.Figure(name="x", value=30, unit="1/s", peer="p", peer_value=10, less_is_better=False)
    assert json.loads(figure.line())["ratio"] == 3


def test_without_a_peer_there_is_no_ratio() -> None:
    line = json.loads(benchmarks.Figure(name="x", value=1, unit="MB").line())
    assert line == {"name": "x", "value": 1, "unit": "MB", "peer": None, "peer_value": None, "ratio": None}


def test_measurement_names_its_data() -> None:
    assert json.loads(benchmarks.Figure(name="x", value=1, unit="1/s", data="generated").line())["data"] == "generated"


@pytest.mark.parametrize("name", benchmarks.names())
def test_every_benchmark_can_be_loaded(name: str) -> None:
    assert callable(benchmarks.load(name).figures)


def test_unknown_benchmark_is_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmarks.main(["no-such"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "control-plane-start" in captured.err


def test_terminated_benchmark_ends_its_servers(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW, encoding="utf-8")
    code = (
        "import pathlib, sys; from aether_testing.bench import benchmarks; "
        "benchmarks.BENCHES = pathlib.Path(sys.argv[1]); sys.exit(benchmarks.main(['slow']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        env={"PYTHONPATH": str(Path(__file__).parents[1])},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "started\n"
        process.terminate()
        assert process.communicate(timeout=60)[1] == "server ended\n"
    assert process.returncode == 128 + signal.SIGTERM
