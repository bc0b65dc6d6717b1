"""Process 1 of a cluster's namespaces: prepares them, starts the components, restarts those that end, stops them.

`unshare` starts it. When it ends, the kernel kills every process in its pid namespace.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aether_cli import problems, processes
from aether_cli.local import components, configs, networks, paths
from aether_cli.local.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

PROBE_EVERY: Final = 0.05
"""Seconds between probes of the components that are not ready."""
PROBE_ALL_EVERY: Final = 10.0
"""Seconds between probes of all components."""
READY_WITHOUT_PROBE_AFTER: Final = 0.5
"""Seconds for which a component without a probe has to run."""
MAX_BACKOFF: Final = 30.0
MAX_FAILURES_BEFORE_READY: Final = 4
"""Failures of one component in a row after which a start is given up, before the cluster was ever ready."""
GRACE: Final = 15.0
"""Seconds that pods and components have to end after SIGTERM."""
ROTATE_LOGS_EVERY: Final = 60.0
LOG_LIMIT: Final = 64 * 1024 * 1024

# An error line of klog, zap, logrus or Go's runtime. Where a log has none, its last line is taken for the cause.
ERROR_LINE: Final = re.compile(
    r'^[EF]\d{4} |"level":"(error|fatal|panic)"|level=(error|fatal|panic)|^panic:|^Error:|^error:'
)

# The kubelet sets these if their values differ, and they are the whole machine's: files with the kubelet's values are
# mounted over them.
MASKED_SYSCTLS: Final = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


def cause_of(status: int, log: str) -> str:
    """One line about an ended process: its exit code or signal, and the last error in its log."""
    code = os.waitstatus_to_exitcode(status)
    names = {number.value: number.name for number in signal.Signals}
    how = f"was killed by {names.get(-code, f'signal {-code}')}" if code < 0 else f"ended with {code}"
    lines = [line for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if ERROR_LINE.search(line)]
    message = (errors or lines or ["it printed nothing"])[-1].strip()
    return f"{how}: {message[:300]}"


@dataclass(slots=True)
class _Supervised:
    """A component and its state. Times are monotonic seconds."""

    component: components.Component
    pid: int = 0
    ready: bool = False
    since: float = 0.0
    restarts: int = 0
    consecutive_failures: int = 0
    start_at: float = 0.0
    causes: list[str] = field(default_factory=list)
    """Of the last three failures."""
    process: subprocess.Popen[bytes] | None = None

    def record(self) -> dict[str, Any]:
        return {"pid": self.pid, "ready": self.ready, "restarts": self.restarts, "causes": self.causes}


class Supervisor:
    """Runs the components. One thread; it wakes up for signals, for probes and for restarts that are due."""

    def __init__(
        self, folders: paths.Paths, listed: tuple[components.Component, ...], report: int, *, owned: bool
    ) -> None:
        self._folders = folders
        self._owned = owned
        self._up = False
        self._probed_all = time.monotonic()
        self._supervised = {component.name: _Supervised(component) for component in listed}
        self._report: int | None = report
        self._launcher = select.poll()
        self._launcher.register(report, select.POLLERR)
        self._tls = ssl.create_default_context(cafile=str(folders.state / "pki" / "ca.crt"))

    def run(self) -> int:
        """Run until SIGTERM, or until the launcher ends too early.

        Returns:
            The exit code: 0 after SIGTERM; 1 where the launcher ended before all components were ready, or where it
            owns the cluster.
        """
        signal.signal(signal.SIGTERM, lambda *_: None)
        wake = {signal.SIGCHLD, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, wake)
        rotated = time.monotonic()
        while True:
            self._reap()
            self._start_due()
            self._probe()
            if self._report is not None and self._launcher.poll(0):
                return 1
            self._report_when_ready()
            waiting = not self._up or any(not entry.ready for entry in self._supervised.values())
            got = signal.sigtimedwait(wake, PROBE_EVERY if waiting else 1.0)
            if got is not None and got.si_signo == signal.SIGTERM:
                self._stop()
                return 0
            if time.monotonic() - rotated > ROTATE_LOGS_EVERY:
                rotated = time.monotonic()
                self._rotate()

    def _reap(self) -> None:
        by_pid = {entry.pid: entry for entry in self._supervised.values() if entry.pid}
        changed = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            entry = by_pid.get(pid)
            if entry is None:
                continue  # an orphan, which process 1 has to reap
            changed = True
            if entry.component.once and status == 0:
                entry.pid, entry.ready, entry.process = 0, True, None
                self._send({"event": "ready", "component": entry.component.name})
                continue
            lived = time.monotonic() - entry.since
            cause = f"{entry.component.name} {cause_of(status, self._tail(entry.component.name))}"
            if entry.process is not None:
                entry.process.returncode = os.waitstatus_to_exitcode(status)
            if lived > 2 * MAX_BACKOFF:
                entry.consecutive_failures = 0
            entry.pid, entry.ready, entry.process = 0, False, None
            self._failed(entry, cause)
        if changed:
            self._record()

    def _failed(self, entry: _Supervised, cause: str) -> None:
        """Record and log the cause, and schedule a restart; too many failures before the first ready: exit."""
        entry.restarts += 1
        entry.consecutive_failures += 1
        entry.causes = [*entry.causes, cause][-3:]
        entry.start_at = time.monotonic() + min(MAX_BACKOFF, 0.25 * 2.0 ** min(entry.consecutive_failures, 10))
        self._note(cause)
        self._send({"event": "failed", "component": entry.component.name, "cause": cause})
        if not self._up and entry.consecutive_failures >= MAX_FAILURES_BEFORE_READY:
            raise SystemExit(1)

    def _start_due(self) -> None:
        now = time.monotonic()
        for entry in self._supervised.values():
            done = entry.component.once and entry.ready
            due = not entry.pid and not done and now >= entry.start_at
            if due and all(self._supervised[name].ready for name in entry.component.after):
                self._start(entry)
                self._record()

    def _start(self, entry: _Supervised) -> None:
        component = entry.component
        log = -1
        try:
            log = os.open(self._log(component.name), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            process = subprocess.Popen(
                component.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={**os.environ, **dict(component.environment)},
                pass_fds=component.inherits,
                start_new_session=True,
                restore_signals=True,
                preexec_fn=_unblock,  # noqa: PLW1509 - this process has one thread; blocked signals would be inherited
            )
        except OSError as fault:
            self._failed(entry, f"{component.name} could not be started: {fault.strerror}: {component.command[0]}")
            return
        finally:
            if log >= 0:
                os.close(log)
        entry.process, entry.pid, entry.since = process, process.pid, time.monotonic()
        self._send({"event": "started", "component": component.name})

    def _probe(self) -> None:
        """Probe the components that are not ready, and from time to time all: a component may hang."""
        probe_all = time.monotonic() > self._probed_all + PROBE_ALL_EVERY
        if probe_all:
            self._probed_all = time.monotonic()
        for entry in self._supervised.values():
            if entry.pid and not entry.component.once and (probe_all or not entry.ready):
                before, entry.ready = entry.ready, self._is_ready(entry)
                if entry.ready != before:
                    self._send({"event": "ready" if entry.ready else "not-ready", "component": entry.component.name})
                    self._record()

    def _is_ready(self, entry: _Supervised) -> bool:
        """Whether the probe succeeds; without a probe, whether the component has been running for a moment."""
        if entry.component.probe is None:
            return time.monotonic() - entry.since > READY_WITHOUT_PROBE_AFTER
        return self._answers(entry.component.probe)

    def _answers(self, probe: components.Probe) -> bool:
        try:
            if probe.address.startswith("/"):
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.settimeout(1)
                    connection.connect(probe.address)
                    return True
            host, _, port = probe.address.rpartition(":")
            if not probe.path:
                with socket.create_connection((host, int(port)), timeout=1):
                    return True
            http_connection: http.client.HTTPConnection
            if probe.tls:
                http_connection = http.client.HTTPSConnection(host, int(port), timeout=2, context=self._tls)
            else:
                http_connection = http.client.HTTPConnection(host, int(port), timeout=2)
            with contextlib.closing(http_connection):
                http_connection.request("GET", probe.path)
                return http_connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False

    def _report_when_ready(self) -> None:
        if not self._up and all(entry.ready for entry in self._supervised.values()):
            self._up = True
            self._record()
            self._send({"event": "up"})
            if self._report is not None and not self._owned:
                os.close(self._report)
                self._report = None

    def _send(self, event: dict[str, Any]) -> None:
        if self._report is not None and (not self._up or event["event"] == "up"):
            with contextlib.suppress(BrokenPipeError):  # the launcher has ended: `run` checks that
                os.write(self._report, (json.dumps(event) + "\n").encode())

    def _stop(self) -> None:
        """Stop the pods first, while etcd and the network still run, then all components, etcd gracefully."""
        for name in ("kube-controller-manager", "kube-scheduler", "kwok", "kubelet", "volumes"):
            if (entry := self._supervised.get(name)) and entry.pid:
                os.kill(entry.pid, signal.SIGKILL)  # otherwise it would start again the pods that are stopped next
        component_pids = {entry.pid for entry in self._supervised.values() if entry.pid}
        deadline = time.monotonic() + GRACE
        if "containerd" in self._supervised:
            self._wait_for(_terminator(component_pids), deadline)
            for pid in filter(_handles_sigterm, _pods(component_pids)):
                self._note(f"{_command(pid)} did not end in {GRACE:g} s")
        # Of the rest only etcd has data; it ends at once when no client is connected.
        etcd = self._supervised["etcd"].pid
        for pid in component_pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM if pid == etcd else signal.SIGKILL)
        self._wait_for(lambda: etcd not in _processes(), deadline)

    def _wait_for(self, done: Callable[[], bool], deadline: float) -> None:
        while not done() and time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            signal.sigtimedwait({signal.SIGCHLD}, 0.1)

    def _log(self, name: str) -> Path:
        return self._folders.logs / f"{name}.log"

    def _tail(self, name: str) -> str:
        with contextlib.suppress(OSError), self._log(name).open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - 16384))
            return log.read().decode(errors="replace")
        return ""

    def _note(self, line: str) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        # A full disk must not end the cluster: the line is lost.
        with contextlib.suppress(OSError), self._log("supervisor").open("a") as log:
            log.write(f"{stamp} {line}\n")

    def _record(self) -> None:
        whole = {name: entry.record() for name, entry in self._supervised.items()}
        temporary = self._folders.state / ".components.half"
        with contextlib.suppress(OSError):  # a full disk, as in _note
            temporary.write_text(json.dumps(whole))
            temporary.replace(self._folders.state / "components.json")

    def _rotate(self) -> None:
        """Copy logs that exceed LOG_LIMIT to `.log.1` and truncate them; writers append, so they need no signal."""
        for log in self._folders.logs.glob("*.log"):
            with contextlib.suppress(OSError):  # a full disk, as in _note
                if log.stat().st_size > LOG_LIMIT and not log.name.startswith("audit"):
                    shutil.copyfile(log, log.with_suffix(".log.1"))
                    os.truncate(log, 0)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def _processes() -> set[int]:
    """The pids of all processes in the pid namespace except this one and zombies."""
    alive = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != "1":
            with contextlib.suppress(OSError):
                if entry.joinpath("stat").read_text().rpartition(")")[2].split()[0] != "Z":
                    alive.add(int(entry.name))
    return alive


def _pods(component_pids: set[int]) -> set[int]:
    """The processes of pods, without containerd's shims and runc, which does not end while it creates a container."""
    return {pid for pid in _processes() - component_pids if not _command(pid).startswith(("containerd-shim", "runc"))}


def _terminator(component_pids: set[int]) -> Callable[[], bool]:
    """A function that sends SIGTERM once to each pod process; it returns whether none is left that handles it."""
    signalled = set[int]()

    def done() -> bool:
        left = _pods(component_pids)
        for pid in left - signalled:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        signalled.update(left)
        return not any(map(_handles_sigterm, left))

    return done


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def _handles_sigterm(pid: int) -> bool:
    """Whether SIGTERM ends a process: for process 1 of a container only if it installed a handler."""
    with contextlib.suppress(OSError, KeyError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
        first = status["NSpid"][-1] == "1"
        handled = int(status["SigCgt"][0], 16) >> (signal.SIGTERM - 1) & 1
        return bool(handled or not first)
    return False


def prepare(folders: paths.Paths, resolver: str, *, durable: bool) -> None:
    """Prepare the namespaces: separate /run and /var, a network, and masks over the machine-wide sysctls.

    Args:
        folders: The cluster's paths.
        resolver: The text of the machine's resolv.conf.
        durable: Whether /var is on disk; a tmpfs otherwise.
    """
    processes.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run"])
    if not durable:
        processes.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", folders.var])
    for folder in ("lib/aether/volumes", "lib/cni", "log/pods", "log/containers", "tmp"):
        (folders.var / folder).mkdir(parents=True, exist_ok=True)
    processes.run(["mount", "--bind", folders.volumes, folders.var / "lib/aether/volumes"])
    processes.run(["mount", "--rbind", folders.var, "/var"])
    Path("/run/lock").mkdir()
    Path(configs.CNI_CONFIG).mkdir(parents=True)
    Path(configs.CNI_CONFIG, "10-aether.conflist").write_text(configs.container_network())
    for name, value in MASKED_SYSCTLS.items():
        masked = Path("/run/aether") / name.replace("/", ".")
        masked.write_text(value + "\n")
        processes.run(["mount", "--bind", masked, f"/proc/sys/{name}"])
    # /etc/resolv.conf may be a link into /run, which is empty now: write its text to the link's target.
    target = Path("/etc/resolv.conf").resolve()
    if not target.exists() and target.parts[1] in {"run", "var"}:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(resolver)
    processes.run(["ip", "-batch", "-"], stdin=networks.LINKS)
    for name, value in networks.SYSCTLS.items():
        Path("/proc/sys", name).write_text(value)


def main(arguments: list[str]) -> int:
    """`python -m aether_cli.local.supervisor JSON`: run a cluster as the launcher's request says."""
    request = json.loads(arguments[0])
    folders = paths.Paths.read(request["paths"])
    chosen = Settings.read(request["settings"])
    # systemd's socket proxy takes descriptor 3 as its socket: move everything else away, and the socket there.
    outer = fcntl.fcntl(request["outer_network"], fcntl.F_DUPFD, 20) if chosen.egress else -1
    report = fcntl.fcntl(request["report"], fcntl.F_DUPFD_CLOEXEC, 20)
    lock = fcntl.fcntl(request["lock"], fcntl.F_DUPFD_CLOEXEC, 20)
    os.dup2(request["api_socket"], 30, inheritable=False)
    os.dup2(30, 3)
    in_use = {3, outer, report, lock}
    for name in ("outer_network", "report", "lock", "api_socket"):
        if request.get(name, 3) not in in_use:
            os.close(request[name])
    os.umask(0o022)  # pods need it; the user's may be stricter
    os.environ["TMPDIR"] = "/var/tmp"  # noqa: S108 - the cluster's /var, which no other user can see
    try:
        prepare(folders, request["resolver"], durable=chosen.durable)
        given = components.Descriptors(api_socket=3, outer_network=outer, cluster_lock=lock)
        programs = {name: Path(path) for name, path in request["programs"].items()}
        listed = components.for_settings(chosen, folders, programs, given, sys.executable)
        return Supervisor(folders, listed, report, owned=chosen.owned).run()
    except (OSError, problems.AetherError) as fault:
        print(fault, file=sys.stderr, flush=True)  # noqa: T201 - this is supervisor.log
        with contextlib.suppress(OSError):
            os.write(report, (json.dumps({"event": "failed", "cause": str(fault)}) + "\n").encode())
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
