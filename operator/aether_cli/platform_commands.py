"""The commands about what a cluster has of Aether: `aether` has them, and `kubectl aether`."""

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
from rich.table import Table
from rich.text import Text

from aether_cli import cluster_reader, kubectl_client, market_data, output, problems, status_view, targets
from aether_cli.local import inspection, manifests, paths
from aether_cli.local.settings import Profile
from aether_cli.options import DEFAULT, AsJson, Context, Kubeconfig, Name, Namespace
from aether_cli.output import out

if TYPE_CHECKING:
    from collections.abc import Sequence

BOOK_SECONDS = 0.5
"""Between two looks at a book."""


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
            help="Show this one alone. Otherwise the local cluster's are all shown, and of another cluster the "
            f"context's, or {manifests.NAMESPACES[1]}.",
        ),
    ] = "",
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Show all namespaces.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how Aether is in a cluster. Ends with 0 when everything is ready, 4 when there is no cluster, else 5."""
    if namespace and all_namespaces:
        raise problems.BadInput("namespace: either one, or all", remedy="Leave out -n or -A")
    here = bool(name) and not (context or kubeconfig)
    local = inspection.look(paths.of(name, os.environ), now=time.time()) if here else None
    if local is not None and not local.running:
        if as_json:
            output.print_json({"cluster": local.record(), "nodes": [], **status_view.Desk().record(), "marketData": []})
        raise problems.NotRunning(f"cluster {name} is not running", remedy="Start it: aether up")
    with targets.on(targets.chosen(name, context, kubeconfig)) as target:
        everywhere = all_namespaces or (here and not namespace)
        _status(target, local, () if everywhere else (namespace or target.namespace,), as_json=as_json)


def _status(
    target: targets.Target, local: inspection.LocalState | None, spaces: Sequence[str], *, as_json: bool
) -> None:
    silent = ""
    desk, nodes, flowing = status_view.Desk(), list[dict[str, Any]](), list[market_data.Told]()
    try:
        nodes, unread = cluster_reader.nodes(target.kubectl)
        desk = cluster_reader.desk(target.kubectl, spaces)
        flowing, unasked = cluster_reader.flow(target.kubectl, desk.pods)
        desk = replace(desk, unread=(*desk.unread, *unread, *unasked))
    except problems.ProgramFailed as refused:
        if local is None:
            raise
        silent = refused.cause  # what the machine itself knows is still worth seeing
    has_node = local is not None and local.profile == Profile.NODE
    healthy = not (silent or (has_node and not nodes)) and desk.healthy
    healthy = healthy and all(kubectl_client.condition(node, "Ready") == "True" for node in nodes)
    if as_json:
        output.print_json(
            {
                "cluster": {**target.record(), **(local.record() if local else {})},
                "namespaces": list(spaces),
                "nodes": [
                    {"name": node["metadata"]["name"], "ready": kubectl_client.condition(node, "Ready")}
                    for node in nodes
                ],
                **desk.record(),
                "marketData": [one.record() for one in flowing],
            }
        )
    else:
        output.begin(target.heading(None if silent else desk.platforms))
        _show(local, spaces, nodes, desk)
        if spaces and desk.installed and not desk.platforms:
            out.print(f"  No TradingPlatform is there: {escape(target.again('status', '-A'))} shows all namespaces")
        for line in status_view.page(desk):
            out.print(line)
        _show_flow(flowing)
    if silent:
        raise problems.NotReady(f"the API does not answer: {silent}", remedy="aether logs kube-apiserver")
    if not healthy or (local and not local.healthy):
        raise typer.Exit(problems.NotReady.exit_code)


def _show_flow(flowing: Sequence[market_data.Told]) -> None:
    for namespace, platform in sorted({(one.namespace, one.platform) for one in flowing}):
        mine = [one for one in flowing if (one.namespace, one.platform) == (namespace, platform)]
        out.print(f"[bold]Market data {escape(platform)}[/]  namespace {escape(namespace)}; how late each output is")
        if any(one.status is not None for one in mine):
            out.print(market_data.flow(mine))
        for one in mine:
            for trouble in market_data.blockers(one):
                out.print(f"  [red]{escape(one.pod)}: {escape(trouble)}[/]")


def book(  # noqa: PLR0913 - a command has as many options as it has
    symbol: Annotated[str, typer.Argument(metavar="PAIR", help="For example: BTC/USD", show_default=False)],
    *,
    name: Name = DEFAULT,
    context: Context = "",
    kubeconfig: Kubeconfig = None,
    platform: Annotated[str, typer.Option("--platform", help="Whose.")] = "paper",
    namespace: Namespace = "",
    depth: Annotated[int, typer.Option("--depth", min=1, max=1000, help="Levels of each side.")] = 10,
    once: Annotated[
        bool, typer.Option("--once", help="Show it once; so does a standard output that is no terminal.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON on standard output, a line for each look.")
    ] = False,
) -> None:
    """Show a market's verified book as it moves, until Ctrl-C. With --once: ends with 0 when it is usable, else 5."""
    wanted = symbol.upper()
    if market_data.SYMBOL.fullmatch(wanted) is None:
        raise problems.BadInput(f"pair: {symbol!r} is no market", remedy="For example: BTC/USD")
    with targets.on(targets.chosen(name, context, kubeconfig)) as target:
        where = namespace or target.namespace
        look = cluster_reader.Look(
            kubectl=target.kubectl, namespace=where, platform=platform, symbol=wanted, depth=depth
        )
        shown = look.now()
        if once or not (as_json or out.is_terminal):
            if as_json:
                output.print_json(_recorded(target, look, shown))
            else:
                output.begin(target.heading([look.of]))
                out.print(market_data.book(shown))
            if not shown.usable:
                raise typer.Exit(problems.NotReady.exit_code)
            return
        with contextlib.suppress(KeyboardInterrupt):  # how it is meant to end
            _follow(target, look, shown, as_json=as_json)


def _recorded(target: targets.Target, look: cluster_reader.Look, shown: market_data.Shown) -> dict[str, Any]:
    """A book as JSON values, with whose it is."""
    whose = {"namespace": look.namespace, "platform": look.platform}
    return {"cluster": target.record(), "venue": status_view.venue(look.of), **whose, **shown.view}


def _headed(target: targets.Target, look: cluster_reader.Look, shown: market_data.Shown) -> Group:
    """A book for a person, with whose it is, as high as the terminal at most: the middle of the book is seen."""
    return Group(Text.from_markup(target.heading([look.of])), market_data.book(shown, lines=out.height - 1))


def _follow(target: targets.Target, look: cluster_reader.Look, shown: market_data.Shown, *, as_json: bool) -> None:
    """Look again and again; what goes wrong after the first look is shown, and may pass."""
    with Live(console=out, auto_refresh=False, screen=False) if not as_json else contextlib.nullcontext() as live:
        while True:
            if live is None:
                sys.stdout.write(json.dumps(_recorded(target, look, shown)) + "\n")
                sys.stdout.flush()
            else:
                live.update(_headed(target, look, shown), refresh=True)
            time.sleep(BOOK_SECONDS)
            try:
                shown = look.now()
            except problems.AetherError as gone:
                unusable = {**shown.view, "usable": False, "reason": gone.cause, "bids": [], "asks": []}
                shown = market_data.Shown(pod=shown.pod, view=unusable, at=shown.at)


def explain(
    what: Annotated[str, typer.Argument(metavar="KIND/NAME", help="For example: tp/paper", show_default=False)],
    *,
    name: Name = DEFAULT,
    context: Context = "",
    kubeconfig: Kubeconfig = None,
    namespace: Namespace = "",
) -> None:
    """Say in plain words why something is not Ready, and what to do. Ends with 0 when it is Ready, 5 otherwise."""
    named = status_view.parse(what)
    if named is None:
        raise problems.BadInput(
            f"what: {what!r} is not KIND/NAME of a kind of Aether's", remedy="For example: tp/paper"
        )
    _, wanted = named
    with targets.on(targets.chosen(name, context, kubeconfig)) as target:
        where = namespace or target.namespace
        try:
            thing = cluster_reader.platform(target.kubectl, where, wanted)
        except problems.BadInput as gone:
            raise problems.BadInput(gone.cause, remedy=f"{target.again('status', '-A')} shows all") from gone
        events = cluster_reader.events(target.kubectl, thing)
    output.begin(target.heading([thing]))
    for line in status_view.explain(thing, events):
        out.print(line)
    if not status_view.is_ready(thing):
        raise typer.Exit(problems.NotReady.exit_code)


def _show(
    local: inspection.LocalState | None, spaces: Sequence[str], nodes: Sequence[dict[str, Any]], desk: status_view.Desk
) -> None:
    if local:
        ways = "open to the machine's network" if local.egress else "closed: nothing leaves the machine"
        out.print(f"  API      {local.server}")
        out.print(f"  profile  {local.profile}, up {inspection.ago(local.uptime_seconds)}")
        out.print(f"  network  {ways}")
        out.print(f"  memory   {local.memory_bytes / 1e6:.0f} MB, pods included")
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2))
        for heading in ("COMPONENT", "STATE", "RESTARTS", "LAST CAUSE"):
            table.add_column(heading, no_wrap=heading != "LAST CAUSE")
        for one in local.components:
            state = "[green]ready[/]" if one.ready else "[red]not ready[/]"
            table.add_row(one.name, state, str(one.restarts), escape(one.causes[-1]) if one.causes else "")
        out.print(table)
    for node in nodes:
        ready = kubectl_client.condition(node, "Ready") == "True"
        out.print(f"  node {node['metadata']['name']}: {'[green]Ready[/]' if ready else '[red]not Ready[/]'}")
    where = f"namespace {', '.join(spaces)}, and the operator's" if spaces else "all namespaces"
    out.print(f"  Aether's pods in {escape(where)}: {len(desk.pods) - len(desk.unwell)} of {len(desk.pods)} well")
    for pod in desk.unwell:
        out.print(escape(kubectl_client.dump([pod]).splitlines()[1]))
