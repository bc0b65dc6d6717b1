"""The two programs `aether` and `kubectl aether`: their commands, and how an error becomes output and an exit code.

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
    help="Run a Kraken spot trading platform on Kubernetes: on your own cluster, or on one that this command starts.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(requested: bool) -> None:  # noqa: FBT001 - the signature of a Typer callback
    if requested:
        out.print(f"aether {aether_cli.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before a command: `--version` only."""


SHARED: Final[tuple[Callable[..., None], ...]] = (
    platform_commands.status,
    platform_commands.book,
    platform_commands.explain,
)
"""The commands of both programs."""
KUBECTL_CONTEXT_SETTINGS: Final = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    # Everything after kubectl's first argument is passed on as it is, a `--` included.
    "allow_interspersed_args": False,
    "help_option_names": [],
}
for _command in (cluster_commands.up, cluster_commands.build, cluster_commands.down, *SHARED):
    app.command()(_command)
app.command(context_settings=KUBECTL_CONTEXT_SETTINGS, add_help_option=False)(cluster_commands.kubectl)
app.command()(cluster_commands.logs)

plugin = typer.Typer(
    name="kubectl aether",
    help="Show the state of Aether in the cluster of the current context.",
    no_args_is_help=True,
    add_completion=False,  # kubectl runs kubectl_complete-aether
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
ABSENT_COMMANDS: Final = {
    "up": "Use aether up: it starts a cluster on this machine, or with --context NAME installs Aether in yours.",
    "down": "Use aether down: it stops the cluster that aether up started on this machine.",
    "build": "Use aether build: it builds programs and images on this machine.",
    "kubectl": "Call kubectl itself.",
    "logs": "Use kubectl logs for a workload, aether logs for the local cluster's components.",
}
"""Commands that only `aether` has, because they concern this machine and not a context → what to use instead."""


PluginContext = Annotated[str, typer.Option("--context", help="The context; by default the current one.")]
PluginKubeconfig = Annotated[
    Path | None,
    typer.Option("--kubeconfig", help="A kubeconfig file; by default that of KUBECONFIG.", exists=True, dir_okay=False),
]
PluginNamespace = Annotated[
    str, typer.Option("--namespace", "-n", help="The namespace; by default the context's, or default.")
]
KUBECTL_OPTIONS: Final = {"context": PluginContext, "kubeconfig": PluginKubeconfig, "namespace": PluginNamespace}
"""Options of `kubectl aether` that work like kubectl's own: parameter → its annotation."""


@plugin.callback()
def _plugin_options(
    call: typer.Context,
    *,
    context: PluginContext = "",
    kubeconfig: PluginKubeconfig = None,
    namespace: PluginNamespace = "",
    version: Annotated[  # noqa: ARG001 - its own callback acts
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Accept kubectl's options before the command, too, as kubectl does: they become the command's defaults."""
    given = {"context": context, "kubeconfig": kubeconfig, "namespace": namespace}
    call.default_map = {command.__name__: {key: value for key, value in given.items() if value} for command in SHARED}


def _without_local_cluster(command: Callable[..., None]) -> Callable[..., None]:
    """The same command without `--name` and with kubectl's options: it always uses a context."""
    signature = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def on_context(**given: Any) -> None:
        command(name="", **given)

    parameters = [
        one.replace(annotation=KUBECTL_OPTIONS.get(one.name, one.annotation))
        for one in signature.parameters.values()
        if one.name != "name"
    ]
    on_context.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # for Typer
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
    """Run one command line and return its exit code; an error is printed to standard error as cause and remedy."""
    # Debian keeps iptables in /usr/sbin, which is not in every PATH: a plain `su` leaves it out.
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    try:
        code = program(arguments, prog_name=program.info.name, standalone_mode=False)
    except SystemExit as end:  # completion, and a closed pipe
        return int(end.code or 0)
    except typer.Abort:
        return problems.AetherError.exit_code
    except typer.exceptions.TyperException as fault:  # the command line cannot be parsed
        _print_usage_error(fault)
        return problems.BadInput.exit_code
    except problems.AetherError as fault:
        errors.print(f"[bold red]error:[/] {escape(fault.cause)}")
        if fault.remedy:
            errors.print(escape(fault.remedy))
        return fault.exit_code
    except OSError as fault:
        errors.print(f"[bold red]error:[/] {escape(str(fault))}")
        return problems.AetherError.exit_code
    return int(code or 0)  # of typer.Exit


def _print_usage_error(fault: typer.exceptions.TyperException) -> None:
    """Print an error of Typer's like our own: its own frame breaks long words."""
    at: Any = getattr(fault, "ctx", None)
    if type(fault).__name__ == "NoArgsIsHelpError":  # the help is printed already
        return
    errors.print(f"[bold red]error:[/] {escape(fault.format_message())}")
    if at is not None:
        errors.print(escape(f"{at.get_usage()}\nHelp: {at.command_path} {at.help_option_names[0]}"))
