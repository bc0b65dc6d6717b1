"""The paths of a local cluster and of the cache, after the XDG base directory specification. No I/O."""

from __future__ import annotations

import hashlib
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from aether_cli import problems

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT: Final = "aether"
"""The local cluster's name where none is given."""
NAME: Final = re.compile(r"[a-z]([a-z0-9-]{0,18}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """The folders of one cluster, and the cache that all clusters share."""

    name: str
    state: Path
    volumes: Path
    cache: Path

    def record(self) -> dict[str, str]:
        """The paths as JSON values."""
        return {"name": self.name, "state": str(self.state), "volumes": str(self.volumes), "cache": str(self.cache)}

    @classmethod
    def read(cls, record: Mapping[str, str]) -> Self:
        """The inverse of `record`."""
        folders = {key: Path(record[key]) for key in ("state", "volumes", "cache")}
        return cls(name=record["name"], **folders)

    @property
    def options(self) -> tuple[str, ...]:
        """The options that select this cluster in a command line."""
        return () if self.name == DEFAULT else ("--name", self.name)

    def command_line(self, *words: str) -> str:
        """A command line of `aether` about this cluster, for the user to type."""
        return shlex.join(["aether", *words, *self.options])

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig file for clients on this machine."""
        return self.state / "kubeconfig"

    @property
    def logs(self) -> Path:
        """The components' logs, one file each."""
        return self.state / "logs"

    @property
    def var(self) -> Path:
        """The folder that is /var inside the cluster's mount namespace."""
        return self.state / "var"

    @property
    def images(self) -> Path:
        """The archives of built images."""
        return self.cache / "images"

    @property
    def locks(self) -> Path:
        """The lock files, one per cluster name, held while `up` or `down` works on the cluster."""
        return self.cache / "locks"

    def cgroup(self) -> str:
        """The cluster's cgroup, relative to each hierarchy's root; cgroups are not per namespace, so it is unique."""
        return f"/aether-{self.name}-{hashlib.sha256(str(self.state).encode()).hexdigest()[:8]}"


def for_cluster(name: str, env: Mapping[str, str]) -> Paths:
    """The paths of the cluster with this name.

    Raises:
        BadInput: The name is not valid for a folder and a cgroup.
    """
    if not NAME.fullmatch(name):
        raise problems.BadInput(
            f"name: {name!r} is not a cluster's name",
            remedy="Use up to 20 lowercase letters, digits and hyphens, a letter first.",
        )
    home = Path(env.get("HOME") or "/root")

    def base(variable: str, default: str) -> Path:
        value = env.get(variable, "")
        # The specification has relative paths ignored.
        return Path(value) if value.startswith("/") else home / default

    return Paths(
        name=name,
        state=base("XDG_STATE_HOME", ".local/state") / "aether" / "clusters" / name,
        volumes=base("XDG_DATA_HOME", ".local/share") / "aether" / "volumes" / name,
        cache=base("XDG_CACHE_HOME", ".cache") / "aether",
    )
