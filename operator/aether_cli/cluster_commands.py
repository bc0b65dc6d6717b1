"""The commands about a cluster, which only `aether` has: up, build, down, kubectl, logs."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.markup import escape

from aether_cli import installer, output, problems, progress, targets
from aether_cli.local import manifests, paths, startup, supervisor_process
from aether_cli.local.settings import Profile, Settings
from aether_cli.options import DEFAULT, AsJson, Context, Kubeconfig, Name, Namespace
from aether_cli.output import out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aether_cli import kubectl_client

Values = Annotated[
    list[Path] | None,
    typer.Option(
        help="A values file for the chart; can be repeated. Your own cluster needs one that says where the images are.",
        exists=True,
        dir_okay=False,
        resolve_path=True,
    ),
]
ANOTHER_CLUSTER: Final = (("--context",), ("--kubeconfig",), ("--cluster",), ("--server", "-s"))
"""Options of kubectl that select another cluster."""


def up(  # noqa: PLR0913 - a command has as many options as it has
    *,
    name: Name = DEFAULT,
    context: Context = "",
    kubeconfig: Kubeconfig = None,
    profile: Annotated[
        Profile,
        typer.Option(
            metavar="PROFILE",
            help="What to start: control-plane, which runs no pods, or node, which runs them.",
        ),
    ] = Profile.NODE,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The API server's port on 127.0.0.1; 0 takes any free port.")
    ] = Settings().port,
    egress: Annotated[bool, typer.Option("--egress", help="Let pods reach the machine's network.")] = False,
    example: Annotated[
        bool | None,
        typer.Option(
            "--example/--no-example",
            help="Apply the first example and wait until it is Ready. The default on the local cluster, not on your "
            "own.",
            show_default=False,
        ),
    ] = None,
    values: Values = None,
    as_json: AsJson = False,
) -> None:
    """Install Aether: in a one-node Kubernetes on this machine, or in the cluster of --context. Repeat it to repair."""
    reporter = progress.TerminalReporter()
    if context or kubeconfig:
        with targets.errors_named(targets.select(name, context, kubeconfig)) as target:
            _up_on_context(target, reporter, values or [], example=bool(example), as_json=as_json)
        return
    folders = paths.for_cluster(name, os.environ)
    chosen = Settings(profile=profile, port=port, egress=egress)
    if not chosen.has_node and (example or values):
        raise problems.BadInput(
            f"profile: {profile} runs no pods, and nothing is installed there", remedy=f"Use --profile {Profile.NODE}"
        )
    cluster = startup.up(folders, chosen, reporter)
    installed = None
    if chosen.has_node:
        helm = installer.Helm(program=cluster.programs["helm"], kubectl=cluster.kubectl)
        chart = installer.repository() / "helm" / installer.RELEASE
        with supervisor_process.exclusive(folders, reporter):
            installer.delete_pending_releases(cluster.kubectl)
            chart_name = installer.install(
                helm, chart, reporter, given=installer.values(cluster.images), files=values or []
            )
        installed = _with_example(
            cluster.kubectl, chart_name, reporter, requested=example is not False, options=folders.options
        )
    if as_json:
        output.print_json({**cluster.record(), **(installed.record() if installed else {})})
        return
    started = f"up after {cluster.seconds:.1f} s" if cluster.started else "was already up"
    reporter.line("")
    output.print_heading(output.heading(targets.select(name, "")))
    out.print(f"  {cluster.server}, {started}")
    if installed:
        _print_installed(installed)
    out.print(f"\n  {folders.command_line('status')}")
    kubectl_words = ("get", "aether" if installed else "pods", "--all-namespaces")
    out.print(f"  {shlex.join(['aether', 'kubectl', *folders.options, *kubectl_words])}")
    out.print(f"  export KUBECONFIG={escape(str(cluster.kubeconfig))}    # for kubectl, Lens, k9s, helm and others")


def _up_on_context(
    target: targets.Target, reporter: progress.Reporter, values: Sequence[Path], *, example: bool, as_json: bool
) -> None:
    """`up` on the user's own cluster: installs the chart; starts no cluster and loads no images."""
    kubectl = target.kubectl
    helm = installer.helm(kubectl, paths.for_cluster(DEFAULT, os.environ).cache, os.environ)
    chart = installer.repository() / "helm" / installer.RELEASE
    with reporter.step("cluster") as step:
        version = kubectl.json("version", deadline=20)["serverVersion"]["gitVersion"]
        kubectl.apply(*(manifests.restricted_namespace(one) for one in manifests.NAMESPACES))
        step.result(f"Kubernetes {version}, namespaces {', '.join(manifests.NAMESPACES)}")
    chart_name = installer.install(helm, chart, reporter, given={}, files=values)
    installed = _with_example(kubectl, chart_name, reporter, requested=example, options=target.options)
    if as_json:
        record = {**target.record(), "version": version, "namespaces": list(manifests.NAMESPACES)}
        output.print_json({**record, **installed.record()})
        return
    reporter.line("")
    output.print_heading(output.heading(target))
    out.print(f"  Kubernetes {version}")
    _print_installed(installed)
    if not example:
        apply = target.kubectl_line("apply", "-f", f"examples/{installer.EXAMPLE}")
        out.print(f"  No example applied; to apply one: --example, or {escape(apply)}")


def _with_example(
    kubectl: kubectl_client.Kubectl,
    chart: str,
    reporter: progress.Reporter,
    *,
    requested: bool,
    options: Sequence[str],
) -> installer.Installation:
    folder = installer.repository() / "examples" / installer.EXAMPLE
    platforms = installer.apply_example(kubectl, folder, reporter, options=options) if requested else ()
    return installer.Installation(chart=chart, platforms=platforms)


def _print_installed(installed: installer.Installation) -> None:
    out.print(f"  {installed.chart} is installed in {installer.OPERATOR_NAMESPACE}")
    for one in installed.platforms:
        out.print(f"  TradingPlatform {one.namespace}/{one.name}: [green]Ready[/]  {escape(one.message)}")


def build(*, as_json: AsJson = False) -> None:
    """Build the programs and images that `up` needs into the cache; start nothing."""
    built = startup.build(paths.for_cluster(DEFAULT, os.environ), progress.TerminalReporter())
    if as_json:
        output.print_json(
            [{"name": one.name, "reference": one.reference, "bytes": one.size, "built": one.built} for one in built]
        )


def down(
    *,
    name: Name = DEFAULT,
    purge: Annotated[bool, typer.Option("--purge", help="Delete its objects and volumes, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop the local cluster. Its objects and volumes stay unless --purge; the caches stay in any case."""
    began = time.monotonic()
    stopped = startup.down(paths.for_cluster(name, os.environ), progress.TerminalReporter(), purge=purge)
    seconds = time.monotonic() - began
    if as_json:
        output.print_json({"name": name, "stopped": stopped, "purged": purge, "seconds": round(seconds, 3)})
    else:
        out.print(f"Cluster {name} is stopped." if stopped else f"Cluster {name} was not running.")


def kubectl(
    arguments: typer.Context, *, name: Name = DEFAULT, context: Context = "", kubeconfig: Kubeconfig = None
) -> None:
    """Run kubectl on the cluster. Options of aether come before kubectl's: aether kubectl --name x get pods -A."""
    _exec_kubectl(targets.select(name, context, kubeconfig), arguments.args)


def _exec_kubectl(target: targets.Target, words: Sequence[str]) -> None:
    """Print the heading to standard error, then replace this process by kubectl.

    Raises:
        BadInput: kubectl's options select another cluster than the heading names.
    """
    for names in ANOTHER_CLUSTER if words[:1] != ["config"] else ():  # `kubectl config` talks to no cluster
        if _option(words, *names) is not None:
            remedy = "Name the cluster before kubectl's arguments: aether kubectl --context NAME get pods"
            raise problems.BadInput(f"{names[0]}: kubectl would talk to another cluster", remedy=remedy)
    output.errors.print(output.heading(target, _option(words, "--namespace", "-n") or ""))
    command = target.kubectl.command(*words)
    os.execv(command[0], command)


def _option(words: Sequence[str], *names: str) -> str | None:
    """The value of one of kubectl's options, by its names, in its arguments; the last one counts. None without it."""
    value = None
    for nth, word in enumerate(words):
        if word == "--":
            break
        for name in names:
            if word == name:
                value = words[nth + 1] if nth + 1 < len(words) else ""
            elif word.startswith(f"{name}=") or (len(name) == len("-n") and word.startswith(name)):
                value = word.removeprefix(name).removeprefix("=")
    return value


def _pod_hint(what: str, folders: paths.Paths, namespace: str) -> str:
    """How to read the log of a pod with that name, for an error that there is no such component."""
    if not what:
        return ""
    where = ("-n", namespace) if namespace else ()
    return f". A pod's log: {folders.command_line('logs', f'pod/{what}', *where)}"


def logs(  # noqa: PLR0913 - a command has as many options as it has
    what: Annotated[
        str,
        typer.Argument(
            help="A component of the local cluster (kubelet), or a pod or workload (deploy/x) as for kubectl logs."
        ),
    ] = "",
    *,
    name: Name = DEFAULT,
    context: Context = "",
    kubeconfig: Kubeconfig = None,
    namespace: Namespace = "",
    lines: Annotated[int, typer.Option("--lines", help="The number of lines to show.", min=0)] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow the log.")] = False,
) -> None:
    """Show the last lines of a component's or a workload's log. Without an argument: list the components."""
    folders = paths.for_cluster(name, os.environ)
    own_cluster = bool(context or kubeconfig)
    if own_cluster and not what:
        selected = (
            *(("--kubeconfig", str(kubeconfig)) if kubeconfig else ()),
            *(("--context", context) if context else ()),
        )
        remedy = f"For example: {shlex.join(['aether', 'logs', 'deploy/web', *selected])}"
        raise problems.BadInput("what: a workload is missing", remedy=remedy)
    if "/" in what or own_cluster:
        target = targets.select(name, context, kubeconfig)
        where = f"--namespace={namespace or target.namespace}"
        _exec_kubectl(target, ["logs", what, where, f"--tail={lines}", *(["--follow"] if follow else [])])
    log = folders.logs / f"{what}.log"
    if not log.is_file():
        known = ", ".join(sorted(path.stem for path in folders.logs.glob("*.log")))
        if not known:
            raise problems.NotRunning(
                f"cluster {name} has no logs",
                remedy=f"Start it: {folders.command_line('up')}{_pod_hint(what, folders, namespace)}",
            )
        if not what:
            out.print(known)
            return
        remedy = f"Components: {known}{_pod_hint(what, folders, namespace)}"
        raise problems.BadInput(f"what: no component {what!r}", remedy=remedy)
    if follow:
        os.execvp("tail", ["tail", "-n", str(lines), "-F", str(log)])
    with log.open(errors="replace") as opened:
        sys.stdout.writelines(deque(opened, maxlen=lines))
