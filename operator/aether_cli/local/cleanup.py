"""Removes what a stopped cluster left on the machine: cgroups and files; its namespaces end with its processes."""

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
    """The mounted cgroup hierarchies: one with cgroup v2, one per controller with v1."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        kind = fields[fields.index("-") + 1]
        if kind in {"cgroup", "cgroup2"}:
            found.append(Path(fields[4]))
    return found


def make_control_groups(folders: paths.Paths) -> None:
    """Create the cluster's cgroup in every hierarchy; the kubelet requires its root to exist."""
    for hierarchy in hierarchies():
        group = hierarchy / folders.cgroup().strip("/")
        group.mkdir(exist_ok=True)
        for parent in (hierarchy, group):
            control = parent / "cgroup.subtree_control"
            if control.exists():
                for controller in (parent / "cgroup.controllers").read_text().split():
                    # One at a time: a controller that cannot be enabled here must not prevent the others.
                    with contextlib.suppress(OSError):
                        control.write_text(f"+{controller}")


def remove_control_groups(folders: paths.Paths, *, deadline: float = 10.0) -> None:
    """Remove the cluster's cgroups, leaves first.

    Args:
        folders: The cluster's paths.
        deadline: Seconds; processes that were just killed keep their cgroup busy for a moment.
    """
    ends = time.monotonic() + deadline
    for hierarchy in hierarchies():
        for group in _leaves_first(hierarchy / folders.cgroup().strip("/")):
            while True:
                try:
                    group.rmdir()
                except FileNotFoundError:
                    break
                except OSError:
                    if time.monotonic() > ends:
                        raise
                    time.sleep(0.02)  # cgroup v1 has no event for a group that became empty
                else:
                    break


def _leaves_first(group: Path) -> Iterator[Path]:
    for folder, _, _ in os.walk(group, topdown=False):
        yield Path(folder)


def remove_leftovers(folders: paths.Paths) -> None:
    """Remove what the next start of the cluster must not find: cgroups, and the kubelet's and CNI's state."""
    remove_control_groups(folders)
    # The pods' folders: their mounts ended with the namespace, and the next kubelet creates them again.
    for folder in (folders.var / "lib/kubelet", folders.var / "lib/cni", folders.var / "tmp"):
        if folder.exists():
            shutil.rmtree(folder)


def purge(folders: paths.Paths) -> None:
    """Delete the cluster's state and volumes. The cache stays: all clusters share it."""
    for folder in (folders.state, folders.volumes):
        if folder.exists():
            shutil.rmtree(folder)
