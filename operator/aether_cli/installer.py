"""Installs Aether in a cluster: its chart by Helm, and then, if requested, an example platform."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aether_cli import kubectl_client, problems, processes, status_view
from aether_cli.local import binaries, manifests, preflight, program_builder
from aether_operator.api import labels
from aether_operator.api.platform_definition import DEFINITION as PLATFORM

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aether_cli import progress

RELEASE: Final = "aether-operator"
OPERATOR_NAMESPACE, PLATFORM_NAMESPACE = manifests.NAMESPACES
SERVERS: Final = ("kafka", "nats", "postgres", "redis")
PLATFORMS: Final = PLATFORM.resource
EXAMPLE: Final = "01-paper-platform"
HELM_DEADLINE: Final = 180.0
OPERATOR_DEADLINE: Final = 180.0
PLATFORM_DEADLINE: Final = 600.0
DISCOVERY_DEADLINE: Final = 60.0
DISCOVERY_POLL: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Helm:
    """A Helm client of the cluster that a kubectl client talks to."""

    program: Path
    kubectl: kubectl_client.Kubectl

    def command(self, *words: str | Path) -> list[str]:
        """Helm's command line for this cluster."""
        where = [f"--kubeconfig={self.kubectl.kubeconfig}"] if self.kubectl.kubeconfig else []
        which = [f"--kube-context={self.kubectl.context}"] if self.kubectl.context else []
        return [str(self.program), *map(str, words), *where, *which]

    def text(self, *words: str | Path, stdin: str | None = None) -> str:
        """Run Helm and return what it prints.

        Raises:
            ProgramFailed: Helm ended with an error, or took too long.
        """
        # For the local cluster Helm's own files are in the cluster's state folder, not in the user's home.
        variables = {"HELM_CACHE_HOME": "cache", "HELM_CONFIG_HOME": "config", "HELM_DATA_HOME": "data"}
        folder = self.kubectl.cache.parent / "helm" if self.kubectl.cache else None
        env = {variable: str(folder / name) for variable, name in variables.items()} if folder else {}
        return processes.run(self.command(*words), stdin=stdin, env=env, deadline=HELM_DEADLINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformStatus:
    """The status of a TradingPlatform, as far as it is about the newest generation of the spec."""

    namespace: str
    name: str
    ready: str
    """True, False or Unknown."""
    message: str
    venue: dict[str, str]
    stalled: bool = False

    def record(self) -> dict[str, Any]:
        """The status as JSON values."""
        result = {"namespace": self.namespace, "name": self.name, "ready": self.ready, "message": self.message}
        return {**result, "venue": self.venue}


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What `up` installed."""

    chart: str
    """Name and version."""
    platforms: tuple[PlatformStatus, ...] = ()

    def record(self) -> dict[str, Any]:
        """The installation as JSON values."""
        return {"chart": self.chart, "platforms": [one.record() for one in self.platforms]}


def repository() -> Path:
    """The clone of the repository that has the chart and the examples.

    Raises:
        NotPossibleHere: This program does not run from a clone.
    """
    top = preflight.repository()
    if top is None:
        raise problems.NotPossibleHere("chart: no helm folder", remedy="Run it from a clone of the repository.")
    return top


def helm(kubectl: kubectl_client.Kubectl, cache: Path, env: Mapping[str, str]) -> Helm:
    """The Helm that `aether build` built, else that of PATH.

    Raises:
        NotPossibleHere: There is neither, or that of PATH is not version 4.
    """
    (binary,) = [one for one in binaries.NODE if one.name == "helm"]
    program = program_builder.find(binary, cache, env)
    if program is None:
        installed = shutil.which("helm")
        if installed is None:
            raise problems.NotPossibleHere("helm: not found", remedy="Install Helm 4, or run `aether build`.")
        version = processes.run([installed, "version", "--template", "{{.Version}}"], deadline=20).strip()
        if not version.startswith("v4."):
            raise problems.NotPossibleHere(
                f"helm: {version} found, version 4 is required", remedy="Install Helm 4, or run `aether build`."
            )
        program = Path(installed)
    return Helm(program=program, kubectl=kubectl)


def values(images: Mapping[str, str]) -> dict[str, Any]:
    """The chart's values for images that are on the node already: nothing is pulled.

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
    """Delete the record of a Helm operation that was killed: Helm would refuse every later one.

    Only call it while no other Helm works on this cluster: Helm cannot tell a running operation from a killed one.
    """
    pending = "pending-install,pending-upgrade,pending-rollback"
    selector = f"--selector=owner=helm,name={RELEASE},status in ({pending})"
    kubectl.text("delete", "secrets", f"--namespace={OPERATOR_NAMESPACE}", selector)


def install(
    client: Helm, chart: Path, reporter: progress.Reporter, *, given: Mapping[str, Any], files: Sequence[Path] = ()
) -> str:
    """Install or upgrade the chart and wait until the operator is available.

    Args:
        client: Helm, for the cluster.
        chart: The chart's folder.
        reporter: Shows the progress.
        given: Values; those of `files` override them.
        files: Values files; later ones override earlier ones.

    Returns:
        The chart's name and version, as Helm shows them.

    Raises:
        ProgramFailed: Helm ended with an error.
        NotReady: The operator did not become available; the error shows its pods.
    """
    with reporter.step("chart") as step:
        words: list[str | Path] = [
            *("upgrade", RELEASE, chart, "--install", f"--namespace={OPERATOR_NAMESPACE}", "--output=json"),
            # Objects that were edited, orphaned or half removed become what the chart says: `up` repairs.
            *("--server-side=true", "--force-conflicts", "--take-ownership"),
            *("--values=-", *(f"--values={file}" for file in files)),
        ]
        release = json.loads(client.text(*words, stdin=json.dumps(given)))
        metadata = release["chart"]["metadata"]
        name = f"{metadata['name']}-{metadata['version']}"
        step.result(f"{name}, revision {release['version']}")
    with reporter.step("operator") as step:
        try:
            client.kubectl.until(
                lambda objects: bool(objects) and all(_available(one, step) for one in objects.values()),
                "deployments",
                f"--namespace={OPERATOR_NAMESPACE}",
                f"--selector=app.kubernetes.io/instance={RELEASE}",
                deadline=OPERATOR_DEADLINE,
                expected="the operator is available",
            )
        except problems.NotReady as late:
            pods = client.kubectl.get("pods", f"--namespace={OPERATOR_NAMESPACE}")["items"]
            raise problems.NotReady(late.cause, remedy=kubectl_client.summary(pods)) from late
        step.result("available")
    wait_for_discovery(client.kubectl)
    return name


def wait_for_discovery(kubectl: kubectl_client.Kubectl) -> None:
    """Wait until `kubectl get aether`, the category of Aether's kinds, works for the user.

    kubectl caches discovery by the server's address for hours, even when another cluster has the address since. With a
    category it trusts the cache, fails, and refreshes only then. This function takes that failure, so that the user's
    first command does not.

    Raises:
        NotReady: Discovery does not list the kinds in time.
        ProgramFailed: kubectl failed for another reason.
    """
    ends = time.monotonic() + DISCOVERY_DEADLINE
    for one in (kubectl, *_with_default_cache(kubectl)):
        while not _is_discovered(one):
            if time.monotonic() > ends:
                raise problems.NotReady("kubectl get aether: the API server's discovery does not list the kinds")
            time.sleep(DISCOVERY_POLL)


def _is_discovered(kubectl: kubectl_client.Kubectl) -> bool:
    try:
        kubectl.text("get", "aether", f"--namespace={PLATFORM_NAMESPACE}", "--output=name")
    except kubectl_client.UnknownKind:
        return False
    return True


def _with_default_cache(kubectl: kubectl_client.Kubectl) -> list[kubectl_client.Kubectl]:
    """The same client with kubectl's default cache folder, if that was ever used; for the user's own kubectl."""
    home = os.environ.get("KUBECACHEDIR") or Path.home() / ".kube" / "cache"
    if kubectl.cache is None or not (Path(home) / "discovery").is_dir():
        return []
    return [replace(kubectl, cache=None)]


def _available(deployment: dict[str, Any], step: progress.Step) -> bool:
    """Whether all replicas of a Deployment's newest generation are available; shows how many are."""
    status, desired = deployment.get("status", {}), deployment["spec"]["replicas"]
    step.update(status.get("availableReplicas", 0), desired, "pods")
    return bool(
        status.get("observedGeneration") == deployment["metadata"]["generation"]
        and status.get("updatedReplicas", 0) == status.get("replicas", 0) == desired
        and status.get("availableReplicas", 0) == desired
    )


def apply_manifests(kubectl: kubectl_client.Kubectl, folder: Path) -> list[tuple[str, str]]:
    """Apply the manifests of a folder.

    Returns:
        Namespace and name of each TradingPlatform among them.
    """
    words = (
        "apply",
        "--server-side",
        "--force-conflicts",
        "--field-manager=aether-cli",
        f"--namespace={PLATFORM_NAMESPACE}",
    )
    applied = kubectl.json(*words, f"--filename={folder}")
    objects = applied.get("items", [applied])
    return [(one["metadata"]["namespace"], one["metadata"]["name"]) for one in objects if one["kind"] == PLATFORM.kind]


def platform_status(platform: dict[str, Any]) -> PlatformStatus:
    """Read a TradingPlatform's status; one about an older generation of the spec counts as Unknown."""
    meta, status = platform["metadata"], platform.get("status", {})
    current = status.get("observedGeneration") == meta["generation"]
    return PlatformStatus(
        namespace=meta["namespace"],
        name=meta["name"],
        ready=kubectl_client.condition(platform, "Ready") if current else "Unknown",
        message=str(status.get("message", "")) if current else "not reconciled yet",
        venue=status_view.venue(platform),
        # A platform that is only late may still become Ready by itself.
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
    kubectl: kubectl_client.Kubectl,
    namespace: str,
    name: str,
    reporter: progress.Reporter,
    *,
    options: Sequence[str] = (),
) -> PlatformStatus:
    """Wait until a platform is Ready, and show meanwhile what it waits for.

    Args:
        kubectl: The cluster.
        namespace: The platform's namespace.
        name: The platform's name.
        reporter: Where the progress is shown.
        options: The options that select the cluster, for the command line in an error.

    Raises:
        NotReady: It is Stalled, so that waiting does not help, or the deadline passed.
    """
    last: list[PlatformStatus] = []

    def settled(objects: kubectl_client.Objects) -> bool:
        for platform in objects.values():
            now = platform_status(platform)
            last[:] = [now]
            conditions = platform.get("status", {}).get("conditions", [])
            readiness = [one["status"] for one in conditions if one["type"].endswith("Ready")]
            step.update(readiness.count("True"), max(1, len(readiness)), now.message)
            if now.ready == "True" or now.stalled:
                return True
        return False

    expected = f"{PLATFORM.kind} {namespace}/{name} is Ready"
    remedy = shlex.join(["aether", "explain", f"{PLATFORM.short}/{name}", "-n", namespace, *options])
    only = f"--field-selector=metadata.name={name}"
    with reporter.step(f"platform {name}") as step:
        try:
            kubectl.until(
                settled, PLATFORMS, f"--namespace={namespace}", only, deadline=PLATFORM_DEADLINE, expected=expected
            )
            if last[0].ready == "True":
                # etcd may have this status from before the cluster was stopped: check the pods of now.
                mine = f"--selector={labels.PLATFORM}={name}"
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
        if last[0].ready != "True":  # Stalled
            raise problems.NotReady(f"{expected}: {last[0].message}", remedy=remedy)
        step.result(last[0].message or "Ready")
    return last[0]


def apply_example(
    kubectl: kubectl_client.Kubectl, folder: Path, reporter: progress.Reporter, *, options: Sequence[str] = ()
) -> tuple[PlatformStatus, ...]:
    """Apply an example and wait until its platforms are Ready; `options` as in `wait_until_ready`.

    Raises:
        NotReady: One of them does not become Ready.
    """
    with reporter.step("example") as step:
        began = time.monotonic()
        names = apply_manifests(kubectl, folder)
        step.result(f"{folder.name} applied in {time.monotonic() - began:.1f} s")
    return tuple(wait_until_ready(kubectl, namespace, name, reporter, options=options) for namespace, name in names)
