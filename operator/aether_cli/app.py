"""The commands of `aether`: what a person types, translated into calls, and what came of it, translated back."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

import aether_cli
from aether_cli import asking, desks, installing, looking, markets, problems, telling
from aether_cli.local import binaries, building, holding, inspecting, manifests, places, starting
from aether_cli.local.settings import Profile, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    name="aether",
    help="Run a Kraken spot trading desk on Kubernetes: on a cluster of your own, or on one that this command starts.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
out = Console(highlight=False, soft_wrap=True)

Name = Annotated[str, typer.Option("--name", envvar="AETHER_CLUSTER", help="The local cluster's name.")]
Context = Annotated[
    str, typer.Option("--context", help="A context of your own kubeconfig, instead of the local cluster.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
DEFAULT = "aether"
BOOK_SECONDS = 0.5
"""Between two looks at a book."""


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


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def _kubectl(name: str, context: str) -> asking.Kubectl:
    """The cluster that is meant: the person's, or the local one, which must run."""
    if context:
        return asking.Kubectl(program=_kubectl_program(), context=context)
    at = places.of(name, os.environ)
    holding.need(at)
    return asking.Kubectl(program=_kubectl_program(), kubeconfig=at.kubeconfig, cache=at.state / "kubectl")


def _kubectl_program() -> Path:
    """The one that belongs to the local cluster where it is built, else the person's own."""
    ours = next(binary for binary in binaries.CONTROL_PLANE if binary.name == "kubectl")
    kept = building.find(ours, places.of(DEFAULT, os.environ).cache, os.environ)
    if kept is not None:
        return kept
    if own := shutil.which("kubectl"):
        return Path(own)
    raise problems.NotPossibleHere("kubectl: not found", remedy="Install kubectl, or run `aether up`, which builds it.")


@app.command()
def up(  # noqa: PLR0913 - a command has as many options as it has
    *,
    name: Name = DEFAULT,
    context: Context = "",
    profile: Annotated[Profile, typer.Option(help="How much of a cluster.")] = Profile.NODE,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The API's port on 127.0.0.1; 0 takes any free one.")
    ] = Settings().port,
    egress: Annotated[bool, typer.Option("--egress", help="Let pods reach the machine's network.")] = False,
    example: Annotated[
        bool | None,
        typer.Option(
            "--example/--no-example",
            help="Apply the first example and wait until it is Ready. On the local cluster unless you say no; "
            "on one of your own only if you say so.",
            show_default=False,
        ),
    ] = None,
    values: Annotated[
        list[Path] | None,
        typer.Option(
            help="A file of values for the chart; may be given several times. Your own cluster needs one: where the "
            "images are.",
            exists=True,
            dir_okay=False,
            resolve_path=True,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Have Aether in a cluster: in a one-node Kubernetes on this machine, or in the one of --context. Again: heals."""
    tell = telling.ToTerminal()
    if context:
        _up_there(context, tell, values or [], example=bool(example), as_json=as_json)
        return
    at = places.of(name, os.environ)
    chosen = Settings(profile=profile, port=port, egress=egress)
    if not chosen.has_node and (example or values):
        raise problems.BadInput(
            f"profile: {profile} runs no pods, and nothing is installed there", remedy=f"Use --profile {Profile.NODE}"
        )
    cluster = starting.up(at, chosen, tell)
    installed = None
    if chosen.has_node:
        helm = installing.Helm(program=cluster.programs["helm"], kubectl=cluster.kubectl)
        chart = installing.repository() / "helm" / installing.RELEASE
        with holding.alone(at, tell):
            installing.forget_unfinished(cluster.kubectl)
            name_of_chart = installing.install(
                helm, chart, tell, given=installing.values(cluster.images), files=values or []
            )
        installed = _with_example(cluster.kubectl, name_of_chart, tell, wanted=example is not False)
    if as_json:
        _print_json({**cluster.record(), **(installed.record() if installed else {})})
        return
    news = f"is up after {cluster.seconds:.1f} s" if cluster.started else "was up already"
    out.print(f"\n[bold]Cluster {name} {news}[/]: {cluster.server}")
    if installed:
        _tell_of(installed)
    option = "" if name == DEFAULT else f" --name {name}"
    out.print(f"\n  aether status{option}")
    out.print(f"  aether kubectl{option} get {'aether' if installed else 'pods'} --all-namespaces")
    out.print(f"  export KUBECONFIG={escape(str(cluster.kubeconfig))}    for Lens, k9s, helm and every other client")


def _up_there(context: str, tell: telling.Teller, values: Sequence[Path], *, example: bool, as_json: bool) -> None:
    """`up` on a cluster of the person's: nothing is started, and no image is brought."""
    kubectl = _kubectl("", context)
    helm = installing.helm(kubectl, places.of(DEFAULT, os.environ).cache, os.environ)
    chart = installing.repository() / "helm" / installing.RELEASE
    with tell.step("cluster") as step:
        version = kubectl.json("version", deadline=20)["serverVersion"]["gitVersion"]
        kubectl.apply(*(manifests.restricted_namespace(one) for one in manifests.NAMESPACES))
        step.result(f"Kubernetes {version}, namespaces {', '.join(manifests.NAMESPACES)}")
    name_of_chart = installing.install(helm, chart, tell, given={}, files=values)
    installed = _with_example(kubectl, name_of_chart, tell, wanted=example)
    if as_json:
        told = {"context": context, "version": version, "namespaces": list(manifests.NAMESPACES)}
        _print_json({**told, **installed.record()})
        return
    out.print(f"\n[bold]Context {escape(context)}[/]: Kubernetes {version}")
    _tell_of(installed)
    if not example:
        out.print(f"  No example was applied: --example does, or kubectl apply -f examples/{installing.EXAMPLE}")


def _with_example(kubectl: asking.Kubectl, chart: str, tell: telling.Teller, *, wanted: bool) -> installing.Installed:
    folder = installing.repository() / "examples" / installing.EXAMPLE
    platforms = installing.show_example(kubectl, folder, tell) if wanted else ()
    return installing.Installed(chart=chart, platforms=platforms)


def _tell_of(installed: installing.Installed) -> None:
    out.print(f"  {installed.chart} is installed in {installing.SYSTEM}")
    for one in installed.platforms:
        out.print(f"  TradingPlatform {one.namespace}/{one.name}: [green]Ready[/]  {escape(one.message)}")


@app.command()
def build(*, as_json: AsJson = False) -> None:
    """Build what `up` needs, programs and images, into the cache, and start nothing."""
    baked = starting.build(places.of(DEFAULT, os.environ), telling.ToTerminal())
    if as_json:
        _print_json(
            [{"name": one.name, "reference": one.reference, "bytes": one.size, "built": one.built} for one in baked]
        )


@app.command()
def down(
    *,
    name: Name = DEFAULT,
    purge: Annotated[bool, typer.Option("--purge", help="Remove its objects and volumes too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop the local cluster. Its objects, its volumes and the caches stay, unless --purge."""
    began = time.monotonic()
    stopped = starting.down(places.of(name, os.environ), telling.ToTerminal(), purge=purge)
    seconds = time.monotonic() - began
    if as_json:
        _print_json({"name": name, "stopped": stopped, "purged": purge, "seconds": round(seconds, 3)})
    else:
        out.print(f"Cluster {name} is down." if stopped else f"Cluster {name} was not running.")


@app.command()
def status(*, name: Name = DEFAULT, context: Context = "", as_json: AsJson = False) -> None:
    """Show how the cluster is. Ends with 0 when everything is ready, 4 when there is no cluster, 5 otherwise."""
    local = None if context else inspecting.look(places.of(name, os.environ), now=time.time())
    if local is not None and not local.running:
        if as_json:
            _print_json({"cluster": local.record(), "nodes": [], "pods": [], **desks.Desk().record(), "marketData": []})
        raise problems.NotRunning(f"cluster {name} is not running", remedy="Start it: aether up")
    kubectl = _kubectl(name, context)
    unknown = ""
    try:
        nodes = kubectl.get("nodes", deadline=20)["items"]
        pods = kubectl.get("pods", "--all-namespaces", deadline=20)["items"]
    except problems.ProgramFailed as silent:
        if local is None:
            raise
        nodes, pods, unknown = [], [], silent.cause  # what the machine itself knows is still worth seeing
    desk = desks.Desk() if unknown else _desk(kubectl)
    flowing = [looking.told(kubectl, pod) for pod in pods if markets.of_ingest(pod)]
    bad = [pod for pod in pods if not _well(pod)]
    has_node = local is not None and local.profile == Profile.NODE
    healthy = not (unknown or bad or (has_node and not nodes)) and desk.healthy
    healthy = healthy and all(asking.condition(node, "Ready") == "True" for node in nodes)
    if as_json:
        _print_json(
            {
                "cluster": local.record() if local else {"context": context},
                "nodes": [
                    {"name": node["metadata"]["name"], "ready": asking.condition(node, "Ready")} for node in nodes
                ],
                "pods": [
                    {**{k: pod["metadata"][k] for k in ("namespace", "name")}, "phase": pod["status"].get("phase")}
                    for pod in pods
                ],
                **desk.record(),
                "marketData": [one.record() for one in flowing],
            }
        )
    else:
        _show(local, context, nodes, pods, bad)
        for line in desks.page(desk):
            out.print(line)
        _show_flow(flowing)
    if unknown:
        raise problems.NotReady(f"the API does not answer: {unknown}", remedy="aether logs kube-apiserver")
    if not healthy or (local and not local.healthy):
        raise typer.Exit(problems.NotReady.exit_code)


def _show_flow(flowing: Sequence[markets.Told]) -> None:
    for namespace, platform in sorted({(one.namespace, one.platform) for one in flowing}):
        mine = [one for one in flowing if (one.namespace, one.platform) == (namespace, platform)]
        out.print(f"[bold]Market data {escape(platform)}[/]  namespace {escape(namespace)}; how late each output is")
        if any(one.status is not None for one in mine):
            out.print(markets.flow(mine))
        for one in mine:
            for trouble in markets.troubles(one):
                out.print(f"  [red]{escape(one.pod)}: {escape(trouble)}[/]")


@app.command()
def book(  # noqa: PLR0913 - a command has as many options as it has
    symbol: Annotated[str, typer.Argument(metavar="PAIR", help="For example: BTC/USD", show_default=False)],
    *,
    name: Name = DEFAULT,
    context: Context = "",
    platform: Annotated[str, typer.Option("--platform", help="Whose.")] = "paper",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Where it is.")] = manifests.NAMESPACES[1],
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
    if markets.SYMBOL.fullmatch(wanted) is None:
        raise problems.BadInput(f"pair: {symbol!r} is no market", remedy="For example: BTC/USD")
    look = looking.Look(
        kubectl=_kubectl(name, context), namespace=namespace, platform=platform, symbol=wanted, depth=depth
    )
    if once or not (as_json or out.is_terminal):
        shown = look.now()
        if as_json:
            _print_json(shown.view)
        else:
            out.print(markets.book(shown))
        if not shown.usable:
            raise typer.Exit(problems.NotReady.exit_code)
        return
    try:
        _follow(look, as_json=as_json)
    except KeyboardInterrupt:
        return  # how it is meant to end


def _follow(look: looking.Look, *, as_json: bool) -> None:
    """Look again and again; what goes wrong after the first look is shown, and may pass."""
    shown = look.now()
    with Live(console=out, auto_refresh=False, screen=False) if not as_json else contextlib.nullcontext() as live:
        while True:
            if live is None:
                sys.stdout.write(json.dumps(shown.view) + "\n")
                sys.stdout.flush()
            else:
                live.update(markets.book(shown), refresh=True)
            time.sleep(BOOK_SECONDS)
            try:
                shown = look.now()
            except problems.AetherError as gone:
                unusable = {**shown.view, "usable": False, "reason": gone.cause, "bids": [], "asks": []}
                shown = markets.Shown(pod=shown.pod, view=unusable, at=shown.at)


def _desk(kubectl: asking.Kubectl) -> desks.Desk:
    """What the cluster says of Aether; nothing where its kinds are not installed."""
    everywhere = ("--all-namespaces", f"--selector=app.kubernetes.io/name={installing.RELEASE}")
    if not kubectl.text("get", "crd", installing.PLATFORMS, "--ignore-not-found", "-o", "name", deadline=20):
        return desks.Desk()
    deployments = kubectl.get("deployments", *everywhere, deadline=20)["items"]
    operators = {(one["metadata"]["namespace"], one["metadata"]["name"]) for one in deployments}
    leases = [
        one
        for space in sorted({space for space, _ in operators})
        for one in kubectl.get("leases", f"--namespace={space}", deadline=20)["items"]
        if (space, one["metadata"]["name"]) in operators
    ]
    platforms = kubectl.get(installing.PLATFORMS, "--all-namespaces", deadline=20)["items"]
    return desks.Desk(deployments=deployments, leases=leases, platforms=platforms)


@app.command()
def explain(
    what: Annotated[str, typer.Argument(metavar="KIND/NAME", help="For example: tp/paper", show_default=False)],
    *,
    name: Name = DEFAULT,
    context: Context = "",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Where it is.")] = manifests.NAMESPACES[1],
) -> None:
    """Say in plain words why something is not Ready, and what to do. Ends with 0 when it is Ready, 5 otherwise."""
    named = desks.parse(what)
    if named is None:
        raise problems.BadInput(
            f"what: {what!r} is not KIND/NAME of a kind of Aether's", remedy="For example: tp/paper"
        )
    plural, wanted = named
    kubectl = _kubectl(name, context)
    where = f"--namespace={namespace}"
    there = kubectl.text("get", f"{plural}.trading.aether.io", wanted, where, "--ignore-not-found", "-o", "json")
    if not there:
        raise problems.BadInput(f"what: there is no {what} in namespace {namespace}", remedy="aether status shows all")
    thing = json.loads(there)
    about = f"--field-selector=regarding.uid={thing['metadata']['uid']}"
    for line in desks.explain(thing, kubectl.get("events.events.k8s.io", where, about)["items"]):
        out.print(line)
    if not desks.is_ready(thing):
        raise typer.Exit(problems.NotReady.exit_code)


def _well(pod: dict[str, Any]) -> bool:
    return pod["status"].get("phase") == "Succeeded" or asking.condition(pod, "Ready") == "True"


def _show(
    local: inspecting.LocalState | None,
    context: str,
    nodes: list[dict[str, Any]],
    pods: list[dict[str, Any]],
    bad: list[dict[str, Any]],
) -> None:
    if local:
        ways = "open to the machine's network" if local.egress else "closed: nothing leaves the machine"
        out.print(f"[bold]Cluster {local.name}[/]  {local.profile}, up {inspecting.ago(local.uptime_seconds)}")
        out.print(f"  API      {local.server}")
        out.print(f"  network  {ways}")
        out.print(f"  memory   {local.memory_bytes / 1e6:.0f} MB, pods included")
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2))
        for heading in ("COMPONENT", "STATE", "RESTARTS", "LAST CAUSE"):
            table.add_column(heading, no_wrap=heading != "LAST CAUSE")
        for one in local.components:
            state = "[green]ready[/]" if one.ready else "[red]not ready[/]"
            table.add_row(one.name, state, str(one.restarts), escape(one.causes[-1]) if one.causes else "")
        out.print(table)
    else:
        out.print(f"[bold]Context {escape(context)}[/]")
    for node in nodes:
        ready = asking.condition(node, "Ready") == "True"
        out.print(f"  node {node['metadata']['name']}: {'[green]Ready[/]' if ready else '[red]not Ready[/]'}")
    out.print(f"  pods: {len(pods) - len(bad)} of {len(pods)} well")
    for pod in bad:
        out.print(escape(asking.dump([pod]).splitlines()[1]))


@app.command(
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        # From kubectl's first word on nothing is ours, a `--` neither.
        "allow_interspersed_args": False,
        "help_option_names": [],
    },
    add_help_option=False,
)
def kubectl(arguments: typer.Context, *, name: Name = DEFAULT, context: Context = "") -> None:
    """Run kubectl against the cluster; options of aether come first: aether kubectl --name x get pods -A."""
    command = _kubectl(name, context).command(*arguments.args)
    os.execv(command[0], command)


@app.command()
def logs(  # noqa: PLR0913 - a command has as many options as it has
    what: Annotated[
        str,
        typer.Argument(
            help="A component of the local cluster (kubelet), or a workload as kubectl names it (deploy/x)."
        ),
    ] = "",
    *,
    name: Name = DEFAULT,
    context: Context = "",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Of the workload.")] = manifests.NAMESPACES[1],
    lines: Annotated[int, typer.Option("--lines", help="How many of the last lines.", min=0)] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they are written.")] = False,
) -> None:
    """Show the last lines of a component's log, or of a workload's. Without a name: which components have one."""
    at = places.of(name, os.environ)
    if context and not what:
        raise problems.BadInput("what: name a workload", remedy="For example: aether logs --context c deploy/web")
    if "/" in what or context:
        words = ["logs", what, f"--namespace={namespace}", f"--tail={lines}", *(["--follow"] if follow else [])]
        command = _kubectl(name, context).command(*words)
        os.execv(command[0], command)
    log = at.logs / f"{what}.log"
    if not log.is_file():
        have = ", ".join(sorted(path.stem for path in at.logs.glob("*.log")))
        if not have:
            raise problems.NotRunning(f"cluster {name} has no logs", remedy="Start it: aether up")
        if not what:
            out.print(have)
            return
        raise problems.BadInput(f"what: no component {what!r}", remedy=f"There are: {have}")
    if follow:
        os.execvp("tail", ["tail", "-n", str(lines), "-F", str(log)])
    with log.open(errors="replace") as opened:
        sys.stdout.writelines(deque(opened, maxlen=lines))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; a fault becomes its two lines on standard error."""
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    # Not everybody's PATH has where Debian keeps iptables; a plain `su` does not.
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    try:
        app(arguments)
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
