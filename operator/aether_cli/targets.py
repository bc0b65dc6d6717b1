"""Which cluster a command talks to, and how every output says so: its name, its address, and the venue."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.markup import escape

from aether_cli import kubectl_client, problems, status_view
from aether_cli.local import binaries, manifests, paths, program_builder, supervisor_process
from aether_cli.options import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CREDENTIALS: Final = re.compile(r"(?<=//)[^/@]*@")
"""In an address: whoever reads an output need not know them."""
DEFAULT_NAMESPACE: Final = "default"
"""The namespace that kubectl looks in where nobody says one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A cluster: the local one, or that of a context."""

    kubectl: kubectl_client.Kubectl
    name: str
    """The local cluster's, or the context's."""
    server: str
    namespace: str
    """Where a command looks unless it is told otherwise."""
    local: bool
    command: str
    """What a person types to ask this cluster something, up to the command's own name: `aether`, `kubectl aether`."""
    options: tuple[str, ...] = ()
    """What a person adds to that, so that it is this cluster that is asked."""

    @property
    def title(self) -> str:
        """The cluster, as the first line of an output names it."""
        return f"Cluster {self.name}" if self.local else f"Context {self.name}  {self.server}"

    def heading(self, platforms: Sequence[status_view.Object] | None, *, within: str = "") -> str:
        """The first line of an output, with markup: the cluster, and the venue of each platform that is shown.

        Args:
            platforms: Those; None where they could not be read.
            within: The one namespace that they are of, where no other may be read.
        """
        venues = "venue not known" if platforms is None else status_view.venues(platforms)
        where = f"namespace {within}: " if within else ""
        return f"[bold]{escape(self.title)}[/]  {escape(where + venues)}"

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return {("name" if self.local else "context"): self.name, "server": self.server}

    def command_line(self, *words: str) -> str:
        """A command line for this same cluster, for a person to type."""
        return " ".join([self.command, *map(shlex.quote, [*words, *self.options])])

    def with_title(self, fault: problems.AetherError) -> problems.AetherError:
        """The same fault, with the cluster's name before its cause."""
        fault.cause = f"{self.title}: {fault.cause}"
        return fault


def select(name: str, context: str, kubeconfig: Path | None = None) -> Target:
    """The cluster that is meant: that of a context, or the local one, which must run.

    Args:
        name: The local cluster's; empty where there is no talk of one, as in `kubectl aether`.
        context: A context's name.
        kubeconfig: A file; its current context, where none is named.
    """
    if context or kubeconfig or not name:
        return from_context(kubectl_program(), kubeconfig=kubeconfig, context=context, plugin=not name)
    at = paths.of(name, os.environ)
    supervisor_process.require(at)  # that it does not run comes before that there is no kubectl
    return local(kubectl_program(), at, default=DEFAULT)


@contextlib.contextmanager
def errors_named(target: Target) -> Iterator[Target]:
    """Whatever goes wrong there is told with the cluster's name."""
    try:
        yield target
    except problems.AetherError as fault:
        raise target.with_title(fault) from fault


def kubectl_program() -> Path:
    """The one that belongs to the local cluster where it is built, else the person's own."""
    ours = next(binary for binary in binaries.CONTROL_PLANE if binary.name == "kubectl")
    kept = program_builder.find(ours, paths.of(DEFAULT, os.environ).cache, os.environ)
    if kept is not None:
        return kept
    if own := shutil.which("kubectl"):
        return Path(own)
    raise problems.NotPossibleHere("kubectl: not found", remedy="Install kubectl, or run `aether up`, which builds it.")


def local(program: Path, at: paths.Paths, *, default: str) -> Target:
    """The local cluster.

    Raises:
        NotRunning: It does not run.
    """
    process = supervisor_process.require(at)
    return Target(
        kubectl=kubectl_client.Kubectl(program=program, kubeconfig=at.kubeconfig, cache=at.state / "kubectl"),
        name=at.name,
        server=f"https://127.0.0.1:{process.port}",
        namespace=manifests.NAMESPACES[1],
        local=True,
        command="aether",
        options=() if at.name == default else ("--name", at.name),
    )


def from_context(program: Path, *, kubeconfig: Path | None, context: str, plugin: bool) -> Target:
    """The cluster of a context: of the one that is named, else of the current one.

    It is looked up once, so that a command goes on with the same cluster when somebody changes the current context.

    Args:
        program: kubectl.
        kubeconfig: A file; what KUBECONFIG says otherwise.
        context: Its name; empty for the current one.
        plugin: Whether kubectl's own words apply: where nobody says a namespace, it is `default`.

    Raises:
        NotRunning: There is no such context.
    """
    view = kubectl_client.Kubectl(program=program, kubeconfig=kubeconfig).json("config", "view", deadline=20)
    contexts = {one["name"]: one.get("context") or {} for one in view.get("contexts") or ()}
    clusters = {one["name"]: one.get("cluster") or {} for one in view.get("clusters") or ()}
    there = f"There are: {', '.join(sorted(contexts))}" if contexts else "There is none. Is KUBECONFIG right?"
    select = context or view.get("current-context") or ""
    if not select:
        raise problems.NotRunning("no current context", remedy=f"Name one by --context. {there}")
    if select not in contexts:
        raise problems.NotRunning(f"context {select}: not in the kubeconfig", remedy=there)
    which = contexts[select].get("cluster", "")
    if not clusters.get(which, {}).get("server"):
        raise problems.NotRunning(f"context {select}: its cluster {which!r} is not in the kubeconfig")
    otherwise = DEFAULT_NAMESPACE if plugin else manifests.NAMESPACES[1]
    return Target(
        kubectl=kubectl_client.Kubectl(program=program, kubeconfig=kubeconfig, context=select),
        name=select,
        server=CREDENTIALS.sub("", clusters[which]["server"]),
        namespace=contexts[select].get("namespace") or otherwise,
        local=False,
        command="kubectl aether" if plugin else "aether",
        options=(*(("--kubeconfig", str(kubeconfig)) if kubeconfig else ()), "--context", select),
    )
