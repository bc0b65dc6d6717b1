"""The real operator as a process of its own, across restarts: its log, its metrics, and when it is idle."""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from prometheus_client import parser

from aether_operator.api import labels
from aether_testing import wait

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_testing.cluster.namespaces import Namespace
    from aether_testing.servers.counting_proxy import Proxy

TOP: Final = Path(__file__).resolve().parents[3]
DEADLINE: Final = 120.0
"""Seconds; enough for a busy machine."""
RESTART_DELAY: Final = 0.1
"""Seconds before a process that ended is restarted."""
RECONCILES: Final = "aether_operator_reconcile_total"
ACTIVE_WORKERS: Final = "aether_operator_active_workers"
WRITES: Final = "aether_operator_writes_total"

_forks = concurrent.futures.ThreadPoolExecutor(1, "operators")
"""`pdeathsig` follows the thread that forked, so one thread that lives as long as the tests starts all processes."""


@dataclass(slots=True, kw_only=True)
class Operator:
    """One pod's process, across restarts."""

    name: str
    namespace: str
    folder: Path
    objects: Namespace
    proxy: Proxy | None
    supervised: bool
    releases_lease: bool
    module: str
    starts: int = 0
    """How many times it was started."""
    _process: subprocess.Popen[bytes] | None = None
    _log_start: int = 0
    """The offset in its log where the present run begins."""
    _stopped: threading.Event = field(default_factory=threading.Event)
    _starting: threading.Lock = field(default_factory=threading.Lock)
    _supervisor: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def log(self) -> Path:
        """Its standard error and output, of all runs."""
        return self.folder / "log"

    @property
    def text(self) -> str:
        """The text of its log, of all runs."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The log lines of all runs; a line that is not JSON becomes `{"event": "text", "text": …}`."""
        return _lines(self.text)

    @property
    def current_lines(self) -> list[dict[str, Any]]:
        """The log lines of the present run."""
        start = self._log_start
        if not self.log.exists():
            return []
        with self.log.open("rb") as log:
            log.seek(start)
            return _lines(log.read().decode(errors="replace"))

    @property
    def pid(self) -> int:
        """The process id of the present run."""
        assert self._process is not None, "it was never started"
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs, frozen or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def port(self) -> int:
        """The port of its health and metrics in this run; waits until it is logged."""
        port: int = self.wait_logged("standing_by")["port"]
        return port

    def configure(self, **changes: Any) -> None:
        """Change the configuration of the next run, by the file's keys."""
        path = self.folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    def start(self) -> None:
        """Start it; a supervised one is restarted whenever it ends."""
        assert not self.alive, "it runs already"
        self._stopped.clear()
        self._begin()
        if self.supervised:
            self._supervisor = threading.Thread(target=self._supervise, name=f"kubelet-{self.name}")
            self._supervisor.start()

    def _begin(self) -> None:
        with self._starting:
            if self._stopped.is_set():
                return
            self._log_start = self.log.stat().st_size if self.log.exists() else 0
            self._process = _forks.submit(self._fork).result(DEADLINE)
            self.starts += 1

    def _fork(self) -> subprocess.Popen[bytes]:
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
        env = {
            **kept,
            "PYTHONPATH": f"{TOP / 'operator'}:{TOP / 'tests'}",
            "PYTHONSAFEPATH": "1",
            "KUBECONFIG": str(self.folder / "kubeconfig"),
            "POD_NAME": self.name,
            "POD_NAMESPACE": self.namespace,
        }
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [
                    "setpriv", "--pdeathsig=KILL", sys.executable, "-m", self.module,
                    "--config", self.folder / "config.json",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, env=env,
            )  # fmt: skip

    def _supervise(self) -> None:
        while not self._stopped.is_set():
            if self._process is not None:
                self._process.wait()
            if self.releases_lease and not self._stopped.is_set():
                self.release_lease()
            if not self._stopped.wait(RESTART_DELAY):
                self._begin()

    def release_lease(self) -> None:
        """Release the Lease if this pod holds it; only after its process has ended."""
        assert not self.alive, "it may still write"
        spec = self.objects.get("lease", labels.OPERATOR)["spec"]
        if spec.get("holderIdentity", "").partition("_")[0] == self.name:
            patch = json.dumps({"spec": {"holderIdentity": "", "leaseDurationSeconds": 1}})
            self.objects.text("patch", "lease", labels.OPERATOR, "--type=merge", f"--patch={patch}")

    def kill(self) -> None:
        """Send SIGKILL and wait for the end; nothing to do for one that has ended."""
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()
            process.wait(DEADLINE)

    def stop(self, deadline: float = DEADLINE) -> int:
        """Send SIGTERM and wait for the end; returns the exit code."""
        process = self._process
        assert process is not None, "it was never started"
        process.terminate()
        return process.wait(deadline)

    def wait_exit(self, deadline: float = DEADLINE) -> int:
        """Wait until this run ends by itself; returns the exit code."""
        process = self._process
        assert process is not None, "it was never started"
        return process.wait(deadline)

    def freeze(self) -> None:
        """Send SIGSTOP, and wait until it is stopped."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def thaw(self) -> None:
        """Send SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def end(self) -> None:
        """End it and its supervisor."""
        with self._starting:
            self._stopped.set()
        self.kill()
        if self._supervisor is not None:
            self._supervisor.join(DEADLINE)
            assert not self._supervisor.is_alive(), f"the supervisor of {self.name} did not end"
            self._supervisor = None

    def _logged(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.current_lines if line.get("event") == event]

    @property
    def leading(self) -> bool:
        """Whether it is alive and has logged in this run that it leads."""
        return self.alive and bool(self._logged("leading"))

    def wait_leading(self, deadline: float = DEADLINE) -> None:
        """Wait until this run has logged that it leads."""
        wait.until(lambda: self.leading, f"{self.name} leads", seconds=deadline, detail=lambda: self.text)

    def wait_logged(self, event: str, deadline: float = DEADLINE) -> dict[str, Any]:
        """Wait for an event in the log of this run; returns its first line."""
        what = f"{self.name} logs {event}"
        return wait.until(lambda: self._logged(event), what, seconds=deadline, detail=lambda: self.text)[0]

    def http_get(self, path: str) -> tuple[int, str]:
        """The status code and body of `/livez`, `/readyz` or `/metrics`."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metrics(self) -> dict[str, float]:
        """Every sample, as `name{label="value",…}`."""
        found = {}
        for family in parser.text_string_to_metric_families(self.http_get("/metrics")[1]):
            for sample in family.samples:
                inner = ",".join(f'{key}="{value}"' for key, value in sorted(sample.labels.items()))
                found[f"{sample.name}{{{inner}}}" if inner else sample.name] = sample.value
        return found

    def reconciles(self) -> float:
        """How many reconciles this process has made, of every controller and result."""
        return total(self.metrics(), RECONCILES)

    def wait_idle(self) -> None:
        """Wait until no worker is active: no reconcile still uses an object that was deleted before."""

        def idle() -> bool:
            try:
                return total(self.metrics(), ACTIVE_WORKERS) == 0
            except OSError:  # it has just ended, or is not listening yet
                return False

        wait.until(idle, f"{self.name} reconciles nothing", detail=lambda: self.text[-4000:])

    def written(self) -> float:
        """The writes of this run by its own metrics, without Events and the Lease."""
        return total(self.metrics(), WRITES, without='kind="Event"')


def total(metrics: Mapping[str, float], name: str, *, without: str = "\0") -> float:
    """The sum of a metric over all labels, except samples with a certain one."""
    return sum(value for key, value in metrics.items() if key.partition("{")[0] == name and without not in key)


def _lines(text: str) -> list[dict[str, Any]]:
    """Complete lines only: the last one may be unfinished."""
    found = []
    for line in text.split("\n")[:-1]:
        try:
            parsed = json.loads(line)
        except ValueError:
            parsed = line
        found.append(parsed if isinstance(parsed, dict) else {"event": "text", "text": line})
    return found


def wait_settled(operator: Operator, *, resyncs: int = 2, platforms: int = 1, deadline: float = DEADLINE) -> None:
    """Wait until it has reconciled every platform so many times more without a write.

    Writes are those that the proxy recorded; without a proxy, those of the operator's own metrics.
    """

    def state() -> tuple[int, object, float] | None:
        """The number of starts, its writes and its reconciles; None while it does not respond."""
        current_lines = operator.starts
        try:
            reconciles = operator.reconciles()
            written: object = operator.written() if operator.proxy is None else len(operator.proxy.writes)
        except OSError:  # it has just ended, or is not listening yet
            return None
        return (current_lines, written, reconciles) if current_lines == operator.starts else None

    began: tuple[int, object, float] | None = None

    def quiet() -> bool:
        nonlocal began
        now = state()
        if now is None or began is None or now[:2] != began[:2]:
            began = now
            return False
        return now[2] - began[2] >= resyncs * platforms

    what = f"{operator.name} is idle"
    wait.until(quiet, what, seconds=deadline, detail=lambda: f"{began}\n{operator.text[-4000:]}")
