"""Invalid TradingPlatforms, each with one error and the field that its message must name; and valid ones."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aether_operator.api import models, platform_definition
from aether_operator.api.platforms import MAX_NAME_LENGTH, Server
from aether_testing.values import observations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aether_operator.api.definition import Definition

Spec = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidManifest:
    """A platform that the API server must reject.

    `field` is what the message must name. `before` is the stored spec, for edits where only the change is invalid.
    """

    id: str
    spec: Any
    field: str
    name: str = "paper"
    before: Spec | None = None


def an_object(definition: Definition, spec: Any, name: str) -> dict[str, Any]:
    """An object of one of our kinds as a user applies it."""
    return {"apiVersion": models.API_VERSION, "kind": definition.kind, "metadata": {"name": name}, "spec": spec}


def a_manifest(spec: Any, name: str = "paper") -> dict[str, Any]:
    """A platform as a user applies it."""
    return an_object(platform_definition.DEFINITION, spec, name)


def an_external(server: Server) -> Spec:
    """The complete spec of an External server."""
    found: Spec = copy.deepcopy(observations.EXTERNAL[server.value])
    return found


MANAGED: Final[Spec] = {"dataPlane": {server.value: {"managed": {"storage": "20Gi"}} for server in Server}}
"""Managed servers with more than the default storage, and a simulated venue."""
EXTERNAL: Final[Spec] = {"dataPlane": observations.EXTERNAL, "venue": {"name": "Kraken"}}


# Specs of servers.

_PARTS: Final[dict[str, tuple[Any, str]]] = {
    "is-a-text": ("Managed", ""),
    "has-an-unknown-field": ({"size": 1}, "size"),
    "mode-is-no-mode": ({"mode": "Cloud"}, "mode"),
    "mode-in-lower-case": ({"mode": "managed"}, "mode"),
    "mode-is-a-number": ({"mode": 1}, "mode"),
    "external-is-missing": ({"mode": "External"}, "external"),
    "managed-is-a-list": ({"managed": []}, "managed"),
    "managed-has-an-unknown-field": ({"managed": {"replicas": 3}}, "managed.replicas"),
    "storage-is-zero": ({"managed": {"storage": "0"}}, "managed.storage"),
    "storage-is-the-number-zero": ({"managed": {"storage": 0}}, "managed.storage"),
    "storage-is-negative": ({"managed": {"storage": "-1Gi"}}, "managed.storage"),
    "storage-is-a-negative-number": ({"managed": {"storage": -1}}, "managed.storage"),
    "storage-is-a-word": ({"managed": {"storage": "lots"}}, "managed.storage"),
    "storage-has-a-foreign-unit": ({"managed": {"storage": "10GB"}}, "managed.storage"),
    "storage-has-a-space": ({"managed": {"storage": "10 Gi"}}, "managed.storage"),
    "storage-is-a-list": ({"managed": {"storage": ["10Gi"]}}, "managed.storage"),
    "storage-is-too-long": ({"managed": {"storage": "1" * 21}}, "managed.storage"),
    "resources-are-a-text": ({"managed": {"resources": "small"}}, "managed.resources"),
    "resources-have-an-unknown-field": ({"managed": {"resources": {"claims": {}}}}, "managed.resources.claims"),
}
_RESOURCES: Final[dict[str, tuple[Any, str]]] = {
    **{
        f"{what}-{name}": ({what: {field: value}}, f"{what}.{field}")
        for what in ("requests", "limits")
        for name, field, value in (
            ("of-an-unknown-resource", "gpu", 1),
            ("cpu-is-true", "cpu", True),
            ("cpu-is-a-fraction", "cpu", 0.5),
            ("cpu-is-negative", "cpu", -1),
            ("cpu-is-a-word", "cpu", "half"),
            ("memory-has-a-foreign-unit", "memory", "1GB"),
            ("memory-is-negative", "memory", "-1Gi"),
            ("memory-is-an-object", "memory", {"Gi": 1}),
        )
    },
    "requests-more-cpu-than-its-limit": ({"requests": {"cpu": "1001m"}, "limits": {"cpu": 1}}, "requests.cpu"),
    "requests-more-memory-than-its-limit": (
        {"requests": {"memory": "1Gi"}, "limits": {"memory": "1G"}}, "requests.memory",
    ),
}  # fmt: skip
_ADDRESSES: Final[dict[str, tuple[str, Any]]] = {
    "host-is-empty": ("host", ""),
    "host-is-a-number": ("host", 7),
    "host-has-a-space": ("host", "a b"),
    "host-is-a-url": ("host", "https://db.example.org"),
    "host-ends-in-a-dot": ("host", "db.example.org."),
    "host-is-too-long": ("host", "a" * 254),
    "port-is-zero": ("port", 0),
    "port-is-too-large": ("port", 65536),
    "port-is-negative": ("port", -1),
    "port-is-a-text": ("port", "5432"),
    "port-is-a-fraction": ("port", 5432.5),
    "tls-is-no-choice": ("tls", "Maybe"),
    "tls-is-yaml-off": ("tls", False),
    "secret-is-empty": ("secretName", ""),
    "secret-has-capitals": ("secretName", "My-Secret"),
    "secret-has-an-underscore": ("secretName", "my_secret"),
    "secret-is-too-long": ("secretName", "a" * 254),
    "secret-is-an-object": ("secretName", {"name": "mine"}),
    "place-has-an-unknown-field": ("password", "canary"),
}
_DATABASES: Final[dict[str, Any]] = {
    "empty": "", "with-capitals": "Desk", "with-a-digit-first": "1desk", "with-a-space": "the desk", "a-number": 5,
    "too-long": "a" * 64,
}  # fmt: skip


def _of_server(server: Server) -> Iterator[InvalidManifest]:
    where = f"spec.dataPlane.{server.value}"

    def invalid(name: str, part: Any, field: str) -> InvalidManifest:
        path = f"{where}.{field}" if field else where
        return InvalidManifest(id=f"{server.value}-{name}", spec={"dataPlane": {server.value: part}}, field=path)

    for name, (part, field) in _PARTS.items():
        yield invalid(name, part, field)
    for name, (resources, field) in _RESOURCES.items():
        yield invalid(name, {"managed": {"resources": resources}}, f"managed.resources.{field}")
    complete = an_external(server)
    for name, (field, value) in _ADDRESSES.items():
        yield invalid(name, {**complete, "external": {**complete["external"], field: value}}, f"external.{field}")
    for field in sorted(complete["external"].keys() - {"tls"}):
        address = {key: value for key, value in complete["external"].items() if key != field}
        yield invalid(f"{field}-is-missing", {**complete, "external": address}, f"external.{field}")
    yield invalid("is-external-and-managed", {**complete, "managed": {}}, "managed")
    yield invalid("is-managed-and-external", {**complete, "mode": "Managed"}, "external")
    yield invalid("is-managed-by-default-and-external", {"external": complete["external"]}, "external")
    if server is not Server.POSTGRES:
        yield invalid("wants-timescale", {"timescale": "Required"}, "timescale")
        named = {**complete, "external": {**complete["external"], "database": "desk"}}
        yield invalid("names-a-database", named, "external.database")


def _of_postgres() -> Iterator[InvalidManifest]:
    complete = an_external(Server.POSTGRES)
    for name, value in _DATABASES.items():
        part = {**complete, "external": {**complete["external"], "database": value}}
        spec = {"dataPlane": {"postgres": part}}
        yield InvalidManifest(id=f"database-{name}", spec=spec, field="spec.dataPlane.postgres.external.database")
    for name, value in {"no-choice": "Maybe", "true": True}.items():
        spec = {"dataPlane": {"postgres": {"timescale": value}}}
        yield InvalidManifest(id=f"timescale-is-{name}", spec=spec, field="spec.dataPlane.postgres.timescale")


# Other specs.

_OTHERS: Final[dict[str, tuple[Any, str]]] = {
    "spec-is-a-text": ("paper", "spec"),
    "spec-is-a-list": ([1], "spec"),
    "spec-has-an-unknown-field": ({"deletionPolicy": "Delete"}, "spec.deletionPolicy"),
    "paused-is-a-text": ({"paused": "yes"}, "spec.paused"),
    "paused-is-a-number": ({"paused": 1}, "spec.paused"),
    "deadline-is-too-short": ({"progressDeadlineSeconds": 9}, "spec.progressDeadlineSeconds"),
    "deadline-is-too-long": ({"progressDeadlineSeconds": 86401}, "spec.progressDeadlineSeconds"),
    "deadline-is-a-text": ({"progressDeadlineSeconds": "300"}, "spec.progressDeadlineSeconds"),
    "deadline-is-a-fraction": ({"progressDeadlineSeconds": 10.5}, "spec.progressDeadlineSeconds"),
    "data-plane-is-a-list": ({"dataPlane": []}, "spec.dataPlane"),
    "data-plane-has-an-unknown-server": ({"dataPlane": {"mongodb": {}}}, "spec.dataPlane.mongodb"),
    "retention-is-a-number": ({"retention": 90}, "spec.retention"),
    "retention-has-an-unknown-field": ({"retention": {"quotesDays": 1}}, "spec.retention.quotesDays"),
    "days-are-none": ({"retention": {"tradesDays": 0}}, "spec.retention.tradesDays"),
    "days-are-too-many": ({"retention": {"tradesDays": 3651}}, "spec.retention.tradesDays"),
    "days-are-a-text": ({"retention": {"tradesDays": "30"}}, "spec.retention.tradesDays"),
    "days-are-a-fraction": ({"retention": {"tradesDays": 30.5}}, "spec.retention.tradesDays"),
}
_AT_KRAKEN: Final[Spec] = {"venue": {"name": "Kraken"}}
_COMPONENTS: Final[dict[str, tuple[Spec, str]]] = {
    "venue-is-a-text": ({"venue": "Kraken"}, "venue"),
    "venue-has-an-unknown-field": ({"venue": {"tier": 1}}, "venue.tier"),
    "venue-is-no-venue": ({"venue": {"name": "Binance"}}, "venue.name"),
    "feed-is-no-feed": ({"venue": {"feed": "Replay"}}, "venue.feed"),
    "feed-of-paper-is-live": ({"venue": {"feed": "Live"}}, "venue.feed"),
    "feed-of-a-real-venue-is-synthetic": ({"venue": {"name": "Kraken", "feed": "Synthetic"}}, "venue.feed"),
    "pairs-are-none": ({"pairs": []}, "pairs"),
    "pairs-are-a-text": ({"pairs": "BTC/USD"}, "pairs"),
    "pairs-are-too-many": ({"pairs": [f"A{number}/USD" for number in range(65)]}, "pairs"),
    "a-pair-is-there-twice": ({"pairs": ["BTC/USD", "ETH/USD", "BTC/USD"]}, "pairs"),
    "a-pair-is-in-lower-case": ({"pairs": ["BTC/USD", "eth/usd"]}, "pairs[1]"),
    "a-pair-is-of-another-currency": ({"pairs": ["BTC/EUR"]}, "pairs[0]"),
    "a-pair-is-too-long": ({"pairs": ["A" * 17 + "/USD"]}, "pairs[0]"),
    "a-pair-is-a-number": ({"pairs": [1]}, "pairs[0]"),
    "components-have-an-unknown-one": ({"components": {"oms": {}}}, "components.oms"),
    "replicas-are-none": ({"components": {"ingest": {"replicas": 0}}}, "components.ingest.replicas"),
    "replicas-are-too-many": ({"components": {"ingest": {"replicas": 9}}}, "components.ingest.replicas"),
    "replicas-are-a-text": ({"components": {"ingest": {"replicas": "2"}}}, "components.ingest.replicas"),
    "ingest-has-an-unknown-field": ({"components": {"ingest": {"image": "x"}}}, "components.ingest.image"),
    "a-simulated-venue-at-a-real-one": ({**_AT_KRAKEN, "components": {"exchangeSim": {}}}, "components.exchangeSim"),
    "an-empty-journal": ({"components": {"exchangeSim": {"storage": "0"}}}, "components.exchangeSim.storage"),
    "speed-is-zero": ({"components": {"exchangeSim": {"speed": 0}}}, "components.exchangeSim.speed"),
    "speed-is-too-much": ({"components": {"exchangeSim": {"speed": 11}}}, "components.exchangeSim.speed"),
    "speed-is-a-fraction": ({"components": {"exchangeSim": {"speed": 1.5}}}, "components.exchangeSim.speed"),
    **{
        f"{component}-{name}": (
            {"components": {component: {"resources": resources}}},
            f"components.{component}.resources.{field}",
        )
        for component in ("ingest", "exchangeSim")
        for name, (resources, field) in _RESOURCES.items()
    },
}
_NAMES: Final[dict[str, str]] = {
    "too-long": "a" * (MAX_NAME_LENGTH + 1), "with-capitals": "Paper", "with-a-digit-first": "1paper",
    "with-a-dot": "paper.eu", "with-a-dash-last": "paper-", "with-a-dash-first": "-paper",
    "with-an-underscore": "pa_per", "with-a-space": "pa per",
}  # fmt: skip

INVALID: Final[tuple[InvalidManifest, ...]] = (
    *(one for server in Server for one in _of_server(server)),
    *_of_postgres(),
    *(InvalidManifest(id=name, spec=spec, field=field) for name, (spec, field) in _OTHERS.items()),
    *(InvalidManifest(id=name, spec=spec, field=f"spec.{field}") for name, (spec, field) in _COMPONENTS.items()),
    *(InvalidManifest(id=f"name-{name}", spec={}, field="metadata.name", name=value) for name, value in _NAMES.items()),
)
"""Invalid specs, on creation and on update."""


def _edits(server: Server) -> Iterator[InvalidManifest]:
    def invalid(name: str, before: Spec, part: Spec, field: str) -> InvalidManifest:
        # A merge patch: null removes a field.
        spec = {"dataPlane": {server.value: part}}
        path = f"spec.dataPlane.{server.value}.{field}"
        return InvalidManifest(id=f"{server.value}-{name}", spec=spec, field=path, before=before)

    yield invalid("moves-out", MANAGED, {**an_external(server), "managed": None}, "mode")
    yield invalid("moves-in", EXTERNAL, {"mode": "Managed", "external": None}, "mode")
    yield invalid("moves-in-by-default", EXTERNAL, {"mode": None, "external": None}, "mode")


INVALID_EDITS: Final[tuple[InvalidManifest, ...]] = (
    *(one for server in Server for one in _edits(server)),
    InvalidManifest(id="paper-becomes-real", spec=_AT_KRAKEN, field="spec.venue.name", before=MANAGED),
    InvalidManifest(
        id="real-becomes-paper", spec={"venue": {"name": "Simulated"}}, field="spec.venue.name", before=EXTERNAL
    ),
    InvalidManifest(id="real-becomes-paper-by-default", spec={"venue": None}, field="spec.venue.name", before=EXTERNAL),
)
"""Invalid updates, as merge patches."""


VALID: Final[dict[str, Spec]] = {
    "empty": {},
    "external": {"dataPlane": observations.EXTERNAL},
    "a-number-of-cores": {"dataPlane": {"kafka": {"managed": {"resources": {"requests": {"cpu": 1}}}}}},
    "a-number-of-bytes": {"dataPlane": {"redis": {"managed": {"storage": 1073741824}}}},
    "fractions": {"dataPlane": {"nats": {"managed": {"storage": "1.5Gi", "resources": {"limits": {"cpu": "0.5"}}}}}},
    "as-much-as-the-limit": {
        "dataPlane": {"nats": {"managed": {"resources": {"requests": {"cpu": "1000m"}, "limits": {"cpu": 1}}}}}
    },
    "an-address": {
        "dataPlane": {
            "redis": {
                "mode": "External",
                "external": {"host": "2001:db8::1", "port": 65535, "tls": "Disabled", "secretName": "a.b"},
            }
        }
    },
    "half-empty-parts": {"dataPlane": {"postgres": {"timescale": "Required"}, "kafka": {"managed": {}}}},
    "a-real-venue": {"venue": {"name": "Kraken", "feed": "Live"}, "pairs": ["BTC/USD"]},
    "a-simulated-venue": {"venue": {"feed": "Synthetic"}, "components": {"exchangeSim": {"speed": 10}}},
    "as-many-as-may-be": {
        "pairs": [f"{'A' * 14}{number}/USD" for number in range(10, 74)],
        "components": {"ingest": {"replicas": 8, "resources": {"limits": {"memory": "1Gi"}}}},
    },
    "paused": {"paused": True, "progressDeadlineSeconds": 10, "retention": {"tradesDays": 3650}},
}
"""Valid specs."""
