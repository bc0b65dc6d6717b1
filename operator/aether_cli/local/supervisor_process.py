"""The process that holds a cluster: whether there is one, who it is, and how to end it.

A held lock is the only sign of life that is trusted: the kernel lets go of it with the last process that had it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aether_cli import problems
from aether_cli.local.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aether_cli import progress
    from aether_cli.local import paths


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorProcess:
    """A live cluster: the process that holds its namespaces, as seen from the machine."""

    pid: int
    settings: Settings
    port: int
    ready: bool
    started: float  # seconds since the epoch

    @property
    def supervisor(self) -> int:
        """Process 1 of the namespaces, under its number on the machine."""
        with contextlib.suppress(OSError, IndexError):
            return int(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()[0])
        raise problems.NotRunning("the cluster is ending")


def write_record(at: paths.Paths, **values: Any) -> None:
    """Write down who holds the cluster; in one step, so that a reader sees the old or the new."""
    half = at.state / ".holder.half"
    half.write_text(json.dumps(values))
    half.replace(at.state / "holder.json")


def mark_ready(at: paths.Paths) -> None:
    """From now on another `up` finds a cluster, not the making of one."""
    write_record(at, **{**json.loads((at.state / "holder.json").read_text()), "ready": True})


def _try_lock(path: Path, kind: int) -> int | None:
    """The descriptor of a lock, or nothing where somebody holds it against us."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def lock(at: paths.Paths, *, deadline: float = 10.0) -> int:
    """The life lock, for a new holder; one that is just dying, or somebody who is just looking, has it for a moment.

    Raises:
        NotReady: It stayed held for `deadline` seconds.
    """
    ends = time.monotonic() + deadline
    while (descriptor := _try_lock(at.state / "holder.lock", fcntl.LOCK_EX)) is None:
        if time.monotonic() > ends:
            raise problems.NotReady(f"the last life of cluster {at.name} has not ended yet", remedy="Run it again.")
        time.sleep(0.02)  # a lock has no descriptor to wait on
    return descriptor


def find(at: paths.Paths) -> SupervisorProcess | None:
    """The live cluster with these places, if there is one."""
    # Shared: two who only look must not take each other for a life.
    if not _held(at.state / "holder.lock"):
        return None
    try:
        record = json.loads((at.state / "holder.json").read_text())
        if not Path(f"/proc/{record['pid']}").exists():
            return None  # killed, and the last of it is just dying
        return SupervisorProcess(
            pid=record["pid"],
            settings=Settings.read(record["settings"]),
            port=record["port"],
            ready=record["ready"],
            started=record["started"],
        )
    except (OSError, ValueError, KeyError):
        # The lock is held and nothing is written yet: somebody is just starting it.
        return None


def _held(path: Path) -> bool:
    """Whether somebody has this lock for himself."""
    if not path.exists():
        return False
    free = _try_lock(path, fcntl.LOCK_SH)
    if free is not None:
        os.close(free)
    return free is None


def busy(at: paths.Paths) -> bool:
    """Whether another `up` or `down` of this cluster is under way."""
    return _held(at.locks / at.name)


def require(at: paths.Paths) -> SupervisorProcess:
    """The live cluster.

    Raises:
        NotRunning: There is none.
    """
    process = find(at)
    if process is None or not process.ready:
        raise problems.NotRunning(f"cluster {at.name} is not running", remedy="Start it: aether up")
    return process


def nsenter(process: SupervisorProcess) -> list[str]:
    """What to put before a command so that it runs inside the cluster's namespaces."""
    return ["nsenter", f"--target={process.supervisor}", "--mount", "--net", "--pid", "--ipc", "--wd=/", "--"]


def stop(process: SupervisorProcess, *, gently: bool, deadline: float) -> None:
    """End a cluster: asked first, then not asked.

    Raises:
        NotReady: It is still there, killed and all.
    """
    with contextlib.ExitStack() as stack:
        watched = [stack.enter_context(_watched(process.pid))]
        with contextlib.suppress(problems.NotRunning):
            # Process 1 is gone only when everything in its namespace is; its parent may be gone before that.
            watched.append(stack.enter_context(_watched(supervisor := process.supervisor)))
            if gently:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(supervisor, signal.SIGTERM)
                if all(wait_for_exit(one, deadline) for one in watched):
                    return
        for one in watched:
            if one is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(one, signal.SIGKILL)
        if not all(wait_for_exit(one, 10) for one in watched):
            raise problems.NotReady(f"process {process.pid} of the cluster did not end")


@contextlib.contextmanager
def _watched(pid: int) -> Iterator[int | None]:
    """A descriptor of a process, which no other process can come to have; nothing where it is gone already."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def wait_for_exit(watched: int | None, deadline: float) -> bool:
    """Whether the process behind this descriptor ends within so many seconds."""
    if watched is None:
        return True
    waiting = select.poll()
    waiting.register(watched, select.POLLIN)
    return bool(waiting.poll(deadline * 1000))


@contextlib.contextmanager
def exclusive(at: paths.Paths, reporter: progress.Reporter, *, deadline: float = 3600.0) -> Iterator[None]:
    """One `up` or `down` of a cluster at a time; the second waits, and says so.

    Raises:
        NotReady: Another one took longer than `deadline` seconds.
    """
    # In the cache: the cluster's own folder may be removed by the one who has the lock.
    at.locks.mkdir(parents=True, exist_ok=True)
    with (at.locks / at.name).open("w") as handle:
        ends = time.monotonic() + deadline
        if busy(at):
            reporter.line(f"waiting for another command that is busy with cluster {at.name}")
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > ends:
                    raise problems.NotReady(f"another command has been busy with cluster {at.name}") from None
                time.sleep(0.1)  # a lock has no descriptor to wait on
        yield
