"""Starts and stops a local cluster: `up`, `build` and `down`. Every step does only what is not done yet."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aether_cli import kubectl_client, problems, processes
from aether_cli.local import (
    binaries,
    cleanup,
    config_files,
    configs,
    image_builder,
    images,
    preflight,
    program_builder,
    settings,
    supervisor_process,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence

    from aether_cli import progress
    from aether_cli.local import paths

START_DEADLINE: Final = 90.0
API_DEADLINE: Final = 60.0
NODE_DEADLINE: Final = 90.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A cluster that is up: how to reach it, and what `up` did."""

    name: str
    profile: str
    server: str
    kubeconfig: Path
    kubectl: kubectl_client.Kubectl
    programs: Mapping[str, Path]
    images: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Image name → reference, as a pod names it."""
    started: bool
    """Whether this `up` started it; False where it was running already."""
    seconds: float
    """How long this `up` took."""

    def record(self) -> dict[str, Any]:
        """The cluster as JSON values."""
        return {
            "name": self.name,
            "profile": self.profile,
            "server": self.server,
            "kubeconfig": str(self.kubeconfig),
            "images": dict(self.images),
            "started": self.started,
            "seconds": round(self.seconds, 3),
        }


def required_binaries(chosen: settings.Settings) -> Sequence[binaries.Binary]:
    """The programs that these settings need, each once."""
    listed = (
        *binaries.CONTROL_PLANE,
        *(binaries.NODE if chosen.has_node else ()),
        *(binaries.KWOK if chosen.kwok else ()),
    )
    return tuple(dict.fromkeys(listed))


def up(
    folders: paths.Paths, chosen: settings.Settings, reporter: progress.Reporter, env: Mapping[str, str] = os.environ
) -> Cluster:
    """Start a cluster, or find it running, and wait until it is ready.

    Raises:
        NotPossibleHere: The machine does not meet a requirement; nothing was changed.
        BadInput: The cluster runs already, with other settings.
        NotReady: It did not become ready in time.
    """
    began = time.monotonic()
    required = required_binaries(chosen)
    with contextlib.ExitStack() as stack:
        checked = supervisor_process.find(folders) is None and not supervisor_process.busy(folders)
        if checked:
            _check(folders, chosen, required, env, reporter)
        stack.enter_context(supervisor_process.exclusive(folders, reporter))
        process = _running_process(folders)
        listening = None
        if process is not None:
            _require_same(process, chosen, folders)
        else:
            if not checked:  # the cluster was running, or being started, a moment ago
                _check(folders, chosen, required, env, reporter)
            listening = preflight.open_port(chosen.port)
            if listening is None:
                raise problems.NotPossibleHere(f"port: 127.0.0.1:{chosen.port} is in use")
            stack.enter_context(listening)
        started = process is None
        programs = program_builder.ensure(required, folders.cache, env, reporter)
        built = _build_images(folders, chosen, reporter)
        if process is None and listening is not None:
            process = _start(folders, chosen, programs, built, listening, reporter)
        if process is None:
            raise problems.NotRunning(f"cluster {folders.name} ended")
        kubectl = kubectl_client.Kubectl(
            program=programs["kubectl"], kubeconfig=folders.kubeconfig, cache=folders.state / "kubectl"
        )
        if not started:  # its API server may just be restarting
            kubectl.until(bool, "namespaces", deadline=API_DEADLINE, expected="the API server responds")
        if chosen.has_node:
            _load(process, [one for one in built if chosen.platforms or one.name in images.WITHOUT_PLATFORMS], reporter)
            with reporter.step("node") as step:
                kubectl.until(
                    lambda nodes: any(_ready_since(node, process.started) for node in nodes.values()),
                    "nodes",
                    deadline=NODE_DEADLINE,
                    expected="the node is Ready",
                )
                step.result("Ready")
    return Cluster(
        name=folders.name,
        profile=str(chosen.profile),
        server=f"https://127.0.0.1:{process.port}",
        kubeconfig=folders.kubeconfig,
        kubectl=kubectl,
        programs=programs,
        images={one.name: one.reference for one in built},
        started=started,
        seconds=time.monotonic() - began,
    )


def build(
    folders: paths.Paths, reporter: progress.Reporter, env: Mapping[str, str] = os.environ
) -> list[image_builder.BuiltImage]:
    """Build all programs and images into the cache; start nothing.

    Raises:
        NotPossibleHere: The machine does not meet a requirement; nothing was changed.
    """
    chosen = settings.Settings()
    preflight.require(preflight.inspect(chosen, folders, binaries.ALL, env, port_taken=False), chosen)
    program_builder.ensure(binaries.ALL, folders.cache, env, reporter)
    return _build_images(folders, chosen, reporter)


def _check(
    folders: paths.Paths,
    chosen: settings.Settings,
    required: Sequence[binaries.Binary],
    env: Mapping[str, str],
    reporter: progress.Reporter,
) -> None:
    """Check the machine against the requirements, before anything is changed."""
    with reporter.step("machine") as step:
        # The port may be in use by this same cluster, if another `up` is starting it: then this `up` waits for that.
        taken = (
            preflight.port_in_use(chosen.port)
            and not supervisor_process.busy(folders)
            and supervisor_process.find(folders) is None
        )
        machine = preflight.inspect(chosen, folders, required, env, port_taken=taken)
        preflight.require(machine, chosen)
        step.result(f"{machine.memory / 1e9:.1f} GB of memory and {machine.disk / 1e9:.0f} GB of disk are free")


def _running_process(folders: paths.Paths) -> supervisor_process.SupervisorProcess | None:
    """The process of the cluster, if it is running; one whose `up` was killed half-way is stopped first."""
    process = supervisor_process.find(folders)
    if process is not None and not process.ready:
        supervisor_process.stop(process, gently=False, deadline=0)
        process = None
    return process


def _require_same(
    process: supervisor_process.SupervisorProcess, chosen: settings.Settings, folders: paths.Paths
) -> None:
    requested, have = chosen.record(), process.settings.record()
    differing = [key for key in requested if requested[key] != have[key]]
    if differing:
        now = ", ".join(f"{key} {have[key]}" for key in differing)
        raise problems.BadInput(
            f"{', '.join(differing)}: the cluster runs with {now}",
            remedy=f"Stop it first: {folders.command_line('down')}",
        )


def _build_images(
    folders: paths.Paths, chosen: settings.Settings, reporter: progress.Reporter
) -> list[image_builder.BuiltImage]:
    source = preflight.repository()
    if not chosen.has_node or source is None:
        return []
    return image_builder.build(folders, source / "images", reporter)


def _start(  # noqa: PLR0913 - the parts of a cluster
    folders: paths.Paths,
    chosen: settings.Settings,
    programs: Mapping[str, Path],
    built: Sequence[image_builder.BuiltImage],
    listening: socket.socket,
    reporter: progress.Reporter,
) -> supervisor_process.SupervisorProcess:
    with reporter.step("control plane" if not chosen.has_node else "cluster") as step:
        folders.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = supervisor_process.lock(folders)
        try:
            (folders.state / "holder.json").unlink(missing_ok=True)  # the record of a cluster that was killed
            cleanup.remove_leftovers(folders)
            port = int(listening.getsockname()[1])
            config_files.write(folders, chosen, port=port, images={one.name: one.reference for one in built})
            if chosen.has_node:
                cleanup.make_control_groups(folders)
            process = _launch(folders, chosen, programs, listening, lock, step)
        finally:
            os.close(lock)  # the supervisor inherited a descriptor of it
        supervisor_process.mark_ready(folders)
        step.result(f"API on https://127.0.0.1:{port}")
        return process


def _launch(  # noqa: PLR0913 - what the supervisor needs
    folders: paths.Paths,
    chosen: settings.Settings,
    programs: Mapping[str, Path],
    listening: socket.socket,
    lock: int,
    step: progress.Step,
) -> supervisor_process.SupervisorProcess:
    reading, report = os.pipe()
    given = {"api_socket": listening.fileno(), "report": report, "lock": lock}
    if chosen.egress:  # only then the supervisor gets a descriptor of the machine's network namespace
        given["outer_network"] = os.open("/proc/self/ns/net", os.O_RDONLY)
    launch_request = {
        "paths": folders.record(),
        "settings": chosen.record(),
        "programs": {name: str(path) for name, path in programs.items()},
        "resolver": _resolver(),
        **given,
    }
    log = os.open(folders.logs / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        unshare = subprocess.Popen(
            [
                "unshare", "--mount", "--net", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc",
                sys.executable, "-m", "aether_cli.local.supervisor", json.dumps(launch_request),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=_environment(),
            pass_fds=tuple(given.values()),
            start_new_session=True,
        )  # fmt: skip
        supervisor_process.write_record(
            folders,
            pid=unshare.pid,
            settings=chosen.record(),
            port=int(listening.getsockname()[1]),
            ready=False,
            started=time.time(),
        )
    finally:
        for descriptor in (report, log, *([given["outer_network"]] if chosen.egress else [])):
            os.close(descriptor)
    try:
        _wait_for_supervisor(reading, folders, step)
    except BaseException:
        unshare.kill()
        unshare.wait()
        raise
    finally:
        if not chosen.owned:
            os.close(reading)  # an owned cluster ends when this end of the pipe is closed
    unshare.returncode = 0  # it outlives this process: suppresses the warning about a child that was not waited for
    process = supervisor_process.find(folders)
    if process is None:
        raise problems.NotReady(f"cluster {folders.name} ended right after its start", remedy=f"Logs: {folders.logs}")
    return process


def _environment() -> dict[str, str]:
    """The components' environment: little of the user's, since etcd reads ETCD_…, Go clients proxy variables, etc."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    return {**kept, "PYTHONSAFEPATH": "1", "KUBECACHEDIR": "/run/aether/kubectl"}


def _wait_for_supervisor(reading: int, folders: paths.Paths, step: progress.Step) -> None:
    """Read the supervisor's events until all components are ready.

    Raises:
        NotReady: They are not within START_DEADLINE, or the supervisor ended.
    """
    ends = time.monotonic() + START_DEADLINE
    text, ready, known, last = "", set[str](), set[str](), ""
    while True:
        left = ends - time.monotonic()
        if left <= 0 or not select.select([reading], [], [], left)[0]:
            late = sorted(known - ready)
            raise problems.NotReady(
                f"not ready within {START_DEADLINE:g} s: {', '.join(late)}", remedy=last or f"Logs: {folders.logs}"
            )
        data = os.read(reading, 65536)
        if not data:
            cause = processes.last_line((folders.logs / "supervisor.log").read_text())
            raise problems.NotReady(last or f"the supervisor ended: {cause}", remedy=f"Logs: {folders.logs}")
        *lines, text = (text + data.decode()).split("\n")
        for line in lines:
            event = json.loads(line)
            match event["event"]:
                case "up":
                    return
                case "started":
                    known.add(event["component"])
                case "ready":
                    ready.add(event["component"])
                    step.update(len(ready), len(known), event["component"])
                case "not-ready":
                    ready.discard(event["component"])
                case _:
                    last = str(event["cause"])


def _resolver() -> str:
    try:
        return Path("/etc/resolv.conf").read_text()
    except OSError:
        return ""


def _ready_since(node: dict[str, Any], started: float) -> bool:
    """Whether a node is Ready since this start of the cluster: etcd has the status from before, too.

    Args:
        node: The Node object.
        started: When the cluster was started; seconds since the epoch.
    """
    for one in node["status"].get("conditions", []):
        if one["type"] == "Ready" and one["status"] == "True":
            return datetime.datetime.fromisoformat(one["lastHeartbeatTime"]).timestamp() >= int(started)
    return False


def _load(
    process: supervisor_process.SupervisorProcess,
    built: Sequence[image_builder.BuiltImage],
    reporter: progress.Reporter,
) -> None:
    runtime = [
        *supervisor_process.nsenter(process),
        "ctr",
        f"--address={configs.CONTAINERD}",
        "--namespace=k8s.io",
        "images",
    ]

    def present() -> set[str]:
        return set(processes.run([*runtime, "ls", "-q"]).split())

    def put(archive: Path) -> None:
        processes.run([*runtime, "import", archive], deadline=300)

    # Base images first, one at a time: images that are imported in parallel would each unpack the layers they share.
    bases = {image.base for image in images.CATALOGUE}
    image_builder.load([one for one in built if one.name in bases], present, put, reporter)
    image_builder.load(
        [one for one in built if one.name not in bases], present, put, reporter, parallel=os.cpu_count() or 1
    )


def down(folders: paths.Paths, reporter: progress.Reporter, *, purge: bool = False) -> bool:
    """Stop a cluster and remove everything of it from the machine but its files.

    Args:
        folders: The cluster's paths.
        reporter: Shows the progress.
        purge: Whether to delete the files, too: the cluster's state and its volumes.

    Returns:
        Whether the cluster was running.
    """
    if not folders.state.exists() and not (purge and folders.volumes.exists()):
        return False
    with supervisor_process.exclusive(folders, reporter):
        process = supervisor_process.find(folders)
        if process is not None:
            with reporter.step("stop") as step:
                supervisor_process.stop(process, gently=process.ready, deadline=30)
                step.result("all its processes have ended")
        if folders.state.exists():
            lock = supervisor_process.lock(folders)  # the cluster has ended, even one whose record was not written yet
            (folders.state / "holder.json").unlink(missing_ok=True)
            cleanup.remove_leftovers(folders)
            os.close(lock)
        if purge:
            with reporter.step("purge") as step:
                cleanup.purge(folders)
                step.result("state and volumes removed")
    return process is not None
