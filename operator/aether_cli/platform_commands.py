"""The commands about platforms, which both `aether` and `kubectl aether` have: status, book, explain."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from aether_cli import (
    cluster_reader,
    console,
    explanation,
    kubectl_client,
    market_data,
    output,
    problems,
    status_view,
    targets,
)
from aether_cli.local import inspection, manifests, paths, supervisor_process
from aether_cli.local.settings import Profile
from aether_cli.options import DEFAULT, AsJson, Context, Kubeconfig, Name, Namespace
from aether_cli.output import out
from aether_operator.api.platform_definition import DEFINITION as PLATFORM

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BOOK_SECONDS = 0.5
"""Between two readings of a book that is followed."""


def status(  # noqa: PLR0913 - a command has as many options as it has
    *,
    name: Name = DEFAULT,
    context: Context = "",
    kubeconfig: Kubeconfig = None,
    namespace: Annotated[
        str,
        typer.Option(
            "--namespace",
            "-n",
            help="Show this namespace. By default all namespaces of the local cluster, or the context's namespace, or "
            f"{manifests.NAMESPACES[1]}.",
        ),
    ] = "",
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Show all namespaces.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the state of Aether in a cluster. Exit code 0: everything is ready; 4: there is no cluster; 5: otherwise."""
    if namespace and all_namespaces:
        raise problems.BadInput("namespace: -n and -A exclude each other", remedy="Leave out -n or -A")
    is_local = bool(name) and not (context or kubeconfig)
    folders = paths.for_cluster(name or DEFAULT, os.environ)
    local = inspection.read_state(folders, now=time.time()) if is_local else None
    if local is not None and not local.running:
        if as_json:
            output.print_json(
                {"cluster": local.record(), "nodes": [], **status_view.AetherState().record(), "marketData": []}
            )
        raise supervisor_process.not_running(folders)
    with targets.errors_named(targets.select(name, context, kubeconfig)) as target:
        everywhere = all_namespaces or (is_local and not namespace)
        _status(target, local, () if everywhere else (namespace or target.namespace,), as_json=as_json)


def _status(
    target: targets.Target, local: inspection.LocalState | None, namespaces: Sequence[str], *, as_json: bool
) -> None:
    api_error = ""
    state, nodes, pod_statuses = status_view.AetherState(), list[dict[str, Any]](), list[market_data.PodStatus]()
    try:
        nodes, unreadable_nodes = cluster_reader.nodes(target.kubectl)
        state = cluster_reader.aether_state(target.kubectl, namespaces)
        pod_statuses, forbidden_pods = cluster_reader.pod_statuses(target.kubectl, state.pods)
        state = replace(state, unreadable=(*state.unreadable, *unreadable_nodes, *forbidden_pods))
    except problems.ProgramFailed as error:
        if local is None:
            raise
        api_error = error.cause  # what is known without the API is shown first
    has_node = local is not None and local.profile == Profile.NODE
    healthy = not (api_error or (has_node and not nodes)) and state.healthy
    healthy = healthy and all(kubectl_client.condition(node, "Ready") == "True" for node in nodes)
    if as_json:
        output.print_json(
            {
                "cluster": {**target.record(), **(local.record() if local else {})},
                "namespaces": list(namespaces),
                "nodes": [
                    {"name": node["metadata"]["name"], "ready": kubectl_client.condition(node, "Ready")}
                    for node in nodes
                ],
                **state.record(),
                "marketData": [one.record() for one in pod_statuses],
            }
        )
    else:
        output.print_heading(target.heading(None if api_error else state.platforms))
        for part in status_page(target, local, namespaces, nodes, state, pod_statuses, width=_terminal_width()):
            out.print(part)
    if api_error:
        raise problems.NotReady(
            f"the API server does not respond: {api_error}", remedy=target.command_line("logs", "kube-apiserver")
        )
    if not healthy or (local and not local.healthy):
        raise typer.Exit(problems.NotReady.exit_code)


def _terminal_width() -> int | None:
    return out.width if out.is_terminal else None


def status_page(  # noqa: PLR0913 - what the page is about
    target: targets.Target,
    local: inspection.LocalState | None,
    namespaces: Sequence[str],
    nodes: Sequence[dict[str, Any]],
    state: status_view.AetherState,
    pod_statuses: Sequence[market_data.PodStatus],
    *,
    width: int | None = None,
) -> Iterator[str | Group]:
    """What `status` prints below its heading: lines with markup, and tables.

    Args:
        target: The cluster, for the commands that the page names.
        local: The state of the local cluster; None for another one.
        namespaces: Those that are shown; empty for all.
        nodes: The cluster's nodes.
        state: Aether's objects.
        pod_statuses: The status of each ingest pod.
        width: The terminal's columns; None in a pipe or a file.
    """
    if local:
        yield from _local_lines(local)
    for node in nodes:
        ready = kubectl_client.condition(node, "Ready") == "True"
        yield f"  node {node['metadata']['name']}: {'[green]Ready[/]' if ready else '[red]not Ready[/]'}"
    where = f"namespace {', '.join(namespaces)}, and the operator's" if namespaces else "all namespaces"
    healthy = len(state.pods) - len(state.unhealthy_pods)
    yield f"  Aether's pods in {escape(where)}: {healthy} of {len(state.pods)} healthy"
    for pod in state.unhealthy_pods:
        yield escape(kubectl_client.summary([pod]).splitlines()[1])
    if namespaces and state.installed and not state.platforms:
        yield f"  No {PLATFORM.kind}; for all namespaces: {escape(target.command_line('status', '-A'))}"
    yield from status_view.status_lines(state)
    for namespace, platform in sorted({(one.namespace, one.platform) for one in pod_statuses}):
        mine = [one for one in pod_statuses if (one.namespace, one.platform) == (namespace, platform)]
        yield f"[bold]Market data {escape(platform)}[/]  namespace {escape(namespace)}; lag of each output"
        if any(one.status is not None for one in mine):
            yield market_data.status_table(mine, width=width)
        for one in mine:
            for problem in market_data.pod_problems(one):
                yield f"  [red]{escape(one.pod)}: {escape(problem)}[/]"


def _local_lines(local: inspection.LocalState) -> Iterator[str]:
    yield f"  API      {local.server}"
    yield f"  profile  {local.profile}, up {inspection.duration(local.uptime_seconds)}"
    egress = "open to the machine's network" if local.egress else "closed: pods reach nothing outside the cluster"
    yield f"  egress   {egress}"
    yield f"  memory   {local.memory_bytes / 1e6:.0f} MB, pods included"
    longest = max([len(one.name) for one in local.components], default=0)
    yield f"[bold]  {'COMPONENT':<{longest}}  STATE      RESTARTS  LAST CAUSE[/]"
    for one in local.components:
        readiness = "[green]ready    [/]" if one.ready else "[red]not ready[/]"
        cause = escape(one.causes[-1]) if one.causes else ""
        yield f"  {escape(one.name):<{longest}}  {readiness}  {one.restarts:<8}  {cause}".rstrip()


def book(  # noqa: PLR0913 - a command has as many options as it has
    symbol: Annotated[str, typer.Argument(metavar="PAIR", help="For example: BTC/USD", show_default=False)],
    *,
    name: Name = DEFAULT,
    context: Context = "",
    kubeconfig: Kubeconfig = None,
    platform: Annotated[str, typer.Option("--platform", help="The TradingPlatform's name.")] = "paper",
    namespace: Namespace = "",
    depth: Annotated[int, typer.Option("--depth", min=1, max=1000, help="Levels of each side.")] = 10,
    once: Annotated[
        bool, typer.Option("--once", help="Show it once; the default where standard output is not a terminal.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON on standard output, one line for each reading.")
    ] = False,
) -> None:
    """Show a pair's verified order book until Ctrl-C. Exit code of --once: 0 when it is usable, else 5."""
    pair = symbol.upper()
    if market_data.SYMBOL.fullmatch(pair) is None:
        raise problems.BadInput(f"pair: {symbol!r} is not a pair", remedy="For example: BTC/USD")
    with targets.errors_named(targets.select(name, context, kubeconfig)) as target:
        reader = cluster_reader.BookReader(
            kubectl=target.kubectl,
            namespace=namespace or target.namespace,
            platform=platform,
            symbol=pair,
            depth=depth,
            command_line=target.command_line,
        )
        snapshot = reader.read()
        if once or not (as_json or out.is_terminal):
            if as_json:
                output.print_json(_record(target, reader, snapshot))
            else:
                output.print_heading(target.heading([reader.platform_object]))
                out.print(market_data.book(snapshot))
            if not snapshot.usable:
                raise typer.Exit(problems.NotReady.exit_code)
            return
        with contextlib.suppress(KeyboardInterrupt):  # the usual end
            _follow(target, reader, snapshot, as_json=as_json)


def _record(
    target: targets.Target, reader: cluster_reader.BookReader, snapshot: market_data.BookSnapshot
) -> dict[str, Any]:
    """A book as JSON values, with its cluster, venue and platform."""
    owner = {"namespace": reader.namespace, "platform": reader.platform}
    return {"cluster": target.record(), "venue": status_view.venue(reader.platform_object), **owner, **snapshot.view}


def _rendered(target: targets.Target, reader: cluster_reader.BookReader, snapshot: market_data.BookSnapshot) -> Group:
    """A book with its heading, no higher than the terminal."""
    heading = console.fold(Text.from_markup(target.heading([reader.platform_object])), out.width)
    return Group(heading, market_data.book(snapshot, lines=out.height - len(heading.split("\n"))))


def _follow(
    target: targets.Target, reader: cluster_reader.BookReader, snapshot: market_data.BookSnapshot, *, as_json: bool
) -> None:
    """Show the book again and again; an error after the first reading makes it unusable until a reading succeeds."""
    with Live(console=out, auto_refresh=False, screen=False) if not as_json else contextlib.nullcontext() as live:
        while True:
            if live is None:
                sys.stdout.write(json.dumps(_record(target, reader, snapshot)) + "\n")
                sys.stdout.flush()
            else:
                live.update(_rendered(target, reader, snapshot), refresh=True)
            time.sleep(BOOK_SECONDS)
            try:
                snapshot = reader.read()
            except problems.AetherError as error:
                unusable = {**snapshot.view, "usable": False, "reason": error.cause, "bids": [], "asks": []}
                snapshot = market_data.BookSnapshot(pod=snapshot.pod, view=unusable, at=snapshot.at)


def explain(
    what: Annotated[str, typer.Argument(metavar="KIND/NAME", help="For example: tp/paper", show_default=False)],
    *,
    name: Name = DEFAULT,
    context: Context = "",
    kubeconfig: Kubeconfig = None,
    namespace: Namespace = "",
) -> None:
    """Explain why an object is not Ready, and what to do. Exit code 0: it is Ready; 5: it is not."""
    parsed = status_view.parse_target(what)
    if parsed is None:
        raise problems.BadInput(f"what: {what!r} is not KIND/NAME of an Aether kind", remedy="For example: tp/paper")
    definition, object_name = parsed
    with targets.errors_named(targets.select(name, context, kubeconfig)) as target:
        where, see_all = namespace or target.namespace, target.command_line("status", "-A")
        item = cluster_reader.get(target.kubectl, definition, where, object_name, see_all=see_all)
        events = cluster_reader.events(target.kubectl, item)
    output.print_heading(target.heading([item]) if definition is PLATFORM else output.heading(target, where))
    for line in explanation.explanation_lines(item, events, target):
        out.print(line)
    if not status_view.is_ready(item):
        raise typer.Exit(problems.NotReady.exit_code)
