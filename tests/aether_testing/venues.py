"""The simulated venue as a process of its own, which a test starts, kills and starts again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TOP: Final = Path(__file__).resolve().parents[2]
DEADLINE: Final = 30.0
LOOK: Final = 0.02
RECORDING: Final = "kraken/ws-v2-book-btcusd-depth10.jsonl"
"""Within the folder of recordings."""


def recordings() -> Path:
    """The folder of what was recorded from the real venue; a clone may be without it."""
    return Path(os.environ.get("AETHER_RECORDINGS", TOP.parent / "shared/data"))


@dataclass(slots=True, kw_only=True)
class Venue:
    """One venue, through all its lives: its ports and its journal stay."""

    folder: Path
    environ: Mapping[str, str]
    port: int
    admin_port: int
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def rest(self) -> str:
        """What a client has instead of https://api.kraken.com."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        """What a client has instead of wss://ws.kraken.com/v2."""
        return f"ws://127.0.0.1:{self.port}/v2"

    @property
    def admin(self) -> str:
        """Where faults are had."""
        return f"http://127.0.0.1:{self.admin_port}"

    @property
    def journal(self) -> Path:
        """Its file."""
        return self.folder / "journal.db"

    @property
    def log(self) -> str:
        """What it said, in all its lives."""
        path = self.folder / "venue.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        with (self.folder / "venue.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "aether_services", "exchange_sim"],
                env=dict(self.environ),
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        ends = time.monotonic() + DEADLINE
        while not self._ready():
            assert self.process.poll() is None, f"the venue ended by itself\n{self.log}"
            assert time.monotonic() < ends, f"the venue is not ready within {DEADLINE:g} s\n{self.log}"
            time.sleep(LOOK)

    def _ready(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.rest}/readyz", timeout=2):
            return True
        return False

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it, and wait for that; its exit code."""
        assert self.process is not None, "it was never started"
        self.process.send_signal(how)
        return self.process.wait(DEADLINE)

    def kill(self) -> None:
        """End it as a machine ends that burns."""
        self.end(signal.SIGKILL)

    def get(self, path: str) -> Any:
        """What it answers to a path."""
        with urllib.request.urlopen(f"{self.rest}{path}", timeout=10) as answer:
            return json.load(answer)

    def public(self, method: str, **params: Any) -> Any:
        """The result of a method of REST."""
        said = self.get(f"/0/public/{method}?{'&'.join(f'{name}={value}' for name, value in params.items())}")
        assert not said["error"], said
        return said["result"]

    def ask(self, path: str, said: Mapping[str, Any] | None = None) -> Any:
        """Ask its admin app, or with `said` tell it: `ask("/faults/silence", {"seconds": 2})`."""
        body = None if said is None else json.dumps(said).encode()
        request = urllib.request.Request(f"{self.admin}{path}", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


@contextlib.contextmanager
def venue(folder: Path, *, started: bool = True, **settings: Any) -> Iterator[Venue]:
    """A venue on free ports of the loopback, its journal in a folder.

    Args:
        folder: A folder of its own; what lies in it from before, it goes on with.
        started: Whether it is started, and ready.
        settings: Its settings, in small letters and without the prefix: `speed=10`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port, admin_port = _free_ports()
    ours = {
        "instance": "venue-0",
        "release": "test",
        "journal": folder / "journal.db",
        "http_host": "127.0.0.1",
        "http_port": port,
        "admin_port": admin_port,
        **settings,
    }
    others = {name: value for name, value in os.environ.items() if not name.startswith("AETHER_")}
    one = Venue(
        folder=folder,
        environ={**others, **{f"AETHER_{name.upper()}": str(value) for name, value in ours.items()}},
        port=port,
        admin_port=admin_port,
    )
    try:
        if started:
            one.start()
        yield one
    finally:
        if one.process is not None and one.process.poll() is None:
            one.end()


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]
