"""Reads Aether's objects in a cluster, and through the API server's proxy the status and the books of ingest's pods."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from aether_cli import installer, kubectl_client, market_data, problems, status_view
from aether_operator.api import labels, models
from aether_operator.api.definitions import DEFINITIONS
from aether_operator.api.platform_definition import DEFINITION as PLATFORM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from aether_operator.api.definition import Definition, Definitions

API_TIMEOUT: Final = 20.0
"""Seconds."""
POD_TIMEOUT: Final = 5.0
"""Seconds that a pod has to respond through the API server's proxy."""


@dataclass(kw_only=True)
class _Reader:
    """Reads objects, and collects the resources that the user may not read."""

    kubectl: kubectl_client.Kubectl
    unreadable: list[status_view.UnreadableResource]

    def all(self, resource: str, namespaces: Sequence[str], selector: str = "") -> list[dict[str, Any]]:
        """The objects of a resource in these namespaces, or in all where none is given; without forbidden ones.

        Empty where the cluster does not have the kind: its Aether is older than this program.
        """
        found: list[dict[str, Any]] = []
        for namespace in namespaces or ("",):
            scope = f"--namespace={namespace}" if namespace else "--all-namespaces"
            try:
                found += self.kubectl.get(resource, scope, f"--selector={selector}", deadline=API_TIMEOUT)["items"]
            except kubectl_client.UnknownKind:
                return []
            except kubectl_client.Forbidden:
                self._note(resource, namespace)
        return found

    def one(self, resource: str, name: str, namespace: str) -> list[dict[str, Any]]:
        """One object; an empty list where it does not exist or may not be read."""
        try:
            return [self.kubectl.get(resource, name, f"--namespace={namespace}", deadline=API_TIMEOUT)]
        except kubectl_client.NotFound:
            return []
        except kubectl_client.Forbidden:
            self._note(resource, namespace)
            return []

    def _note(self, resource: str, namespace: str) -> None:
        one = status_view.UnreadableResource(resource=resource.partition(".")[0], namespace=namespace)
        if one not in self.unreadable:
            self.unreadable.append(one)


def aether_state(
    kubectl: kubectl_client.Kubectl, namespaces: Sequence[str], definitions: Definitions = DEFINITIONS
) -> status_view.AetherState:
    """The operator and the objects of our kinds in these namespaces, or in all where none is given, with their pods.

    The operator is searched for in its usual namespace, too. Empty where the CRDs are not installed.

    Raises:
        Forbidden: The user may list our kinds in none of these namespaces.
    """
    if not installed(kubectl):
        return status_view.AetherState(installed=False)
    reader = _Reader(kubectl=kubectl, unreadable=[])
    objects = {kind: reader.all(definition.resource, namespaces) for kind, definition in definitions.items()}
    if len(reader.unreadable) == len(definitions) * max(1, len(namespaces)):
        plurals = ", ".join(definition.plural for definition in definitions.values())
        where = f"namespace {', '.join(namespaces)}" if namespaces else "all namespaces"
        raise kubectl_client.Forbidden(f"you may not list {plurals} in {where}", remedy=NAMESPACE_REMEDY)
    operator_namespaces = tuple(dict.fromkeys([*namespaces, installer.OPERATOR_NAMESPACE])) if namespaces else ()
    operator = ",".join(f"{key}={value}" for key, value in labels.OPERATOR_POD.items())
    deployments = reader.all("deployments", operator_namespaces, operator)
    names = {(one["metadata"]["namespace"], one["metadata"]["name"]) for one in deployments}
    return status_view.AetherState(
        platforms=objects.pop(PLATFORM.kind, []),
        others=[one for found in objects.values() for one in found],
        deployments=deployments,
        leases=[lease for namespace, name in sorted(names) for lease in reader.one("leases", name, namespace)],
        pods=[*reader.all("pods", operator_namespaces, operator), *reader.all("pods", namespaces, CHILDREN)],
        unreadable=reader.unreadable,
    )


def nodes(kubectl: kubectl_client.Kubectl) -> tuple[list[dict[str, Any]], list[status_view.UnreadableResource]]:
    """The cluster's nodes, and whether the user may not list them."""
    reader = _Reader(kubectl=kubectl, unreadable=[])
    return reader.all("nodes", ()), reader.unreadable


def events(kubectl: kubectl_client.Kubectl, regarding: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of an object; as core/v1, which the role `view` may read, unlike events.k8s.io."""
    meta = regarding["metadata"]
    selector = f"--field-selector=involvedObject.uid={meta['uid']}"
    found: list[dict[str, Any]] = kubectl.get("events", f"--namespace={meta['namespace']}", selector)["items"]
    return found


CHILDREN: Final = f"{labels.MANAGED_BY}={labels.OPERATOR}"
"""The label selector of everything that the operator applied."""
PROXY_RIGHT: Final = "the verb get on pods/proxy"
"""What reading a pod's status or a book needs; the role `view` does not have it."""
NAMESPACE_REMEDY: Final = "Name a namespace that you may read: -n NAMESPACE"


def installed(kubectl: kubectl_client.Kubectl) -> bool:
    """Whether Aether's CRDs are installed; discovery is open to every authenticated user."""
    try:
        kubectl.raw(f"/apis/{models.GROUP}/{models.VERSION}", deadline=API_TIMEOUT)
    except kubectl_client.NotFound:
        return False
    return True


def list_objects(kubectl: kubectl_client.Kubectl, definition: Definition, namespace: str = "") -> list[dict[str, Any]]:
    """The objects of one of our kinds, in all namespaces or in one; none where the CRDs are not installed.

    Raises:
        ProgramFailed: As in `kubectl_client.Kubectl.text`.
    """
    within = f"--namespace={namespace}" if namespace else "--all-namespaces"
    try:
        found: list[dict[str, Any]] = kubectl.get(
            definition.resource, within, f"--request-timeout={POD_TIMEOUT:g}s", deadline=2 * POD_TIMEOUT
        )["items"]
    except problems.ProgramFailed:
        if installed(kubectl):
            raise
        return []
    return found


def get(
    kubectl: kubectl_client.Kubectl, definition: Definition, namespace: str, name: str, *, see_all: str
) -> dict[str, Any]:
    """Get an object of one of our kinds.

    Args:
        kubectl: The cluster.
        definition: The kind.
        namespace: The object's namespace.
        name: The object's name.
        see_all: The command that lists all objects, for the error.

    Raises:
        BadInput: It does not exist.
        NotReady: Aether is not installed in the cluster.
        Forbidden: The user may not read it.
    """
    try:
        return kubectl.get(definition.resource, name, f"--namespace={namespace}", deadline=API_TIMEOUT)
    except kubectl_client.NotFound as error:
        cause = f"no {definition.kind} {name} in namespace {namespace}"
        raise problems.BadInput(cause, remedy=_existing(kubectl, definition, namespace, see_all)) from error
    except kubectl_client.Forbidden as error:
        cause = f"you may not read {definition.kind} {name} in namespace {namespace}"
        raise kubectl_client.Forbidden(cause, remedy=NAMESPACE_REMEDY) from error
    except kubectl_client.Unreachable:
        raise
    except problems.ProgramFailed as error:
        if installed(kubectl):
            raise
        raise problems.NotReady(f"Aether is not installed: the cluster has no kind {definition.kind}") from error


MOST_NAMES: Final = 5
"""The most objects that an error lists."""


def _existing(kubectl: kubectl_client.Kubectl, definition: Definition, namespace: str, see_all: str) -> str:
    """The objects of a kind that exist, in the namespace or else in others, and the command that lists all."""
    for within in (namespace, ""):
        try:
            found = [one["metadata"] for one in list_objects(kubectl, definition, within)]
        except problems.ProgramFailed:  # the user may not list them
            continue
        names = sorted(one["name"] if within else f"{one['namespace']}/{one['name']}" for one in found)
        if names:
            where = f"namespace {within}" if within else "other namespaces"
            more = f" and {len(names) - MOST_NAMES} more; {see_all} shows all" if len(names) > MOST_NAMES else ""
            return f"In {where}: {', '.join(names[:MOST_NAMES])}{more}"
    return f"{see_all} shows all"


def pod_statuses(
    kubectl: kubectl_client.Kubectl, pods: Sequence[dict[str, Any]]
) -> tuple[list[market_data.PodStatus], list[status_view.UnreadableResource]]:
    """The status of every ingest pod among these, and the namespaces in which the user may not request it."""
    statuses: list[market_data.PodStatus] = []
    unreadable: list[status_view.UnreadableResource] = []
    for pod in filter(market_data.is_ingest, pods):
        try:
            statuses.append(pod_status(kubectl, pod))
        except kubectl_client.Forbidden:
            one = status_view.UnreadableResource(resource="pods/proxy", namespace=pod["metadata"]["namespace"])
            unreadable += [one] if one not in unreadable else []
    return statuses, unreadable


def pod_status(kubectl: kubectl_client.Kubectl, pod: dict[str, Any]) -> market_data.PodStatus:
    """The status that an ingest pod reports; a pod that cannot be reached is a result with an error, not an exception.

    Raises:
        Forbidden: The user may not use the pod's proxy.
    """
    meta = pod["metadata"]
    identity = {"namespace": meta["namespace"], "platform": meta["labels"][labels.PLATFORM], "pod": meta["name"]}
    if not market_data.is_running(pod):
        return market_data.PodStatus(**identity, error="it is not running")
    try:
        status = kubectl.raw(market_data.proxy_path(meta["namespace"], meta["name"], "status"), deadline=POD_TIMEOUT)
    except kubectl_client.Forbidden:
        raise
    except problems.ProgramFailed as error:
        return market_data.PodStatus(**identity, error=error.cause)
    return market_data.PodStatus(**identity, status=status)


@dataclass(kw_only=True)
class BookReader:
    """Reads the book of one pair of one platform; it remembers which pod served it last."""

    kubectl: kubectl_client.Kubectl
    namespace: str
    platform: str
    symbol: str
    depth: int
    command_line: Callable[..., str] = lambda *words: shlex.join(["aether", *words])
    """Makes a command line for this cluster from its words, for errors."""
    pod: str = ""
    platform_object: dict[str, Any] = field(default_factory=dict)
    """The TradingPlatform, read again with every book: another one may get its name meanwhile."""

    def read(self) -> market_data.BookSnapshot:
        """Read the current book; where several pods serve it, a usable one.

        Raises:
            BadInput: There is no such platform.
            Forbidden: The user may not use the pods' proxy.
            NotReady: No pod serves the book, or the pod cannot be reached.
        """
        self.platform_object = get(
            self.kubectl, PLATFORM, self.namespace, self.platform, see_all=self.command_line("status", "-A")
        )
        causes: list[str] = []
        found: list[market_data.BookSnapshot] = []
        for pod in self._pods():
            snapshot = self._from(pod, causes)
            if snapshot is not None and snapshot.usable:
                self.pod = snapshot.pod
                return snapshot
            found += [snapshot] if snapshot is not None else []
        self.pod = ""
        if found:  # two pods may serve a pair for a while, and neither have a usable book yet
            return found[0]
        pairs = self.platform_object.get("spec", {}).get("pairs") or ()
        if pairs and self.symbol not in pairs:
            where = f"{PLATFORM.kind} {self.platform} in namespace {self.namespace}"
            cause = f"{self.symbol}: not in spec.pairs of {where}"
            raise problems.NotReady(cause, remedy=f"Its pairs: {', '.join(pairs)}")
        if causes:
            raise problems.NotReady(f"{self.symbol}: ingest is not reachable: {causes[0]}")
        raise problems.NotReady(
            f"{self.symbol}: no ingest pod of platform {self.platform} in namespace {self.namespace} serves it",
            remedy=f"Why: {self.command_line('explain', f'{PLATFORM.short}/{self.platform}', '-n', self.namespace)}",
        )

    def _pods(self) -> Iterator[str]:
        """The pod that served the book last, then all running ingest pods."""
        if self.pod:
            yield self.pod
        which = (f"--namespace={self.namespace}", f"--selector={market_data.selector(self.platform)}")
        for pod in filter(market_data.is_running, self.kubectl.get("pods", *which, deadline=20)["items"]):
            yield pod["metadata"]["name"]

    def _from(self, pod: str, causes: list[str]) -> market_data.BookSnapshot | None:
        """The pod's book; None where it does not serve the pair, or, with a cause, where it is not reachable."""
        path = market_data.proxy_path(self.namespace, pod, f"books/{self.symbol}?depth={self.depth}")
        try:
            view = self.kubectl.raw(path, deadline=POD_TIMEOUT)
        except kubectl_client.NotFound:  # the pod does not serve the pair, or was deleted since
            return None
        except kubectl_client.Forbidden as error:
            raise kubectl_client.Forbidden(
                error.cause, remedy=f"It needs {PROXY_RIGHT} in namespace {self.namespace}."
            ) from error
        except problems.ProgramFailed as error:
            causes.append(error.cause)
            return None
        return market_data.BookSnapshot(pod=pod, view=view, at=datetime.now(UTC))
