"""The API server's audit log, as values."""

from __future__ import annotations

import datetime
import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aether_testing import wait

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from aether_cli.local.startup import Cluster

DEADLINE: Final = 30.0
POD: Final = "authentication.kubernetes.io/pod-name"
WRITING: Final = frozenset({"create", "update", "patch", "delete", "deletecollection"})
CREATED: Final = 201
DECISION: Final = "authorization.k8s.io/decision"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One request; never a body, so never a Secret's value."""

    received: datetime.datetime
    ended: datetime.datetime
    user: str
    pod: str
    """The pod that the token is bound to, or an empty text."""
    agent: str
    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int
    allowed: bool
    """Whether the user has the permission; admission may still have rejected it."""
    dry_run: bool
    uri: str

    @property
    def kind(self) -> str:
        """The resource as a Role names it: `statefulsets`, `tradingplatforms/status`."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A position in the log: a file, by its inode since full files are renamed, and an offset."""

    inode: int
    offset: int


def mark(cluster: Cluster) -> Mark:
    """The present position: later requests come after it."""
    _sentinel(cluster)
    found = _log(cluster).stat()
    return Mark(inode=found.st_ino, offset=found.st_size)


def since(cluster: Cluster, after: Mark) -> list[Entry]:
    """Every request after a mark, in order of arrival; unfinished ones are included."""
    _sentinel(cluster)
    last: dict[str, Entry] = {}
    for event in _events(cluster, after):
        entry = _entry(event)
        if entry is not None and not entry.name.startswith(_SENTINEL):
            last[event["auditID"]] = entry
    return sorted(last.values(), key=lambda one: one.received)


def of(entries: Iterable[Entry], user: str) -> list[Entry]:
    """The requests of one user, or of one account as `namespace/name`."""
    namespace, _, name = user.partition("/")
    account = f"system:serviceaccount:{namespace}:{name}"
    return [one for one in entries if one.user in {user, account}]


def writes(entries: Iterable[Entry], *, leases: bool = False, events: bool = False) -> list[Entry]:
    """The writes, whatever the response: Leases and Events only on request, no dry runs."""
    apart = {*(() if leases else ("leases",)), *(() if events else ("events",))}
    questions = {"authentication.k8s.io", "authorization.k8s.io"}
    return [
        one
        for one in entries
        if one.verb in WRITING
        and not one.dry_run
        and one.resource not in apart
        and one.group not in questions
        and one.subresource != "token"
    ]


def accepted(entries: Iterable[Entry]) -> list[Entry]:
    """The successful requests."""
    return [one for one in entries if one.code < 300]


def forbidden(entries: Iterable[Entry]) -> list[Entry]:
    """The requests that the user has no permission for."""
    return [one for one in entries if not one.allowed]


def used(entries: Iterable[Entry]) -> set[tuple[str, str, str]]:
    """Every group, resource and verb that was requested, as a Role names them.

    An apply that made an object needed the right to create it, too.
    """
    found = {(one.group, one.kind, one.verb) for one in entries if one.resource}
    made = {(one.group, one.kind, "create") for one in entries if one.verb == "patch" and one.code == CREATED}
    return found | made


_SENTINEL: Final = "audit-sentinel-"


def _log(cluster: Cluster) -> Path:
    return cluster.kubeconfig.parent / "logs" / "audit.log"


def _sentinel(cluster: Cluster) -> None:
    """Send a unique request, and wait until it is in the log: then all earlier ones are too."""
    name = _SENTINEL + secrets.token_hex(8)
    path = _log(cluster)
    size, inode = path.stat().st_size, path.stat().st_ino
    cluster.kubectl.text("get", "configmap", name, "--namespace=default", "--ignore-not-found")
    wait.until(
        lambda: any(name in line for line in _lines(cluster, Mark(inode=inode, offset=size))),
        f"{name} is in {path}",
        seconds=DEADLINE,
    )


def _lines(cluster: Cluster, after: Mark) -> Iterator[str]:
    """Complete lines after a mark, across rotated files."""
    newest = _log(cluster)
    # A rotated file's name has a timestamp.
    files = [*sorted(newest.parent.glob(f"{newest.stem}-*{newest.suffix}")), newest]
    found = [path.stat().st_ino for path in files]
    begin = found.index(after.inode)
    for path in files[begin:]:
        with path.open(encoding="utf-8") as log:
            if path == files[begin]:
                log.seek(after.offset)
            for line in log:
                if line.endswith("\n"):
                    yield line


def _events(cluster: Cluster, after: Mark) -> Iterator[dict[str, Any]]:
    for line in _lines(cluster, after):
        yield json.loads(line)


def _entry(event: dict[str, Any]) -> Entry | None:
    about = event.get("objectRef")
    if about is None:
        return None  # discovery, health
    uri = event["requestURI"]
    who = event["user"]
    return Entry(
        received=datetime.datetime.fromisoformat(event["requestReceivedTimestamp"]),
        ended=datetime.datetime.fromisoformat(event["stageTimestamp"]),
        user=who.get("username", ""),
        pod=next(iter(who.get("extra", {}).get(POD, [])), ""),
        agent=event.get("userAgent", ""),
        verb=event["verb"],
        group=about.get("apiGroup", ""),
        resource=about["resource"],
        subresource=about.get("subresource", ""),
        namespace=about.get("namespace", ""),
        name=about.get("name", ""),
        code=int(event.get("responseStatus", {}).get("code", 0)),
        allowed=event.get("annotations", {}).get(DECISION) != "forbid",
        dry_run="dryRun=" in uri,
        uri=uri,
    )
