"""Brings Aether into a cluster: its chart by Helm, which is the only way in, and then an example to see it at work."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aether_cli import kubectl_client, problems, processes, status_view
from aether_cli.local import binaries, manifests, preflight, program_builder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aether_cli import progress

RELEASE: Final = "aether-operator"
OPERATOR_NAMESPACE, PLATFORM_NAMESPACE = manifests.NAMESPACES
SERVERS: Final = ("kafka", "nats", "postgres", "redis")
PLATFORMS: Final = "tradingplatforms.trading.aether.io"
EXAMPLE: Final = "01-paper-platform"
HELM_DEADLINE: Final = 180.0
OPERATOR_DEADLINE: Final = 180.0
PLATFORM_DEADLINE: Final = 600.0
DISCOVERY_DEADLINE: Final = 60.0
DISCOVERY_POLL: Final = 0.2
UNKNOWN_KIND: Final = "the server doesn't have a resource type"
"""What kubectl says of a word that discovery tells nothing of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Helm:
    """A cluster, as Helm reaches it: by the same file or context as kubectl."""

    program: Path
    kubectl: kubectl_client.Kubectl

    def command(self, *words: str | Path) -> list[str]:
        """The whole command line."""
        where = [f"--kubeconfig={self.kubectl.kubeconfig}"] if self.kubectl.kubeconfig else []
        which = [f"--kube-context={self.kubectl.context}"] if self.kubectl.context else []
        return [str(self.program), *map(str, words), *where, *which]

    def text(self, *words: str | Path, stdin: str | None = None) -> str:
        """What Helm prints.

        Raises:
            ProgramFailed: It refused.
        """
        # What is kept of a local cluster's releases is in the cluster; what Helm keeps beside that is with its state.
        own = {"HELM_CACHE_HOME": "cache", "HELM_CONFIG_HOME": "config", "HELM_DATA_HOME": "data"}
        kept = self.kubectl.cache.parent / "helm" if self.kubectl.cache else None
        env = {name: str(kept / folder) for name, folder in own.items()} if kept else {}
        return processes.run(self.command(*words), stdin=stdin, env=env, deadline=HELM_DEADLINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformStatus:
    """A platform as its status says it is."""

    namespace: str
    name: str
    ready: str
    message: str
    venue: dict[str, str]
    stalled: bool = False

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        result = {"namespace": self.namespace, "name": self.name, "ready": self.ready, "message": self.message}
        return {**result, "venue": self.venue}


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What is in the cluster now."""

    chart: str
    platforms: tuple[PlatformStatus, ...] = ()

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return {"chart": self.chart, "platforms": [one.record() for one in self.platforms]}


def repository() -> Path:
    """The clone that the chart and the examples are in.

    Raises:
        NotPossibleHere: The program was installed without it.
    """
    top = preflight.repository()
    if top is None:
        raise problems.NotPossibleHere("chart: no helm folder", remedy="Run it from a clone of the repository.")
    return top


def helm(kubectl: kubectl_client.Kubectl, cache: Path, env: Mapping[str, str]) -> Helm:
    """Ours where it is built, else the machine's own, if it is new enough.

    Raises:
        NotPossibleHere: There is none, or it is older than 4.
    """
    (ours,) = [binary for binary in binaries.NODE if binary.name == "helm"]
    program = program_builder.find(ours, cache, env)
    if program is None:
        own = shutil.which("helm")
        if own is None:
            raise problems.NotPossibleHere("helm: not found", remedy="Install Helm 4, or run `aether build`.")
        result = processes.run([own, "version", "--template", "{{.Version}}"], deadline=20).strip()
        if not result.startswith("v4."):
            raise problems.NotPossibleHere(f"helm: {result} found, and 4 is needed", remedy="Or run `aether build`.")
        program = Path(own)
    return Helm(program=program, kubectl=kubectl)


def values(images: Mapping[str, str]) -> dict[str, Any]:
    """The chart's values for images that are on the node already.

    Args:
        images: Image name → reference.
    """
    repository, _, tag = images["operator"].rpartition(":")
    return {
        "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
        "dataPlaneImages": {server: images[server] for server in SERVERS},
        "serviceImage": images["service"],
    }


def delete_pending_releases(kubectl: kubectl_client.Kubectl) -> None:
    """Have Helm forget an upgrade that was killed half-way, which it would wait for for ever.

    Only where nobody else may be at it: Helm cannot tell a slow colleague from a dead one.
    """
    half = "pending-install,pending-upgrade,pending-rollback"
    which = f"--selector=owner=helm,name={RELEASE},status in ({half})"
    kubectl.text("delete", "secrets", f"--namespace={OPERATOR_NAMESPACE}", which)


def install(
    at: Helm, chart: Path, reporter: progress.Reporter, *, given: Mapping[str, Any], files: Sequence[Path] = ()
) -> str:
    """Install the chart, or make what is installed like it, and wait for the operator.

    Args:
        at: Which cluster.
        chart: The chart's folder.
        reporter: Shows the progress.
        given: Values of ours; those of files win.
        files: Files of values, the last one wins.

    Returns:
        The chart's name and version, as Helm calls it.

    Raises:
        ProgramFailed: Helm refused.
        NotReady: The operator did not become available; the error shows its pods.
    """
    with reporter.step("chart") as step:
        words: list[str | Path] = [
            *("upgrade", RELEASE, chart, "--install", f"--namespace={OPERATOR_NAMESPACE}", "--output=json"),
            # What was left behind, edited or half removed becomes what the chart says: up heals.
            *("--server-side=true", "--force-conflicts", "--take-ownership"),
            *("--values=-", *(f"--values={file}" for file in files)),
        ]
        result = json.loads(at.text(*words, stdin=json.dumps(given)))
        chart_of = result["chart"]["metadata"]
        name = f"{chart_of['name']}-{chart_of['version']}"
        step.result(f"{name}, revision {result['version']}")
    with reporter.step("operator") as step:
        try:
            at.kubectl.until(
                lambda objects: bool(objects) and all(_available(one, step) for one in objects.values()),
                "deployments",
                f"--namespace={OPERATOR_NAMESPACE}",
                f"--selector=app.kubernetes.io/instance={RELEASE}",
                deadline=OPERATOR_DEADLINE,
                expected="the operator is available",
            )
        except problems.NotReady as late:
            pods = at.kubectl.get("pods", f"--namespace={OPERATOR_NAMESPACE}")["items"]
            raise problems.NotReady(late.cause, remedy=kubectl_client.summary(pods)) from late
        step.result("available")
    wait_for_discovery(at.kubectl)
    return name


def wait_for_discovery(kubectl: kubectl_client.Kubectl) -> None:
    """Wait until kubectl knows our kinds by their category, which is how a person asks for them.

    kubectl keeps for hours what it once discovered at an address, also of another cluster that was there. It believes
    that of a category, fails, and only then looks anew: the failure is had here, and not by the person.

    Raises:
        NotReady: Discovery does not tell of them.
        ProgramFailed: kubectl was refused for another reason.
    """
    ends = time.monotonic() + DISCOVERY_DEADLINE
    for one in (kubectl, *_with_default_cache(kubectl)):
        while not _is_discovered(one):
            if time.monotonic() > ends:
                raise problems.NotReady("kubectl get aether: the API server does not tell of the kinds")
            time.sleep(DISCOVERY_POLL)


def _is_discovered(kubectl: kubectl_client.Kubectl) -> bool:
    try:
        kubectl.text("get", "aether", f"--namespace={PLATFORM_NAMESPACE}", "--output=name")
    except problems.ProgramFailed as error:
        if UNKNOWN_KIND in error.cause:
            return False
        raise
    return True


def _with_default_cache(kubectl: kubectl_client.Kubectl) -> list[kubectl_client.Kubectl]:
    """The same cluster by the memory that kubectl has without us, where it was used at all."""
    home = os.environ.get("KUBECACHEDIR") or Path.home() / ".kube" / "cache"
    if kubectl.cache is None or not (Path(home) / "discovery").is_dir():
        return []
    return [replace(kubectl, cache=None)]


def _available(deployment: dict[str, Any], step: progress.Step) -> bool:
    """Whether a Deployment has what it wants, of its newest generation."""
    status, desired = deployment.get("status", {}), deployment["spec"]["replicas"]
    step.update(status.get("availableReplicas", 0), desired, "pods")
    return bool(
        status.get("observedGeneration") == deployment["metadata"]["generation"]
        and status.get("updatedReplicas", 0) == status.get("replicas", 0) == desired
        and status.get("availableReplicas", 0) == desired
    )


def apply_manifests(kubectl: kubectl_client.Kubectl, folder: Path) -> list[tuple[str, str]]:
    """Apply an example's manifests.

    Returns:
        Namespace and name of each platform in it.
    """
    words = (
        "apply",
        "--server-side",
        "--force-conflicts",
        "--field-manager=aether-cli",
        f"--namespace={PLATFORM_NAMESPACE}",
    )
    made = kubectl.json(*words, f"--filename={folder}")
    things = made.get("items", [made])
    return [
        (one["metadata"]["namespace"], one["metadata"]["name"]) for one in things if one["kind"] == "TradingPlatform"
    ]


def platform_status(thing: dict[str, Any]) -> PlatformStatus:
    """What an object's status says, which counts only when it is about the newest spec."""
    meta, status = thing["metadata"], thing.get("status", {})
    current = status.get("observedGeneration") == meta["generation"]
    return PlatformStatus(
        namespace=meta["namespace"],
        name=meta["name"],
        ready=kubectl_client.condition(thing, "Ready") if current else "Unknown",
        message=str(status.get("message", "")) if current else "the operator has not looked yet",
        venue=status_view.venue(thing),
        # What is only late heals by itself.
        stalled=current
        and any(
            one["type"] == "Stalled" and one["status"] == "True" and one.get("reason") != "ProgressDeadlineExceeded"
            for one in status.get("conditions", [])
        ),
    )


def _all_replicas_ready(objects: kubectl_client.Objects) -> bool:
    return all(
        one.get("status", {}).get("readyReplicas", 0) >= one["spec"].get("replicas", 1) for one in objects.values()
    )


def wait_until_ready(
    kubectl: kubectl_client.Kubectl, namespace: str, name: str, reporter: progress.Reporter
) -> PlatformStatus:
    """Wait until a platform is Ready, and show meanwhile what it waits for.

    Raises:
        NotReady: It is not, and only an edit can mend that, or the time is over.
    """
    last: list[PlatformStatus] = []

    def settled(objects: kubectl_client.Objects) -> bool:
        for thing in objects.values():
            now = platform_status(thing)
            last[:] = [now]
            conditions = thing.get("status", {}).get("conditions", [])
            good = [one for one in conditions if one["type"].endswith("Ready") and one["status"] == "True"]
            all_of_them = [one for one in conditions if one["type"].endswith("Ready")]
            step.update(len(good), max(1, len(all_of_them)), now.message)
            if now.ready == "True" or now.stalled:
                return True
        return False

    expected = f"TradingPlatform {namespace}/{name} is Ready"
    remedy = f"aether kubectl describe {PLATFORMS} {name} --namespace={namespace}"
    only = f"--field-selector=metadata.name={name}"
    with reporter.step(f"platform {name}") as step:
        try:
            kubectl.until(
                settled, PLATFORMS, f"--namespace={namespace}", only, deadline=PLATFORM_DEADLINE, expected=expected
            )
            if last[0].ready == "True":
                # The store may remember that from before the cluster was down: its pods are of this life.
                mine = f"--selector=trading.aether.io/platform={name}"
                kubectl.until(
                    _all_replicas_ready,
                    "statefulsets",
                    f"--namespace={namespace}",
                    mine,
                    deadline=PLATFORM_DEADLINE,
                    expected=expected,
                )
                kubectl.until(
                    settled, PLATFORMS, f"--namespace={namespace}", only, deadline=PLATFORM_DEADLINE, expected=expected
                )
        except problems.NotReady as late:
            if not last:
                raise
            raise problems.NotReady(f"{late.cause}: {last[0].message}", remedy=remedy) from late
        if last[0].ready != "True":  # stalled: no time will mend it
            raise problems.NotReady(f"{expected}: {last[0].message}", remedy=remedy)
        step.result(last[0].message or "Ready")
    return last[0]


def apply_example(
    kubectl: kubectl_client.Kubectl, folder: Path, reporter: progress.Reporter
) -> tuple[PlatformStatus, ...]:
    """Apply an example and wait until its platforms are Ready.

    Raises:
        NotReady: One is not.
    """
    with reporter.step("example") as step:
        began = time.monotonic()
        names = apply_manifests(kubectl, folder)
        step.result(f"{folder.name} applied in {time.monotonic() - began:.1f} s")
    return tuple(wait_until_ready(kubectl, namespace, name, reporter) for namespace, name in names)
