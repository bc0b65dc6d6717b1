"""The first process of a cluster's namespaces: makes them a place, starts the components and keeps them.

It runs as process 1 under `unshare`. When it ends, the kernel ends everything in the namespaces.
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
PROBE_ALL_EVERY: Final = 10.0
READY_WITHOUT_PROBE_AFTER: Final = 0.5
MAX_BACKOFF: Final = 30.0
MAX_FAILURES_BEFORE_READY: Final = 4
"""Deaths of one component before the cluster was ever ready: then it is a fault, not bad luck."""
GRACE: Final = 15.0
"""Seconds that pods and components get to end by themselves."""
ROTATE_LOGS_EVERY: Final = 60.0
LOG_LIMIT: Final = 64 * 1024 * 1024

# What a klog, zap or logrus line of trouble looks like; without one, the last line is the cause.
ERROR_LINE: Final = re.compile(
    r'^[EF]\d{4} |"level":"(error|fatal|panic)"|level=(error|fatal|panic)|^panic:|^Error:|^error:'
)

# The kubelet sets these, and they are the whole machine's: it is shown files that already say what it wants.
MASKED_SYSCTLS: Final = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


def cause_of(status: int, log: str) -> str:
    """One line: how it ended, and the last thing it complained about."""
    code = os.waitstatus_to_exitcode(status)
    names = {number.value: number.name for number in signal.Signals}
    how = f"was killed by {names.get(-code, f'signal {-code}')}" if code < 0 else f"ended with {code}"
    lines = [line for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if ERROR_LINE.search(line)]
    said = (errors or lines or ["it printed nothing"])[-1].strip()
    return f"{how}: {said[:300]}"


@dataclass(slots=True)
class _Supervised:
    """A component and how it is doing."""

    component: components.Component
    pid: int = 0
    ready: bool = False
    since: float = 0.0
    restarts: int = 0
    in_a_row: int = 0
    start_at: float = 0.0
    causes: list[str] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    def record(self) -> dict[str, Any]:
        return {"pid": self.pid, "ready": self.ready, "restarts": self.restarts, "causes": self.causes}


class Supervisor:
    """Keeps a table of components true. One thread; it wakes for signals, for probes and for restarts that are due."""

    def __init__(self, at: paths.Paths, listed: tuple[components.Component, ...], report: int, *, owned: bool) -> None:
        self._at = at
        self._owned = owned
        self._up = False
        self._probed_all = time.monotonic()
        self._kept = {component.name: _Supervised(component) for component in listed}
        self._report: int | None = report
        self._launcher = select.poll()
        self._launcher.register(report, select.POLLERR)
        self._tls = ssl.create_default_context(cafile=str(at.state / "pki" / "ca.crt"))

    def run(self) -> int:
        """Until told to stop, or until the launcher is gone before everything was ready."""
        signal.signal(signal.SIGTERM, lambda *_: None)
        wake = {signal.SIGCHLD, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, wake)
        rotated = time.monotonic()
        while True:
            self._reap()
            self._start_due()
            self._probe()
            if self._report is not None and self._launcher.poll(0):
                return 1  # a half-made cluster goes with the command that was making it, an owned one with its owner
            self._report_when_ready()
            waiting = not self._up or any(not kept.ready for kept in self._kept.values())
            got = signal.sigtimedwait(wake, PROBE_EVERY if waiting else 1.0)
            if got is not None and got.si_signo == signal.SIGTERM:
                self._stop()
                return 0
            if time.monotonic() - rotated > ROTATE_LOGS_EVERY:
                rotated = time.monotonic()
                self._rotate()

    def _reap(self) -> None:
        by_pid = {kept.pid: kept for kept in self._kept.values() if kept.pid}
        changed = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            kept = by_pid.get(pid)
            if kept is None:
                continue  # an orphan of somebody else's: that is what process 1 is for
            changed = True
            if kept.component.once and status == 0:
                kept.pid, kept.ready, kept.process = 0, True, None
                self._send({"event": "ready", "component": kept.component.name})
                continue
            lived = time.monotonic() - kept.since
            cause = f"{kept.component.name} {cause_of(status, self._tail(kept.component.name))}"
            if kept.process is not None:
                kept.process.returncode = os.waitstatus_to_exitcode(status)
            if lived > 2 * MAX_BACKOFF:
                kept.in_a_row = 0
            kept.pid, kept.ready, kept.process = 0, False, None
            self._failed(kept, cause)
        if changed:
            self._record()

    def _failed(self, kept: _Supervised, cause: str) -> None:
        """Say why, and when it is tried again; before the cluster was ever ready, not for ever."""
        kept.restarts += 1
        kept.in_a_row += 1
        kept.causes = [*kept.causes, cause][-3:]
        kept.start_at = time.monotonic() + min(MAX_BACKOFF, 0.25 * 2.0 ** min(kept.in_a_row, 10))
        self._note(cause)
        self._send({"event": "died", "component": kept.component.name, "cause": cause})
        if not self._up and kept.in_a_row >= MAX_FAILURES_BEFORE_READY:
            raise SystemExit(1)

    def _start_due(self) -> None:
        now = time.monotonic()
        for kept in self._kept.values():
            done = kept.component.once and kept.ready
            due = not kept.pid and not done and now >= kept.start_at
            if due and all(self._kept[name].ready for name in kept.component.after):
                self._start(kept)
                self._record()

    def _start(self, kept: _Supervised) -> None:
        component = kept.component
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
                preexec_fn=_unblock,  # noqa: PLW1509 - one thread here; a blocked SIGTERM would be inherited
            )
        except OSError as fault:
            self._failed(kept, f"{component.name} could not be started: {fault.strerror}: {component.command[0]}")
            return
        finally:
            if log >= 0:
                os.close(log)
        kept.process, kept.pid, kept.since = process, process.pid, time.monotonic()
        self._send({"event": "started", "component": component.name})

    def _probe(self) -> None:
        """Ask those that are not ready; now and then the others, too: one that hangs is not ready either."""
        probe_all = time.monotonic() > self._probed_all + PROBE_ALL_EVERY
        if probe_all:
            self._probed_all = time.monotonic()
        for kept in self._kept.values():
            if kept.pid and not kept.component.once and (probe_all or not kept.ready):
                before, kept.ready = kept.ready, self._is_ready(kept)
                if kept.ready != before:
                    self._send({"event": "ready" if kept.ready else "silent", "component": kept.component.name})
                    self._record()

    def _is_ready(self, kept: _Supervised) -> bool:
        """What can be asked is asked; of the others, one that has lived for a moment will live."""
        if kept.component.probe is None:
            return time.monotonic() - kept.since > READY_WITHOUT_PROBE_AFTER
        return self._answers(kept.component.probe)

    def _answers(self, probe: components.Probe) -> bool:
        try:
            if probe.address.startswith("/"):
                with socket.socket(socket.AF_UNIX) as caller:
                    caller.settimeout(1)
                    caller.connect(probe.address)
                    return True
            host, _, port = probe.address.rpartition(":")
            if not probe.path:
                with socket.create_connection((host, int(port)), timeout=1):
                    return True
            caller_: http.client.HTTPConnection
            if probe.tls:
                caller_ = http.client.HTTPSConnection(host, int(port), timeout=2, context=self._tls)
            else:
                caller_ = http.client.HTTPConnection(host, int(port), timeout=2)
            with contextlib.closing(caller_):
                caller_.request("GET", probe.path)
                return caller_.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False

    def _report_when_ready(self) -> None:
        if not self._up and all(kept.ready for kept in self._kept.values()):
            self._up = True
            self._record()
            self._send({"event": "up"})
            if self._report is not None and not self._owned:
                os.close(self._report)
                self._report = None

    def _send(self, event: dict[str, Any]) -> None:
        if self._report is not None and (not self._up or event["event"] == "up"):
            with contextlib.suppress(BrokenPipeError):  # noticed, and acted on, in the loop
                os.write(self._report, (json.dumps(event) + "\n").encode())

    def _stop(self) -> None:
        """Pods first, while their store and network are still there; then everything."""
        for name in ("kube-controller-manager", "kube-scheduler", "kwok", "kubelet", "volumes"):
            if (kept := self._kept.get(name)) and kept.pid:
                os.kill(kept.pid, signal.SIGKILL)  # else it would start again what we are about to end
        component_pids = {kept.pid for kept in self._kept.values() if kept.pid}
        deadline = time.monotonic() + GRACE
        if "containerd" in self._kept:
            self._wait_for(_terminator(component_pids), deadline)
            for pid in filter(_handles_sigterm, _pods(component_pids)):
                self._note(f"{_command(pid)} did not end in {GRACE:g} s")
        # What is left keeps nothing but the store does, and that ends at once when nobody holds a connection to it.
        etcd = self._kept["etcd"].pid
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
        return self._at.logs / f"{name}.log"

    def _tail(self, name: str) -> str:
        with contextlib.suppress(OSError), self._log(name).open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - 16384))
            return log.read().decode(errors="replace")
        return ""

    def _note(self, line: str) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        # A full disk must not end the cluster: what cannot be written down is lost, what runs goes on.
        with contextlib.suppress(OSError), self._log("supervisor").open("a") as log:
            log.write(f"{stamp} {line}\n")

    def _record(self) -> None:
        whole = {name: kept.record() for name, kept in self._kept.items()}
        half = self._at.state / ".components.half"
        with contextlib.suppress(OSError):  # as for a note
            half.write_text(json.dumps(whole))
            half.replace(self._at.state / "components.json")

    def _rotate(self) -> None:
        """A log that has grown too large is copied aside and begun anew; writers append, so they follow."""
        for log in self._at.logs.glob("*.log"):
            with contextlib.suppress(OSError):  # as for a note
                if log.stat().st_size > LOG_LIMIT and not log.name.startswith("audit"):
                    shutil.copyfile(log, log.with_suffix(".log.1"))
                    os.truncate(log, 0)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def _processes() -> set[int]:
    """Every process of the namespace but ourselves; threads of the kernel are not in it, zombies do not count."""
    alive = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != "1":
            with contextlib.suppress(OSError):
                if entry.joinpath("stat").read_text().rpartition(")")[2].split()[0] != "Z":
                    alive.add(int(entry.name))
    return alive


def _pods(component_pids: set[int]) -> set[int]:
    """The processes of pods. containerd's hands are not: runc, in the middle of making a container, ends for nobody."""
    return {pid for pid in _processes() - component_pids if not _command(pid).startswith(("containerd-shim", "runc"))}


def _terminator(component_pids: set[int]) -> Callable[[], bool]:
    """Asks each process of a pod to end, once; whether none is left that would."""
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
    """Whether a process acts on being asked to end: the first one of a container does only with a handler."""
    with contextlib.suppress(OSError, KeyError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
        first = status["NSpid"][-1] == "1"
        handled = int(status["SigCgt"][0], 16) >> (signal.SIGTERM - 1) & 1
        return bool(handled or not first)
    return False


def prepare(at: paths.Paths, resolver: str, *, durable: bool) -> None:
    """Make the namespaces a place to live: own /run, own /var, a network, and no hand on the machine's settings."""
    processes.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run"])
    if not durable:
        processes.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", at.var])
    for folder in ("lib/aether/volumes", "lib/cni", "log/pods", "log/containers", "tmp"):
        (at.var / folder).mkdir(parents=True, exist_ok=True)
    processes.run(["mount", "--bind", at.volumes, at.var / "lib/aether/volumes"])
    processes.run(["mount", "--rbind", at.var, "/var"])
    Path("/run/lock").mkdir()
    Path(configs.CNI_CONFIG).mkdir(parents=True)
    Path(configs.CNI_CONFIG, "10-aether.conflist").write_text(configs.container_network())
    for name, value in MASKED_SYSCTLS.items():
        masked = Path("/run/aether") / name.replace("/", ".")
        masked.write_text(value + "\n")
        processes.run(["mount", "--bind", masked, f"/proc/sys/{name}"])
    # Where the machine's resolver file is a link into /run, what it said is put where the link leads.
    target = Path("/etc/resolv.conf").resolve()
    if not target.exists() and target.parts[1] in {"run", "var"}:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(resolver)
    processes.run(["ip", "-batch", "-"], stdin=networks.LINKS)
    for name, value in networks.SYSCTLS.items():
        Path("/proc/sys", name).write_text(value)


def main(arguments: list[str]) -> int:
    """`python -m aether_cli.local.supervisor JSON`: what to run, as the launcher wrote it."""
    told = json.loads(arguments[0])
    at = paths.Paths.read(told["places"])
    chosen = Settings.read(told["settings"])
    # The socket proxy looks for its socket at descriptor 3, and nothing else may sit there.
    outer = fcntl.fcntl(told["outer_network"], fcntl.F_DUPFD, 20) if chosen.egress else -1
    report = fcntl.fcntl(told["report"], fcntl.F_DUPFD_CLOEXEC, 20)
    lock = fcntl.fcntl(told["lock"], fcntl.F_DUPFD_CLOEXEC, 20)
    os.dup2(told["api_socket"], 30, inheritable=False)
    os.dup2(30, 3)
    kept = {3, outer, report, lock}
    for name in ("outer_network", "report", "lock", "api_socket"):
        if told.get(name, 3) not in kept:
            os.close(told[name])
    os.umask(0o022)  # what pods and the runtime make is not the person's, whose own may be stricter
    os.environ["TMPDIR"] = "/var/tmp"  # noqa: S108 - the cluster's own /var, which nobody else can see
    try:
        prepare(at, told["resolver"], durable=chosen.durable)
        given = components.Descriptors(api_socket=3, outer_network=outer, life_lock=lock)
        programs = {name: Path(path) for name, path in told["programs"].items()}
        listed = components.of(chosen, at, programs, given, sys.executable)
        return Supervisor(at, listed, report, owned=chosen.owned).run()
    except (OSError, problems.AetherError) as fault:
        print(fault, file=sys.stderr, flush=True)  # noqa: T201 - this is supervisor.log
        with contextlib.suppress(OSError):
            os.write(report, (json.dumps({"event": "failed", "cause": str(fault)}) + "\n").encode())
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
