"""The states of a platform: an observed state each, and the status computed from it, for docs/reference/states.md."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from aether_operator import status
from aether_operator.api.platform_definition import DEFINITION
from aether_operator.api.platforms import Server
from aether_operator.api.reasons import Reason
from aether_operator.observed.platforms import ObservedPlatform
from aether_operator.observed.reports import Drift, Engine
from aether_testing.values import changes, evaluations, kstatus, observations

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aether_operator.api.platforms import Platform

    _Table = dict[str, tuple[changes.Change, status.State, Reason]]

READY, RECONCILING, STALLED = evaluations.READY, evaluations.RECONCILING, evaluations.STALLED
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


_QUOTA: Final = (
    'create Pod paper-postgres-0 in StatefulSet paper-postgres failed error: pods "paper-postgres-0" is forbidden: '
    "exceeded quota: small, requested: pods=1, used: pods=4, limited: pods=4"
)
_NO_CLASS: Final = "no persistent volumes available for this claim and no storage class is set"

_forbidden: Final = changes.all_of(
    changes.workload(readyReplicas=0, availableReplicas=0),
    changes.event("StatefulSet", "paper-postgres", "FailedCreate", _QUOTA),
)
_INGEST, _EXCHANGE = changes.INGEST, changes.EXCHANGE
_P, _K, _N, _R = Server.POSTGRES, Server.KAFKA, Server.NATS, Server.REDIS

_MANAGED: Final[_Table] = {
    "everything is ready": (changes.none, READY, Reason.READY),
    # Children.
    "no child exists yet": (
        changes.fields(children={}, servers={}, schema=None, topics=None),
        RECONCILING, Reason.PROGRESSING,
    ),
    "a StatefulSet is missing": (changes.without("StatefulSet", "paper-postgres"), RECONCILING, Reason.PROGRESSING),
    "a Service is missing": (changes.without("Service", "paper-nats"), RECONCILING, Reason.PROGRESSING),
    "a NetworkPolicy is missing": (changes.without("NetworkPolicy", "paper-nats"), RECONCILING, Reason.PROGRESSING),
    "generated credentials are missing": (changes.without("Secret", "paper-redis"), RECONCILING, Reason.PROGRESSING),
    "the Secret of the reader's login is missing": (
        changes.without("Secret", "paper-postgres-reader"), RECONCILING, Reason.PROGRESSING,
    ),
    "a PersistentVolumeClaim is missing": (
        changes.without("PersistentVolumeClaim", "paper-postgres-data"), RECONCILING, Reason.PROGRESSING,
    ),
    "a StatefulSet is being deleted": (
        changes.deleting("StatefulSet", "paper-postgres"),
        RECONCILING, Reason.PROGRESSING,
    ),
    # Pods and volumes.
    "a StatefulSet was changed just now": (changes.workload(observedGeneration=0), RECONCILING, Reason.ROLLING_OUT),
    "no pod is of the newest revision": (changes.workload(updatedReplicas=0), RECONCILING, Reason.ROLLING_OUT),
    "a pod is being replaced": (changes.workload(updateRevision="r2"), RECONCILING, Reason.ROLLING_OUT),
    "a pod is not ready": (changes.workload(readyReplicas=0, availableReplicas=0), RECONCILING, Reason.ROLLING_OUT),
    "a pod is ready and not available yet": (changes.workload(availableReplicas=0), RECONCILING, Reason.ROLLING_OUT),
    "a pod starts": (changes.container("ContainerCreating"), RECONCILING, Reason.ROLLING_OUT),
    "a pod cannot be scheduled": (
        changes.workload(changes.UNSCHEDULABLE, readyReplicas=0, availableReplicas=0),
        RECONCILING, Reason.UNSCHEDULABLE,
    ),
    "a quota forbids a pod": (_forbidden, RECONCILING, Reason.POD_FORBIDDEN),
    "there is no default StorageClass": (
        changes.all_of(
            changes.claim("Pending"),
            changes.event("PersistentVolumeClaim", "paper-postgres-data", "FailedBinding", _NO_CLASS),
        ),
        RECONCILING, Reason.VOLUME_MISSING,
    ),
    "a pod's image cannot be pulled": (
        changes.container("ImagePullBackOff", image="images.example.org/postgres:1"), RECONCILING, Reason.ROLLING_OUT,
    ),
    "a pod crashes repeatedly": (
        changes.container("CrashLoopBackOff", lastState={"terminated": {"reason": "Error", "exitCode": 3}}),
        RECONCILING, Reason.ROLLING_OUT,
    ),
    "a pod was evicted": (
        changes.workload({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}, readyReplicas=0),
        RECONCILING, Reason.ROLLING_OUT,
    ),
    "a claim waits for a volume": (changes.claim("Pending"), RECONCILING, Reason.ROLLING_OUT),
    "a claim lost its volume": (changes.claim("Lost"), RECONCILING, Reason.ROLLING_OUT),
    "no server was checked yet": (
        changes.fields(servers={}, schema=None, topics=None),
        RECONCILING, Reason.PROGRESSING,
    ),
    # The schema.
    "the schema was not checked yet": (changes.fields(schema=None), RECONCILING, Reason.PROGRESSING),
    "the schema is being migrated": (
        changes.schema(Reason.MIGRATING, "revision 0001 of 0002"), RECONCILING, Reason.MIGRATING,
    ),
    "another session holds a lock on a table": (
        changes.schema(Reason.WAITING_FOR_LOCK, "aether.trades is locked by a transaction"),
        RECONCILING, Reason.WAITING_FOR_LOCK,
    ),
    "a step of the migration failed": (
        changes.schema(Reason.FAILED, "CREATE TABLE aether.trades: disk full"), RECONCILING, Reason.FAILED,
    ),
    "the database belongs to another platform": (
        changes.schema(Reason.DATABASE_OWNED_BY_ANOTHER, "the database belongs to desk/live"),
        STALLED, Reason.DATABASE_OWNED_BY_ANOTHER,
    ),
    "the database holds another venue's data": (
        changes.schema(Reason.VENUE_MISMATCH, "the database holds data of venue Kraken"),
        STALLED, Reason.VENUE_MISMATCH,
    ),
    "the database holds data, and no record of their venue": (
        changes.schema(Reason.VENUE_UNKNOWN, "the database holds market data"), STALLED, Reason.VENUE_UNKNOWN,
    ),
    "the schema is of a newer release": (
        changes.schema(Reason.SCHEMA_NEWER, "revision 0009 is not known"), STALLED, Reason.SCHEMA_NEWER,
    ),
    "the schema differs and cannot be repaired without losing data": (
        changes.schema(Reason.SCHEMA_DRIFTED, "aether.trades.price is an integer"), STALLED, Reason.SCHEMA_DRIFTED,
    ),
    "a difference in the schema was repaired": (
        changes.schema(Reason.READY, drift=(Drift(name="aether.trades_by_time", what="was missing", repaired=True),)),
        READY, Reason.READY,
    ),
    "a harmless difference in the schema is left": (
        changes.schema(Reason.READY, drift=(Drift(name="aether.notes", what="is unknown", repaired=False),)),
        READY, Reason.READY,
    ),
    "TimescaleDB is missing, and only preferred": (
        changes.schema(Reason.READY, engine=Engine.PARTMAN), READY, Reason.READY,
    ),
    "a reduction of the retention is held": (
        changes.schema(Reason.READY, held=("aether.trades: 3 partitions before 2026-01-01",)), READY, Reason.READY,
    ),
    # The topics.
    "the topics were not checked yet": (changes.fields(topics=None), RECONCILING, Reason.PROGRESSING),
    "a topic cannot be created": (
        changes.topics(Reason.PERMISSION_DENIED, "the login may not create topic md.trades"),
        RECONCILING, Reason.PERMISSION_DENIED,
    ),
    "a topic has another number of partitions": (
        changes.topics(Reason.READY, warnings=("topic md.trades has 1 instead of 6 partitions",)),
        READY, Reason.READY,
    ),
    # Components.
    "no component was queried yet": (changes.fields(component_reports={}), RECONCILING, Reason.PROGRESSING),
    "the simulated venue's StatefulSet is missing": (
        changes.without("StatefulSet", "paper-exchange"), RECONCILING, Reason.PROGRESSING,
    ),
    "the journal's PersistentVolumeClaim is missing": (
        changes.without("PersistentVolumeClaim", "paper-exchange-data"), RECONCILING, Reason.PROGRESSING,
    ),
    "ingest's settings are missing": (
        changes.without("ConfigMap", "paper-ingest-settings"),
        RECONCILING, Reason.PROGRESSING,
    ),
    "the simulated venue does not answer": (
        changes.report(_EXCHANGE, reason=Reason.UNREACHABLE, message="Connection refused"),
        RECONCILING, Reason.UNREACHABLE,
    ),
    "a check of the simulated venue fails": (
        changes.report(_EXCHANGE, ready=False, failing={"journal": "disk full"}), RECONCILING, Reason.FAILED,
    ),
    "a component is of another release": (
        changes.report(_INGEST, reason=Reason.VERSION_UNSUPPORTED, message="its /status has version 2"),
        RECONCILING, Reason.VERSION_UNSUPPORTED,
    ),
    "ingest does not follow the newest settings yet": (
        changes.report(_INGEST, settings="of-before"), RECONCILING, Reason.PROGRESSING,
    ),
    "the venue does not have a pair": (changes.book("SOL/USD", "UnknownPair"), STALLED, Reason.UNKNOWN_PAIR),
    "an order book is not usable": (changes.book("SOL/USD", "ChecksumFailed"), RECONCILING, Reason.BOOK_UNUSABLE),
    "a trade is invalid": (
        changes.report(_INGEST, trades={"SOL/USD": "trade 7: its time is ahead of our clock"}),
        RECONCILING, Reason.TRADES_INVALID,
    ),
    "a channel of a market is silent": (
        changes.report(_INGEST, silent={"SOL/USD": ("trade",)}), RECONCILING, Reason.CHANNEL_SILENT,
    ),
    "ingest cannot connect to the simulated venue": (
        changes.report(_INGEST, disconnected="Connection refused"), RECONCILING, Reason.UNREACHABLE,
    ),
    "an output of ingest fails": (
        changes.report(_INGEST, outputs={"kafka": "no broker answers", "nats": "", "tables": ""}),
        RECONCILING, Reason.OUTPUT_FAILED,
    ),
    "ingest reports that it is not ready": (changes.report(_INGEST, ready=False), RECONCILING, Reason.FAILED),
    # What only a person can resolve.
    "another object has the name of a child": (
        changes.blocked(Reason.NAME_TAKEN, "Service paper-postgres is not the operator's", "Service"),
        STALLED, Reason.NAME_TAKEN,
    ),
    "an immutable field of a child would have to change": (
        changes.blocked(Reason.IMMUTABLE_FIELD, "delete StatefulSet paper-postgres; its volume stays"),
        STALLED, Reason.IMMUTABLE_FIELD,
    ),
    "the API server rejects a child": (
        changes.blocked(Reason.REQUEST_REJECTED, "StatefulSet paper-postgres: exceeded quota: small"),
        STALLED, Reason.REQUEST_REJECTED,
    ),
    "a child that is no longer desired cannot be deleted": (
        changes.blocked(Reason.REQUEST_REJECTED, "Service paper-old: denied by a policy", "Service", "paper-old"),
        STALLED, Reason.REQUEST_REJECTED,
    ),
}  # fmt: skip
"""A platform with Managed servers: change to its healthy state → expected state and reason."""

_EXTERNAL: Final[_Table] = {
    "everything is ready, with external servers": (changes.none, READY, Reason.READY),
    "the database has a warning": (
        changes.schema(Reason.READY, warnings=("the retention policy of aether.trades is paused",)),
        READY, Reason.READY,
    ),
    "a Secret is missing": (
        changes.server(Reason.SECRET_MISSING, "Secret my-kafka does not exist", of=_K),
        RECONCILING, Reason.SECRET_MISSING,
    ),
    "a Secret lacks a key": (
        changes.server(Reason.SECRET_KEY_MISSING, "Secret my-kafka has no key password", of=_K),
        RECONCILING, Reason.SECRET_KEY_MISSING,
    ),
    "a server is unreachable": (
        changes.server(Reason.UNREACHABLE, "redis.example.org:1003 refuses connections", of=_R),
        RECONCILING, Reason.UNREACHABLE,
    ),
    "a server's certificate is not trusted": (
        changes.server(Reason.TLS_FAILED, "self-signed certificate", of=_N), RECONCILING, Reason.TLS_FAILED,
    ),
    "a server rejects the login": (
        changes.server(Reason.AUTHENTICATION_FAILED, "the login desk is refused", of=_P),
        RECONCILING, Reason.AUTHENTICATION_FAILED,
    ),
    "a login lacks a permission": (
        changes.server(Reason.PERMISSION_DENIED, "desk may not create topics", of=_K),
        RECONCILING, Reason.PERMISSION_DENIED,
    ),
    "the database is missing": (
        changes.server(Reason.DATABASE_MISSING, "there is no database desk", of=_P),
        RECONCILING, Reason.DATABASE_MISSING,
    ),
    "TimescaleDB is missing, and required": (
        changes.server(Reason.TIMESCALE_MISSING, "TimescaleDB is not installed", of=_P),
        RECONCILING, Reason.TIMESCALE_MISSING,
    ),
    "TimescaleDB and pg_partman are missing": (
        changes.server(Reason.PARTMAN_MISSING, "neither TimescaleDB nor pg_partman", of=_P),
        RECONCILING, Reason.PARTMAN_MISSING,
    ),
    "a server is too old": (
        changes.server(Reason.VERSION_UNSUPPORTED, "PostgreSQL 14.1; 15 to 17 are supported", of=_P),
        RECONCILING, Reason.VERSION_UNSUPPORTED,
    ),
    "NATS runs without JetStream": (
        changes.server(Reason.JETSTREAM_DISABLED, "JetStream is off", of=_N), STALLED, Reason.JETSTREAM_DISABLED,
    ),
    "a server belongs to another platform": (
        changes.owned_by_another(
            "kafka.example.org:1001: it belongs to desk/live of namespace 5d8f, venue Kraken", of=_K
        ),
        STALLED, Reason.SERVER_OWNED_BY_ANOTHER,
    ),
    "a server's owner cannot be recorded": (
        changes.server(Reason.OWNER_NOT_RECORDED, "the login may not create topic aether.owner", of=_K),
        STALLED, Reason.OWNER_NOT_RECORDED,
    ),
    "a server's owner is not known yet": (changes.unclaimed(_K), RECONCILING, Reason.PROGRESSING),
    "a check failed for another reason": (
        changes.server(Reason.FAILED, "an answer that is not Kafka's", of=_K), RECONCILING, Reason.FAILED,
    ),
    "a person must act, and a server is unreachable": (
        changes.all_of(
            changes.server(Reason.UNREACHABLE, "no answer", of=_R),
            changes.schema(Reason.SCHEMA_NEWER, "revision 0009 is not known"),
        ),
        STALLED, Reason.SCHEMA_NEWER,
    ),
}  # fmt: skip
"""A platform with External servers."""

_AT_KRAKEN: Final[_Table] = {
    "everything is ready, at a real venue": (changes.none, READY, Reason.READY),
    "the cluster has no egress to the venue": (
        changes.report(_INGEST, disconnected="name not known", received=False, books={}), RECONCILING, Reason.NO_EGRESS,
    ),
    "the venue disconnected": (
        changes.report(_INGEST, disconnected="closed by the venue"), RECONCILING, Reason.UNREACHABLE,
    ),
}  # fmt: skip
"""A platform at a real venue."""


def _status_of(
    platform: Platform | None,
    observed: ObservedPlatform,
    previous: dict[str, Any] | None = None,
    *,
    at: float = 0,
    **parts: Any,
) -> dict[str, Any]:
    return evaluations.status_of(evaluations.inputs(platform, observed, **parts), previous, at=at)


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

    yield case("before the first reconcile", "", "", evaluations.NEVER)
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
    failed = ready_status | status.compute_failed_status(DEFINITION, raw, cause, now=evaluations.NOW)
    yield case("a reconcile failed", RECONCILING, Reason.RECONCILE_FAILED, failed)
    later = status.compute_failed_status(
        DEFINITION, {**raw, "status": failed}, cause, now=evaluations.NOW + timedelta(seconds=300)
    )
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
    observed = changes.server(Reason.SECRET_MISSING, "Secret my-kafka does not exist", of=_K)(
        observations.healthy(late)
    )
    computed = _status_of(late, observed, _status_of(late, observed), at=300)
    where = {"dataPlane": observations.EXTERNAL}
    yield case("a Secret is missing, and the deadline has passed", STALLED, Reason.SECRET_MISSING, computed, **where)
    observed = changes.container("CrashLoopBackOff")(healthy)
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
