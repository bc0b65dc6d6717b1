"""CustomResourceDefinitions made from the models: schema, CEL rules, defaults, printer columns. Values only."""

from __future__ import annotations

from typing import Any, Final

from aether_operator.api import models, platforms, rules

Schema = dict[str, Any]

_KEPT: Final = (
    "type", "description", "default", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength",
    "minItems", "maxItems", "items", "properties", "required", "additionalProperties",
)  # fmt: skip
_READY_PAIRS: Final = "Markets with a usable order book, of all in the spec in force"
_READY_PARTS: Final = "Servers, schema, topics, venue and ingest: those whose condition is True, of all"
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}


def _text(length: int, description: str = "", **rest: Any) -> Schema:
    return {"type": "string", "maxLength": length, **({"description": description} if description else {}), **rest}


def definition() -> dict[str, Any]:
    """The CustomResourceDefinition of TradingPlatform."""
    names = {
        "kind": platforms.KIND,
        "listKind": f"{platforms.KIND}List",
        "plural": platforms.PLURAL,
        "singular": platforms.KIND.lower(),
        "shortNames": [platforms.SHORT],
        "categories": [models.CATEGORY],
    }
    version = {
        "name": models.VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            _column("Venue", ".spec.venue.name", "The venue that the platform trades on"),
            _column("Pairs", ".status.readyPairs", _READY_PAIRS),
            _column("Ready", ".status.readyParts", _READY_PARTS),
            _column("State", ".status.state", "Ready, Reconciling, Stalled or Terminating"),
            _column("Reason", ".status.reason", "Why the platform is in this state"),
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
            {**_column("Message", ".status.message", "The state in one sentence"), "priority": 1},
        ],
        "schema": {"openAPIV3Schema": _object()},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{platforms.PLURAL}.{models.GROUP}"},
        "spec": {"group": models.GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def _column(name: str, path: str, description: str) -> dict[str, Any]:
    return {"name": name, "type": "string", "jsonPath": path, "description": description}


def _object() -> Schema:
    return {
        "type": "object",
        "description": platforms.__doc__.splitlines()[0] if platforms.__doc__ else "",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec_schema(),
            "status": status_schema(),
        },
        "x-kubernetes-validations": rules.ROOT,
    }


def spec_schema() -> Schema:
    """The OpenAPI schema of `spec`, with its CEL rules."""
    whole = platforms.PlatformSpec.model_json_schema(by_alias=True, mode="validation")
    schema = _structural(whole, whole.get("$defs", {}))
    for path, found in rules.RULES.items():
        at = schema
        for name in path:
            at = at["properties"][name]
        at["x-kubernetes-validations"] = found
    return schema


def _structural(part: Schema, named: dict[str, Schema]) -> Schema:
    """Convert a part of pydantic's JSON schema into a structural schema: resolve references, drop `null` and titles.

    The default of an object contains the defaults of its fields: CEL rules run before the API server fills them in.
    """
    if "$ref" in part:
        rest = {key: value for key, value in part.items() if key != "$ref"}
        part = {**named[part["$ref"].rpartition("/")[2]], **rest}
    if part.get("x-kubernetes-int-or-string"):
        return {key: value for key, value in part.items() if key != "title"}  # a quantity
    if "anyOf" in part:  # an optional field: a structural schema marks it by leaving it out of `required`
        (option,) = [one for one in part["anyOf"] if one.get("type") != "null"]
        kept = {key: value for key, value in part.items() if key not in {"anyOf", "default"}}
        return _structural({**option, **kept} if "description" in kept else option, named)
    found: Schema = {key: part[key] for key in _KEPT if part.get(key) is not None}
    if "description" in found:
        found["description"] = " ".join(found["description"].split())
    if "properties" in found:
        found["properties"] = {name: _structural(one, named) for name, one in part["properties"].items()}
        found.pop("additionalProperties", None)  # the API server prunes or rejects unknown fields itself
        if "default" in found:
            found["default"] = {name: one["default"] for name, one in found["properties"].items() if "default" in one}
    if isinstance(found.get("items"), dict):
        found["items"] = _structural(found["items"], named)
        # Lists are atomic: merged item by item, an applied list would keep the items of the default.
        found["x-kubernetes-list-type"] = "atomic"
    return found


def status_schema() -> Schema:
    """The OpenAPI schema of `status`: every field that the operator writes, and no other."""
    endpoint = {
        "type": "object",
        "properties": {
            "host": _text(253),
            "port": {"type": "integer", "format": "int32"},
            "database": _text(63),
            "secretName": _text(253, "The Secret with a login; PostgreSQL's login is read-only"),
        },
    }
    applied = _without_rules(spec_schema())
    applied["description"] = "The last valid spec, with its defaults: what the operator keeps applied"
    servers = [server.value for server in platforms.Server]
    days = {
        "type": "integer",
        "format": "int32",
        "description": "The retention in force, in days; a held reduction does not change it",
    }
    lines = {"type": "array", "maxItems": 32, "items": _text(1024), "x-kubernetes-list-type": "atomic"}
    condition = {
        "type": "object",
        "required": ["type", "status", "reason", "message", "lastTransitionTime"],
        "properties": {
            "type": _text(316),
            "status": _text(7, enum=["True", "False", "Unknown"]),
            "observedGeneration": {"type": "integer", "format": "int64"},
            "lastTransitionTime": _TIME,
            "reason": _text(1024),
            "message": _text(32768),
        },
    }
    return {
        "type": "object",
        "default": {"observedGeneration": -1},
        "description": "The state that the operator last observed",
        "properties": {
            "observedGeneration": {
                "type": "integer",
                "format": "int64",
                "description": "The generation of the spec that this status describes; -1 before the first reconcile",
            },
            "state": _text(32, "Ready, Reconciling, Stalled or Terminating"),
            "reason": _text(
                64, "Why the platform is in this state: one of the reasons in docs/reference/conditions.md"
            ),
            "message": _text(4096, "The state in one sentence"),
            "readyParts": _text(16, _READY_PARTS),
            "readyPairs": _text(16, _READY_PAIRS),
            "conditions": {
                "type": "array",
                "maxItems": 16,
                "items": condition,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            },
            "applied": applied,
            "endpoints": {
                "type": "object",
                "description": "Addresses of the servers, for people and programs",
                "properties": dict.fromkeys(servers, endpoint),
            },
            "servers": {
                "type": "object",
                "properties": {name: {"type": "object", "properties": {"version": _text(128)}} for name in servers},
            },
            "schema": {
                "type": "object",
                "description": "The state of the database schema",
                "properties": {
                    "revision": _text(64),
                    "engine": _text(32, "The extension that manages the partitions of time-series tables"),
                    **dict.fromkeys(("tradesDays", "booksDays", "tickersDays", "candlesDays"), days),
                    "held": {**lines, "description": "Retention reductions that would drop rows and wait for approval"},
                    "drift": {
                        **lines,
                        "description": "Differences from the expected schema, and whether they were repaired",
                    },
                },
            },
        },
    }


def _without_rules(schema: Schema) -> Schema:
    """The same schema without rules and defaults, for values that were validated already."""
    kept = {key: value for key, value in schema.items() if key not in {"x-kubernetes-validations", "default"}}
    if "properties" in kept:
        kept["properties"] = {name: _without_rules(one) for name, one in kept["properties"].items()}
    return kept
