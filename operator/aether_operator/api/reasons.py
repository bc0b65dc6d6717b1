"""Why a platform is as it is: every reason, what it means, what a person does. Values only.

The source of docs/reference/conditions and of `aether explain`; a test compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final


class ConditionType(StrEnum):
    """The conditions of a platform; the first three are there always, as kstatus reads them."""

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


class Remedy(Enum):
    """Who can mend it, which decides how it is shown while it lasts."""

    NONE = "nothing is wrong"
    WAIT = "it is under way, or others may still bring what is missing: Reconciling until the deadline, then Stalled"
    USER = "only an edit, or a person's act, can mend it: Stalled at once"


class Reason(StrEnum):
    """A condition's reason."""

    # Nothing is wrong.
    READY = "Ready"
    # Others may still bring it, or it is under way.
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
    # Only an edit or a person's act can mend it.
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
    # Warnings: it works, and a person should know.
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
    """A reason in words: what it means, and what to do, one sentence each."""

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
    Reason.READY: _none("It is as it should be."),
    Reason.PROGRESSING: _wait(
        "Something that it depends on is not there yet.", "Wait; the other conditions say for what."
    ),
    Reason.ROLLING_OUT: _wait(
        "A pod of a server or of a room is being started or replaced.",
        "Wait; if the message names a pod that does not start, look at it: kubectl describe pod.",
    ),
    Reason.POD_FORBIDDEN: _wait(
        "A pod cannot be made, since the cluster forbids it: by a ResourceQuota, a LimitRange, the namespace's Pod "
        "Security level, or another rule.",
        "Change what the message names, or ask for less in the spec; the command in the message shows it. It is tried "
        "again by itself, after some minutes at the latest.",
    ),
    Reason.UNSCHEDULABLE: _wait(
        "No node takes a pod: the message says what they lack.",
        "Make room on a node or add one, or ask for less in the spec; the command in the message shows the pod.",
    ),
    Reason.VOLUME_MISSING: _wait(
        "A claim has no volume, so the pod that needs it does not start.",
        "Mark a StorageClass as the default one, or make a volume that fits the claim; the command in the message "
        "shows what there is.",
    ),
    Reason.SECRET_MISSING: _wait(
        "A Secret that the spec names does not exist in this namespace.", "Create the Secret, or name another."
    ),
    Reason.SECRET_KEY_MISSING: _wait(
        "A Secret that the spec names lacks a key, or the key is empty.", "Add the key to the Secret."
    ),
    Reason.UNREACHABLE: _wait(
        "Nobody answers at the address: the name is unknown, the port is closed, or the way is.",
        "Check host, port and network policies, and that the server, the room or the venue runs.",
    ),
    Reason.TLS_FAILED: _wait(
        "The server answers, and no protected connection comes about: its certificate is not trusted, or it has none.",
        "Put the authority's certificate into the key ca.crt of the Secret, or mend the server's certificate.",
    ),
    Reason.AUTHENTICATION_FAILED: _wait(
        "The server does not accept the username and password of the Secret.",
        "Correct the Secret or the server's login.",
    ),
    Reason.PERMISSION_DENIED: _wait(
        "The login lacks a right that the platform needs.", "Grant the right that the message names."
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
        "The server, an extension in it, or a room speaks a version that is not supported.",
        "Upgrade what the message names: the server, or Aether, whose operator and rooms are of one release.",
    ),
    Reason.NO_EGRESS: _wait(
        "Market data come from a real venue, and nothing was ever heard of it: the cluster has no way out to it.",
        "Let ingest's pods reach the internet on port 443 (a local cluster: aether up --egress), or use a platform "
        "with venue Simulated.",
    ),
    Reason.BOOK_UNUSABLE: _wait(
        "A market that the spec names has no book that is proved by the venue's checksum.",
        "Wait, if it lasts seconds: it is asked for anew. If it lasts, read the log of ingest's pods.",
    ),
    Reason.TRADES_INVALID: _wait(
        "The venue tells a trade of a market, or the market itself, in a form that is not understood or cannot be (a "
        "time ahead of the clock, more decimals than the market has). No trade after it is handed on.",
        "Look at the clock of ingest's node, if it is a time. Otherwise wait: the venue is asked again and again.",
    ),
    Reason.CHANNEL_SILENT: _wait(
        "The venue acknowledged a channel of a market and leaves out of it what happens there, as the market's other "
        "channels or the venue's REST prove.",
        "Wait: it is subscribed to anew, and trades are asked for over REST meanwhile. If it lasts, ask the venue.",
    ),
    Reason.OUTPUT_FAILED: _wait(
        "Market data do not arrive where they should. They are kept meanwhile, and asked for again: no trade is lost.",
        "Mend what the message names: the broker, the database, or the login for it.",
    ),
    Reason.MIGRATING: _wait("The schema is being brought to its newest revision.", "Wait."),
    Reason.WAITING_FOR_LOCK: _wait(
        "Somebody else holds a lock that the next step needs: another operator, or a long transaction.",
        "Wait, or end the transaction that holds it: see pg_locks and pg_stat_activity.",
    ),
    Reason.FAILED: _wait(
        "Something went wrong that is none of the other reasons; it is tried again.",
        "Read the message, and the operator's log: aether logs -n aether-system deploy/aether-operator.",
    ),
    Reason.RECONCILE_FAILED: _wait(
        "The operator could not finish its look at the object: a fault of its own, or the API server refused "
        "something. The rest of the status is of the last look that it finished.",
        "Read the message, and the operator's log: aether logs -n aether-system deploy/aether-operator. What runs goes "
        "on; nothing is repaired meanwhile.",
    ),
    Reason.PROGRESS_DEADLINE_EXCEEDED: _user(
        "What is missing was not brought within spec.progressDeadlineSeconds.",
        "Bring what the message names; it then goes on by itself.",
    ),
    Reason.INVALID_SPEC: _user(
        "The spec cannot be made true. Nothing was changed, and the last good spec is still kept true.",
        "Correct the fields that the message names, or go back to the spec before.",
    ),
    Reason.UNKNOWN_PAIR: _user(
        "The venue does not have a market that spec.pairs names. The others are served.",
        "Take the pair out of spec.pairs, or correct it.",
    ),
    Reason.NAME_TAKEN: _user(
        "An object that is not the operator's has the name of one that it needs, and is left alone.",
        "Rename or delete that object, or give the platform another name.",
    ),
    Reason.IMMUTABLE_FIELD: _user(
        "A field of an object would have to change that Kubernetes never changes.",
        "Do what the message says; data stays where it is.",
    ),
    Reason.REQUEST_REJECTED: _user(
        "The API server refused to make an object as it should be.",
        "Read the message: a quota, a policy of the cluster, or a StorageClass that cannot do it.",
    ),
    Reason.DATABASE_OWNED_BY_ANOTHER: _user(
        "The database belongs to another platform, which the message names. Nothing in it was changed.",
        "Name a database of its own in the spec.",
    ),
    Reason.SERVER_OWNED_BY_ANOTHER: _user(
        "The Kafka, NATS or Redis belongs to another platform, which the message names. Nothing was written to it, and "
        "nothing of this platform runs that would.",
        "Name a server of its own in the spec: two platforms on one would mix their venues' data.",
    ),
    Reason.VENUE_MISMATCH: _user(
        "A server or the database holds data of another venue, which a platform of this name wrote there.",
        "Delete the platform and apply it with the venue that the message names; or apply this one under another name "
        "with servers of its own.",
    ),
    Reason.VENUE_UNKNOWN: _user(
        "The database holds market data, and nothing says of which venue they are.",
        "Have somebody who knows it write the venue of these data down, as the message says.",
    ),
    Reason.JETSTREAM_DISABLED: _user(
        "NATS runs without JetStream, and without it cannot keep whose it is.",
        "Switch JetStream on in the server's configuration, as the message says.",
    ),
    Reason.OWNER_NOT_RECORDED: _user(
        "Whose the server is cannot be written down on it, or not be read: the login lacks a right, or the server "
        "refuses. Nothing is started that would write to it.",
        "Give the right that the message names, run the command that it has with a login that may, or change on the "
        "server what it says.",
    ),
    Reason.SCHEMA_NEWER: _user(
        "The schema in the database was made by a newer release. Nothing in it was changed.",
        "Upgrade the operator, or use another database.",
    ),
    Reason.SCHEMA_DRIFTED: _user(
        "Somebody changed the schema in a way that cannot be mended without loss. Nothing was dropped.",
        "Undo the change to the objects that the message names.",
    ),
    Reason.EVALUATION_ONLY: _none(
        "A managed server is one node with one volume, in the clear: for evaluation and not for production."
    ),
    Reason.NATIVE_PARTITIONS: _none(
        "There is no TimescaleDB: tables are native partitions kept by pg_partman, without compression."
    ),
    Reason.RETENTION_HELD: Explanation(
        remedy=Remedy.NONE,
        meaning="A shorter retention would drop rows that are there, and is held until somebody may approve it.",
        action="Set spec.retention back; or leave it, since what is there is kept.",
    ),
    Reason.SCHEMA_WARNING: Explanation(
        remedy=Remedy.NONE,
        meaning="Something in the database is not as it was set up, and nothing is lost by it.",
        action="Look at what the message names.",
    ),
    Reason.TOPICS_WARNING: Explanation(
        remedy=Remedy.NONE,
        meaning="A topic has other partitions than it would be made with, or fewer copies. It is used as it is.",
        action="Look at what the message names. Topics are never deleted, and their partitions never changed.",
    ),
    Reason.PAUSED_BY_SPEC: Explanation(
        remedy=Remedy.NONE, meaning="spec.paused is true: nothing is changed.", action="Set spec.paused to false."
    ),
    Reason.NOT_PAUSED: _none("spec.paused is false."),
    Reason.TERMINATING: _none("It is being deleted. Volumes, credentials and databases stay."),
}
"""Every reason in words; a test asks that each has its row here and on the page."""
