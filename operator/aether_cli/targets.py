"""Which cluster a command talks to, and how every output says so: its name, its address, and the venue."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.markup import escape

from aether_cli import asking, desks, problems
from aether_cli.local import holding, manifests

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from aether_cli.local import places

CREDENTIALS: Final = re.compile(r"(?<=//)[^/@]*@")
"""In an address: whoever reads an output need not know them."""
NOWHERE: Final = "default"
"""The namespace that kubectl looks in where nobody says one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A cluster: the local one, or that of a context."""

    kubectl: asking.Kubectl
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

    def heading(self, platforms: Sequence[desks.Thing] | None) -> str:
        """The first line of an output, with markup: the cluster, and the venue of each platform that is shown.

        None where the platforms could not be read.
        """
        venues = "venue not known" if platforms is None else desks.venues(platforms)
        return f"[bold]{escape(self.title)}[/]  {escape(venues)}"

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return {("name" if self.local else "context"): self.name, "server": self.server}

    def again(self, *words: str) -> str:
        """A command line for this same cluster, for a person to type."""
        return " ".join([self.command, *map(shlex.quote, [*words, *self.options])])

    def named(self, fault: problems.AetherError) -> problems.AetherError:
        """The same fault, with the cluster's name before its cause."""
        fault.cause = f"{self.title}: {fault.cause}"
        return fault


def local(program: Path, at: places.Places, *, default: str) -> Target:
    """The local cluster.

    Raises:
        NotRunning: It does not run.
    """
    holder = holding.need(at)
    return Target(
        kubectl=asking.Kubectl(program=program, kubeconfig=at.kubeconfig, cache=at.state / "kubectl"),
        name=at.name,
        server=f"https://127.0.0.1:{holder.port}",
        namespace=manifests.NAMESPACES[1],
        local=True,
        command="aether",
        options=() if at.name == default else ("--name", at.name),
    )


def of_context(program: Path, *, kubeconfig: Path | None, context: str, plugin: bool) -> Target:
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
    view = asking.Kubectl(program=program, kubeconfig=kubeconfig).json("config", "view", deadline=20)
    contexts = {one["name"]: one.get("context") or {} for one in view.get("contexts") or ()}
    clusters = {one["name"]: one.get("cluster") or {} for one in view.get("clusters") or ()}
    there = f"There are: {', '.join(sorted(contexts))}" if contexts else "There is none. Is KUBECONFIG right?"
    chosen = context or view.get("current-context") or ""
    if not chosen:
        raise problems.NotRunning("no current context", remedy=f"Name one by --context. {there}")
    if chosen not in contexts:
        raise problems.NotRunning(f"context {chosen}: not in the kubeconfig", remedy=there)
    which = contexts[chosen].get("cluster", "")
    if not clusters.get(which, {}).get("server"):
        raise problems.NotRunning(f"context {chosen}: its cluster {which!r} is not in the kubeconfig")
    otherwise = NOWHERE if plugin else manifests.NAMESPACES[1]
    return Target(
        kubectl=asking.Kubectl(program=program, kubeconfig=kubeconfig, context=chosen),
        name=chosen,
        server=CREDENTIALS.sub("", clusters[which]["server"]),
        namespace=contexts[chosen].get("namespace") or otherwise,
        local=False,
        command="kubectl aether" if plugin else "aether",
        options=(*(("--kubeconfig", str(kubeconfig)) if kubeconfig else ()), "--context", chosen),
    )
