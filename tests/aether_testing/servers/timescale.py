"""A real TimescaleDB for tests, built for WebAssembly: one connection at a time, and every login is the superuser.

Tests that need logins, locks or a second connection use `aether_testing.servers.postgres`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import selectors
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aether_operator.observed.endpoints import Endpoint, SecretText

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE: Final = Path(__file__).parent / "timescale"
TIMEOUT: Final = 180.0
"""Seconds for an installation or a start; each takes a few on an idle machine."""


def cache() -> Path:
    """The cache folder for what is slow to fetch or build."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aether"


def modules() -> Path:
    """The folder with the packages of the lock file, which are installed once for each lock file."""
    packages = (HERE / "package-lock.json").read_bytes()
    folder = cache() / "node" / hashlib.sha256(packages).hexdigest()[:16]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two test runs, one installs
        if not folder.exists():
            print(f"installing TimescaleDB for tests into {folder}", file=sys.stderr)
            installing = folder.with_suffix(".new")
            shutil.rmtree(installing, ignore_errors=True)
            installing.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copy(HERE / name, installing / name)
            done = subprocess.run(
                ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
                cwd=installing,
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            installing.rename(folder)
    return folder


@contextlib.contextmanager
def running() -> Iterator[Endpoint]:
    """A fresh server for the length of a block."""
    command = ["node", str(HERE / "server.mjs"), str(modules())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            with selectors.DefaultSelector() as ready:
                ready.register(server.stdout, selectors.EVENT_READ)
                assert ready.select(TIMEOUT), "TimescaleDB did not start"
            line = server.stdout.readline()
            assert line, f"TimescaleDB ended with {server.wait(TIMEOUT)}"
            yield Endpoint(
                host="127.0.0.1",
                port=json.loads(line)["port"],
                username="postgres",
                password=SecretText("postgres"),
                database="postgres",
            )
        finally:
            server.kill()  # its data is in memory: no graceful stop is needed
