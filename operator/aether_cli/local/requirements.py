"""What a machine must have to run a cluster, and the messages about what is missing. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from aether_cli.local.settings import Settings

GIB: Final = 1 << 30

# Program → its Debian package. A test compares these tables with the list that `make` installs.
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
"""The oldest toolchain that builds all modules: the highest `go` directive among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The machine's properties that the requirements are checked against.

    Sizes are in bytes. `programs` has those of the tables above that were found.
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
    """The programs that these settings need: program → Debian package."""
    required = dict(ALWAYS)
    if chosen.has_node:
        required |= NODE
        required |= {} if docker else BUILDAH
    if chosen.egress:
        required |= EGRESS
    return required


@dataclass(frozen=True, slots=True)
class MissingRequirement:
    """A requirement that is not met, and what to do: one line each."""

    cause: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.cause}. {self.remedy}"


def missing(machine: Machine, chosen: Settings) -> list[MissingRequirement]:
    """The requirements that are not met, the most basic first."""
    if not machine.root:
        return [
            MissingRequirement(
                "root: required to create namespaces, mounts and control groups",
                "Run it with sudo, or use your own cluster: --context NAME",
            )
        ]
    return [*_programs(machine, chosen), *_sizes(machine, chosen), *_system(machine, chosen)]


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
        cause = f"go: {machine.go or 'none'} found, and {len(machine.to_build)} programs have to be built"
        minimum = ".".join(map(str, MINIMUM_GO))
        remedy = f"Install Go {minimum} or newer (`make` does), or set KUBEBUILDER_ASSETS"
        found.append(MissingRequirement(cause, remedy))
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
                f"memory: {_gib(machine.memory)} available, {_gib(memory)} needed", "End other programs, or add memory"
            )
        )
    if machine.disk < disk:
        found.append(
            MissingRequirement(
                f"disk: {_gib(machine.disk)} free, {_gib(disk)} needed",
                "Free some space, or point XDG_CACHE_HOME, XDG_STATE_HOME and XDG_DATA_HOME at a larger disk",
            )
        )
    return found


def _system(machine: Machine, chosen: Settings) -> list[MissingRequirement]:
    found = []
    if "unshare" in machine.programs and not machine.namespaces:
        found.append(
            MissingRequirement(
                "namespaces: root may not create any here", "Run it outside of the container, or with more privileges"
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
        # The cluster's mount namespace has another /var and /run, which hide the machine's.
        found.append(
            MissingRequirement(
                f"folders: {hidden[0]} is under /{hidden[0].parts[1]}, which a cluster replaces by its own",
                "Move it, or point XDG_CACHE_HOME, XDG_STATE_HOME, XDG_DATA_HOME or KUBEBUILDER_ASSETS elsewhere",
            )
        )
    return found


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


def go_version(go: str) -> tuple[int, ...]:
    """Parse a toolchain's version, such as go1.26.8, to (1, 26); an empty string to (), which is lower than all."""
    return tuple(int(part) for part in go.removeprefix("go").split(".")[:2] if part.isdigit())
