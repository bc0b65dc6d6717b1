"""Looks at the whole machine: what a cluster could leave behind, as sets that a test compares before and after."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path

from aether_cli.local import supervising, tidying

NAMESPACE_KINDS = ("net", "pid")  # services of systemd have mounts of their own, and come and go


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """Everything of the machine that a cluster may touch while it runs and must give back."""

    processes: frozenset[str]
    """Those that have to do with `mark`, or live in namespaces other than ours."""
    namespaces: frozenset[str]
    mounts: frozenset[str]
    links: frozenset[str]
    routes: frozenset[str]
    rules: frozenset[str]
    control_groups: frozenset[str]
    """Those of the cluster with the mark."""
    kernel_settings: frozenset[str]
    folders: frozenset[str]
    """What lies directly in the places of the machine where programs like to leave something."""

    def beyond(self, before: Traces) -> dict[str, list[str]]:
        """What is here and was not then, or was then and is not here; an empty dict is a clean machine."""
        changes = {}
        for one in fields(self):
            now, then = getattr(self, one.name), getattr(before, one.name)
            if one.name == "kernel_settings":  # one that came with a module is nobody's change
                names = {line.partition("=")[0] for line in then}
                now = {line for line in now if line.partition("=")[0] in names}
            if now != then:
                changes[one.name] = [*(f"+ {x}" for x in sorted(now - then)), *(f"- {x}" for x in sorted(then - now))]
        return changes


def look(mark: str) -> Traces:
    """See the machine. `mark` is a text in the command lines of the cluster's processes: its folder, its name."""
    processes, namespaces = _processes(mark)
    return Traces(
        processes=processes,
        namespaces=namespaces,
        mounts=frozenset(line.split(" ", 1)[1] for line in Path("/proc/self/mountinfo").read_text().splitlines()),
        links=frozenset(one["ifname"] for one in json.loads(_said("ip", "-json", "link", "show"))),
        routes=frozenset(
            re.sub(r" expires \S+", "", line) for line in _said("ip", "route", "show", "table", "all").splitlines()
        ),
        rules=frozenset(line for line in _said("iptables-save").splitlines() if line[:1] in {":", "-"}),
        control_groups=frozenset(
            str(group) for hierarchy in tidying.hierarchies() for group in hierarchy.glob(f"aether*{mark}*")
        ),
        kernel_settings=frozenset(
            f"{name}={Path('/proc/sys', name).read_text().strip()}"
            for name in (*supervising.SHOWN_SYSCTLS, "net/ipv4/ip_forward", "net/netfilter/nf_conntrack_max")
            if Path("/proc/sys", name).exists()
        ),
        folders=frozenset(
            str(path) for place in ("/etc", "/opt", "/usr/libexec", "/var/lib") for path in Path(place).glob("*")
        ),
    )


def _processes(mark: str) -> tuple[frozenset[str], frozenset[str]]:
    ours = {kind: _namespace("self", kind) for kind in NAMESPACE_KINDS}
    commands, parents, spaces = dict[str, str](), dict[str, str](), dict[str, set[str]]()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_text(errors="replace").replace("\0", " ").strip()
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            if _namespace(entry.name, "user") != _namespace("self", "user"):
                continue  # a browser's sandbox, a rootless container: our clusters make no user namespace
            others = {kind: _namespace(entry.name, kind) for kind in NAMESPACE_KINDS}
        except OSError:
            continue  # it has just ended
        commands[entry.name], parents[entry.name] = command, parent
        spaces[entry.name] = {space for kind, space in others.items() if space and space != ours[kind]}

    def of_another_cluster(pid: str) -> bool:
        """Whether it descends from a supervisor that is not of the cluster with the mark."""
        while pid in commands:
            if "aether_cli.local.supervising" in commands[pid]:
                return mark not in commands[pid]
            pid = parents[pid]
        return False

    found = {pid for pid in commands if (spaces[pid] or mark in commands[pid]) and not of_another_cluster(pid)}
    return frozenset(f"{pid} {commands[pid][:120]}" for pid in found), frozenset().union(
        *(spaces[pid] for pid in found)
    )


def _namespace(process: str, kind: str) -> str:
    return str(Path(f"/proc/{process}/ns/{kind}").readlink())


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
