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
    WARNING = "Warning"
    PAUSED = "Paused"


class Remedy(Enum):
    """Who can mend it, which decides how it is shown while it lasts."""

    NOBODY = "nothing is wrong"
    TIME = "it is under way, or others may still bring what is missing: Reconciling until the deadline, then Stalled"
    EDIT = "only an edit, or a person's act, can mend it: Stalled at once"


class Reason(StrEnum):
    """A condition's reason."""

    # Nothing is wrong.
    READY = "Ready"
    # Others may still bring it, or it is under way.
    PROGRESSING = "Progressing"
    ROLLING_OUT = "RollingOut"
    SECRET_MISSING = "SecretMissing"
    SECRET_KEY_MISSING = "SecretKeyMissing"
    UNREACHABLE = "Unreachable"
    TLS_FAILED = "TlsFailed"
    LOGIN_REFUSED = "LoginRefused"
    RIGHT_MISSING = "RightMissing"
    DATABASE_MISSING = "DatabaseMissing"
    TIMESCALE_MISSING = "TimescaleMissing"
    PARTMAN_MISSING = "PartmanMissing"
    VERSION_UNSUPPORTED = "VersionUnsupported"
    JETSTREAM_OFF = "JetStreamOff"
    MIGRATING = "Migrating"
    LOCKED = "Locked"
    FAILED = "Failed"
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
    # Only an edit or a person's act can mend it.
    INVALID_SPEC = "InvalidSpec"
    NAME_TAKEN = "NameTaken"
    IMMUTABLE_FIELD = "ImmutableField"
    REFUSED = "Refused"
    DATABASE_OWNED_BY_ANOTHER = "DatabaseOwnedByAnother"
    SCHEMA_NEWER = "SchemaNewer"
    DRIFTED = "Drifted"
    # Warnings: it works, and a person should know.
    EVALUATION_ONLY = "EvaluationOnly"
    NATIVE_PARTITIONS = "NativePartitions"
    RETENTION_HELD = "RetentionHeld"
    # Paused.
    PAUSED_BY_SPEC = "PausedBySpec"
    NOT_PAUSED = "NotPaused"
    TERMINATING = "Terminating"


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A reason in words: what it means, and what to do, one sentence each."""

    remedy: Remedy
    meaning: str
    act: str = ""


# Filled by hand; a test asks that every Reason has its row and that the page has every row.
TEXTS: Final[dict[Reason, Text]] = {}
