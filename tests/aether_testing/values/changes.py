"""Changes to the observed state of a healthy platform, such as a missing child or a server that rejects the login.

A change is a function from an observed state to another. Tables of states name them: `states` for the reference page,
and the unit tests of the status; `observations` builds the healthy state.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from aether_operator.api.platforms import Server
from aether_operator.api.reasons import Reason
from aether_operator.observed.kinds import Ref
from aether_operator.observed.observation import Blocker
from aether_operator.observed.platforms import ObservedPlatform
from aether_operator.observed.reports import Engine, SchemaReport, ServerReport, TopicsReport
from aether_operator.observed.server_owners import Ownership
from aether_operator.status.components.ingest import IngestReport
from aether_testing.values import observations

if TYPE_CHECKING:
    from aether_operator.observed.kinds import Manifest

Change = Callable[[ObservedPlatform], ObservedPlatform]
SET: Final = Ref("StatefulSet", "paper-postgres")
CLAIM: Final = Ref("PersistentVolumeClaim", "paper-postgres-data")
INGEST, EXCHANGE = "paper-ingest-0", "paper-exchange-0"
"""The pods of components."""
UNSCHEDULABLE: Final[dict[str, Any]] = {
    "phase": "Pending",
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient cpu.",
        }
    ],
}
"""The status of a pod that no node can run."""


def none(observed: ObservedPlatform) -> ObservedPlatform:
    """The healthy state itself."""
    return observed


def all_of(*changes: Change) -> Change:
    """Several changes, one after the other."""

    def changed(observed: ObservedPlatform) -> ObservedPlatform:
        for change in changes:
            observed = change(observed)
        return observed

    return changed


def fields(**parts: Any) -> Change:
    """Replace fields of the observed state: `fields(schema=None)` is a schema that was not checked yet."""
    return lambda observed: dataclasses.replace(observed, **parts)


# Children, pods and events.


def without(kind: str, name: str) -> Change:
    """A child does not exist."""
    return lambda observed: observations.without(observed, Ref(kind, name))


def edited(ref: Ref, edit: Callable[[Manifest], object]) -> Change:
    """A child whose stored object was edited in place."""

    def changed(observed: ObservedPlatform) -> ObservedPlatform:
        live = copy.deepcopy(observed.children[ref])
        edit(live)
        return observations.with_objects(observed, live)

    return changed


def deleting(kind: str, name: str) -> Change:
    """A child is being deleted."""
    return edited(Ref(kind, name), lambda live: live["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z"))


def workload(pod: dict[str, Any] | None = None, **status: Any) -> Change:
    """The status of PostgreSQL's StatefulSet has other fields; its only pod has this status, which says why."""

    def changed(observed: ObservedPlatform) -> ObservedPlatform:
        observed = edited(SET, lambda live: live["status"].update(status))(observed)
        pods = (observations.a_pod_of(observed.children[SET], **pod),) if pod else ()
        return dataclasses.replace(observed, pods=pods)

    return changed


def unready(**pod: Any) -> Change:
    """PostgreSQL's pod is not ready; its status says why."""
    return workload(pod, readyReplicas=0, availableReplicas=0)


def container(reason: str, **more: Any) -> Change:
    """The container of PostgreSQL's pod waits for this reason; `more` are further fields of its status."""
    return unready(containerStatuses=[{"name": "postgres", "state": {"waiting": {"reason": reason}}, **more}])


def claim(phase: str) -> Change:
    """PostgreSQL's PersistentVolumeClaim has this phase."""
    return edited(CLAIM, lambda live: live.update(status={"phase": phase}))


def event(kind: str, name: str, reason: str, note: str) -> Change:
    """A controller emitted an event about a child."""

    def changed(observed: ObservedPlatform) -> ObservedPlatform:
        emitted = observations.an_event(observed.children[Ref(kind, name)], reason, note)
        return dataclasses.replace(observed, events=(*observed.events, emitted))

    return changed


def blocked(reason: Reason, message: str = "do this", kind: str = SET.kind, name: str = SET.name) -> Change:
    """A child cannot be brought to its desired state."""
    return fields(blockers=(Blocker(ref=Ref(kind, name), reason=reason, message=message),))


# Reports of servers, the schema, the topics and components.


def server(reason: Reason, message: str = "as reported", *, of: Server = Server.KAFKA) -> Change:
    """The check of a server has this result."""
    return lambda observed: observations.with_server_report(
        observed, ServerReport(server=of, reason=reason, message=message)
    )


def owned_by_another(message: str, *, of: Server) -> Change:
    """Another platform owns a server, and ingest was stopped."""

    def changed(observed: ObservedPlatform) -> ObservedPlatform:
        reported = server(Reason.SERVER_OWNED_BY_ANOTHER, message, of=of)(observed)
        stopped = observations.without(reported, Ref("StatefulSet", "paper-ingest"))
        return dataclasses.replace(stopped, owners={**observed.owners, of: Ownership.OWNED_BY_ANOTHER}, topics=None)

    return changed


def unclaimed(of: Server) -> Change:
    """A server answers and has no owner: ingest was not started."""

    def changed(observed: ObservedPlatform) -> ObservedPlatform:
        owners = {key: ownership for key, ownership in observed.owners.items() if key is not of}
        stopped = observations.without(observed, Ref("StatefulSet", "paper-ingest"))
        return dataclasses.replace(stopped, owners=owners, topics=None)

    return changed


def schema(reason: Reason, message: str = "", **parts: Any) -> Change:
    """The schema has this report; by default of revision 0001 on TimescaleDB, with a message unless it is ready."""
    usual = {"revision": "0001", "engine": Engine.TIMESCALE}
    message = message or ("" if reason is Reason.READY else "as reported")
    return fields(schema=SchemaReport(reason=reason, message=message, **{**usual, **parts}))


def topics(reason: Reason, message: str = "", **parts: Any) -> Change:
    """The topics have this report."""
    return fields(topics=TopicsReport(reason=reason, message=message, **parts))


def report(pod: str, **parts: Any) -> Change:
    """A component's pod reports something else."""
    return lambda observed: observations.with_report(observed, pod, **parts)


def book(pair: str, why: str) -> Change:
    """Ingest reports that a pair's book is not usable."""

    def changed(observed: ObservedPlatform) -> ObservedPlatform:
        reported = observed.component_reports[INGEST]
        assert isinstance(reported, IngestReport)
        return observations.with_report(observed, INGEST, books={**reported.books, pair: why})

    return changed
