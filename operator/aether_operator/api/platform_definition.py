"""TradingPlatform's row in the table of kinds."""

from __future__ import annotations

from typing import Final

from aether_operator.api import platform_checks, platform_defaults, platform_rules, platforms, reasons
from aether_operator.api.definition import Column, Definition, Schema, text
from aether_operator.api.reasons import ConditionType, Reason

_READY_PAIRS: Final = "Markets with a usable order book, of all in the spec in force"
_SERVERS: Final = [server.value for server in platforms.Server]
_ENDPOINT: Final[Schema] = {
    "type": "object",
    "properties": {
        "host": text(253),
        "port": {"type": "integer", "format": "int32"},
        "database": text(63),
        "secretName": text(253, "The Secret with a login; PostgreSQL's login is read-only"),
    },
}
_DAYS: Final[Schema] = {
    "type": "integer",
    "format": "int32",
    "description": "The retention in force, in days; a held reduction does not change it",
}
_LINES: Final[Schema] = {"type": "array", "maxItems": 32, "items": text(1024), "x-kubernetes-list-type": "atomic"}
_CONDITIONS: Final = {
    ConditionType.READY: "the platform matches its spec: servers answer, the schema is current, market data flow",
    ConditionType.POSTGRES_READY: "PostgreSQL runs, accepts the login and has the required extensions",
    ConditionType.KAFKA_READY: "Kafka runs and accepts the login",
    ConditionType.NATS_READY: "NATS runs, accepts the login and has JetStream",
    ConditionType.REDIS_READY: "Redis runs and accepts the login",
    ConditionType.SCHEMA_READY: "the database schema is at its newest revision, with its retention policies",
    ConditionType.TOPICS_READY: "Kafka has the topics of the market data, with the expected settings",
    ConditionType.VENUE_READY: "the simulated venue runs and answers; a real venue sends market data",
    ConditionType.INGEST_READY: "ingest follows the newest settings, every pair has a usable book, every output works",
    ConditionType.WARNING: "the platform works, and there is something that you should know",
}
_PARTS: Final = [one.part for one in _CONDITIONS if one.part and one.part not in _SERVERS]
_READY_PARTS: Final = f"Servers, {', '.join(_PARTS[:-1])} and {_PARTS[-1]}: those whose condition is True, of all"
_STATUS: Final[dict[str, Schema]] = {
    "readyParts": text(16, _READY_PARTS),
    "readyPairs": text(16, _READY_PAIRS),
    "endpoints": {
        "type": "object",
        "description": "Addresses of the servers, for people and programs",
        "properties": dict.fromkeys(_SERVERS, _ENDPOINT),
    },
    "servers": {
        "type": "object",
        "properties": {name: {"type": "object", "properties": {"version": text(128)}} for name in _SERVERS},
    },
    "schema": {
        "type": "object",
        "description": "The state of the database schema",
        "properties": {
            "revision": text(64),
            "engine": text(32, "The extension that manages the partitions of time-series tables"),
            **dict.fromkeys(("tradesDays", "booksDays", "tickersDays", "candlesDays"), _DAYS),
            "held": {**_LINES, "description": "Retention reductions that would drop rows and wait for approval"},
            "drift": {
                **_LINES,
                "description": "Differences from the expected schema, and whether they were repaired",
            },
        },
    },
}
_REASONS: Final = frozenset(
    {
        # Of children and their pods.
        Reason.ROLLING_OUT, Reason.POD_FORBIDDEN, Reason.UNSCHEDULABLE, Reason.VOLUME_MISSING,
        # Of servers and their logins.
        Reason.SECRET_MISSING, Reason.SECRET_KEY_MISSING, Reason.UNREACHABLE, Reason.TLS_FAILED,
        Reason.AUTHENTICATION_FAILED, Reason.PERMISSION_DENIED, Reason.VERSION_UNSUPPORTED, Reason.JETSTREAM_DISABLED,
        Reason.SERVER_OWNED_BY_ANOTHER, Reason.OWNER_NOT_RECORDED, Reason.EVALUATION_ONLY, Reason.TOPICS_WARNING,
        # Of the database and its schema.
        Reason.DATABASE_MISSING, Reason.DATABASE_OWNED_BY_ANOTHER, Reason.TIMESCALE_MISSING, Reason.PARTMAN_MISSING,
        Reason.MIGRATING, Reason.WAITING_FOR_LOCK, Reason.SCHEMA_NEWER, Reason.SCHEMA_DRIFTED, Reason.SCHEMA_WARNING,
        Reason.NATIVE_PARTITIONS, Reason.RETENTION_HELD,
        # Of the venue and its market data.
        Reason.VENUE_MISMATCH, Reason.VENUE_UNKNOWN, Reason.UNKNOWN_PAIR, Reason.NO_EGRESS, Reason.BOOK_UNUSABLE,
        Reason.TRADES_INVALID, Reason.CHANNEL_SILENT, Reason.OUTPUT_FAILED,
    }
)  # fmt: skip
_KEPT: Final = """\
Volumes of managed servers, the Secrets with their credentials, and all data in a database stay when a platform is
deleted; a new platform of the same name uses them again. To remove them:
`kubectl delete pvc,secret -n NAMESPACE -l trading.aether.io/platform=NAME`."""

DEFINITION: Final = Definition(
    kind=platforms.KIND,
    plural=platforms.PLURAL,
    short=platforms.SHORT,
    noun="platform",
    description="TradingPlatform: the data plane, the market data pipeline and the venue that trading accounts and "
    "strategies use.",
    spec=platforms.PlatformSpec,
    status=_STATUS,
    columns=(
        Column(name="Venue", path=".spec.venue.name", description="The venue that the platform trades on"),
        Column(name="Pairs", path=".status.readyPairs", description=_READY_PAIRS),
        Column(name="Ready", path=".status.readyParts", description=_READY_PARTS),
    ),
    rules=platform_rules.RULES,
    conditions=_CONDITIONS,
    reasons=reasons.COMMON | _REASONS,
    kept=_KEPT,
    terminating="The platform is being deleted; volumes and credentials are kept",
    checks=platform_checks.problems,
    resolved=platform_defaults.resolved,
    max_name_length=platforms.MAX_NAME_LENGTH,
)
