"""The types of conditions and the reasons of their status: what each means, and what to do. Values only.

The source of docs/reference/conditions.md and of `aether explain`. Which kind has which is in its `Definition`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final


class ConditionType(StrEnum):
    """The condition types, in the order of a status; kstatus reads the first three, which always exist."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    POSTGRES_READY = "PostgresReady"
    KAFKA_READY = "KafkaReady"
    NATS_READY = "NatsReady"
    REDIS_READY = "RedisReady"
    SCHEMA_READY = "SchemaReady"
    TOPICS_READY = "TopicsReady"
    VENUE_READY = "VenueReady"
    INGEST_READY = "IngestReady"
    WARNING = "Warning"
    PAUSED = "Paused"

    @property
    def part(self) -> str:
        """The part of an object that the condition is about, as messages name it; empty if it is about the whole."""
        return self.removesuffix("Ready").lower() if self.endswith("Ready") else ""


class Remedy(Enum):
    """Who can resolve a problem, which decides whether it shows as Reconciling or Stalled."""

    NONE = "nothing is wrong"
    WAIT = "in progress, or somebody may still bring what is missing: Reconciling until the deadline, then Stalled"
    USER = "only an edit or another act of a person resolves it: Stalled at once"


class Reason(StrEnum):
    """The reason of a condition."""

    # Nothing is wrong.
    READY = "Ready"
    # In progress, or somebody else may resolve it.
    PROGRESSING = "Progressing"
    ROLLING_OUT = "RollingOut"
    POD_FORBIDDEN = "PodForbidden"
    UNSCHEDULABLE = "Unschedulable"
    VOLUME_MISSING = "VolumeMissing"
    SECRET_MISSING = "SecretMissing"  # noqa: S105 - the name of a reason
    SECRET_KEY_MISSING = "SecretKeyMissing"  # noqa: S105 - the name of a reason
    UNREACHABLE = "Unreachable"
    TLS_FAILED = "TlsFailed"
    AUTHENTICATION_FAILED = "AuthenticationFailed"
    PERMISSION_DENIED = "PermissionDenied"
    DATABASE_MISSING = "DatabaseMissing"
    TIMESCALE_MISSING = "TimescaleMissing"
    PARTMAN_MISSING = "PartmanMissing"
    VERSION_UNSUPPORTED = "VersionUnsupported"
    NO_EGRESS = "NoEgress"
    BOOK_UNUSABLE = "BookUnusable"
    TRADES_INVALID = "TradesInvalid"
    CHANNEL_SILENT = "ChannelSilent"
    OUTPUT_FAILED = "OutputFailed"
    MIGRATING = "Migrating"
    WAITING_FOR_LOCK = "WaitingForLock"
    FAILED = "Failed"
    RECONCILE_FAILED = "ReconcileFailed"
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
    # Only an edit or another act of a person resolves it.
    INVALID_SPEC = "InvalidSpec"
    UNKNOWN_PAIR = "UnknownPair"
    NAME_TAKEN = "NameTaken"
    IMMUTABLE_FIELD = "ImmutableField"
    REQUEST_REJECTED = "RequestRejected"
    DATABASE_OWNED_BY_ANOTHER = "DatabaseOwnedByAnother"
    SERVER_OWNED_BY_ANOTHER = "ServerOwnedByAnother"
    VENUE_MISMATCH = "VenueMismatch"
    VENUE_UNKNOWN = "VenueUnknown"
    JETSTREAM_DISABLED = "JetStreamDisabled"
    OWNER_NOT_RECORDED = "OwnerNotRecorded"
    SCHEMA_NEWER = "SchemaNewer"
    SCHEMA_DRIFTED = "SchemaDrifted"
    # Warnings: the platform works, and a person should know.
    EVALUATION_ONLY = "EvaluationOnly"
    NATIVE_PARTITIONS = "NativePartitions"
    RETENTION_HELD = "RetentionHeld"
    SCHEMA_WARNING = "SchemaWarning"
    TOPICS_WARNING = "TopicsWarning"
    # Paused.
    PAUSED_BY_SPEC = "PausedBySpec"
    NOT_PAUSED = "NotPaused"
    TERMINATING = "Terminating"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A reason explained: what it means and what to do, in one or two sentences each."""

    remedy: Remedy
    meaning: str
    action: str = ""


def _none(meaning: str) -> Explanation:
    return Explanation(remedy=Remedy.NONE, meaning=meaning)


def _wait(meaning: str, action: str) -> Explanation:
    return Explanation(remedy=Remedy.WAIT, meaning=meaning, action=action)


def _user(meaning: str, action: str) -> Explanation:
    return Explanation(remedy=Remedy.USER, meaning=meaning, action=action)


EXPLANATIONS: Final[dict[Reason, Explanation]] = {
    Reason.READY: _none("Nothing is wrong."),
    Reason.PROGRESSING: _wait(
        "Something that it depends on is not ready yet.", "Wait; the other conditions show what is missing."
    ),
    Reason.ROLLING_OUT: _wait(
        "A pod of a server or of a component is being started or replaced.",
        "Wait; if the message names a pod that does not start, inspect it with kubectl describe pod.",
    ),
    Reason.POD_FORBIDDEN: _wait(
        "The cluster forbids a pod: by a ResourceQuota, a LimitRange, the namespace's Pod Security level, or another "
        "admission rule.",
        "Change what the message names, or lower the resources in the spec; the command in the message shows the rule. "
        "Kubernetes retries within minutes.",
    ),
    Reason.UNSCHEDULABLE: _wait(
        "No node can run a pod: the message says what the nodes lack.",
        "Free resources on a node, add a node, or lower the resources in the spec; the command in the message shows "
        "the pod.",
    ),
    Reason.VOLUME_MISSING: _wait(
        "A PersistentVolumeClaim has no volume, so the pod that uses it does not start.",
        "Mark a StorageClass as the default, or create a volume that fits the claim; the command in the message "
        "shows what exists.",
    ),
    Reason.SECRET_MISSING: _wait(
        "A Secret that the spec names does not exist in this namespace.", "Create the Secret, or name another."
    ),
    Reason.SECRET_KEY_MISSING: _wait(
        "A Secret that the spec names lacks a key, or the key is empty.", "Add the key to the Secret."
    ),
    Reason.UNREACHABLE: _wait(
        "Nothing answers at the address: the host name is unknown, the port is closed, or the network blocks it.",
        "Check host, port and network policies, and that the server, the component or the venue runs.",
    ),
    Reason.TLS_FAILED: _wait(
        "The TLS handshake failed: the server has no certificate, or one that is not trusted.",
        "Put the CA certificate into the key ca.crt of the Secret, or correct the server's certificate.",
    ),
    Reason.AUTHENTICATION_FAILED: _wait(
        "The server does not accept the username and password of the Secret.",
        "Correct the Secret or the server's login.",
    ),
    Reason.PERMISSION_DENIED: _wait(
        "The login lacks a permission that the platform needs.", "Grant the permission that the message names."
    ),
    Reason.DATABASE_MISSING: _wait(
        "The server has no such database.", "Create the database, or name another in the spec."
    ),
    Reason.TIMESCALE_MISSING: _wait(
        "The spec requires TimescaleDB, and the server does not have it.",
        "Install TimescaleDB 2.17 or newer on the server, or set spec.dataPlane.postgres.timescale to Preferred.",
    ),
    Reason.PARTMAN_MISSING: _wait(
        "The server has neither TimescaleDB nor pg_partman, and the tables need one of them.",
        "Install pg_partman 4.7 or 5, or TimescaleDB 2.17 or newer, on the server.",
    ),
    Reason.VERSION_UNSUPPORTED: _wait(
        "A server, one of its extensions, or a component has a version that is not supported.",
        "Upgrade what the message names. The operator and the components must be of the same release.",
    ),
    Reason.NO_EGRESS: _wait(
        "No data ever arrived from the real venue: the cluster does not let ingest reach it.",
        "Let ingest's pods reach the internet on port 443 (a local cluster: aether up --egress), or use a platform "
        "with venue Simulated.",
    ),
    Reason.BOOK_UNUSABLE: _wait(
        "A market of spec.pairs has no order book that matches the venue's checksum.",
        "Wait: ingest requests a new snapshot, which takes seconds. If it lasts, read the log of ingest's pods.",
    ),
    Reason.TRADES_INVALID: _wait(
        "The venue sent a trade or a market that cannot be parsed or cannot be true, such as a time ahead of the clock "
        "or more decimals than the market has. Later trades of that market are held back.",
        "If it is a time, check the clock of ingest's node. Otherwise wait: ingest requests the trade again.",
    ),
    Reason.CHANNEL_SILENT: _wait(
        "The venue acknowledged a subscription and does not send its messages, although the market's other channels "
        "or the venue's REST API show activity.",
        "Wait: ingest subscribes again, and fetches trades over REST until then. If it lasts, contact the venue.",
    ),
    Reason.OUTPUT_FAILED: _wait(
        "Ingest cannot write market data to an output. It keeps them and tries again: no trade is lost.",
        "Correct what the message names: the broker, the database, or the login for it.",
    ),
    Reason.MIGRATING: _wait("The schema is being migrated to its newest revision.", "Wait."),
    Reason.WAITING_FOR_LOCK: _wait(
        "Another session holds a lock that the next step needs: another operator, or a long transaction.",
        "Wait, or end the transaction that holds the lock: see pg_locks and pg_stat_activity.",
    ),
    Reason.FAILED: _wait(
        "An error that no other reason describes; the operator tries again.",
        "Read the message, and the operator's log: aether logs -n aether-system deploy/aether-operator.",
    ),
    Reason.RECONCILE_FAILED: _wait(
        "A reconcile of the object failed, by an error in the operator or of the API server. The rest of the status is "
        "from the last reconcile that succeeded.",
        "Read the message, and the operator's log: aether logs -n aether-system deploy/aether-operator. Running pods "
        "are not affected; nothing is repaired until a reconcile succeeds.",
    ),
    Reason.PROGRESS_DEADLINE_EXCEEDED: _user(
        "It did not become Ready within spec.progressDeadlineSeconds.",
        "Resolve what the message names; the operator then continues by itself.",
    ),
    Reason.INVALID_SPEC: _user(
        "The spec is invalid. It was not applied, and the last valid spec stays in force.",
        "Correct the fields that the message names, or revert the change.",
    ),
    Reason.UNKNOWN_PAIR: _user(
        "The venue does not have a market of spec.pairs. The other markets are ingested.",
        "Remove the pair from spec.pairs, or correct it.",
    ),
    Reason.NAME_TAKEN: _user(
        "An object that does not belong to it has the name of one of its children, and is left unchanged.",
        "Rename or delete that object, or give this one another name.",
    ),
    Reason.IMMUTABLE_FIELD: _user(
        "The spec requires a change of a field that Kubernetes does not allow to change.",
        "Do what the message says; the data are kept.",
    ),
    Reason.REQUEST_REJECTED: _user(
        "The API server rejected a request to create, update or delete an object.",
        "Read the message: it names a quota, an admission policy, or a StorageClass that cannot expand volumes.",
    ),
    Reason.DATABASE_OWNED_BY_ANOTHER: _user(
        "The database belongs to another platform, which the message names. Nothing in it was changed.",
        "Name a database of its own in the spec.",
    ),
    Reason.SERVER_OWNED_BY_ANOTHER: _user(
        "The Kafka, NATS or Redis belongs to another platform, which the message names. Nothing was written to it, and "
        "no pod of this platform that would write to it runs.",
        "Name a server of its own in the spec: two platforms on one server would mix their venues' data.",
    ),
    Reason.VENUE_MISMATCH: _user(
        "A server or the database holds data of another venue, written by a platform of this name.",
        "Delete the platform and apply it with the venue that the message names; or apply this one under another name "
        "with servers of its own.",
    ),
    Reason.VENUE_UNKNOWN: _user(
        "The database holds market data, and no record says of which venue.",
        "Record the venue of these data as the message says.",
    ),
    Reason.JETSTREAM_DISABLED: _user(
        "NATS runs without JetStream, so the operator cannot record on it which platform owns it.",
        "Enable JetStream in the server's configuration, as the message says.",
    ),
    Reason.OWNER_NOT_RECORDED: _user(
        "The record of a server's owner cannot be written or read: the login lacks a permission, or the server rejects "
        "the request. No pod that would write to the server is started.",
        "Grant the permission that the message names, run its command with a login that may, or change the server as "
        "it says.",
    ),
    Reason.SCHEMA_NEWER: _user(
        "A newer release created the schema in the database. Nothing in it was changed.",
        "Upgrade the operator, or use another database.",
    ),
    Reason.SCHEMA_DRIFTED: _user(
        "The schema was changed by hand in a way that cannot be repaired without losing data. Nothing was dropped.",
        "Revert the change to the objects that the message names.",
    ),
    Reason.EVALUATION_ONLY: _none(
        "A managed server is one node with one volume, without TLS: for evaluation, not for production."
    ),
    Reason.NATIVE_PARTITIONS: _none(
        "TimescaleDB is not installed: tables use native partitions, managed by pg_partman, without compression."
    ),
    Reason.RETENTION_HELD: Explanation(
        remedy=Remedy.NONE,
        meaning="A reduction of the retention would drop existing rows, and is held until it can be approved.",
        action="Set spec.retention back; or leave it, since no data are dropped.",
    ),
    Reason.SCHEMA_WARNING: Explanation(
        remedy=Remedy.NONE,
        meaning="Something in the database differs from its setup, without loss of data.",
        action="Check what the message names.",
    ),
    Reason.TOPICS_WARNING: Explanation(
        remedy=Remedy.NONE,
        meaning="A topic has a different number of partitions or fewer replicas than expected. It is used as it is.",
        action="Check what the message names. The operator never deletes topics or changes their partitions.",
    ),
    Reason.PAUSED_BY_SPEC: Explanation(
        remedy=Remedy.NONE, meaning="spec.paused is true: nothing is changed.", action="Set spec.paused to false."
    ),
    Reason.NOT_PAUSED: _none("spec.paused is false."),
    Reason.TERMINATING: _none("It is being deleted; the page of its kind says what is kept."),
}
"""Every reason explained."""

COMMON: Final = frozenset(
    {
        Reason.READY, Reason.PROGRESSING, Reason.FAILED, Reason.RECONCILE_FAILED, Reason.PROGRESS_DEADLINE_EXCEEDED,
        Reason.INVALID_SPEC, Reason.NAME_TAKEN, Reason.IMMUTABLE_FIELD, Reason.REQUEST_REJECTED, Reason.PAUSED_BY_SPEC,
        Reason.NOT_PAUSED, Reason.TERMINATING,
    }
)  # fmt: skip
"""The reasons that the reconcile itself reports, about an object of any kind."""
