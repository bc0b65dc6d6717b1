"""`aether` and `kubectl aether`: which commands each has, and what came of one, translated back.

`aether` talks to the local cluster unless a context is named; `kubectl aether` to the current context, as kubectl does.
"""

from __future__ import annotations

import functools
import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.markup import escape

import aether_cli
from aether_cli import cluster_commands, platform_commands, problems
from aether_cli.output import errors, out

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer(
    name="aether",
    help="Run a Kraken spot trading desk on Kubernetes: on a cluster of your own, or on one that this command starts.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:  # noqa: FBT001 - the shape of a Typer callback
    if wanted:
        out.print(f"aether {aether_cli.__version__}")
        raise typer.Exit


@app.callback()
def _top(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """What every command shares: nothing but `--version`."""


SHARED: Final[tuple[Callable[..., None], ...]] = (
    platform_commands.status,
    platform_commands.book,
    platform_commands.explain,
)
"""The commands that both have."""
KUBECTL_CONTEXT_SETTINGS: Final = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    # From kubectl's first word on nothing is ours, a `--` neither.
    "allow_interspersed_args": False,
    "help_option_names": [],
}
for _command in (cluster_commands.up, cluster_commands.build, cluster_commands.down, *SHARED):
    app.command()(_command)
app.command(context_settings=KUBECTL_CONTEXT_SETTINGS, add_help_option=False)(cluster_commands.kubectl)
app.command()(cluster_commands.logs)

plugin = typer.Typer(
    name="kubectl aether",
    help="See how Aether is in the cluster of the current context.",
    no_args_is_help=True,
    add_completion=False,  # kubectl asks kubectl_complete-aether
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
ABSENT_COMMANDS: Final = {
    "up": "aether up starts a cluster on this machine, and with --context NAME installs Aether in yours.",
    "down": "aether down stops the cluster that aether up started on this machine.",
    "build": "aether build builds on this machine.",
    "kubectl": "It is kubectl that you are calling.",
    "logs": "kubectl logs has those of a workload, aether logs those of the local cluster's components.",
}
"""What `kubectl aether` has not, since it is about this machine and not about a context → where it is."""


PluginContext = Annotated[str, typer.Option("--context", help="The context; the current one otherwise.")]
PluginKubeconfig = Annotated[
    Path | None,
    typer.Option(
        "--kubeconfig", help="A kubeconfig file; what KUBECONFIG says otherwise.", exists=True, dir_okay=False
    ),
]
PluginNamespace = Annotated[
    str, typer.Option("--namespace", "-n", help="The namespace; the context's, or default, otherwise.")
]
KUBECTL_OPTIONS: Final = {"context": PluginContext, "kubeconfig": PluginKubeconfig, "namespace": PluginNamespace}
"""Options of `kubectl aether` that are as kubectl's own."""


@plugin.callback()
def _top_of_plugin(
    at: typer.Context,
    *,
    context: PluginContext = "",
    kubeconfig: PluginKubeconfig = None,
    namespace: PluginNamespace = "",
    version: Annotated[  # noqa: ARG001 - its own callback acts
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Options that come before a command hold for it, as kubectl has them on either side."""
    given = {"context": context, "kubeconfig": kubeconfig, "namespace": namespace}
    at.default_map = {command.__name__: {key: value for key, value in given.items() if value} for command in SHARED}


def _without_local_cluster(command: Callable[..., None]) -> Callable[..., None]:
    """A command that knows nothing of a local cluster."""
    known = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def on_context(**given: Any) -> None:
        command(name="", **given)

    parameters = [
        one.replace(annotation=KUBECTL_OPTIONS.get(one.name, one.annotation))
        for one in known.parameters.values()
        if one.name != "name"
    ]
    on_context.__signature__ = known.replace(parameters=parameters)  # type: ignore[attr-defined]  # what Typer reads
    return on_context


def _absent(command: str) -> Callable[[], None]:
    def absent() -> None:
        raise problems.BadInput(f"kubectl aether has no command {command}", remedy=ABSENT_COMMANDS[command])

    return absent


for _command in SHARED:
    plugin.command(_command.__name__)(_without_local_cluster(_command))
for _name in ABSENT_COMMANDS:
    _any_words = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    plugin.command(_name, hidden=True, add_help_option=False, context_settings=_any_words)(_absent(_name))


def run(arguments: list[str], *, program: typer.Typer = app) -> int:
    """Run one command line and return its exit code; a fault becomes its two lines on standard error."""
    # Not everybody's PATH has where Debian keeps iptables; a plain `su` does not.
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    try:
        program(arguments, prog_name=program.info.name)
    except SystemExit as end:  # how Typer ends, with 2 for a command line that it cannot read
        return int(end.code or 0)
    except problems.AetherError as fault:
        errors.print(f"[bold red]error:[/] {escape(fault.cause)}")
        if fault.remedy:
            errors.print(escape(fault.remedy))
        return fault.exit_code
    except OSError as fault:
        errors.print(f"[bold red]error:[/] {escape(str(fault))}")
        return problems.AetherError.exit_code
    return 0
