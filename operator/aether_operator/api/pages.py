"""The generated reference pages of the custom resources, made from the table of kinds by `make docs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aether_operator.api import crds, models, reasons
from aether_operator.api.definitions import DEFINITIONS
from aether_operator.api.reasons import ConditionType, Reason, Remedy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aether_operator.api.definition import Definition, Definitions

_REMEDIES = {Remedy.NONE: "nobody needs to", Remedy.WAIT: "time, or somebody else", Remedy.USER: "you"}


def conditions(definitions: Definitions = DEFINITIONS) -> str:
    """The page of conditions and reasons."""
    reported = frozenset[Reason]().union(*(one.reasons for one in definitions.values()))
    listed = "\n".join(_reason(reason) for reason in Reason if reason in reported)
    example = next(iter(definitions.values()))
    explain = f"aether explain {example.short}/NAME"
    return f"""# Conditions and reasons

Written by `make docs` from `operator/aether_operator/api/reasons.py`. `{explain}` shows the same for one
{example.noun}.

## Conditions

`Ready`, `Reconciling` and `Stalled` exist from the first reconcile on, each with the generation that it describes.
Before that `status.observedGeneration` is -1, which tools that follow kstatus read as in progress. They also read
`Reconciling=True` as in progress and `Stalled=True` as failed; `Ready=True` without either is current.

{_condition_table(definitions)}

## Reasons

Who can resolve a problem decides how it is shown. What may still appear by itself or by somebody else's work, such as a
Secret or a server, is `Reconciling` until `spec.progressDeadlineSeconds` have passed, then `Stalled`; the operator
continues as soon as it appears. What only you can resolve is `Stalled` at once.

| reason | meaning | who resolves it | what to do |
|---|---|---|---|
{listed}
"""


def _condition_table(definitions: Definitions) -> str:
    """Each condition and what True means; with several kinds, one row for each meaning, and the kinds that have it."""
    meanings: dict[tuple[ConditionType, str], list[str]] = {}
    for kind in ConditionType:
        for definition in definitions.values():
            if (meaning := definition.all_conditions.get(kind)) is not None:
                meanings.setdefault((kind, meaning), []).append(f"`{definition.kind}`")
    several = len(definitions) > 1
    return "\n".join(
        [
            "| condition | kinds | is True when |" if several else "| condition | is True when |",
            "|---|---|---|" if several else "|---|---|",
            *(
                f"| `{kind.value}` | {', '.join(kinds)} | {meaning} |" if several else f"| `{kind.value}` | {meaning} |"
                for (kind, meaning), kinds in meanings.items()
            ),
        ]
    )


def _reason(reason: Reason) -> str:
    text = reasons.EXPLANATIONS[reason]
    return f"| `{reason.value}` | {text.meaning} | {_REMEDIES[text.remedy]} | {text.action} |"


def of(definition: Definition) -> str:
    """The page of a kind."""
    spec = "\n".join(_fields(crds.spec_schema(definition), "spec"))
    rules = [crds.root_rules(definition), *definition.rules.values()]
    checked = "\n".join(f"- {one['message']}" for found in rules for one in found)
    status = "\n".join(_status(crds.status_schema(definition), "status"))
    short, noun = definition.short, definition.noun
    return f"""# {definition.kind}

Written by `make docs` from the models in `operator/aether_operator/api`. `kubectl explain {short}.spec` shows the same.

`apiVersion: {models.API_VERSION}`, `kind: {definition.kind}`, short name `{short}`, category
`{models.CATEGORY}`, namespaced. Unknown fields are rejected by strict validation and by server-side apply.

## Spec

| field | type | default | description |
|---|---|---|---|
{spec}

## Rules

The API server checks these when an object is created or updated.

{checked}

## Status

| field | type | description |
|---|---|---|
{status}

## What is kept when {"an" if noun[0] in "aeiou" else "a"} {noun} is deleted

{definition.kept}
"""


def _fields(schema: dict[str, Any], path: str) -> Iterator[str]:
    required = set(schema.get("required", []))
    for name, part in schema["properties"].items():
        where = f"{path}.{name}"
        default = "required" if name in required else _default(part)
        yield f"| `{where}` | {_type(part)} | {default} | {part.get('description', '')} |"
        if "properties" in part:
            yield from _fields(part, where)


def _default(part: dict[str, Any]) -> str:
    value = part.get("default")
    if value is None or "properties" in part:  # an object's default is shown field by field
        return ""
    if isinstance(value, list):
        return ", ".join(f"`{one}`" for one in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _type(part: dict[str, Any]) -> str:
    if part.get("x-kubernetes-int-or-string"):
        return "quantity"
    if "enum" in part:
        return " or ".join(f"`{one}`" for one in part["enum"])
    if part["type"] == "array":
        return f"list of {part['items']['type']}, {part['minItems']} to {part['maxItems']}"
    least, most = part.get("minimum"), part.get("maximum")
    return f"{part['type']}, {least} to {most}" if least is not None else str(part["type"])


def _status(schema: dict[str, Any], path: str) -> Iterator[str]:
    for name, part in schema["properties"].items():
        where = f"{path}.{name}"
        yield f"| `{where}` | {part['type']} | {part.get('description', '')} |"
        if "properties" in part and name != "applied":
            yield from _status(part, where)
