"""The commands of `aether` and of `kubectl aether`: what a person types, and what came of it, translated back.

`aether` talks to the local cluster unless a context is named; `kubectl aether` to the current context, as kubectl does.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import os
import shutil
import sys
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

import aether_cli
from aether_cli import asking, desks, installing, looking, markets, problems, targets, telling
from aether_cli.local import binaries, building, holding, inspecting, manifests, places, starting
from aether_cli.local.settings import Profile, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

app = typer.Typer(
    name="aether",
    help="Run a Kraken spot trading desk on Kubernetes: on a cluster of your own, or on one that this command starts.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
out = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

Name = Annotated[str, typer.Option("--name", envvar="AETHER_CLUSTER", help="The local cluster's name.")]
Context = Annotated[
    str, typer.Option("--context", help="A context of your own kubeconfig, instead of the local cluster.")
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option("--kubeconfig", help="A kubeconfig file; its current context, unless one is named."),
]
Namespace = Annotated[
    str,
    typer.Option("--namespace", "-n", help=f"Where it is; the context's, or {manifests.NAMESPACES[1]}, otherwise."),
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


def _target(name: str, context: str, kubeconfig: Path | None = None) -> targets.Target:
    """The cluster that is meant: that of a context, or the local one, which must run.

    Args:
        name: The local cluster's; empty where there is no talk of one, as in `kubectl aether`.
        context: A context's name.
        kubeconfig: A file; its current context, where none is named.
    """
    if context or kubeconfig or not name:
        program = _kubectl_program()
        return targets.of_context(program, kubeconfig=kubeconfig, context=context, plugin=not name)
    at = places.of(name, os.environ)
    holding.need(at)  # that it does not run comes before that there is no kubectl
    return targets.local(_kubectl_program(), at, default=DEFAULT)


@contextlib.contextmanager
def _on(target: targets.Target) -> Iterator[targets.Target]:
    """Whatever goes wrong there is told with the cluster's name."""
    try:
        yield target
    except problems.AetherError as fault:
        raise target.named(fault) from fault


def _heading(target: targets.Target) -> str:
    """The first line of an output about a whole cluster."""
    try:
        return target.heading(looking.platforms_of(target.kubectl))
    except problems.ProgramFailed:  # no right to look, or no answer
        return target.heading(None)


def _begin(heading: str) -> None:
    """Say whose data follow: in a pipe or a file on standard error, so that what is read there is data alone."""
    (out if out.is_terminal else errors).print(heading)


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
    kubeconfig: Kubeconfig = None,
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
    if context or kubeconfig:
        with _on(_target(name, context, kubeconfig)) as target:
            _up_there(target, tell, values or [], example=bool(example), as_json=as_json)
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
    news = f"up after {cluster.seconds:.1f} s" if cluster.started else "was up already"
    tell.line("")
    _begin(_heading(_target(name, "")))
    out.print(f"  {cluster.server}, {news}")
    if installed:
        _tell_of(installed)
    option = "" if name == DEFAULT else f" --name {name}"
    out.print(f"\n  aether status{option}")
    out.print(f"  aether kubectl{option} get {'aether' if installed else 'pods'} --all-namespaces")
    out.print(f"  export KUBECONFIG={escape(str(cluster.kubeconfig))}    # for kubectl, Lens, k9s, helm and all others")


def _up_there(
    target: targets.Target, tell: telling.Teller, values: Sequence[Path], *, example: bool, as_json: bool
) -> None:
    """`up` on a cluster of the person's: nothing is started, and no image is brought."""
    kubectl = target.kubectl
    helm = installing.helm(kubectl, places.of(DEFAULT, os.environ).cache, os.environ)
    chart = installing.repository() / "helm" / installing.RELEASE
    with tell.step("cluster") as step:
        version = kubectl.json("version", deadline=20)["serverVersion"]["gitVersion"]
        kubectl.apply(*(manifests.restricted_namespace(one) for one in manifests.NAMESPACES))
        step.result(f"Kubernetes {version}, namespaces {', '.join(manifests.NAMESPACES)}")
    name_of_chart = installing.install(helm, chart, tell, given={}, files=values)
    installed = _with_example(kubectl, name_of_chart, tell, wanted=example)
    if as_json:
        told = {**target.record(), "version": version, "namespaces": list(manifests.NAMESPACES)}
        _print_json({**told, **installed.record()})
        return
    tell.line("")
    _begin(_heading(target))
    out.print(f"  Kubernetes {version}")
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
    local = inspecting.look(places.of(name, os.environ), now=time.time()) if here else None
    if local is not None and not local.running:
        if as_json:
            _print_json({"cluster": local.record(), "nodes": [], **desks.Desk().record(), "marketData": []})
        raise problems.NotRunning(f"cluster {name} is not running", remedy="Start it: aether up")
    with _on(_target(name, context, kubeconfig)) as target:
        everywhere = all_namespaces or (here and not namespace)
        _status(target, local, () if everywhere else (namespace or target.namespace,), as_json=as_json)


def _status(
    target: targets.Target, local: inspecting.LocalState | None, spaces: Sequence[str], *, as_json: bool
) -> None:
    silent = ""
    desk, nodes, flowing = desks.Desk(), list[dict[str, Any]](), list[markets.Told]()
    try:
        nodes, unread = looking.nodes(target.kubectl)
        desk = looking.desk(target.kubectl, spaces)
        flowing, unasked = looking.flow(target.kubectl, desk.pods)
        desk = replace(desk, unread=(*desk.unread, *unread, *unasked))
    except problems.ProgramFailed as refused:
        if local is None:
            raise
        silent = refused.cause  # what the machine itself knows is still worth seeing
    has_node = local is not None and local.profile == Profile.NODE
    healthy = not (silent or (has_node and not nodes)) and desk.healthy
    healthy = healthy and all(asking.condition(node, "Ready") == "True" for node in nodes)
    if as_json:
        _print_json(
            {
                "cluster": {**target.record(), **(local.record() if local else {})},
                "namespaces": list(spaces),
                "nodes": [
                    {"name": node["metadata"]["name"], "ready": asking.condition(node, "Ready")} for node in nodes
                ],
                **desk.record(),
                "marketData": [one.record() for one in flowing],
            }
        )
    else:
        _begin(target.heading(None if silent else desk.platforms))
        _show(local, spaces, nodes, desk)
        if spaces and desk.installed and not desk.platforms:
            out.print(f"  No TradingPlatform is there: {escape(target.again('status', '-A'))} shows all namespaces")
        for line in desks.page(desk):
            out.print(line)
        _show_flow(flowing)
    if silent:
        raise problems.NotReady(f"the API does not answer: {silent}", remedy="aether logs kube-apiserver")
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
    if markets.SYMBOL.fullmatch(wanted) is None:
        raise problems.BadInput(f"pair: {symbol!r} is no market", remedy="For example: BTC/USD")
    with _on(_target(name, context, kubeconfig)) as target:
        where = namespace or target.namespace
        look = looking.Look(kubectl=target.kubectl, namespace=where, platform=platform, symbol=wanted, depth=depth)
        shown = look.now()
        if once or not (as_json or out.is_terminal):
            if as_json:
                _print_json(_recorded(target, look, shown))
            else:
                _begin(target.heading([look.of]))
                out.print(markets.book(shown))
            if not shown.usable:
                raise typer.Exit(problems.NotReady.exit_code)
            return
        with contextlib.suppress(KeyboardInterrupt):  # how it is meant to end
            _follow(target, look, shown, as_json=as_json)


def _recorded(target: targets.Target, look: looking.Look, shown: markets.Shown) -> dict[str, Any]:
    """A book as JSON values, with whose it is."""
    whose = {"namespace": look.namespace, "platform": look.platform}
    return {"cluster": target.record(), "venue": desks.venue(look.of), **whose, **shown.view}


def _headed(target: targets.Target, look: looking.Look, shown: markets.Shown) -> Group:
    """A book for a person, with whose it is."""
    return Group(Text.from_markup(target.heading([look.of])), markets.book(shown))


def _follow(target: targets.Target, look: looking.Look, shown: markets.Shown, *, as_json: bool) -> None:
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
                shown = markets.Shown(pod=shown.pod, view=unusable, at=shown.at)


@app.command()
def explain(
    what: Annotated[str, typer.Argument(metavar="KIND/NAME", help="For example: tp/paper", show_default=False)],
    *,
    name: Name = DEFAULT,
    context: Context = "",
    kubeconfig: Kubeconfig = None,
    namespace: Namespace = "",
) -> None:
    """Say in plain words why something is not Ready, and what to do. Ends with 0 when it is Ready, 5 otherwise."""
    named = desks.parse(what)
    if named is None:
        raise problems.BadInput(
            f"what: {what!r} is not KIND/NAME of a kind of Aether's", remedy="For example: tp/paper"
        )
    _, wanted = named
    with _on(_target(name, context, kubeconfig)) as target:
        where = namespace or target.namespace
        try:
            thing = looking.platform(target.kubectl, where, wanted)
        except problems.BadInput as gone:
            raise problems.BadInput(gone.cause, remedy=f"{target.again('status', '-A')} shows all") from gone
        events = looking.events(target.kubectl, thing)
    _begin(target.heading([thing]))
    for line in desks.explain(thing, events):
        out.print(line)
    if not desks.is_ready(thing):
        raise typer.Exit(problems.NotReady.exit_code)


def _show(
    local: inspecting.LocalState | None, spaces: Sequence[str], nodes: Sequence[dict[str, Any]], desk: desks.Desk
) -> None:
    if local:
        ways = "open to the machine's network" if local.egress else "closed: nothing leaves the machine"
        out.print(f"  API      {local.server}")
        out.print(f"  profile  {local.profile}, up {inspecting.ago(local.uptime_seconds)}")
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
        ready = asking.condition(node, "Ready") == "True"
        out.print(f"  node {node['metadata']['name']}: {'[green]Ready[/]' if ready else '[red]not Ready[/]'}")
    where = f"namespace {', '.join(spaces)}, and the operator's" if spaces else "all namespaces"
    out.print(f"  Aether's pods in {escape(where)}: {len(desk.pods) - len(desk.unwell)} of {len(desk.pods)} well")
    for pod in desk.unwell:
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
def kubectl(
    arguments: typer.Context, *, name: Name = DEFAULT, context: Context = "", kubeconfig: Kubeconfig = None
) -> None:
    """Run kubectl against the cluster; options of aether come first: aether kubectl --name x get pods -A."""
    _become_kubectl(_target(name, context, kubeconfig), arguments.args)


def _become_kubectl(target: targets.Target, words: Sequence[str]) -> None:
    """What it prints on standard output is its own; whose data those are is said before, on standard error."""
    errors.print(_heading(target))
    command = target.kubectl.command(*words)
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
    kubeconfig: Kubeconfig = None,
    namespace: Namespace = "",
    lines: Annotated[int, typer.Option("--lines", help="How many of the last lines.", min=0)] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they are written.")] = False,
) -> None:
    """Show the last lines of a component's log, or of a workload's. Without a name: which components have one."""
    at = places.of(name, os.environ)
    foreign = bool(context or kubeconfig)
    if foreign and not what:
        raise problems.BadInput("what: name a workload", remedy="For example: aether logs --context c deploy/web")
    if "/" in what or foreign:
        target = _target(name, context, kubeconfig)
        where = f"--namespace={namespace or target.namespace}"
        _become_kubectl(target, ["logs", what, where, f"--tail={lines}", *(["--follow"] if follow else [])])
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


plugin = typer.Typer(
    name="kubectl aether",
    help="See how Aether is in the cluster of the current context.",
    no_args_is_help=True,
    add_completion=False,  # kubectl asks kubectl_complete-aether
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
ELSEWHERE: Final = {
    "up": "aether up starts a cluster on this machine, and with --context NAME installs Aether in yours.",
    "down": "aether down stops the cluster that aether up started on this machine.",
    "build": "aether build builds on this machine.",
    "kubectl": "It is kubectl that you are calling.",
    "logs": "kubectl logs has those of a workload, aether logs those of the local cluster's components.",
}
"""What `kubectl aether` has not, since it is about this machine and not about a context → where it is."""


PluginContext = Annotated[str, typer.Option("--context", help="The context; the current one otherwise.")]
PluginKubeconfig = Annotated[
    Path | None, typer.Option("--kubeconfig", help="A kubeconfig file; what KUBECONFIG says otherwise.")
]
PluginNamespace = Annotated[
    str, typer.Option("--namespace", "-n", help="The namespace; the context's, or default, otherwise.")
]
OF_KUBECTL: Final = {"context": PluginContext, "kubeconfig": PluginKubeconfig, "namespace": PluginNamespace}
"""Options of `kubectl aether` that are as kubectl's own."""
SHARED: Final[tuple[Callable[..., None], ...]] = (status, book, explain)
"""The commands that `kubectl aether` has, too."""


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
    at.default_map = {command.__name__: {key: said for key, said in given.items() if said} for command in SHARED}


def _of_contexts(command: Callable[..., None]) -> Callable[..., None]:
    """A command that knows nothing of a local cluster."""
    known = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def on_context(**given: Any) -> None:
        command(name="", **given)

    parameters = [
        one.replace(annotation=OF_KUBECTL.get(one.name, one.annotation))
        for one in known.parameters.values()
        if one.name != "name"
    ]
    on_context.__signature__ = known.replace(parameters=parameters)  # type: ignore[attr-defined]  # what Typer reads
    return on_context


def _not_here(command: str) -> Callable[[], None]:
    def refuse() -> None:
        raise problems.BadInput(f"kubectl aether has no command {command}", remedy=ELSEWHERE[command])

    return refuse


for _command in SHARED:
    plugin.command(_command.__name__)(_of_contexts(_command))
for _name in ELSEWHERE:
    _any_words = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    plugin.command(_name, hidden=True, add_help_option=False, context_settings=_any_words)(_not_here(_name))


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
