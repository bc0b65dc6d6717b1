"""A real TimescaleDB for tests, in WebAssembly. One connection at a time, and every login is the superuser.

What needs logins, locks or a second connection is tested on `aether_testing.postgres`.
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
PATIENCE: Final = 180.0
"""Seconds for an install or a start; each takes a few where nothing else runs."""


def cache() -> Path:
    """Where the tests keep what is slow to get."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aether"


def modules() -> Path:
    """A folder with the packages of the lock file; installs them once for each lock file and machine."""
    lock = (HERE / "package-lock.json").read_bytes()
    folder = cache() / "node" / hashlib.sha256(lock).hexdigest()[:16]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # of two test runs, one installs
        if not folder.exists():
            print(f"installing TimescaleDB for tests into {folder}", file=sys.stderr)
            making = folder.with_suffix(".new")
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copy(HERE / name, making / name)
            done = subprocess.run(
                ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
                cwd=making,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            making.rename(folder)
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
                assert ready.select(PATIENCE), "TimescaleDB did not start"
            line = server.stdout.readline()
            assert line, f"TimescaleDB ended with {server.wait(PATIENCE)}"
            yield Endpoint(
                host="127.0.0.1",
                port=json.loads(line)["port"],
                username="postgres",
                password=SecretText("postgres"),
                database="postgres",
            )
        finally:
            server.kill()  # it lives in memory: there is nothing to end well
