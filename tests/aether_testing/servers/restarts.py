"""A server that somebody else started, through the lives that a test gives it: killed, stopped, and started again."""

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
LOOK: Final = 0.05


class Lives:
    """One server on loopback. It is started again as it was: the same words, folder, user and environment.

    Args:
        pid: Its first life.
        port: Where it listens.
        farewell: The signal that ends it in order.
    """

    def __init__(self, pid: int, port: int, farewell: signal.Signals = signal.SIGTERM) -> None:
        self._pid, self._port, self._farewell = pid, port, farewell
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
        """End it as a machine ends that burns, with all the processes that it has."""
        self._end(signal.SIGKILL, self._family())

    def ask_to_end(self) -> None:
        """End it in order."""
        self._end(self._farewell, [self._pid])

    def _end(self, sign: signal.Signals, processes: Sequence[int]) -> None:
        """Whoever of it lives a moment longer keeps what the next life needs, as PostgreSQL its shared memory."""
        _signal(processes, sign)
        if self._ours is not None:
            self._ours.wait(DEADLINE)
            self._ours = None
        wait.until(
            lambda: not self.listens() and not any(map(_lives, processes)),
            f"{self._program} has ended",
            seconds=DEADLINE,
            interval=LOOK,
        )

    def start(self) -> None:
        """Start it again, and wait until it listens."""
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
        wait.until(self._listens_again, f"{self._program} listens", seconds=DEADLINE, interval=LOOK)

    def stop(self) -> None:
        """Let it hang, with all the processes that it has."""
        _signal(self._family(), signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it hang no more."""
        _signal(self._family(), signal.SIGCONT)

    def _family(self) -> list[int]:
        children = Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text().split()
        return [self._pid, *map(int, children)]

    def end(self) -> None:
        """End what this has started."""
        if self._ours is not None:
            self._ours.send_signal(signal.SIGCONT)
            self._ours.terminate()
            try:
                self._ours.wait(10)
            except subprocess.TimeoutExpired:
                self._ours.kill()
                self._ours.wait(DEADLINE)

    def listens(self) -> bool:
        """Whether somebody is there."""
        with socket.socket() as asked:
            asked.settimeout(1)
            return asked.connect_ex(("127.0.0.1", self._port)) == 0

    def _listens_again(self) -> bool:
        if self.listens():
            return True
        assert self._ours is None or self._ours.poll() is None, f"{self._program} ended by itself"
        return False


def _signal(processes: Sequence[int], sign: signal.Signals) -> None:
    """Those that have ended meanwhile need none."""
    for one in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, sign)


def _lives(pid: int) -> bool:
    """Whether there is such a process; one that nobody has buried yet does not count."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
