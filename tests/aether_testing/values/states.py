"""The states of a platform: an observed state each, and the status computed from it, for docs/reference/states.md."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from aether_operator import status
from aether_operator.api.platform_definition import DEFINITION
from aether_operator.api.platforms import Server
from aether_operator.api.reasons import Reason
from aether_operator.observed.kinds import Ref
from aether_operator.observed.observation import Blocker
from aether_operator.observed.platforms import ObservedPlatform
from aether_operator.observed.reports import Drift, Engine, SchemaReport, ServerReport, TopicsReport
from aether_operator.observed.server_owners import Ownership
from aether_operator.status import platforms as platform_status
from aether_operator.status.components.ingest import IngestReport
from aether_testing.values import kstatus, observations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from aether_operator.api.platforms import Platform

    Change = Callable[[ObservedPlatform], ObservedPlatform]
    _Table = dict[str, tuple[Change, status.State, Reason]]

NOW: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
NEVER: Final[dict[str, Any]] = {"observedGeneration": -1}
"""The status of a platform before its first reconcile, as the API server sets it."""
READY, RECONCILING, STALLED = status.State.READY, status.State.RECONCILING, status.State.STALLED
IN_KSTATUS: Final = {
    "": kstatus.IN_PROGRESS, READY: kstatus.CURRENT, RECONCILING: kstatus.IN_PROGRESS, STALLED: kstatus.FAILED,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A case: its title, the expected state and reason, the platform's spec, and the status that is really computed.

    `state` is empty for a platform that was not reconciled yet.
    """

    title: str
    state: str
    reason: str
    spec: dict[str, Any]
    status: dict[str, Any]

    @property
    def kstatus(self) -> str:
        """The expected result of kstatus."""
        return IN_KSTATUS[self.state]

    def truth(self, kind: str) -> str:
        """The status of a condition; empty if there is no such condition."""
        found = [one["status"] for one in self.status.get("conditions", ()) if one["type"] == kind]
        return found[0] if found else ""


# Changes to the observed state of a healthy platform.


def _same(observed: ObservedPlatform) -> ObservedPlatform:
    return observed


def _empty(observed: ObservedPlatform) -> ObservedPlatform:
    return dataclasses.replace(observed, children={}, servers={}, schema=None, topics=None)


def _without(kind: str, name: str) -> Change:
    return lambda observed: observations.without(observed, Ref(kind, name))


def _deleting(kind: str, name: str) -> Change:
    def changed(observed: ObservedPlatform) -> ObservedPlatform:
        live = copy.deepcopy(observed.children[Ref(kind, name)])
        live["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        return observations.with_objects(observed, live)

    return changed


def _workload(pod: dict[str, Any] | None = None, **fields: Any) -> Change:
    """PostgreSQL's StatefulSet is not rolled out; its pod has the cause."""

    def changed(observed: ObservedPlatform) -> ObservedPlatform:
        live = copy.deepcopy(observed.children[Ref("StatefulSet", "paper-postgres")])
        live["status"] |= fields
        pods = (observations.a_pod_of(live, **pod),) if pod else ()
        return dataclasses.replace(observations.with_objects(observed, live), pods=pods)

    return changed


def _container(reason: str, **more: Any) -> Change:
    waiting = [{"name": "postgres", "state": {"waiting": {"reason": reason}}, **more}]
    return _workload({"containerStatuses": waiting}, readyReplicas=0, availableReplicas=0)


def _claim(phase: str) -> Change:
    def changed(observed: ObservedPlatform) -> ObservedPlatform:
        live = copy.deepcopy(observed.children[Ref("PersistentVolumeClaim", "paper-postgres-data")])
        live["status"] = {"phase": phase}
        return observations.with_objects(observed, live)

    return changed


def _not_checked(observed: ObservedPlatform) -> ObservedPlatform:
    return dataclasses.replace(observed, servers={}, schema=None, topics=None)


def _server(server: Server, reason: Reason, message: str) -> Change:
    return lambda observed: observations.with_server_report(
        observed, ServerReport(server=server, reason=reason, message=message)
    )


def _owned_by_another(server: Server, message: str) -> Change:
    """Another platform owns the server, and ingest was stopped."""

    def changed(observed: ObservedPlatform) -> ObservedPlatform:
        computed = _server(server, Reason.SERVER_OWNED_BY_ANOTHER, message)(observed)
        stopped = observations.without(computed, Ref("StatefulSet", "paper-ingest"))
        return dataclasses.replace(stopped, owners={**observed.owners, server: Ownership.OWNED_BY_ANOTHER}, topics=None)

    return changed


def _unclaimed(server: Server) -> Change:
    """The server answers and has no owner: ingest was not started."""

    def changed(observed: ObservedPlatform) -> ObservedPlatform:
        owners = {key: ownership for key, ownership in observed.owners.items() if key is not server}
        stopped = observations.without(observed, Ref("StatefulSet", "paper-ingest"))
        return dataclasses.replace(stopped, owners=owners, topics=None)

    return changed


def _schema(reason: Reason, message: str = "", **parts: Any) -> Change:
    report = SchemaReport(reason=reason, message=message, **{"revision": "0001", "engine": Engine.TIMESCALE, **parts})
    return lambda observed: dataclasses.replace(observed, schema=report)


def _pod(pod: str, **changes: Any) -> Change:
    return lambda observed: observations.with_report(observed, pod, **changes)


def _not_queried(observed: ObservedPlatform) -> ObservedPlatform:
    return dataclasses.replace(observed, component_reports={})


def _book(pair: str, why: str) -> Change:
    def changed(observed: ObservedPlatform) -> ObservedPlatform:
        report = observed.component_reports[_INGEST]
        assert isinstance(report, IngestReport)
        return observations.with_report(observed, _INGEST, books={**report.books, pair: why})

    return changed


def _no_schema(observed: ObservedPlatform) -> ObservedPlatform:
    return dataclasses.replace(observed, schema=None)


def _topics(reason: Reason, message: str = "", **parts: Any) -> Change:
    report = TopicsReport(reason=reason, message=message, **parts)
    return lambda observed: dataclasses.replace(observed, topics=report)


def _no_topics(observed: ObservedPlatform) -> ObservedPlatform:
    return dataclasses.replace(observed, topics=None)


def _blocked(reason: Reason, message: str, kind: str = "StatefulSet", name: str = "paper-postgres") -> Change:
    blocker = Blocker(ref=Ref(kind, name), reason=reason, message=message)
    return lambda observed: dataclasses.replace(observed, blockers=(blocker,))


def _all(*changes: Change) -> Change:
    def changed(observed: ObservedPlatform) -> ObservedPlatform:
        for change in changes:
            observed = change(observed)
        return observed

    return changed


_NO_NODE: Final = {
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
_QUOTA: Final = (
    'create Pod paper-postgres-0 in StatefulSet paper-postgres failed error: pods "paper-postgres-0" is forbidden: '
    "exceeded quota: small, requested: pods=1, used: pods=4, limited: pods=4"
)
_NO_CLASS: Final = "no persistent volumes available for this claim and no storage class is set"


def _event(kind: str, name: str, reason: str, note: str) -> Change:
    """A controller emitted an event about a child."""

    def changed(observed: ObservedPlatform) -> ObservedPlatform:
        event = observations.an_event(observed.children[Ref(kind, name)], reason, note)
        return dataclasses.replace(observed, events=(*observed.events, event))

    return changed


_forbidden: Final = _all(
    _workload(readyReplicas=0, availableReplicas=0),
    _event("StatefulSet", "paper-postgres", "FailedCreate", _QUOTA),
)
_INGEST, _EXCHANGE = "paper-ingest-0", "paper-exchange-0"
_P, _K, _N, _R = Server.POSTGRES, Server.KAFKA, Server.NATS, Server.REDIS

_MANAGED: Final[_Table] = {
    "everything is ready": (_same, READY, Reason.READY),
    # Children.
    "no child exists yet": (_empty, RECONCILING, Reason.PROGRESSING),
    "a StatefulSet is missing": (_without("StatefulSet", "paper-postgres"), RECONCILING, Reason.PROGRESSING),
    "a Service is missing": (_without("Service", "paper-nats"), RECONCILING, Reason.PROGRESSING),
    "a NetworkPolicy is missing": (_without("NetworkPolicy", "paper-nats"), RECONCILING, Reason.PROGRESSING),
    "generated credentials are missing": (_without("Secret", "paper-redis"), RECONCILING, Reason.PROGRESSING),
    "the Secret of the reader's login is missing": (
        _without("Secret", "paper-postgres-reader"), RECONCILING, Reason.PROGRESSING,
    ),
    "a PersistentVolumeClaim is missing": (
        _without("PersistentVolumeClaim", "paper-postgres-data"), RECONCILING, Reason.PROGRESSING,
    ),
    "a StatefulSet is being deleted": (_deleting("StatefulSet", "paper-postgres"), RECONCILING, Reason.PROGRESSING),
    # Pods and volumes.
    "a StatefulSet was changed just now": (_workload(observedGeneration=0), RECONCILING, Reason.ROLLING_OUT),
    "no pod is of the newest revision": (_workload(updatedReplicas=0), RECONCILING, Reason.ROLLING_OUT),
    "a pod is being replaced": (_workload(updateRevision="r2"), RECONCILING, Reason.ROLLING_OUT),
    "a pod is not ready": (_workload(readyReplicas=0, availableReplicas=0), RECONCILING, Reason.ROLLING_OUT),
    "a pod is ready and not available yet": (_workload(availableReplicas=0), RECONCILING, Reason.ROLLING_OUT),
    "a pod starts": (_container("ContainerCreating"), RECONCILING, Reason.ROLLING_OUT),
    "a pod cannot be scheduled": (
        _workload(_NO_NODE, readyReplicas=0, availableReplicas=0), RECONCILING, Reason.UNSCHEDULABLE,
    ),
    "a quota forbids a pod": (_forbidden, RECONCILING, Reason.POD_FORBIDDEN),
    "there is no default StorageClass": (
        _all(_claim("Pending"), _event("PersistentVolumeClaim", "paper-postgres-data", "FailedBinding", _NO_CLASS)),
        RECONCILING, Reason.VOLUME_MISSING,
    ),
    "a pod's image cannot be pulled": (
        _container("ImagePullBackOff", image="images.example.org/postgres:1"), RECONCILING, Reason.ROLLING_OUT,
    ),
    "a pod crashes repeatedly": (
        _container("CrashLoopBackOff", lastState={"terminated": {"reason": "Error", "exitCode": 3}}),
        RECONCILING, Reason.ROLLING_OUT,
    ),
    "a pod was evicted": (
        _workload({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}, readyReplicas=0),
        RECONCILING, Reason.ROLLING_OUT,
    ),
    "a claim waits for a volume": (_claim("Pending"), RECONCILING, Reason.ROLLING_OUT),
    "a claim lost its volume": (_claim("Lost"), RECONCILING, Reason.ROLLING_OUT),
    "no server was checked yet": (_not_checked, RECONCILING, Reason.PROGRESSING),
    # The schema.
    "the schema was not checked yet": (_no_schema, RECONCILING, Reason.PROGRESSING),
    "the schema is being migrated": (
        _schema(Reason.MIGRATING, "revision 0001 of 0002"), RECONCILING, Reason.MIGRATING,
    ),
    "another session holds a lock on a table": (
        _schema(Reason.WAITING_FOR_LOCK, "aether.trades is locked by a transaction"),
        RECONCILING, Reason.WAITING_FOR_LOCK,
    ),
    "a step of the migration failed": (
        _schema(Reason.FAILED, "CREATE TABLE aether.trades: disk full"), RECONCILING, Reason.FAILED,
    ),
    "the database belongs to another platform": (
        _schema(Reason.DATABASE_OWNED_BY_ANOTHER, "the database belongs to desk/live"),
        STALLED, Reason.DATABASE_OWNED_BY_ANOTHER,
    ),
    "the database holds another venue's data": (
        _schema(Reason.VENUE_MISMATCH, "the database holds data of venue Kraken"), STALLED, Reason.VENUE_MISMATCH,
    ),
    "the database holds data, and no record of their venue": (
        _schema(Reason.VENUE_UNKNOWN, "the database holds market data"), STALLED, Reason.VENUE_UNKNOWN,
    ),
    "the schema is of a newer release": (
        _schema(Reason.SCHEMA_NEWER, "revision 0009 is not known"), STALLED, Reason.SCHEMA_NEWER,
    ),
    "the schema differs and cannot be repaired without losing data": (
        _schema(Reason.SCHEMA_DRIFTED, "aether.trades.price is an integer"), STALLED, Reason.SCHEMA_DRIFTED,
    ),
    "a difference in the schema was repaired": (
        _schema(Reason.READY, drift=(Drift(name="aether.trades_by_time", what="was missing", repaired=True),)),
        READY, Reason.READY,
    ),
    "a harmless difference in the schema is left": (
        _schema(Reason.READY, drift=(Drift(name="aether.notes", what="is unknown", repaired=False),)),
        READY, Reason.READY,
    ),
    "TimescaleDB is missing, and only preferred": (
        _schema(Reason.READY, engine=Engine.PARTMAN), READY, Reason.READY,
    ),
    "a reduction of the retention is held": (
        _schema(Reason.READY, held=("aether.trades: 3 partitions before 2026-01-01",)), READY, Reason.READY,
    ),
    # The topics.
    "the topics were not checked yet": (_no_topics, RECONCILING, Reason.PROGRESSING),
    "a topic cannot be created": (
        _topics(Reason.PERMISSION_DENIED, "the login may not create topic md.trades"),
        RECONCILING, Reason.PERMISSION_DENIED,
    ),
    "a topic has another number of partitions": (
        _topics(Reason.READY, warnings=("topic md.trades has 1 instead of 6 partitions",)),
        READY, Reason.READY,
    ),
    # Components.
    "no component was queried yet": (_not_queried, RECONCILING, Reason.PROGRESSING),
    "the simulated venue's StatefulSet is missing": (
        _without("StatefulSet", "paper-exchange"), RECONCILING, Reason.PROGRESSING,
    ),
    "the journal's PersistentVolumeClaim is missing": (
        _without("PersistentVolumeClaim", "paper-exchange-data"), RECONCILING, Reason.PROGRESSING,
    ),
    "ingest's settings are missing": (_without("ConfigMap", "paper-ingest-settings"), RECONCILING, Reason.PROGRESSING),
    "the simulated venue does not answer": (
        _pod(_EXCHANGE, reason=Reason.UNREACHABLE, message="Connection refused"), RECONCILING, Reason.UNREACHABLE,
    ),
    "a check of the simulated venue fails": (
        _pod(_EXCHANGE, ready=False, failing={"journal": "disk full"}), RECONCILING, Reason.FAILED,
    ),
    "a component is of another release": (
        _pod(_INGEST, reason=Reason.VERSION_UNSUPPORTED, message="its /status has version 2"),
        RECONCILING, Reason.VERSION_UNSUPPORTED,
    ),
    "ingest does not follow the newest settings yet": (
        _pod(_INGEST, settings="of-before"), RECONCILING, Reason.PROGRESSING,
    ),
    "the venue does not have a pair": (_book("SOL/USD", "UnknownPair"), STALLED, Reason.UNKNOWN_PAIR),
    "an order book is not usable": (_book("SOL/USD", "ChecksumFailed"), RECONCILING, Reason.BOOK_UNUSABLE),
    "a trade is invalid": (
        _pod(_INGEST, trades={"SOL/USD": "trade 7: its time is ahead of our clock"}),
        RECONCILING, Reason.TRADES_INVALID,
    ),
    "a channel of a market is silent": (
        _pod(_INGEST, silent={"SOL/USD": ("trade",)}), RECONCILING, Reason.CHANNEL_SILENT,
    ),
    "ingest cannot connect to the simulated venue": (
        _pod(_INGEST, disconnected="Connection refused"), RECONCILING, Reason.UNREACHABLE,
    ),
    "an output of ingest fails": (
        _pod(_INGEST, outputs={"kafka": "no broker answers", "nats": "", "tables": ""}),
        RECONCILING, Reason.OUTPUT_FAILED,
    ),
    "ingest reports that it is not ready": (_pod(_INGEST, ready=False), RECONCILING, Reason.FAILED),
    # What only a person can resolve.
    "another object has the name of a child": (
        _blocked(Reason.NAME_TAKEN, "Service paper-postgres is not the operator's", "Service"),
        STALLED, Reason.NAME_TAKEN,
    ),
    "an immutable field of a child would have to change": (
        _blocked(Reason.IMMUTABLE_FIELD, "delete StatefulSet paper-postgres; its volume stays"),
        STALLED, Reason.IMMUTABLE_FIELD,
    ),
    "the API server rejects a child": (
        _blocked(Reason.REQUEST_REJECTED, "StatefulSet paper-postgres: exceeded quota: small"),
        STALLED, Reason.REQUEST_REJECTED,
    ),
    "a child that is no longer desired cannot be deleted": (
        _blocked(Reason.REQUEST_REJECTED, "Service paper-old: denied by a policy", "Service", "paper-old"),
        STALLED, Reason.REQUEST_REJECTED,
    ),
}  # fmt: skip
"""A platform with Managed servers: change to its healthy state → expected state and reason."""

_EXTERNAL: Final[_Table] = {
    "everything is ready, with external servers": (_same, READY, Reason.READY),
    "the database has a warning": (
        _schema(Reason.READY, engine=Engine.TIMESCALE, warnings=("the retention policy of aether.trades is paused",)),
        READY, Reason.READY,
    ),
    "a Secret is missing": (
        _server(_K, Reason.SECRET_MISSING, "Secret my-kafka does not exist"), RECONCILING, Reason.SECRET_MISSING,
    ),
    "a Secret lacks a key": (
        _server(_K, Reason.SECRET_KEY_MISSING, "Secret my-kafka has no key password"),
        RECONCILING, Reason.SECRET_KEY_MISSING,
    ),
    "a server is unreachable": (
        _server(_R, Reason.UNREACHABLE, "redis.example.org:1003 refuses connections"), RECONCILING, Reason.UNREACHABLE,
    ),
    "a server's certificate is not trusted": (
        _server(_N, Reason.TLS_FAILED, "self-signed certificate"), RECONCILING, Reason.TLS_FAILED,
    ),
    "a server rejects the login": (
        _server(_P, Reason.AUTHENTICATION_FAILED, "the login desk is refused"),
        RECONCILING, Reason.AUTHENTICATION_FAILED,
    ),
    "a login lacks a permission": (
        _server(_K, Reason.PERMISSION_DENIED, "desk may not create topics"), RECONCILING, Reason.PERMISSION_DENIED,
    ),
    "the database is missing": (
        _server(_P, Reason.DATABASE_MISSING, "there is no database desk"), RECONCILING, Reason.DATABASE_MISSING,
    ),
    "TimescaleDB is missing, and required": (
        _server(_P, Reason.TIMESCALE_MISSING, "TimescaleDB is not installed"), RECONCILING, Reason.TIMESCALE_MISSING,
    ),
    "TimescaleDB and pg_partman are missing": (
        _server(_P, Reason.PARTMAN_MISSING, "neither TimescaleDB nor pg_partman"), RECONCILING, Reason.PARTMAN_MISSING,
    ),
    "a server is too old": (
        _server(_P, Reason.VERSION_UNSUPPORTED, "PostgreSQL 14.1; 15 to 17 are supported"),
        RECONCILING, Reason.VERSION_UNSUPPORTED,
    ),
    "NATS runs without JetStream": (
        _server(_N, Reason.JETSTREAM_DISABLED, "JetStream is off"), STALLED, Reason.JETSTREAM_DISABLED,
    ),
    "a server belongs to another platform": (
        _owned_by_another(_K, "kafka.example.org:1001: it belongs to desk/live of namespace 5d8f, venue Kraken"),
        STALLED, Reason.SERVER_OWNED_BY_ANOTHER,
    ),
    "a server's owner cannot be recorded": (
        _server(_K, Reason.OWNER_NOT_RECORDED, "the login may not create topic aether.owner"),
        STALLED, Reason.OWNER_NOT_RECORDED,
    ),
    "a server's owner is not known yet": (_unclaimed(_K), RECONCILING, Reason.PROGRESSING),
    "a check failed for another reason": (
        _server(_K, Reason.FAILED, "an answer that is not Kafka's"), RECONCILING, Reason.FAILED,
    ),
    "a person must act, and a server is unreachable": (
        _all(_server(_R, Reason.UNREACHABLE, "no answer"), _schema(Reason.SCHEMA_NEWER, "revision 0009 is not known")),
        STALLED, Reason.SCHEMA_NEWER,
    ),
}  # fmt: skip
"""A platform with External servers."""

_AT_KRAKEN: Final[_Table] = {
    "everything is ready, at a real venue": (_same, READY, Reason.READY),
    "the cluster has no egress to the venue": (
        _pod(_INGEST, disconnected="name not known", received=False, books={}), RECONCILING, Reason.NO_EGRESS,
    ),
    "the venue disconnected": (
        _pod(_INGEST, disconnected="closed by the venue"), RECONCILING, Reason.UNREACHABLE,
    ),
}  # fmt: skip
"""A platform at a real venue."""


def _status_of(
    platform: Platform | None,
    observed: ObservedPlatform,
    previous: dict[str, Any] = NEVER,
    *,
    at: float = 0,
    **parts: Any,
) -> dict[str, Any]:
    usual: dict[str, Any] = {"generation": 1, "paused": False, "newest": platform, "observed": observed}
    inputs: platform_status.PlatformInput = status.StatusInput(
        in_force=platform, previous=previous, **{**usual, **parts}
    )
    return platform_status.compute_status(inputs, now=NOW + timedelta(seconds=at))


def _table_states() -> Iterator[State]:
    tables: tuple[tuple[_Table, dict[str, Any]], ...] = (
        (_MANAGED, {}),
        (_EXTERNAL, {"dataPlane": observations.EXTERNAL}),
        (_AT_KRAKEN, {"venue": {"name": "Kraken"}}),
    )
    for table, spec in tables:
        platform = observations.a_platform(**spec)
        for title, (change, state, reason) in table.items():
            computed = _status_of(platform, change(observations.healthy(platform)))
            yield State(title=title, state=state.value, reason=reason.value, spec=spec, status=computed)


def _platform_states() -> Iterator[State]:
    """States by the platform's own spec, pause and deadline."""

    def case(title: str, state: str, reason: str, computed: dict[str, Any], **spec: Any) -> State:
        return State(title=title, state=state, reason=reason, spec=spec, status=computed)

    yield case("before the first reconcile", "", "", NEVER)
    platform = observations.a_platform()
    healthy, nothing = observations.healthy(platform), ObservedPlatform(children={})
    ready_status = _status_of(platform, healthy)
    problems = ("spec.retention.tradesDays: Input should be greater than or equal to 1",)
    computed = _status_of(None, nothing, newest=None, problems=problems)
    yield case("the spec is invalid, and nothing runs", STALLED, Reason.INVALID_SPEC, computed)
    computed = _status_of(platform, healthy, ready_status, newest=None, problems=problems)
    yield case("the spec is invalid, and the last valid one stays in force", STALLED, Reason.INVALID_SPEC, computed)
    raw = {"metadata": {"generation": 1}, "spec": {}, "status": ready_status}
    cause = "KeyError: 'spec' at plans.py:12"
    failed = ready_status | status.compute_failed_status(DEFINITION, raw, cause, now=NOW)
    yield case("a reconcile failed", RECONCILING, Reason.RECONCILE_FAILED, failed)
    later = status.compute_failed_status(DEFINITION, {**raw, "status": failed}, cause, now=NOW + timedelta(seconds=300))
    yield case("reconciles fail until the deadline has passed", STALLED, Reason.RECONCILE_FAILED, failed | later)
    paused = observations.a_platform(paused=True)
    computed = _status_of(platform, healthy, ready_status, paused=True, newest=paused)
    yield case("paused, and everything is ready", READY, Reason.READY, computed, paused=True)
    computed = _status_of(None, nothing, paused=True, newest=paused)
    yield case("paused before anything was created", STALLED, Reason.PAUSED_BY_SPEC, computed, paused=True)
    edited = observations.a_platform(paused=True, retention={"tradesDays": 7})
    computed = _status_of(platform, healthy, ready_status, paused=True, newest=edited)
    spec: dict[str, Any] = {"paused": True, "retention": {"tradesDays": 7}}
    yield case("paused, with an edit that is not applied", STALLED, Reason.PAUSED_BY_SPEC, computed, **spec)
    late = observations.an_external_platform()
    observed = _server(_K, Reason.SECRET_MISSING, "Secret my-kafka does not exist")(observations.healthy(late))
    computed = _status_of(late, observed, _status_of(late, observed), at=300)
    where = {"dataPlane": observations.EXTERNAL}
    yield case("a Secret is missing, and the deadline has passed", STALLED, Reason.SECRET_MISSING, computed, **where)
    observed = _container("CrashLoopBackOff")(healthy)
    computed = _status_of(platform, observed, _status_of(platform, observed), at=300)
    yield case("a pod crashes, and the deadline has passed", STALLED, Reason.ROLLING_OUT, computed)
    computed = _status_of(platform, healthy, computed, at=400)
    yield case("ready again after the deadline", READY, Reason.READY, computed)


STATES: Final[tuple[State, ...]] = (*_platform_states(), *_table_states())


STATES_OF: Final[Mapping[str, tuple[State, ...]]] = {DEFINITION.kind: STATES}
"""Kind → its states. A kind without reasons of its own needs none."""


def page() -> str:
    """The content of docs/reference/states.md."""
    sections = "\n".join(_section(kind) for kind in STATES_OF)
    return f"""# States

Written by `make docs` from `tests/aether_testing/values/states.py`, each case with the status that the operator's code
computes. Tests write each status through a real API server, read it by the rules of kstatus, and run
`kubectl wait --for=condition=Ready`, which succeeds for the rows with `Ready` True only.

An object that is being deleted is `Terminating`, also in kstatus. What is `Reconciling` here becomes `Stalled` after
`spec.progressDeadlineSeconds`, as two of the rows show; reasons are explained in [conditions](conditions.md).
{sections}"""


def _section(kind: str) -> str:
    rows = "\n".join(_row(case) for case in STATES_OF[kind])
    return f"""
## {kind}: {len(STATES_OF[kind])} cases

| case | state | reason | Ready | Reconciling | Stalled | Warning | kstatus |
|---|---|---|---|---|---|---|---|
{rows}
"""


def _row(case: State) -> str:
    truths = " | ".join(case.truth(kind) for kind in ("Ready", "Reconciling", "Stalled", "Warning"))
    reason = case.status.get("reason", "")
    result = kstatus.compute({"metadata": {"generation": 1}, "status": case.status})
    return (
        f"| {case.title} | {case.status.get('state', '')} | {f'`{reason}`' if reason else ''} | {truths} | {result} |"
    )
