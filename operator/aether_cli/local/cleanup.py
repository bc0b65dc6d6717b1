"""Removes what a dead cluster left on the machine: control groups and files; namespaces go by themselves."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aether_cli.local import paths


def hierarchies() -> list[Path]:
    """The mounted hierarchies of control groups: one with version 2, one per controller with version 1."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        kind = fields[fields.index("-") + 1]
        if kind in {"cgroup", "cgroup2"}:
            found.append(Path(fields[4]))
    return found


def make_control_groups(at: paths.Paths) -> None:
    """The cluster's own root in every hierarchy; the kubelet wants it to be there."""
    for hierarchy in hierarchies():
        group = hierarchy / at.cgroup().strip("/")
        group.mkdir(exist_ok=True)
        for place in (hierarchy, group):
            control = place / "cgroup.subtree_control"
            if control.exists():
                for controller in (place / "cgroup.controllers").read_text().split():
                    # Each by itself: a controller that cannot be handed down here must not keep the others back.
                    with contextlib.suppress(OSError):
                        control.write_text(f"+{controller}")


def remove_control_groups(at: paths.Paths, *, deadline: float = 10.0) -> None:
    """The cluster's control groups, leaves first; processes that were just killed may need a moment to be gone."""
    ends = time.monotonic() + deadline
    for hierarchy in hierarchies():
        for group in _leaves_first(hierarchy / at.cgroup().strip("/")):
            while True:
                try:
                    group.rmdir()
                except FileNotFoundError:
                    break
                except OSError:
                    if time.monotonic() > ends:
                        raise
                    time.sleep(0.02)  # the kernel has no event for a group that became empty in version 1
                else:
                    break


def _leaves_first(group: Path) -> Iterator[Path]:
    for folder, _, _ in os.walk(group, topdown=False):
        yield Path(folder)


def remove_leftovers(at: paths.Paths) -> None:
    """What the last life of this cluster left and the next must not find."""
    remove_control_groups(at)
    # Pods' own folders: their mounts died with the namespace, and the next kubelet makes them anew.
    for folder in (at.var / "lib/kubelet", at.var / "lib/cni", at.var / "tmp"):
        if folder.exists():
            shutil.rmtree(folder)


def purge(at: paths.Paths) -> None:
    """Everything of this cluster, data included. The cache stays: it belongs to all."""
    for folder in (at.state, at.volumes):
        if folder.exists():
            shutil.rmtree(folder)
