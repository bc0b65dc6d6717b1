"""Looks at what a cluster has of Aether, and through the API server's proxy at pods: how market data flow, one book."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from aether_cli import installer, kubectl_client, market_data, problems, status_view
from aether_operator.api import labels, models, platforms

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

API_TIMEOUT: Final = 20.0
"""Seconds that the API server has to answer."""
POD_TIMEOUT: Final = 5.0
"""Seconds that a room has to answer."""


@dataclass(kw_only=True)
class _Reader:
    """Reads lists, and remembers what may not be read."""

    kubectl: kubectl_client.Kubectl
    unreadable: list[status_view.UnreadableResource]

    def all(self, what: str, where: Sequence[str], selector: str = "") -> list[dict[str, Any]]:
        """What there is in these namespaces, in all of them where none is named; without what is forbidden."""
        found: list[dict[str, Any]] = []
        for space in where or ("",):
            within = f"--namespace={space}" if space else "--all-namespaces"
            try:
                found += self.kubectl.get(what, within, f"--selector={selector}", deadline=API_TIMEOUT)["items"]
            except kubectl_client.Forbidden:
                self._note(what, space)
        return found

    def one(self, what: str, name: str, space: str) -> list[dict[str, Any]]:
        """One object, if it is there and may be read."""
        try:
            return [self.kubectl.get(what, name, f"--namespace={space}", deadline=API_TIMEOUT)]
        except kubectl_client.NotFound:
            return []
        except kubectl_client.Forbidden:
            self._note(what, space)
            return []

    def _note(self, what: str, space: str) -> None:
        one = status_view.UnreadableResource(what=what.partition(".")[0], namespace=space)
        if one not in self.unreadable:
            self.unreadable.append(one)


def aether_state(kubectl: kubectl_client.Kubectl, spaces: Sequence[str]) -> status_view.AetherState:
    """What a cluster has of Aether in these namespaces; in all of them where none is named.

    The operator is also looked for in the namespace that it usually has. Nothing where the kinds are not installed.

    Raises:
        Forbidden: Not even platforms may be read.
    """
    if not installed(kubectl):
        return status_view.AetherState(installed=False)
    read = _Reader(kubectl=kubectl, unreadable=[])
    found_platforms = read.all(installer.PLATFORMS, spaces)
    if len(read.unreadable) == max(1, len(spaces)):
        which = f"namespace {', '.join(spaces)}" if spaces else "all namespaces"
        raise kubectl_client.Forbidden(f"you may not list {platforms.PLURAL} in {which}", remedy=NAMESPACE_REMEDY)
    operator_namespaces = tuple(dict.fromkeys([*spaces, installer.OPERATOR_NAMESPACE])) if spaces else ()
    operator = ",".join(f"{key}={value}" for key, value in labels.OPERATOR_POD.items())
    deployments = read.all("deployments", operator_namespaces, operator)
    names = {(one["metadata"]["namespace"], one["metadata"]["name"]) for one in deployments}
    return status_view.AetherState(
        platforms=found_platforms,
        deployments=deployments,
        leases=[lease for space, name in sorted(names) for lease in read.one("leases", name, space)],
        pods=[*read.all("pods", operator_namespaces, operator), *read.all("pods", spaces, labels.PLATFORM)],
        unreadable=read.unreadable,
    )


def nodes(kubectl: kubectl_client.Kubectl) -> tuple[list[dict[str, Any]], list[status_view.UnreadableResource]]:
    """The cluster's nodes; who has rights in namespaces alone may not read them."""
    read = _Reader(kubectl=kubectl, unreadable=[])
    return read.all("nodes", ()), read.unreadable


def events(kubectl: kubectl_client.Kubectl, thing: dict[str, Any]) -> list[dict[str, Any]]:
    """What happened to an object; in the form of the core group, which the role `view` may read."""
    meta = thing["metadata"]
    about = f"--field-selector=involvedObject.uid={meta['uid']}"
    found: list[dict[str, Any]] = kubectl.get("events", f"--namespace={meta['namespace']}", about)["items"]
    return found


PROXY_RIGHT: Final = "the verb get on pods/proxy"
"""The right that a look at a pod takes; the role `view` has it not."""
NAMESPACE_REMEDY: Final = "Name a namespace that you may read: -n NAMESPACE"


def installed(kubectl: kubectl_client.Kubectl) -> bool:
    """Whether a cluster knows our kinds; everybody who may log in may ask that."""
    try:
        kubectl.raw(f"/apis/{models.GROUP}/{models.VERSION}", deadline=API_TIMEOUT)
    except kubectl_client.NotFound:
        return False
    return True


def list_platforms(kubectl: kubectl_client.Kubectl, namespace: str = "") -> list[dict[str, Any]]:
    """All platforms of a cluster, or of one namespace; none where the kinds are not installed.

    Raises:
        ProgramFailed: As `asking.Kubectl.text`.
    """
    within = f"--namespace={namespace}" if namespace else "--all-namespaces"
    try:
        found: list[dict[str, Any]] = kubectl.get(
            installer.PLATFORMS, within, f"--request-timeout={POD_TIMEOUT:g}s", deadline=2 * POD_TIMEOUT
        )["items"]
    except problems.ProgramFailed:
        if installed(kubectl):
            raise
        return []
    return found


def platform(kubectl: kubectl_client.Kubectl, namespace: str, name: str) -> dict[str, Any]:
    """A platform, which says at what venue its prices are.

    Raises:
        BadInput: There is none.
        Forbidden: Whoever asks may not read it.
    """
    try:
        return kubectl.get(installer.PLATFORMS, name, f"--namespace={namespace}", deadline=API_TIMEOUT)
    except kubectl_client.NotFound as error:
        raise problems.BadInput(f"there is no {platforms.KIND} {name} in namespace {namespace}") from error
    except kubectl_client.Forbidden as error:
        cause = f"you may not read {platforms.KIND} {name} in namespace {namespace}"
        raise kubectl_client.Forbidden(cause, remedy=NAMESPACE_REMEDY) from error


def pod_statuses(
    kubectl: kubectl_client.Kubectl, pods: Sequence[dict[str, Any]]
) -> tuple[list[market_data.PodStatus], list[status_view.UnreadableResource]]:
    """What the pods of ingest say of themselves, and where they may not be asked."""
    statuses: list[market_data.PodStatus] = []
    unreadable: list[status_view.UnreadableResource] = []
    for pod in filter(market_data.is_ingest, pods):
        try:
            statuses.append(pod_status(kubectl, pod))
        except kubectl_client.Forbidden:
            one = status_view.UnreadableResource(what="pods/proxy", namespace=pod["metadata"]["namespace"])
            unreadable += [one] if one not in unreadable else []
    return statuses, unreadable


def pod_status(kubectl: kubectl_client.Kubectl, pod: dict[str, Any]) -> market_data.PodStatus:
    """What a pod of ingest says of itself; that it is not reached is worth a line, and no fault of the cluster's.

    Raises:
        Forbidden: It may not be asked.
    """
    meta = pod["metadata"]
    identity = {"namespace": meta["namespace"], "platform": meta["labels"][labels.PLATFORM], "pod": meta["name"]}
    if not market_data.is_running(pod):
        return market_data.PodStatus(**identity, error="it does not run")
    try:
        status = kubectl.raw(market_data.proxy_path(meta["namespace"], meta["name"], "status"), deadline=POD_TIMEOUT)
    except kubectl_client.Forbidden:
        raise
    except problems.ProgramFailed as error:
        return market_data.PodStatus(**identity, error=error.cause)
    return market_data.PodStatus(**identity, status=status)


@dataclass(kw_only=True)
class BookReader:
    """Looks at one market of one platform; it remembers which pod served it last."""

    kubectl: kubectl_client.Kubectl
    namespace: str
    platform: str
    symbol: str
    depth: int
    pod: str = ""
    of: dict[str, Any] = field(default_factory=dict)
    """The platform, as it was when the book was: another one may have its name by the next look."""

    def read(self) -> market_data.BookSnapshot:
        """The book as it is; of several, one that is usable.

        Raises:
            BadInput: There is no such platform.
            Forbidden: Its pods may not be asked.
            NotReady: Nobody serves it, or who does is not reached.
        """
        self.platform_object = platform(self.kubectl, self.namespace, self.platform)
        causes: list[str] = []
        found: list[market_data.BookSnapshot] = []
        for pod in self._pods():
            snapshot = self._of(pod, causes)
            if snapshot is not None and snapshot.usable:
                self.pod = snapshot.pod
                return snapshot
            found += [snapshot] if snapshot is not None else []
        self.pod = ""
        if found:  # a market may have two servers for a while, and none of them a book yet
            return found[0]
        if causes:
            raise problems.NotReady(f"{self.symbol}: ingest is not reached: {causes[0]}")
        raise problems.NotReady(
            f"{self.symbol}: no pod of ingest of platform {self.platform} in namespace {self.namespace} serves it",
            remedy="Is it among spec.pairs of the platform, and is that Ready?",
        )

    def _pods(self) -> Iterator[str]:
        """The pod that served it last, then all that there are."""
        if self.pod:
            yield self.pod
        where = (f"--namespace={self.namespace}", f"--selector={market_data.selector(self.platform)}")
        for pod in filter(market_data.is_running, self.kubectl.get("pods", *where, deadline=20)["items"]):
            yield pod["metadata"]["name"]

    def _of(self, pod: str, causes: list[str]) -> market_data.BookSnapshot | None:
        path = market_data.proxy_path(self.namespace, pod, f"books/{self.symbol}?depth={self.depth}")
        try:
            view = self.kubectl.raw(path, deadline=POD_TIMEOUT)
        except kubectl_client.NotFound:  # not served here, or the pod has just gone
            return None
        except kubectl_client.Forbidden as error:
            raise kubectl_client.Forbidden(
                error.cause, remedy=f"It takes {PROXY_RIGHT} in {self.namespace}."
            ) from error
        except problems.ProgramFailed as error:
            causes.append(error.cause)
            return None
        return market_data.BookSnapshot(pod=pod, view=view, at=datetime.now(UTC))
