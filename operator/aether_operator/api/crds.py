"""CustomResourceDefinitions made from the table of kinds: schema, CEL rules, defaults, printer columns. Values only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aether_operator.api import models
from aether_operator.api.definition import Column, Schema, rule, text
from aether_operator.api.definitions import DEFINITIONS

if TYPE_CHECKING:
    from aether_operator.api.definition import Definition, Definitions, Rule

_KEPT: Final = (
    "type", "description", "default", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength",
    "minItems", "maxItems", "items", "properties", "required", "additionalProperties",
)  # fmt: skip
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_STATE: Final = "Ready, Reconciling, Stalled or Terminating"
_MESSAGE: Final = "The state in one sentence"


def all_of(definitions: Definitions = DEFINITIONS) -> list[dict[str, Any]]:
    """The CustomResourceDefinition of every kind."""
    return [of(definition) for definition in definitions.values()]


def of(definition: Definition) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind."""
    names = {
        "kind": definition.kind,
        "listKind": f"{definition.kind}List",
        "plural": definition.plural,
        "singular": definition.kind.lower(),
        "shortNames": [definition.short],
        "categories": [models.CATEGORY],
    }
    version = {
        "name": models.VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [_column(one) for one in columns(definition)],
        "schema": {"openAPIV3Schema": _object(definition)},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": definition.resource},
        "spec": {"group": models.GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def columns(definition: Definition) -> tuple[Column, ...]:
    """The columns of `kubectl get`: those of the kind, then those that every kind has."""
    return (
        *definition.columns,
        Column(name="State", path=".status.state", description=_STATE),
        Column(name="Reason", path=".status.reason", description=f"Why the {definition.noun} is in this state"),
        Column(name="Age", path=".metadata.creationTimestamp", type="date"),
        Column(name="Message", path=".status.message", description=_MESSAGE, priority=1),
    )


def _column(one: Column) -> dict[str, Any]:
    optional = {"description": one.description, "priority": one.priority}
    return {
        "name": one.name,
        "type": one.type,
        "jsonPath": one.path,
        **{key: value for key, value in optional.items() if value},
    }


def _object(definition: Definition) -> Schema:
    return {
        "type": "object",
        "description": definition.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec_schema(definition),
            "status": status_schema(definition),
        },
        "x-kubernetes-validations": root_rules(definition),
    }


def root_rules(definition: Definition) -> list[Rule]:
    """The CEL rules of a whole object: those of its name, then those of the kind."""
    return [
        rule(
            f"self.metadata.name.size() <= {definition.max_name_length}",
            f"metadata.name: must be at most {definition.max_name_length} characters, since the names of its children "
            "contain it",
        ),
        rule(
            "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
            "metadata.name: lowercase letters, digits and hyphens, a letter first, since Services are named after it",
        ),
        *definition.root_rules,
    ]


def spec_schema(definition: Definition) -> Schema:
    """The OpenAPI schema of `spec`, with its CEL rules."""
    whole = definition.spec.model_json_schema(by_alias=True, mode="validation")
    schema = _structural(whole, whole.get("$defs", {}))
    for path, found in definition.rules.items():
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


def status_schema(definition: Definition) -> Schema:
    """The OpenAPI schema of `status`: every field that the operator writes, and no other."""
    applied = _without_rules(spec_schema(definition))
    applied["description"] = "The last valid spec, with its defaults: what the operator keeps applied"
    condition = {
        "type": "object",
        "required": ["type", "status", "reason", "message", "lastTransitionTime"],
        "properties": {
            "type": text(316),
            "status": text(7, enum=["True", "False", "Unknown"]),
            "observedGeneration": {"type": "integer", "format": "int64"},
            "lastTransitionTime": _TIME,
            "reason": text(1024),
            "message": text(32768),
        },
    }
    common = {
        "observedGeneration": {
            "type": "integer",
            "format": "int64",
            "description": "The generation of the spec that this status describes; -1 before the first reconcile",
        },
        "state": text(32, _STATE),
        "reason": text(
            64,
            f"Why the {definition.noun} is in this state: one of the reasons in docs/reference/conditions.md",
        ),
        "message": text(4096, _MESSAGE),
        "conditions": {
            "type": "array",
            "maxItems": 16,
            "items": condition,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
        "applied": applied,
    }
    return {
        "type": "object",
        "default": {"observedGeneration": -1},
        "description": "The state that the operator last observed",
        # The summary first: plain values, then lists and objects.
        "properties": dict(sorted((common | dict(definition.status)).items(), key=_is_composite)),
    }


def _is_composite(named: tuple[str, Schema]) -> bool:
    return named[1]["type"] in {"array", "object"}


def _without_rules(schema: Schema) -> Schema:
    """The same schema without rules and defaults, for values that were validated already."""
    kept = {key: value for key, value in schema.items() if key not in {"x-kubernetes-validations", "default"}}
    if "properties" in kept:
        kept["properties"] = {name: _without_rules(one) for name, one in kept["properties"].items()}
    return kept
