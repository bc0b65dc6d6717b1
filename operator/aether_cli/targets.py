"""Which cluster a command talks to, and the heading that names it: name, address, and the venue of each platform."""

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

from aether_cli import explanation, kubectl_client, problems, status_view
from aether_cli.local import binaries, manifests, paths, program_builder, supervisor_process

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CREDENTIALS: Final = re.compile(r"(?<=//)[^/@]*@")
"""Credentials in a server's URL, which no output may show."""
AETHER_COMMAND: Final = re.compile(r"\baether (?:up|down|status|logs)(?: -[\w-]+(?:[ =][\w-]+)?| \w+/[\w-]+)*")
LOGS_COMMAND: Final = re.compile(AETHER_COMMAND.pattern.replace("up|down|status|logs", "logs"))
KUBECTL_COMMAND: Final = re.compile(r"(?<!aether )\bkubectl(?= (?:--namespace|-n|describe|get)\b)")
"""Commands in the texts of the operator, which does not know how its cluster is selected."""
DEFAULT_NAMESPACE: Final = "default"
"""The namespace that kubectl uses where neither an option nor the context names one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A cluster: the local one, or that of a context."""

    kubectl: kubectl_client.Kubectl
    name: str
    """The local cluster's, or the context's."""
    server: str
    """The API server's URL, without credentials."""
    namespace: str
    """The namespace that a command uses where none is given."""
    local: bool
    command: str
    """The program that a command line for this cluster begins with: `aether` or `kubectl aether`."""
    options: tuple[str, ...] = ()
    """The options that select this cluster, for a command line."""

    @property
    def title(self) -> str:
        """The cluster's name for a heading or an error."""
        return f"Cluster {self.name}" if self.local else f"Context {self.name}  {self.server}"

    def heading(self, platforms: Sequence[status_view.Object] | None, *, within: str = "") -> str:
        """The first line of an output, with markup: the cluster, and the venue of each platform that is shown.

        Args:
            platforms: The platforms that are shown; None where they could not be read.
            within: Their namespace, where the user may read no other.
        """
        venues = "venue not known" if platforms is None else status_view.venues(platforms)
        where = f"namespace {within}: " if within else ""
        return f"[bold]{escape(self.title)}[/]  {escape(where + venues)}"

    def record(self) -> dict[str, Any]:
        """The cluster as JSON values."""
        return {("name" if self.local else "context"): self.name, "server": self.server}

    def command_line(self, *words: str) -> str:
        """A command line for this same cluster, for the user to type."""
        return " ".join([self.command, *map(shlex.quote, [*words, *self.options])])

    def kubectl_line(self, *words: str) -> str:
        """A command line of kubectl for this same cluster, for the user to type."""
        if self.local:
            return explanation.quoted(["aether", "kubectl", *self.options, *words])
        return explanation.quoted(["kubectl", *words, *self.options])

    def with_options(self, text: str) -> str:
        """The same text, with the options that select this cluster in the commands that it names."""
        options = "".join(f" {shlex.quote(one)}" for one in self.options)
        kubectl = "aether kubectl" if self.local else "kubectl"
        text = KUBECTL_COMMAND.sub(lambda _: kubectl + options, text)
        commands = AETHER_COMMAND if self.local else LOGS_COMMAND  # `aether up --egress` is about the local cluster
        return commands.sub(lambda found: found[0] + options, text)

    def with_title(self, fault: problems.AetherError) -> problems.AetherError:
        """The same error, with the cluster's name before its cause."""
        fault.cause = f"{self.title}: {fault.cause}"
        return fault


def select(name: str, context: str, kubeconfig: Path | None = None) -> Target:
    """The cluster that the options select: that of a context, or the local one, which must be running.

    Args:
        name: The local cluster's; empty in `kubectl aether`, which always uses a context.
        context: A context's name.
        kubeconfig: A kubeconfig file; its current context is used where none is named.

    Raises:
        NotRunning: There is no such context, or the local cluster is not running.
    """
    if context or kubeconfig or not name:
        return from_context(kubectl_program(), kubeconfig=kubeconfig, context=context, plugin=not name)
    folders = paths.for_cluster(name, os.environ)
    supervisor_process.require(folders)  # "is not running" is the better error where kubectl is missing, too
    return local(kubectl_program(), folders)


@contextlib.contextmanager
def errors_named(target: Target) -> Iterator[Target]:
    """Errors raised in the block name the cluster."""
    try:
        yield target
    except problems.AetherError as fault:
        raise target.with_title(fault) from fault


def kubectl_program() -> Path:
    """The local cluster's kubectl where it is built, else that of PATH.

    Raises:
        NotPossibleHere: There is neither.
    """
    binary = next(one for one in binaries.CONTROL_PLANE if one.name == "kubectl")
    built = program_builder.find(binary, paths.for_cluster(paths.DEFAULT, os.environ).cache, os.environ)
    if built is not None:
        return built
    if installed := shutil.which("kubectl"):
        return Path(installed)
    raise problems.NotPossibleHere("kubectl: not found", remedy="Install kubectl, or run `aether up`, which builds it.")


def local(program: Path, folders: paths.Paths) -> Target:
    """The local cluster as a target.

    Args:
        program: kubectl.
        folders: The cluster's paths.

    Raises:
        NotRunning: It is not running.
    """
    process = supervisor_process.require(folders)
    return Target(
        kubectl=kubectl_client.Kubectl(program=program, kubeconfig=folders.kubeconfig, cache=folders.state / "kubectl"),
        name=folders.name,
        server=f"https://127.0.0.1:{process.port}",
        namespace=manifests.NAMESPACES[1],
        local=True,
        command="aether",
        options=folders.options,
    )


def from_context(program: Path, *, kubeconfig: Path | None, context: str, plugin: bool) -> Target:
    """The cluster of a context, as a target.

    The current context is read once: a command stays with its cluster when the current context changes meanwhile.

    Args:
        program: kubectl.
        kubeconfig: A kubeconfig file; by default that of KUBECONFIG.
        context: The context's name; empty for the current one.
        plugin: Whether this is `kubectl aether`, whose default namespace is `default` as kubectl's is.

    Raises:
        NotRunning: There is no such context.
    """
    view = kubectl_client.Kubectl(program=program, kubeconfig=kubeconfig).json("config", "view", deadline=20)
    contexts = {one["name"]: one.get("context") or {} for one in view.get("contexts") or ()}
    clusters = {one["name"]: one.get("cluster") or {} for one in view.get("clusters") or ()}
    known = (
        f"Contexts: {', '.join(sorted(contexts))}"
        if contexts
        else "The kubeconfig has no contexts: is KUBECONFIG right?"
    )
    selected = context or view.get("current-context") or ""
    if not selected:
        raise problems.NotRunning("no current context", remedy=f"Choose one: --context NAME. {known}")
    if selected not in contexts:
        raise problems.NotRunning(f"context {selected}: not in the kubeconfig", remedy=known)
    cluster = contexts[selected].get("cluster", "")
    if not clusters.get(cluster, {}).get("server"):
        raise problems.NotRunning(f"context {selected}: its cluster {cluster!r} is not in the kubeconfig")
    default = DEFAULT_NAMESPACE if plugin else manifests.NAMESPACES[1]
    return Target(
        kubectl=kubectl_client.Kubectl(program=program, kubeconfig=kubeconfig, context=selected),
        name=selected,
        server=CREDENTIALS.sub("", clusters[cluster]["server"]),
        namespace=contexts[selected].get("namespace") or default,
        local=False,
        command="kubectl aether" if plugin else "aether",
        options=(*(("--kubeconfig", str(kubeconfig)) if kubeconfig else ()), "--context", selected),
    )
