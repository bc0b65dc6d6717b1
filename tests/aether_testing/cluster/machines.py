"""What a cluster could leave behind on the machine, as sets that a test compares before and after.

Meanwhile the test runs in separate namespaces (`isolated`): it does not see what other programs of the machine do,
another Kubernetes included; every change that it sees comes from the test or from what it started.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aether_cli.local import cleanup, supervisor

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMESPACE_KINDS: Final = ("net", "pid")  # not mounts: systemd's services have such namespaces, and come and go
KERNEL_SETTINGS: Final = ("net/ipv4/ip_forward", "net/ipv4/conf/all/forwarding", "net/ipv4/conf/default/forwarding")
"""Settings of a network namespace that a cluster changes in its own. For the machine-wide ones see `reachable`."""
FOLDERS: Final = ("/etc", "/opt", "/usr/libexec", "/var/lib")
"""Folders of the machine that programs are likely to write to."""
# <linux/sched.h>; os.unshare and os.setns are there from Python 3.12 on.
_CLONE_FS: Final = 0x00000200
_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWNET: Final = 0x40000000
_libc: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What a cluster may change while it runs, and must restore."""

    processes: frozenset[str]
    """Those in this network namespace, those with `mark` in their command line, and the descendants of both."""
    namespaces: frozenset[str]
    mounts: frozenset[str]
    links: frozenset[str]
    routes: frozenset[str]
    rules: frozenset[str]
    control_groups: frozenset[str]
    """Those with the mark in their names."""
    kernel_settings: frozenset[str]
    files: frozenset[str]
    """Files that were written in FOLDERS."""

    def changes_since(self, before: Traces) -> dict[str, list[str]]:
        """The differences to an earlier snapshot, per field; empty where nothing was left behind."""
        changes = {}
        for one in fields(self):
            now, then = getattr(self, one.name), getattr(before, one.name)
            if now != then:
                changes[one.name] = [*(f"+ {x}" for x in sorted(now - then)), *(f"- {x}" for x in sorted(then - now))]
        return changes


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine as an isolated test sees it."""

    written: Path
    """Overlayfs's upper layer of FOLDERS: what is written there is stored here."""

    def snapshot(self, mark: str) -> Traces:
        """Take a snapshot.

        Args:
            mark: A text in the command lines of the cluster's processes: its name, or its folder.
        """
        processes, namespaces = _processes(mark)
        return Traces(
            processes=processes,
            namespaces=namespaces,
            # thread-self: namespaces are per thread, and /proc/self is the process's first thread.
            mounts=frozenset(
                line.split(" ", 1)[1] for line in Path("/proc/thread-self/mountinfo").read_text().splitlines()
            ),
            links=frozenset(one["ifname"] for one in json.loads(_output("ip", "-json", "link", "show"))),
            routes=frozenset(
                re.sub(r" expires \S+", "", line)
                for line in _output("ip", "route", "show", "table", "all").splitlines()
            ),
            rules=frozenset(line for line in _output("iptables-save").splitlines() if line[:1] in {":", "-"}),
            control_groups=frozenset(
                str(group) for hierarchy in cleanup.hierarchies() for group in hierarchy.glob(f"aether*{mark}*")
            ),
            kernel_settings=frozenset(
                f"{name}={Path('/proc/sys', name).read_text().strip()}" for name in KERNEL_SETTINGS
            ),
            files=frozenset(
                f"/{path.relative_to(self.written)}"
                for watched in FOLDERS
                for path in (self.written / watched.lstrip("/")).rglob("*")
            ),
        )


@contextlib.contextmanager
def isolated(folder: Path) -> Iterator[Machine]:
    """Run this thread, and what it starts, in a new network and mount namespace; the network has a loopback.

    Args:
        folder: An empty folder, which takes what is written in FOLDERS meanwhile.
    """
    cwd = Path.cwd()
    spaces = [os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("net", "mnt")]
    try:
        _call("unshare", _CLONE_NEWNET | _CLONE_NEWNS)
        _output("ip", "link", "set", "lo", "up")
        _output("mount", "--make-rprivate", "/")
        written = folder / "written"
        for watched in FOLDERS:
            upper, work = written / watched.lstrip("/"), folder / "work" / watched.lstrip("/")
            upper.mkdir(parents=True)
            work.mkdir(parents=True)
            options = f"lowerdir={watched},upperdir={upper},workdir={work}"
            _output("mount", "-t", "overlay", "-o", options, "overlay", watched)
        yield Machine(written)
    finally:
        # Threads started meanwhile share this one's root and working directory; setns on mounts requires them unshared.
        _call("unshare", _CLONE_FS)
        for space in spaces:
            _call("setns", space, 0)
            os.close(space)
        os.chdir(cwd)


def reachable(process: int) -> set[str]:
    """The machine-wide sysctls that a process of a cluster could still change: those without a mask."""
    lines = Path(f"/proc/{process}/mountinfo").read_text().splitlines()
    covered = {line.split()[4] for line in lines}
    return {name for name in supervisor.MASKED_SYSCTLS if f"/proc/sys/{name}" not in covered}


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _processes(mark: str) -> tuple[frozenset[str], frozenset[str]]:
    ours = {kind: _namespace("thread-self", kind) for kind in NAMESPACE_KINDS}
    commands, parents, spaces = dict[str, str](), dict[str, str](), dict[str, set[str]]()
    found = set[str]()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or entry.name == str(os.getpid()):
            continue
        try:
            command = (entry / "cmdline").read_text(errors="replace").replace("\0", " ").strip()
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            theirs = {kind: _namespace(entry.name, kind) for kind in NAMESPACE_KINDS}
        except OSError:
            continue  # it ended meanwhile
        commands[entry.name], parents[entry.name] = command, parent
        spaces[entry.name] = {space for kind, space in theirs.items() if space != ours[kind]}
        if theirs["net"] == ours["net"] or mark in command:
            found.add(entry.name)

    def belongs(pid: str) -> bool:
        while pid in commands and pid not in found:
            pid = parents[pid]
        return pid in found

    found |= {pid for pid in commands if belongs(pid)}
    return frozenset(f"{pid} {commands[pid][:120]}" for pid in found), frozenset().union(
        *(spaces[pid] for pid in found)
    )


def _namespace(process: str, kind: str) -> str:
    return str(Path(f"/proc/{process}/ns/{kind}").readlink())


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
