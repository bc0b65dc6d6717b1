"""The real operator as a process of its own, as one pod of it runs: its account, its rights, its fence, its token."""

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
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import yaml
from prometheus_client import parser

from aether_cli import kubectl_client, problems
from aether_operator.api import labels
from aether_operator.api.platforms import Server
from aether_operator.desired import secrets
from aether_operator.observed import kinds
from aether_testing import charts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from aether_cli.local.startup import Cluster
    from aether_testing.counting_proxy import Proxy
    from aether_testing.fake_services import FakeServices
    from aether_testing.namespaces import Namespace

TOP: Final = Path(__file__).resolve().parents[2]
KINDS: Final = TOP / "crds/v1alpha1"
NAME: Final = labels.OPERATOR
"""Of the account, the Lease and the Roles, as the chart calls them."""
RIGHTS: Final = frozenset({"ServiceAccount", "Role", "RoleBinding"})
FENCE: Final = frozenset({"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"})
DEADLINE: Final = 120.0
"""Seconds, for a machine that does much beside."""
LOOK: Final = 0.02
"""Seconds between looks at what another process does."""
AGAIN: Final = 0.1
"""Seconds after which one that ended is started again."""
RECONCILES: Final = "aether_operator_reconcile_total"
ACTIVE_WORKERS: Final = "aether_operator_active_workers"
WRITES: Final = "aether_operator_writes_total"

_forks = concurrent.futures.ThreadPoolExecutor(1, "operators")
"""Children end with the thread that made them, so one thread that lives as long as the tests makes them all."""


def until(holds: Callable[[], bool], expected: str, deadline: float = DEADLINE, told: Callable[[], str] = str) -> None:
    """Look again and again until something holds."""
    ends = time.monotonic() + deadline
    while not holds():
        assert time.monotonic() < ends, f"{expected}: not within {deadline:g} s\n{told()}"
        time.sleep(LOOK)


# ---- where operators run


def install_kinds(cluster: Cluster) -> None:
    """Have the cluster know our kinds, of this very tree."""
    files = sorted(KINDS.glob("*.yaml"))
    assert files, f"no kinds in {KINDS}"
    things = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in files]
    cluster.kubectl.apply(*things)
    names = {one["metadata"]["name"] for one in things}
    # Not `kubectl wait`: it fails on one that has no conditions yet.
    cluster.kubectl.until(
        lambda seen: names <= {one["metadata"]["name"] for one in seen.values() if _established(one)},
        "crds",
        deadline=DEADLINE,
        expected="the kinds are established",
    )


def _established(kind: dict[str, Any]) -> bool:
    return kubectl_client.condition(kind, "Established") == "True"


def rendered(namespace: str, *others: str) -> list[dict[str, Any]]:
    """What the chart makes of one namespace that is both the operator's and the platforms', and of more platforms'."""
    values = {"namespaces": [namespace, *others], "crds": {"install": False}}
    return charts.rendered(values=values, namespace=namespace)


def rights(namespace: str, *others: str) -> list[dict[str, Any]]:
    """What of it lets the operator in."""
    return [one for one in rendered(namespace, *others) if one["kind"] in RIGHTS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """A namespace in which operators have their rights, and stand behind their fence."""

    cluster: Cluster
    namespace: Namespace
    folder: Path
    fakes: FakeServices | None = None
    """Who plays the rooms; nobody where no platform needs to become Ready."""

    def operator(
        self,
        name: str = f"{NAME}-0",
        *,
        proxy: Proxy | None = None,
        supervised: bool = False,
        impatient: bool = False,
        **config: Any,
    ) -> Operator:
        """One pod of it, not started yet; `with` starts it, and ends it.

        Args:
            name: The pod's.
            proxy: What its requests go through; directly otherwise.
            supervised: Whether it is started again, as a kubelet would, whenever it ends.
            impatient: Whether a supervisor also gives its Lease free, which otherwise only time does: for tests that
                end it many times and are about something else.
            config: What its configuration says beside the defaults, in the file's words (`resyncSeconds=1`).
        """
        folder = self.folder / name
        folder.mkdir()
        token = self._token(name)
        kubeconfig = folder / "kubeconfig"
        if proxy is not None:
            proxy.kubeconfig(kubeconfig, token)
        else:
            said = json.loads(self.cluster.kubeconfig.read_text())
            said["users"][0]["user"] = {"token": token}
            kubeconfig.touch(mode=0o600)
            kubeconfig.write_text(json.dumps(said))
        ours = self.namespace.name
        release = {"images": {server.value: f"aether/{server.value}:test" for server in Server}}
        said = {
            "namespaces": [ours],
            "lease": {"namespace": ours, "name": NAME},
            "release": {**release, "serviceImage": "aether/service:test", "operatorNamespace": ours},
            "port": 0,
            "resyncSeconds": 1,
            "componentAddress": "" if self.fakes is None else self.fakes.address,
            **config,
        }
        (folder / "config.json").write_text(json.dumps(said))
        return Operator(
            name=name, namespace=ours, folder=folder, around=self.namespace, proxy=proxy,
            supervised=supervised, impatient=impatient,
        )  # fmt: skip

    @property
    def account(self) -> str:
        """The user's name, as the API server writes it down."""
        return f"system:serviceaccount:{self.namespace.name}:{NAME}"

    def _token(self, name: str) -> str:
        """Of the operator's account, bound to a pod, which is made for it."""
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


def prepare(
    cluster: Cluster,
    namespace: Namespace,
    folder: Path,
    fakes: FakeServices | None = None,
    *,
    others: Sequence[str] = (),
) -> Installation:
    """Make a namespace one that operators run in: kinds, account, rights, and the fence once it really stands.

    `others` are further namespaces of platforms.
    """
    install_kinds(cluster)
    things = rendered(namespace.name, *others)
    released = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": NAME, "namespace": namespace.name},
        "spec": {"holderIdentity": "", "leaseDurationSeconds": 1, "leaseTransitions": 0},
    }
    cluster.kubectl.apply(*(one for one in things if one["kind"] in RIGHTS | FENCE), released)
    installation = Installation(cluster=cluster, namespace=namespace, folder=folder, fakes=fakes)
    until(lambda: "does not hold Lease" in _refusal(installation), "the fence stands")
    return installation


def _refusal(installation: Installation) -> str:
    """Why the account may not write without a pod that leads; nothing while it may, before the fence stands."""
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
    """One pod's process, through all its lives."""

    name: str
    namespace: str
    folder: Path
    around: Namespace
    proxy: Proxy | None
    supervised: bool
    impatient: bool
    lives: int = 0
    """How often it was started."""
    _process: subprocess.Popen[bytes] | None = None
    _born: int = 0
    """Where in its log this life begins."""
    _over: threading.Event = field(default_factory=threading.Event)
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
        """Its standard error and output, of all lives."""
        return self.folder / "log"

    @property
    def text(self) -> str:
        """What it said, in all its lives."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What it logged, in all its lives; what is no JSON comes as `{"event": "text", "text": …}`."""
        return _lines(self.text)

    @property
    def life(self) -> list[dict[str, Any]]:
        """What it logged in this life."""
        born = self._born
        if not self.log.exists():
            return []
        with self.log.open("rb") as log:
            log.seek(born)
            return _lines(log.read().decode(errors="replace"))

    @property
    def pid(self) -> int:
        """Of this life."""
        assert self._process is not None, "it was never started"
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs; one that is frozen does."""
        return self._process is not None and self._process.poll() is None

    @property
    def port(self) -> int:
        """Of its health and metrics, in this life; waits until it says so."""
        until(lambda: bool(self._said("standing_by")), f"{self.name} stands by", told=lambda: self.text)
        port: int = self._said("standing_by")[0]["port"]
        return port

    def configure(self, **changes: Any) -> None:
        """Have the next life's configuration say something else, in the file's words."""
        path = self.folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    def start(self) -> None:
        """Begin a life; where it is supervised, every end is followed by the next."""
        assert not self.alive, "it runs already"
        self._over.clear()
        self._begin()
        if self.supervised:
            self._supervisor = threading.Thread(target=self._supervise, name=f"kubelet-{self.name}")
            self._supervisor.start()

    def _begin(self) -> None:
        with self._starting:
            if self._over.is_set():
                return
            self._born = self.log.stat().st_size if self.log.exists() else 0
            self._process = _forks.submit(self._fork).result(DEADLINE)
            self.lives += 1

    def _fork(self) -> subprocess.Popen[bytes]:
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
        env = {
            **kept,
            "PYTHONPATH": str(TOP / "operator"),
            "PYTHONSAFEPATH": "1",
            "KUBECONFIG": str(self.folder / "kubeconfig"),
            "POD_NAME": self.name,
            "POD_NAMESPACE": self.namespace,
        }
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [
                    "setpriv", "--pdeathsig=KILL", sys.executable, "-m", "aether_operator",
                    "--config", self.folder / "config.json",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, env=env,
            )  # fmt: skip

    def _supervise(self) -> None:
        while not self._over.is_set():
            if self._process is not None:
                self._process.wait()
            if self.impatient and not self._over.is_set():
                self.free_lease()
            if not self._over.wait(AGAIN):
                self._begin()

    def free_lease(self) -> None:
        """Let anybody have the Lease at once, where this pod has it; only once its process has ended."""
        assert not self.alive, "it may still write"
        spec = self.around.get("lease", NAME)["spec"]
        if spec.get("holderIdentity", "").partition("_")[0] == self.name:
            patch = json.dumps({"spec": {"holderIdentity": "", "leaseDurationSeconds": 1}})
            self.around.text("patch", "lease", NAME, "--type=merge", f"--patch={patch}")

    def kill(self) -> None:
        """SIGKILL, and it is gone when this returns; one that has ended already is left alone."""
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()
            process.wait(DEADLINE)

    def stop(self, deadline: float = DEADLINE) -> int:
        """SIGTERM, and wait for its end; returns the exit code."""
        process = self._process
        assert process is not None, "it was never started"
        process.terminate()
        return process.wait(deadline)

    def ended(self, deadline: float = DEADLINE) -> int:
        """Wait until this life ends by itself; returns the exit code."""
        process = self._process
        assert process is not None, "it was never started"
        return process.wait(deadline)

    def freeze(self) -> None:
        """SIGSTOP, and it does nothing any more when this returns."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def end(self) -> None:
        """No further life, and nothing of it is left."""
        with self._starting:
            self._over.set()
        self.kill()
        if self._supervisor is not None:
            self._supervisor.join(DEADLINE)
            assert not self._supervisor.is_alive(), f"the supervisor of {self.name} did not end"
            self._supervisor = None

    def _said(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.life if line.get("event") == event]

    @property
    def leading(self) -> bool:
        """Whether it has said in this life that it leads, and it lives."""
        return self.alive and bool(self._said("leading"))

    def wait_leading(self, deadline: float = DEADLINE) -> None:
        """Until it leads."""
        until(lambda: self.leading, f"{self.name} leads", deadline, lambda: self.text)

    def wait_said(self, event: str, deadline: float = DEADLINE) -> dict[str, Any]:
        """The first line of this life with this event."""
        until(lambda: bool(self._said(event)), f"{self.name} says {event}", deadline, lambda: self.text)
        return self._said(event)[0]

    def asked(self, path: str) -> tuple[int, str]:
        """What it answers over HTTP: `/livez`, `/readyz`, `/metrics`."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as said:
            with said:
                return said.code, said.read().decode()

    def metrics(self) -> dict[str, float]:
        """Every sample, as `name{label="value",…}`."""
        found = {}
        for family in parser.text_string_to_metric_families(self.asked("/metrics")[1]):
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
            except OSError:  # it has just ended, or is not there yet
                return False

        until(idle, f"{self.name} reconciles nothing")

    def written(self) -> float:
        """How many writes it made in this life by its own word: events apart, and the Lease is not among them."""
        return total(self.metrics(), WRITES, without='kind="Event"')


def total(metrics: Mapping[str, float], name: str, *, without: str = "\0") -> float:
    """The sum over all labels of a metric, but those samples that have a certain one."""
    return sum(value for key, value in metrics.items() if key.partition("{")[0] == name and without not in key)


def _lines(text: str) -> list[dict[str, Any]]:
    """Whole lines only: the last one may still be on its way."""
    found = []
    for line in text.split("\n")[:-1]:
        try:
            said = json.loads(line)
        except ValueError:
            said = line
        found.append(said if isinstance(said, dict) else {"event": "text", "text": line})
    return found


def settled(operator: Operator, *, resyncs: int = 2, platforms: int = 1, deadline: float = DEADLINE) -> None:
    """Wait until it has reconciled every platform so many times more without a write.

    Writes are those that the proxy saw; of an operator without one, those that it counts itself.
    """

    def state() -> tuple[int, object, float] | None:
        """The life of the process, its writes and its reconciles; None while it does not answer."""
        life = operator.lives
        try:
            reconciles = operator.reconciles()
            written: object = operator.written() if operator.proxy is None else len(operator.proxy.writes)
        except OSError:  # it has just ended, or is not there yet
            return None
        return (life, written, reconciles) if life == operator.lives else None

    began: tuple[int, object, float] | None = None

    def quiet() -> bool:
        nonlocal began
        now = state()
        if now is None or began is None or now[:2] != began[:2]:
            began = now
            return False
        return now[2] - began[2] >= resyncs * platforms

    until(quiet, f"{operator.name} is at rest", deadline, lambda: f"{began}\n{operator.text[-4000:]}")


# ---- what it left


def masked(namespace: Namespace) -> dict[str, dict[str, Any]]:
    """All our children in a namespace by kind and name, with all that may differ between two lives of the same masked.

    Who refers to whom is not masked: an owner that is not there, a pod's word that is no Secret's, stay as they are.
    """
    plurals = ",".join(one.plural for one in kinds.CHILDREN)
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
                known[word] = f"<word of {name}>"
    return {str(kinds.ref(one)): json.loads(_replaced(json.dumps(_lasting(one)), known)) for one in children}


def _replaced(text: str, known: Mapping[str, str]) -> str:
    longest_first = sorted(known, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, longest_first)), lambda found: known[found.group()], text)


def _lasting(thing: dict[str, Any]) -> dict[str, Any]:
    """A child without what the API server and its controllers write into it."""
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
