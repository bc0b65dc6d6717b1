"""The generated reference pages of the custom resources, made from models, rules and reasons by `make docs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aether_operator.api import crds, models, platforms, reasons, rules
from aether_operator.api.reasons import ConditionType, Reason, Remedy

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONDITIONS = {
    ConditionType.READY: "the platform matches its spec: servers answer, the schema is current, market data flow",
    ConditionType.RECONCILING: "work is in progress, or something is missing that may still appear without your help",
    ConditionType.STALLED: "a person has to act",
    ConditionType.POSTGRES_READY: "PostgreSQL runs, accepts the login and has the required extensions",
    ConditionType.KAFKA_READY: "Kafka runs and accepts the login",
    ConditionType.NATS_READY: "NATS runs, accepts the login and has JetStream",
    ConditionType.REDIS_READY: "Redis runs and accepts the login",
    ConditionType.SCHEMA_READY: "the database schema is at its newest revision, with its retention policies",
    ConditionType.TOPICS_READY: "Kafka has the topics of the market data, with the expected settings",
    ConditionType.VENUE_READY: "the simulated venue runs and answers; a real venue sends market data",
    ConditionType.INGEST_READY: "ingest follows the newest settings, every pair has a usable book, every output works",
    ConditionType.WARNING: "the platform works, and there is something that you should know",
    ConditionType.PAUSED: "`spec.paused` is true",
}
_REMEDIES = {Remedy.NONE: "nobody needs to", Remedy.WAIT: "time, or somebody else", Remedy.USER: "you"}


def conditions() -> str:
    """The page of conditions and reasons."""
    rows = "\n".join(f"| `{kind.value}` | {_CONDITIONS[kind]} |" for kind in ConditionType)
    listed = "\n".join(_reason(reason) for reason in Reason)
    return f"""# Conditions and reasons

Written by `make docs` from `operator/aether_operator/api/reasons.py`. `aether explain tp/NAME` shows the same for one
platform.

## Conditions

`Ready`, `Reconciling` and `Stalled` exist from the first reconcile on, each with the generation that it describes.
Before that `status.observedGeneration` is -1, which tools that follow kstatus read as in progress. They also read
`Reconciling=True` as in progress and `Stalled=True` as failed; `Ready=True` without either is current.

| condition | is True when |
|---|---|
{rows}

## Reasons

Who can resolve a problem decides how it is shown. What may still appear by itself or by somebody else's work, such as a
Secret or a server, is `Reconciling` until `spec.progressDeadlineSeconds` have passed, then `Stalled`; the operator
continues as soon as it appears. What only you can resolve is `Stalled` at once.

| reason | meaning | who resolves it | what to do |
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

Written by `make docs` from the models in `operator/aether_operator/api`. `kubectl explain tp.spec` shows the same.

`apiVersion: {models.API_VERSION}`, `kind: {platforms.KIND}`, short name `{platforms.SHORT}`, category
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

## What is kept when a platform is deleted

Volumes of managed servers, the Secrets with their credentials, and all data in a database stay when a platform is
deleted; a new platform of the same name uses them again. To remove them:
`kubectl delete pvc,secret -n NAMESPACE -l trading.aether.io/platform=NAME`.
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
