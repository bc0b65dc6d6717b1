"""Where things are on the machine: the folders of a cluster and of the caches. Values only."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from aether_cli import problems

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME: Final = re.compile(r"[a-z]([a-z0-9-]{0,18}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """The folders of one cluster (its own), and the cache (shared by all)."""

    name: str
    state: Path
    volumes: Path
    cache: Path

    def record(self) -> dict[str, str]:
        """As JSON values."""
        return {"name": self.name, "state": str(self.state), "volumes": str(self.volumes), "cache": str(self.cache)}

    @classmethod
    def read(cls, record: Mapping[str, str]) -> Self:
        """The inverse of `record`."""
        folders = {key: Path(record[key]) for key in ("state", "volumes", "cache")}
        return cls(name=record["name"], **folders)

    @property
    def kubeconfig(self) -> Path:
        """For any client on this machine."""
        return self.state / "kubeconfig"

    @property
    def logs(self) -> Path:
        """One file per component."""
        return self.state / "logs"

    @property
    def var(self) -> Path:
        """What the cluster sees as /var."""
        return self.state / "var"

    @property
    def images(self) -> Path:
        """Built images, as archives."""
        return self.cache / "images"

    @property
    def locks(self) -> Path:
        """One file per cluster name: who starts or stops it."""
        return self.cache / "locks"

    def cgroup(self) -> str:
        """The root of the cluster's control groups, relative to each hierarchy: they are the whole machine's."""
        return f"/aether-{self.name}-{hashlib.sha256(str(self.state).encode()).hexdigest()[:8]}"


def of(name: str, env: Mapping[str, str]) -> Paths:
    """The places of the cluster with this name, after the XDG base directory rules.

    Raises:
        BadInput: The name cannot be the name of a folder and of a control group.
    """
    if not NAME.fullmatch(name):
        raise problems.BadInput(
            f"name: {name!r} is not a cluster's name",
            remedy="Use up to 20 lower-case letters, digits and dashes, a letter first.",
        )
    home = Path(env.get("HOME") or "/root")

    def base(variable: str, otherwise: str) -> Path:
        said = env.get(variable, "")
        # A relative XDG path is to be ignored, says the specification.
        return Path(said) if said.startswith("/") else home / otherwise

    return Paths(
        name=name,
        state=base("XDG_STATE_HOME", ".local/state") / "aether" / "clusters" / name,
        volumes=base("XDG_DATA_HOME", ".local/share") / "aether" / "volumes" / name,
        cache=base("XDG_CACHE_HOME", ".cache") / "aether",
    )
