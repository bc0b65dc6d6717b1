"""The process of a running local cluster, as the machine sees it: find it, stop it, and the locks around that.

Only a held lock says that a cluster runs: the kernel releases it when the last process with its descriptor ends.
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
    """A running cluster: the `unshare` process, whose child is process 1 of the cluster's namespaces."""

    pid: int
    settings: Settings
    port: int
    ready: bool
    started: float  # seconds since the epoch

    @property
    def supervisor(self) -> int:
        """The machine's pid of the supervisor, which is process 1 inside the namespaces.

        Raises:
            NotRunning: It has ended.
        """
        with contextlib.suppress(OSError, IndexError):
            return int(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()[0])
        raise problems.NotRunning("the cluster is stopping")


def write_record(folders: paths.Paths, **values: Any) -> None:
    """Write the record of the running cluster's process, atomically."""
    temporary = folders.state / ".holder.half"
    temporary.write_text(json.dumps(values))
    temporary.replace(folders.state / "holder.json")


def mark_ready(folders: paths.Paths) -> None:
    """Mark the cluster as started; until then another `up` takes it for the remains of one that was killed."""
    write_record(folders, **{**json.loads((folders.state / "holder.json").read_text()), "ready": True})


def _try_lock(path: Path, kind: int) -> int | None:
    """Take a lock and return its descriptor; None where another process has a conflicting one."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def lock(folders: paths.Paths, *, deadline: float = 10.0) -> int:
    """Take the lock that a running cluster holds; a cluster that is ending, or `find`, may have it for a moment.

    Raises:
        NotReady: It was not free within `deadline` seconds.
    """
    ends = time.monotonic() + deadline
    while (descriptor := _try_lock(folders.state / "holder.lock", fcntl.LOCK_EX)) is None:
        if time.monotonic() > ends:
            raise problems.NotReady(f"cluster {folders.name} is still stopping", remedy="Run the command again.")
        time.sleep(0.02)  # flock has no event to wait for with a deadline
    return descriptor


def find(folders: paths.Paths) -> SupervisorProcess | None:
    """The process of the cluster with these paths; None where the cluster is not running."""
    if not _held(folders.state / "holder.lock"):
        return None
    try:
        record = json.loads((folders.state / "holder.json").read_text())
        if not Path(f"/proc/{record['pid']}").exists():
            return None  # it was killed, and its last processes are just ending
        return SupervisorProcess(
            pid=record["pid"],
            settings=Settings.read(record["settings"]),
            port=record["port"],
            ready=record["ready"],
            started=record["started"],
        )
    except (OSError, ValueError, KeyError):
        # The lock is held and the record is not written yet: the cluster is just being started.
        return None


def _held(path: Path) -> bool:
    """Whether another process holds this lock exclusively. Takes it shared: two checks must not see each other."""
    if not path.exists():
        return False
    free = _try_lock(path, fcntl.LOCK_SH)
    if free is not None:
        os.close(free)
    return free is None


def busy(folders: paths.Paths) -> bool:
    """Whether another `up` or `down` of this cluster is running."""
    return _held(folders.locks / folders.name)


def require(folders: paths.Paths) -> SupervisorProcess:
    """The process of the cluster, which must be running and ready.

    Raises:
        NotRunning: It is not.
    """
    process = find(folders)
    if process is None or not process.ready:
        raise not_running(folders)
    return process


def not_running(folders: paths.Paths) -> problems.NotRunning:
    """The error that a cluster is not running; it names those of this user that are."""
    running = sorted(
        state.name for state in folders.state.parent.glob("*") if state.is_dir() and _held(state / "holder.lock")
    )
    remedy = f"Start it: {folders.command_line('up')}"
    others = f". Clusters that run: {', '.join(running)}" if running else ""
    return problems.NotRunning(f"cluster {folders.name} is not running", remedy=remedy + others)


def nsenter(process: SupervisorProcess) -> list[str]:
    """The command-line prefix that runs a command inside the cluster's namespaces."""
    return ["nsenter", f"--target={process.supervisor}", "--mount", "--net", "--pid", "--ipc", "--wd=/", "--"]


def stop(process: SupervisorProcess, *, gently: bool, deadline: float) -> None:
    """Stop a cluster's processes.

    Args:
        process: The cluster's process.
        gently: Whether to send SIGTERM first, and SIGKILL only after the deadline.
        deadline: Seconds that a gentle stop may take.

    Raises:
        NotReady: A process is still there 10 s after SIGKILL.
    """
    with contextlib.ExitStack() as stack:
        watched = [stack.enter_context(_watched(process.pid))]
        with contextlib.suppress(problems.NotRunning):
            # Process 1 ends only after everything in its pid namespace; its parent may end before it.
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
            raise problems.NotReady(f"process {process.pid} of the cluster did not end after SIGKILL")


@contextlib.contextmanager
def _watched(pid: int) -> Iterator[int | None]:
    """A pidfd of a process, which unlike a pid is never reused; None where the process has ended."""
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
    """Wait for the process of a pidfd to end, at most `deadline` seconds; returns whether it has."""
    if watched is None:
        return True
    waiting = select.poll()
    waiting.register(watched, select.POLLIN)
    return bool(waiting.poll(deadline * 1000))


@contextlib.contextmanager
def exclusive(folders: paths.Paths, reporter: progress.Reporter, *, deadline: float = 3600.0) -> Iterator[None]:
    """Hold the lock that lets one `up` or `down` of a cluster run at a time; reports that it waits for another.

    Raises:
        NotReady: Another command held it for `deadline` seconds.
    """
    # The lock file is in the cache: `down --purge` deletes the cluster's own folder while it holds the lock.
    folders.locks.mkdir(parents=True, exist_ok=True)
    with (folders.locks / folders.name).open("w") as handle:
        ends = time.monotonic() + deadline
        if busy(folders):
            reporter.line(f"waiting for another command on cluster {folders.name}")
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > ends:
                    raise problems.NotReady(f"another command on cluster {folders.name} is still running") from None
                time.sleep(0.1)  # flock has no event to wait for with a deadline
        yield
