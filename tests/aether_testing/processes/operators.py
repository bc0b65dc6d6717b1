"""The real operator as a process, with the account, the rights, the fence and the token that its pod would have."""

from __future__ import annotations

import base64
import concurrent.futures
import json
import os
import re
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

from aether_cli import kubectl_client, problems
from aether_operator.api import crds, labels
from aether_operator.api.definitions import DEFINITIONS
from aether_operator.api.platforms import Server
from aether_operator.desired import secrets
from aether_operator.observed import kinds
from aether_operator.planning import child_kinds
from aether_testing import wait
from aether_testing.cluster import charts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aether_cli.local.startup import Cluster
    from aether_operator.api.definition import Definitions
    from aether_testing.cluster.namespaces import Namespace
    from aether_testing.servers.counting_proxy import Proxy
    from aether_testing.servers.fake_services import FakeServices

TOP: Final = Path(__file__).resolve().parents[3]
NAME: Final = labels.OPERATOR
"""The name of the account, the Lease and the Roles, as in the chart."""
RIGHTS: Final = frozenset({"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"})
FENCE: Final = frozenset({"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"})
DEADLINE: Final = 120.0
"""Seconds; enough for a busy machine."""
RESTART_DELAY: Final = 0.1
"""Seconds before a process that ended is restarted."""
RECONCILES: Final = "aether_operator_reconcile_total"
ACTIVE_WORKERS: Final = "aether_operator_active_workers"
WRITES: Final = "aether_operator_writes_total"

_forks = concurrent.futures.ThreadPoolExecutor(1, "operators")
"""`pdeathsig` follows the thread that forked, so one thread that lives as long as the tests starts all processes."""


# ---- installation


def install_crds(cluster: Cluster, definitions: Definitions = DEFINITIONS) -> None:
    """Install the CRDs of these kinds."""
    cluster.kubectl.apply(*crds.all_of(definitions))
    names = {definition.resource for definition in definitions.values()}
    # Not `kubectl wait`: it fails on one that has no conditions yet.
    cluster.kubectl.until(
        lambda seen: names <= {one["metadata"]["name"] for one in seen.values() if _established(one)},
        "crds",
        deadline=DEADLINE,
        expected="the CRDs are established",
    )


def _established(kind: dict[str, Any]) -> bool:
    return kubectl_client.condition(kind, "Established") == "True"


def rendered(namespace: str, *others: str, chart: Path = charts.CHART) -> list[dict[str, Any]]:
    """The chart's objects for a namespace that is the operator's and the platforms', and for more of platforms."""
    values = {"namespaces": [namespace, *others], "crds": {"install": False}}
    return charts.rendered(values=values, namespace=namespace, chart=chart)


def rights(namespace: str, *others: str) -> list[dict[str, Any]]:
    """Those of them that give the operator its rights."""
    return [one for one in rendered(namespace, *others) if _is_right(one)]


def _is_right(thing: dict[str, Any]) -> bool:
    """Whether an object gives the operator its rights; the ClusterRole `….view` gives users theirs."""
    return thing["kind"] in RIGHTS and not thing["metadata"]["name"].endswith(".view")


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """A namespace with the operator's rights and its fence."""

    cluster: Cluster
    namespace: Namespace
    folder: Path
    fakes: FakeServices | None = None
    """The services' endpoints; None where no platform needs to become Ready."""

    def operator(
        self,
        name: str = f"{NAME}-0",
        *,
        proxy: Proxy | None = None,
        supervised: bool = False,
        releases_lease: bool = False,
        module: str = "aether_operator",
        **config: Any,
    ) -> Operator:
        """One pod of the operator, not started yet; `with` starts it, and ends it.

        Args:
            name: The pod's name.
            proxy: The proxy for its requests; None: none.
            supervised: Restart it whenever it ends, as a kubelet would.
            releases_lease: Release its Lease before a restart, instead of waiting until it expires: for tests that end
                it many times.
            module: The module that is started; one of tests may have more kinds.
            config: Changes to its configuration, by the file's keys (`resyncSeconds=1`).
        """
        folder = self.folder / name
        folder.mkdir()
        token = self._token(name)
        kubeconfig = folder / "kubeconfig"
        if proxy is not None:
            proxy.kubeconfig(kubeconfig, token)
        else:
            admin = json.loads(self.cluster.kubeconfig.read_text())
            admin["users"][0]["user"] = {"token": token}
            kubeconfig.touch(mode=0o600)
            kubeconfig.write_text(json.dumps(admin))
        ours = self.namespace.name
        release = {"images": {server.value: f"aether/{server.value}:test" for server in Server}}
        settings = {
            "namespaces": [ours],
            "lease": {"namespace": ours, "name": NAME},
            "release": {**release, "serviceImage": "aether/service:test", "operatorNamespace": ours},
            "port": 0,
            "resyncSeconds": 1,
            "componentAddress": "" if self.fakes is None else self.fakes.address,
            **config,
        }
        (folder / "config.json").write_text(json.dumps(settings))
        return Operator(
            name=name, namespace=ours, folder=folder, objects=self.namespace, proxy=proxy,
            supervised=supervised, releases_lease=releases_lease, module=module,
        )  # fmt: skip

    @property
    def account(self) -> str:
        """The user's name in the audit log."""
        return f"system:serviceaccount:{self.namespace.name}:{NAME}"

    def _token(self, name: str) -> str:
        """Create a pod, and return a token of the operator's account that is bound to it."""
        self.namespace.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "labels": labels.OPERATOR_POD},
                "spec": {
                    "serviceAccountName": NAME,
                    "automountServiceAccountToken": False,
                    "securityContext": {
                        "runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [
                        {
                            "name": "operator",
                            "image": "aether/operator:test",
                            "securityContext": {
                                "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
                            },
                        }
                    ],
                },
            }
        )  # fmt: skip
        bound = ("--bound-object-kind=Pod", f"--bound-object-name={name}", "--duration=24h")
        return self.namespace.text("create", "token", NAME, *bound).strip()


def prepare(  # noqa: PLR0913 - a test names what differs
    cluster: Cluster,
    namespace: Namespace,
    folder: Path,
    fakes: FakeServices | None = None,
    *,
    others: Sequence[str] = (),
    definitions: Definitions = DEFINITIONS,
) -> Installation:
    """Prepare a namespace for operators: CRDs, account, rights, and the fence; returns once the fence is in force.

    `others` are further namespaces of platforms, `definitions` the kinds of which the operator has objects.
    """
    install_crds(cluster, definitions)
    chart = charts.CHART if definitions is DEFINITIONS else charts.with_kinds(folder / "chart", definitions)
    things = rendered(namespace.name, *others, chart=chart)
    released = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": NAME, "namespace": namespace.name},
        "spec": {"holderIdentity": "", "leaseDurationSeconds": 1, "leaseTransitions": 0},
    }
    cluster.kubectl.apply(*(one for one in things if _is_right(one) or one["kind"] in FENCE), released)
    installation = Installation(cluster=cluster, namespace=namespace, folder=folder, fakes=fakes)
    wait.until(lambda: "does not hold Lease" in _rejection(installation), "the fence is in force")
    return installation


def _rejection(installation: Installation) -> str:
    """Why the account may not write without a leading pod; empty while it may, before the fence is in force."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "fenced"}}
    try:
        installation.namespace.text(
            "create", f"--as={installation.account}", "--dry-run=server", "--filename=-", stdin=json.dumps(secret)
        )
    except problems.ProgramFailed as refused:
        return refused.cause
    return ""


# ---- one operator


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
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it for good."""
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
        spec = self.objects.get("lease", NAME)["spec"]
        if spec.get("holderIdentity", "").partition("_")[0] == self.name:
            patch = json.dumps({"spec": {"holderIdentity": "", "leaseDurationSeconds": 1}})
            self.objects.text("patch", "lease", NAME, "--type=merge", f"--patch={patch}")

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
        """Wait until it leads."""
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


# ---- its children


def masked(namespace: Namespace) -> dict[str, dict[str, Any]]:
    """All children in a namespace by kind and name, with everything masked that may differ between two equal runs.

    References stay recognisable: an owner that does not exist, and a hash that is of no Secret, are not masked.
    """
    plurals = ",".join(one.plural for one in child_kinds.KINDS)
    children = namespace.get(plurals, f"--selector={labels.MANAGED_BY}={labels.OPERATOR}")["items"]
    owners = namespace.get(f"{kinds.PLATFORMS.plural}.{kinds.PLATFORMS.api_version.partition('/')[0]}")["items"]
    known = {namespace.name: "<namespace>"}
    for one in (*children, *owners):
        known[one["metadata"]["uid"]] = f"<uid of {kinds.ref(one)}>"
    for one in children:
        if one["kind"] == "Secret":
            name = one["metadata"]["name"]
            word = one["metadata"].get("annotations", {}).get(labels.CREDENTIALS, "")
            password = secrets.decoded(one).get("password", "")
            if secrets.PASSWORD.fullmatch(password):
                known[password] = f"<password of {name}>"
            if word:
                known[word] = f"<hash of {name}>"
    return {str(kinds.ref(one)): json.loads(_replaced(json.dumps(_lasting(one)), known)) for one in children}


def _replaced(text: str, known: Mapping[str, str]) -> str:
    longest_first = sorted(known, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, longest_first)), lambda found: known[found.group()], text)


def _lasting(thing: dict[str, Any]) -> dict[str, Any]:
    """A child without the fields that the API server and its controllers write."""
    one: dict[str, Any] = json.loads(json.dumps(thing))
    one.pop("status", None)
    meta = one["metadata"]
    for key in ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"):
        meta.pop(key, None)
    notes = {key: value for key, value in meta.get("annotations", {}).items() if not _of_a_controller(key)}
    meta.pop("annotations", None)
    if notes:
        meta["annotations"] = notes
    match one["kind"]:
        case "Secret":
            one["data"] = {
                key: base64.b64decode(value).decode(errors="replace") for key, value in one.get("data", {}).items()
            }
        case "Service":
            for key in ("clusterIP", "clusterIPs"):
                if one["spec"].get(key) not in (None, "None", ["None"]):
                    one["spec"][key] = "<address>"
        case "PersistentVolumeClaim":
            one["spec"].pop("volumeName", None)
    return one


def _of_a_controller(annotation: str) -> bool:
    return annotation.partition("/")[0] in {"pv.kubernetes.io", "volume.kubernetes.io"}
