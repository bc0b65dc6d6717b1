"""The reference pages about the kinds, made of models, rules and reasons. Values only; `make docs` writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aether_operator.api import crds, models, platforms, reasons, rules
from aether_operator.api.reasons import ConditionType, Reason, Remedy

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONDITIONS = {
    ConditionType.READY: "the platform is as its spec says: servers answer, the schema is there, market data arrive",
    ConditionType.RECONCILING: "something is under way or missing, and nobody may have to do anything",
    ConditionType.STALLED: "it waits for a person",
    ConditionType.POSTGRES_READY: "PostgreSQL runs, lets us in and has what is needed",
    ConditionType.KAFKA_READY: "the same of Kafka",
    ConditionType.NATS_READY: "the same of NATS",
    ConditionType.REDIS_READY: "the same of Redis",
    ConditionType.SCHEMA_READY: "the schema is at its newest revision, with its policies",
    ConditionType.TOPICS_READY: "Kafka has the topics that market data leave by, set up as they should be",
    ConditionType.VENUE_READY: "the simulated venue runs and answers; with a real one, market data come from it",
    ConditionType.INGEST_READY: "ingest follows the newest settings, every pair has a usable book, every output works",
    ConditionType.WARNING: "it works, and there is something that a person should know",
    ConditionType.PAUSED: "`spec.paused` is true",
}
_REMEDIES = {Remedy.NONE: "nobody needs to", Remedy.WAIT: "time, or others", Remedy.USER: "a person"}


def conditions() -> str:
    """The page of conditions and reasons."""
    rows = "\n".join(f"| `{kind.value}` | {_CONDITIONS[kind]} |" for kind in ConditionType)
    listed = "\n".join(_reason(reason) for reason in Reason)
    return f"""# Conditions and reasons

Written by `make docs` from `operator/aether_operator/api/reasons.py`. `aether explain tp/NAME` says the same of one
platform.

## Conditions

`Ready`, `Reconciling` and `Stalled` are there from the first look on, each with the generation that it tells of. Before
that `status.observedGeneration` is -1, which tools that follow kstatus read as: in progress. They read
`Reconciling=True` so, too, and `Stalled=True` as failed; `Ready=True` without either is current.

| condition | is True when |
|---|---|
{rows}

## Reasons

Who can mend it decides how it is shown. What time or others may still bring, such as a Secret or a server, is
`Reconciling` until `spec.progressDeadlineSeconds` have passed, then `Stalled`; it goes on by itself as soon as it is
there. What only a person can mend is `Stalled` at once.

| reason | means | who can mend it | what to do |
|---|---|---|---|
{listed}
"""


def _reason(reason: Reason) -> str:
    text = reasons.EXPLANATIONS[reason]
    return f"| `{reason.value}` | {text.meaning} | {_REMEDIES[text.remedy]} | {text.action} |"


def platform() -> str:
    """The page of TradingPlatform."""
    spec = "\n".join(_fields(crds.spec_schema(), "spec"))
    checked = "\n".join(f"- {one['message']}" for found in (rules.ROOT, *rules.RULES.values()) for one in found)
    status = "\n".join(_status(crds.status_schema(), "status"))
    return f"""# TradingPlatform

Written by `make docs` from the models in `operator/aether_operator/api`. `kubectl explain tp.spec` says the same.

`apiVersion: {models.API_VERSION}`, `kind: {platforms.KIND}`, short name `{platforms.SHORT}`, category
`{models.CATEGORY}`, namespaced. Fields that are not here are refused under strict validation and by server-side apply.

## Spec

| field | type | default | means |
|---|---|---|---|
{spec}

## Rules

Checked by the API server when an object is created or changed.

{checked}

## Status

| field | type | means |
|---|---|---|
{status}

## What outlives a platform

Volumes of managed servers, the Secrets with their credentials, and everything in a database stay when a platform is
deleted; a new platform of the same name finds them again. To remove them:
`kubectl delete pvc,secret -n NAMESPACE -l trading.aether.io/platform=NAME`.
"""


def _fields(schema: dict[str, Any], path: str) -> Iterator[str]:
    needed = set(schema.get("required", []))
    for name, part in schema["properties"].items():
        where = f"{path}.{name}"
        default = "needed" if name in needed else _default(part)
        yield f"| `{where}` | {_type(part)} | {default} | {part.get('description', '')} |"
        if "properties" in part:
            yield from _fields(part, where)


def _default(part: dict[str, Any]) -> str:
    value = part.get("default")
    if value is None or "properties" in part:  # those of an object are its fields'
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
