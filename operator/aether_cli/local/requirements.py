"""What a machine must have to run a cluster, and how what it lacks is said. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from aether_cli.local.settings import Settings

GIB: Final = 1 << 30

# Program → the Debian package that brings it. The list that `make` installs is compared with this table by a test.
ALWAYS: Final[Mapping[str, str]] = {
    "setpriv": "util-linux",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
    "ip": "iproute2",
    "/lib/systemd/systemd-socket-proxyd": "systemd",
}
NODE: Final[Mapping[str, str]] = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "/usr/lib/cni/host-local": "containernetworking-plugins",
    "/usr/lib/cni/portmap": "containernetworking-plugins",
}
EGRESS: Final[Mapping[str, str]] = {"slirp4netns": "slirp4netns"}
BUILDAH: Final[Mapping[str, str]] = {"buildah": "buildah", "mmdebstrap": "mmdebstrap"}

LEAST_GO: Final = (1, 26)
"""The oldest toolchain that our modules build with: the `go` line of the newest of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What was seen of the machine, before anything is changed.

    Sizes are in bytes. `programs` holds those of the tables above that were found.
    """

    root: bool
    namespaces: bool
    programs: frozenset[str]
    memory: int
    disk: int
    go: str
    to_build: tuple[str, ...]
    docker: bool
    filesystems: frozenset[str]
    port_taken: bool
    folders: tuple[Path, ...]
    has_repository: bool


def tables(chosen: Settings, *, docker: bool) -> dict[str, str]:
    """The programs that these settings need."""
    wanted = dict(ALWAYS)
    if chosen.has_node:
        wanted |= NODE
        wanted |= {} if docker else BUILDAH
    if chosen.egress:
        wanted |= EGRESS
    return wanted


@dataclass(frozen=True, slots=True)
class Lack:
    """One thing that is missing, and what to do: one line each."""

    cause: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.cause}. {self.remedy}"


def lacks(seen: Machine, chosen: Settings) -> list[Lack]:
    """Everything that stands in the way, most basic first; an empty list is a yes."""
    if not seen.root:
        return [
            Lack(
                "root: a cluster makes namespaces, mounts and control groups",
                "Run it with sudo, or use a cluster you have: --context NAME",
            )
        ]
    return [*_programs(seen, chosen), *_sizes(seen, chosen), *_surroundings(seen, chosen)]


def _programs(seen: Machine, chosen: Settings) -> list[Lack]:
    wanted = tables(chosen, docker=seen.docker)
    absent = sorted(name for name in wanted if name not in seen.programs)
    packages = sorted({wanted[name] for name in absent})
    found = []
    if absent:
        names = ", ".join(name.rsplit("/", 1)[-1] for name in absent)
        found.append(Lack(f"packages: {names} not found", f"Install them: apt-get install {' '.join(packages)}"))
    if seen.to_build and go_version(seen.go) < LEAST_GO:
        what = f"go: {seen.go or 'none'} found, and {len(seen.to_build)} programs have to be built"
        least = ".".join(map(str, LEAST_GO))
        found.append(Lack(what, f"Install Go {least} or newer (`make` does), or set KUBEBUILDER_ASSETS"))
    if chosen.has_node and not seen.has_repository:
        found.append(Lack("images: no images folder beside this program", "Run aether from a clone of its repository"))
    return found


def _sizes(seen: Machine, chosen: Settings) -> list[Lack]:
    memory = (3 if seen.to_build else 1) * GIB + (2 * GIB if chosen.has_node else 0)
    disk = (8 if seen.to_build else 0) * GIB + (3 if chosen.has_node else 1) * GIB
    found = []
    if seen.memory < memory:
        found.append(
            Lack(f"memory: {_gib(seen.memory)} available, {_gib(memory)} needed", "Close something, or add memory")
        )
    if seen.disk < disk:
        found.append(
            Lack(
                f"disk: {_gib(seen.disk)} free, {_gib(disk)} needed",
                "Free some, or point XDG_CACHE_HOME, XDG_STATE_HOME and XDG_DATA_HOME at a larger disk",
            )
        )
    return found


def _surroundings(seen: Machine, chosen: Settings) -> list[Lack]:
    found = []
    if "unshare" in seen.programs and not seen.namespaces:
        found.append(
            Lack("namespaces: this root may not make any", "Run it outside of the container, or with more rights")
        )
    if seen.port_taken:
        found.append(
            Lack(f"port: 127.0.0.1:{chosen.port} is in use", "Choose another: --port N (0 takes any free one)")
        )
    if chosen.has_node and "overlay" not in seen.filesystems:
        found.append(Lack("kernel: no overlay file system", "Load it: modprobe overlay"))
    hidden = [folder for folder in seen.folders if folder.parts[1:2] in {("var",), ("run",)}]
    if hidden:
        # The cluster has its own /var and /run: what it needs from the machine must lie elsewhere.
        found.append(
            Lack(
                f"folders: {hidden[0]} lies under /{hidden[0].parts[1]}, of which a cluster has its own",
                "Move it, or point XDG_CACHE_HOME, XDG_STATE_HOME, XDG_DATA_HOME or KUBEBUILDER_ASSETS elsewhere",
            )
        )
    return found


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


def go_version(go: str) -> tuple[int, ...]:
    """What a toolchain says of itself, such as go1.26.8, to be compared; nothing is older than everything."""
    return tuple(int(part) for part in go.removeprefix("go").split(".")[:2] if part.isdigit())
