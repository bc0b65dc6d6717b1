"""Looks at rooms through the API server's proxy: how market data flow, and one market's book."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from aether_cli import asking, markets, problems
from aether_operator.api import labels

if TYPE_CHECKING:
    from collections.abc import Iterator

DEADLINE: Final = 5.0
"""Seconds that a room has to answer."""


def told(kubectl: asking.Kubectl, pod: dict[str, Any]) -> markets.Told:
    """What a pod of ingest says of itself; that it is not reached is worth a line, and no fault of the cluster's."""
    meta = pod["metadata"]
    who = {"namespace": meta["namespace"], "platform": meta["labels"][labels.PLATFORM], "pod": meta["name"]}
    if not markets.running(pod):
        return markets.Told(**who, error="it does not run")
    try:
        status = kubectl.raw(markets.place(meta["namespace"], meta["name"], "status"), deadline=DEADLINE)
    except problems.ProgramFailed as silent:
        return markets.Told(**who, error=silent.cause)
    return markets.Told(**who, status=status)


@dataclass(kw_only=True)
class Look:
    """Looks at one market of one platform; it remembers which pod served it last."""

    kubectl: asking.Kubectl
    namespace: str
    platform: str
    symbol: str
    depth: int
    pod: str = ""

    def now(self) -> markets.Shown:
        """The book as it is; of several, one that is usable.

        Raises:
            NotReady: Nobody serves it, or who does is not reached.
        """
        causes: list[str] = []
        found: list[markets.Shown] = []
        for pod in self._pods():
            shown = self._of(pod, causes)
            if shown is not None and shown.usable:
                self.pod = shown.pod
                return shown
            found += [shown] if shown is not None else []
        self.pod = ""
        if found:  # a market may have two servers for a while, and none of them a book yet
            return found[0]
        if causes:
            raise problems.NotReady(f"{self.symbol}: ingest is not reached: {causes[0]}", remedy="aether status")
        raise problems.NotReady(
            f"{self.symbol}: no pod of ingest of platform {self.platform} in namespace {self.namespace} serves it",
            remedy=f"Is it among spec.pairs? aether explain tp/{self.platform} --namespace {self.namespace}",
        )

    def _pods(self) -> Iterator[str]:
        """The pod that served it last, then all that there are."""
        if self.pod:
            yield self.pod
        where = (f"--namespace={self.namespace}", f"--selector={markets.selector(self.platform)}")
        for pod in filter(markets.running, self.kubectl.get("pods", *where, deadline=20)["items"]):
            yield pod["metadata"]["name"]

    def _of(self, pod: str, causes: list[str]) -> markets.Shown | None:
        path = markets.place(self.namespace, pod, f"books/{self.symbol}?depth={self.depth}")
        try:
            view = self.kubectl.raw(path, deadline=DEADLINE)
        except asking.NotThere:  # not served here, or the pod has just gone
            return None
        except problems.ProgramFailed as silent:
            causes.append(silent.cause)
            return None
        return markets.Shown(pod=pod, view=view, at=datetime.now(UTC))
