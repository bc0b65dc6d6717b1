"""Checks that the machine meets the requirements, before anything is changed."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aether_cli import problems, processes
from aether_cli.local import program_builder, requirements

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aether_cli.local import binaries, paths
    from aether_cli.local.settings import Settings


def docker_engine() -> bool:
    """Whether a Docker engine responds; the client alone is not enough."""
    if shutil.which("docker") is None:
        return False
    try:
        processes.run(["docker", "info", "--format", "{{.ServerVersion}}"], deadline=5)
    except problems.ProgramFailed:
        return False
    return True


def repository() -> Path | None:
    """The clone of the repository that this program runs from; None if it does not."""
    top = Path(__file__).resolve().parents[3]
    return top if (top / "images").is_dir() else None


def port_in_use(port: int) -> bool:
    """Whether something listens on the port. Checked by connecting: binding could collide with another `up`."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def open_port(port: int) -> socket.socket | None:
    """A listening socket on the machine's loopback; None where the port is in use."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen(512)
    except OSError:
        listening.close()
        return None
    return listening


def inspect(
    chosen: Settings,
    folders: paths.Paths,
    required: Sequence[binaries.Binary],
    env: Mapping[str, str],
    *,
    port_taken: bool,
) -> requirements.Machine:
    """Collect what the requirements are checked against. Changes nothing.

    Args:
        chosen: The cluster's settings.
        folders: Its paths.
        required: The programs that it needs.
        env: The environment.
        port_taken: Whether another process uses the port.
    """
    docker = docker_engine() if chosen.has_node else False
    programs = requirements.required_programs(chosen, docker=docker)
    assets = [Path(given)] if (given := env.get("KUBEBUILDER_ASSETS", "")) else []
    to_build = tuple(program_builder.missing(required, folders.cache, env))
    return requirements.Machine(
        root=os.geteuid() == 0,
        namespaces=_makes_namespaces(),
        programs=frozenset(name for name in programs if shutil.which(name)),
        memory=_available_memory(),
        disk=min(_free(folder) for folder in (folders.cache, folders.state, folders.volumes)),
        go=program_builder.toolchain()[1] if to_build else "",
        to_build=to_build,
        docker=docker,
        filesystems=frozenset(line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()),
        port_taken=port_taken,
        folders=tuple(
            folder.resolve()
            for folder in (folders.cache, folders.state, folders.volumes, Path(sys.prefix), Path(__file__), *assets)
        ),
        has_repository=repository() is not None,
    )


def require(machine: requirements.Machine, chosen: Settings) -> None:
    """Check the requirements; the error lists everything that is missing.

    Raises:
        NotPossibleHere: A requirement is not met; nothing was changed.
    """
    found = requirements.missing(machine, chosen)
    if found:
        raise problems.NotPossibleHere("\n".join(map(str, found)), remedy="Nothing was changed.")


def _makes_namespaces() -> bool:
    """Whether this process may create namespaces; root in a container often may not."""
    try:
        processes.run(["unshare", "--mount", "--net", "--pid", "--fork", "/bin/true"], deadline=20)
    except problems.ProgramFailed:
        return False
    return True


def _available_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _free(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
