"""The process of a server that somebody else started, for tests that kill, suspend and restart it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aether_testing import wait

if TYPE_CHECKING:
    from collections.abc import Sequence

DEADLINE: Final = 60.0
POLL_INTERVAL: Final = 0.05


class ServerProcess:
    """One server on loopback. It is restarted as it was: the same words, folder, user and environment.

    Args:
        pid: The process that runs at first.
        port: Where it listens.
        shutdown: The signal on which it shuts down in order.
    """

    def __init__(self, pid: int, port: int, shutdown: signal.Signals = signal.SIGTERM) -> None:
        self._pid, self._port, self._shutdown = pid, port, shutdown
        home = Path(f"/proc/{pid}")
        self._command = home.joinpath("cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        self._cwd = home.joinpath("cwd").readlink()
        self._environ = dict(
            entry.split(b"=", 1) for entry in home.joinpath("environ").read_bytes().split(b"\0") if b"=" in entry
        )
        self._user, self._group = home.stat().st_uid, home.stat().st_gid
        self._program = home.joinpath("exe").readlink()
        self._ours: subprocess.Popen[bytes] | None = None

    def kill(self) -> None:
        """Send SIGKILL to it and its children, and wait for their end."""
        self._end(signal.SIGKILL, self._family())

    def shut_down(self) -> None:
        """Send its signal to shut down, and wait for its end."""
        self._end(self._shutdown, [self._pid])

    def _end(self, sign: signal.Signals, processes: Sequence[int]) -> None:
        """A process that lives a moment longer keeps what the next one needs, such as PostgreSQL its shared memory."""
        _signal(processes, sign)
        if self._ours is not None:
            self._ours.wait(DEADLINE)
            self._ours = None
        wait.until(
            lambda: not self.listens() and not any(map(_is_alive, processes)),
            f"{self._program} has ended",
            seconds=DEADLINE,
            interval=POLL_INTERVAL,
        )

    def start(self) -> None:
        """Restart it, and wait until it listens."""
        assert self._ours is None
        self._ours = subprocess.Popen(
            self._command,
            executable=self._program,
            cwd=self._cwd,
            env=self._environ,
            user=self._user,
            group=self._group,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._pid = self._ours.pid
        wait.until(self._listens_again, f"{self._program} listens", seconds=DEADLINE, interval=POLL_INTERVAL)

    def suspend(self) -> None:
        """Send SIGSTOP to it and its children: it keeps its connections, and does not respond."""
        _signal(self._family(), signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT to all of them."""
        _signal(self._family(), signal.SIGCONT)

    def _family(self) -> list[int]:
        children = Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text().split()
        return [self._pid, *map(int, children)]

    def end(self) -> None:
        """Terminate what this has started; the first process belongs to its own block."""
        if self._ours is not None:
            self._ours.send_signal(signal.SIGCONT)
            self._ours.terminate()
            try:
                self._ours.wait(10)
            except subprocess.TimeoutExpired:
                self._ours.kill()
                self._ours.wait(DEADLINE)

    def listens(self) -> bool:
        """Whether its port accepts a connection."""
        with socket.socket() as asked:
            asked.settimeout(1)
            return asked.connect_ex(("127.0.0.1", self._port)) == 0

    def _listens_again(self) -> bool:
        if self.listens():
            return True
        assert self._ours is None or self._ours.poll() is None, f"{self._program} ended by itself"
        return False


def _signal(processes: Sequence[int], sign: signal.Signals) -> None:
    """Send a signal; one that has ended meanwhile needs none."""
    for one in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, sign)


def _is_alive(pid: int) -> bool:
    """Whether there is such a process; a zombie does not count."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
