"""The state of a local cluster as the machine shows it, without its API: its components and its memory."""

from __future__ import annotations

import contextlib
import datetime
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aether_cli.local import supervisor_process

if TYPE_CHECKING:
    from aether_cli.local import paths


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentState:
    """A component's state as its supervisor reports it."""

    name: str
    ready: bool
    restarts: int
    causes: tuple[str, ...]
    """Why it ended, the last three times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalState:
    """A local cluster, running or not."""

    name: str
    running: bool
    profile: str
    server: str
    kubeconfig: str
    egress: bool
    uptime_seconds: float
    memory_bytes: int
    """Proportional set size of all the cluster's processes, pods included."""
    components: tuple[ComponentState, ...]

    @property
    def healthy(self) -> bool:
        """Whether the cluster runs and all its components are ready."""
        return self.running and bool(self.components) and all(component.ready for component in self.components)

    def record(self) -> dict[str, Any]:
        """The state as JSON values."""
        return asdict(self)


def read_state(folders: paths.Paths, *, now: float) -> LocalState:
    """Read the state of a cluster. Needs no root for a cluster of the same user.

    Args:
        folders: The cluster's paths.
        now: Seconds since the epoch.
    """
    process = supervisor_process.find(folders)
    states: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        states = json.loads((folders.state / "components.json").read_text())
    running = process is not None and process.ready
    return LocalState(
        name=folders.name,
        running=running,
        profile=str(process.settings.profile) if process else "",
        server=f"https://127.0.0.1:{process.port}" if process else "",
        kubeconfig=str(folders.kubeconfig) if process else "",
        egress=bool(process and process.settings.egress),
        uptime_seconds=now - process.started if process else 0.0,
        memory_bytes=memory(process.pid) if process else 0,
        components=tuple(
            ComponentState(name=name, ready=one["ready"], restarts=one["restarts"], causes=tuple(one["causes"]))
            for name, one in (states.items() if running else ())
        ),
    )


def processes(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def memory(pid: int) -> int:
    """The proportional set sizes of a process and its descendants, in bytes."""
    total = 0
    for one in processes(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def duration(seconds: float) -> str:
    """A duration as days and H:MM:SS."""
    return str(datetime.timedelta(seconds=round(seconds)))
