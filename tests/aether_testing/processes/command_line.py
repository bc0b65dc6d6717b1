"""Runs `aether` and `kubectl aether` with a fake kubectl."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from aether_cli import output

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

SERVER: Final = "https://10.1.2.3:6443"
CONFIG: Final = {
    "current-context": "prod",
    "contexts": [
        {"name": "dev", "context": {"cluster": "one", "user": "u"}},
        {"name": "prod", "context": {"cluster": "two", "user": "u", "namespace": "live"}},
        {"name": "lost", "context": {"cluster": "three", "user": "u"}},
    ],
    "clusters": [
        {"name": "one", "cluster": {"server": SERVER}},
        {"name": "two", "cluster": {"server": "https://me:secret@10.9.9.9:6443"}},
    ],
}
DEV: Final = f"Context dev  {SERVER}  venue Simulated, feed Synthetic"
PROD: Final = "Context prod  https://10.9.9.9:6443  venue Kraken, feed Live"
COLUMNS: Final = 120
Object = dict[str, Any]


def a_platform(namespace: str = "aether", venue: str = "Simulated", **status: Any) -> Object:
    meta = {"namespace": namespace, "name": "paper", "uid": "0-1", "generation": 2}
    ready = {"type": "Ready", "status": "True", "reason": "Ready"}
    status_value = {"observedGeneration": 2, "conditions": [ready], **status}
    return {"kind": "TradingPlatform", "metadata": meta, "spec": {"venue": {"name": venue}}, "status": status_value}


def a_kubectl(folder: Path, answers: dict[str, Any], otherwise: str = "cat empty") -> Path:
    """Write a fake kubectl, which appends its arguments to the file `calls`.

    Args:
        folder: Where.
        answers: A part of a command line → the JSON to print, or the error, if it is a text.
        otherwise: The shell command for every other command line.

    Returns:
        The folder that it is in, for KUBEBUILDER_ASSETS.
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
    program.write_text(f'#!/bin/sh\ncd {assets}\necho "$*" >> calls\ncase "$*" in\n{"".join(cases)}esac\n{otherwise}\n')
    program.chmod(0o755)
    return assets


def kubectl_that_prints(folder: Path) -> Path:
    """Write a fake kubectl that prints its arguments, one a line; returns its folder."""
    platforms = {"get tradingplatforms": {"items": [a_platform()]}}
    return a_kubectl(folder, platforms, 'for word in "$@"; do printf "%s\\n" "$word"; done')


def kubectl_with_books(folder: Path) -> Path:
    """Write a fake kubectl that lists an ingest pod and prints the file `book` for raw requests; returns its folder."""
    pod = {
        "metadata": {"namespace": "aether", "name": "paper-ingest-0", "labels": {}}, "status": {"phase": "Running"},
    }  # fmt: skip
    answers = {
        "tradingplatforms.trading.aether.io paper --namespace=live": a_platform("live", "Kraken"),
        "get tradingplatforms": a_platform(),
    }
    assets = a_kubectl(folder, answers, 'case "$*" in *--raw*) exec cat book;; *) exec cat pods;; esac')
    (assets / "pods").write_text(json.dumps({"items": [pod]}))
    return assets


def a_book(*, usable: bool) -> str:
    levels = {"bids": [["99.9", "1"]], "asks": [["100.1", "2"]]} if usable else {"reason": "Resyncing"}
    view = {"symbol": "BTC/USD", "usable": usable, "proved": 10, "checksum": 7, "received": "2026-01-01T12:00:00Z"}
    return json.dumps({**view, **levels})


PROGRAMS: Final = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]["scripts"]
Done = subprocess.CompletedProcess[str]


def aether(
    home: Path, *words: str, assets: Path | None = None, program: str = "aether", terminal: int | None = None
) -> Done:
    """Run a command line in this process: starting another one takes half a second.

    Args:
        home: The user's home folder, and the working directory.
        words: The command line.
        assets: The folder of a fake kubectl.
        program: The program's name.
        terminal: The width of the terminal that it prints to; by default it prints to a pipe.
    """
    function = pkgutil.resolve_name(PROGRAMS[program])
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    with (
        _changed(os.environ, _environ(home, assets) | ({"COLUMNS": str(terminal)} if terminal else {})),
        contextlib.chdir(home),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "argv", [program, *words])
        for console in (output.out, output.errors):
            patch.setattr(console, "width", terminal or COLUMNS)
            patch.setattr(console, "_force_terminal", terminal is not None)
            patch.setattr(console, "_color_system", None)
        for exec_ in ("execv", "execvp"):
            patch.setattr(os, exec_, _becomes_another_program)
        try:
            function()
        except SystemExit as end:
            code = int(end.code or 0)
    return Done([program, *words], code, stdout.getvalue(), stderr.getvalue())


def _becomes_another_program(*_: object) -> None:
    raise AssertionError("this command becomes another program: aether_process runs it")


def aether_process(home: Path, *words: str, assets: Path | None = None, program: str = "aether") -> Done:
    """Run a command line in another process, for commands that replace their process (exec)."""
    module, _, function = PROGRAMS[program].partition(":")
    command = [sys.executable, "-c", f"import {module} as it; it.{function}()", *words]
    env = _environ(home, assets)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=env, cwd=home)


def _environ(home: Path, assets: Path | None) -> dict[str, str]:
    path = os.pathsep.join(sys.path)
    env = {"HOME": str(home), "PATH": os.environ["PATH"], "COLUMNS": str(COLUMNS), "PYTHONPATH": path}
    return env | ({"KUBEBUILDER_ASSETS": str(assets)} if assets else {})


@contextlib.contextmanager
def _changed(environ: MutableMapping[str, str], to: dict[str, str]) -> Iterator[None]:
    before = dict(environ)
    try:
        environ.clear()
        environ.update(to)
        yield
    finally:
        environ.clear()
        environ.update(before)
