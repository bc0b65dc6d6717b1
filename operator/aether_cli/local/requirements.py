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

MINIMUM_GO: Final = (1, 26)
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


def required_programs(chosen: Settings, *, docker: bool) -> dict[str, str]:
    """The programs that these settings need."""
    required = dict(ALWAYS)
    if chosen.has_node:
        required |= NODE
        required |= {} if docker else BUILDAH
    if chosen.egress:
        required |= EGRESS
    return required


@dataclass(frozen=True, slots=True)
class MissingRequirement:
    """One thing that is missing, and what to do: one line each."""

    cause: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.cause}. {self.remedy}"


def missing(machine: Machine, chosen: Settings) -> list[MissingRequirement]:
    """Everything that stands in the way, most basic first; an empty list is a yes."""
    if not machine.root:
        return [
            MissingRequirement(
                "root: a cluster makes namespaces, mounts and control groups",
                "Run it with sudo, or use a cluster you have: --context NAME",
            )
        ]
    return [*_programs(machine, chosen), *_sizes(machine, chosen), *_surroundings(machine, chosen)]


def _programs(machine: Machine, chosen: Settings) -> list[MissingRequirement]:
    required = required_programs(chosen, docker=machine.docker)
    absent = sorted(name for name in required if name not in machine.programs)
    packages = sorted({required[name] for name in absent})
    found = []
    if absent:
        names = ", ".join(name.rsplit("/", 1)[-1] for name in absent)
        found.append(
            MissingRequirement(f"packages: {names} not found", f"Install them: apt-get install {' '.join(packages)}")
        )
    if machine.to_build and go_version(machine.go) < MINIMUM_GO:
        what = f"go: {machine.go or 'none'} found, and {len(machine.to_build)} programs have to be built"
        least = ".".join(map(str, MINIMUM_GO))
        found.append(MissingRequirement(what, f"Install Go {least} or newer (`make` does), or set KUBEBUILDER_ASSETS"))
    if chosen.has_node and not machine.has_repository:
        found.append(
            MissingRequirement(
                "images: no images folder beside this program", "Run aether from a clone of its repository"
            )
        )
    return found


def _sizes(machine: Machine, chosen: Settings) -> list[MissingRequirement]:
    memory = (3 if machine.to_build else 1) * GIB + (2 * GIB if chosen.has_node else 0)
    disk = (8 if machine.to_build else 0) * GIB + (3 if chosen.has_node else 1) * GIB
    found = []
    if machine.memory < memory:
        found.append(
            MissingRequirement(
                f"memory: {_gib(machine.memory)} available, {_gib(memory)} needed", "Close something, or add memory"
            )
        )
    if machine.disk < disk:
        found.append(
            MissingRequirement(
                f"disk: {_gib(machine.disk)} free, {_gib(disk)} needed",
                "Free some, or point XDG_CACHE_HOME, XDG_STATE_HOME and XDG_DATA_HOME at a larger disk",
            )
        )
    return found


def _surroundings(machine: Machine, chosen: Settings) -> list[MissingRequirement]:
    found = []
    if "unshare" in machine.programs and not machine.namespaces:
        found.append(
            MissingRequirement(
                "namespaces: this root may not make any", "Run it outside of the container, or with more rights"
            )
        )
    if machine.port_taken:
        found.append(
            MissingRequirement(
                f"port: 127.0.0.1:{chosen.port} is in use", "Choose another: --port N (0 takes any free one)"
            )
        )
    if chosen.has_node and "overlay" not in machine.filesystems:
        found.append(MissingRequirement("kernel: no overlay file system", "Load it: modprobe overlay"))
    hidden = [folder for folder in machine.folders if folder.parts[1:2] in {("var",), ("run",)}]
    if hidden:
        # The cluster has its own /var and /run: what it needs from the machine must lie elsewhere.
        found.append(
            MissingRequirement(
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
