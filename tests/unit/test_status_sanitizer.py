"""The API server accepts every status: generated specs and observed states, against the schema of the CRD."""

from __future__ import annotations

import copy
import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aether_operator import status
from aether_operator.api import crds, parsing, platform_definition
from aether_operator.api.platform_definition import DEFINITION
from aether_operator.api.platforms import (
    FEEDS,
    Mode,
    Platform,
    Server,
    VenueName,
    component_field,
    component_models,
)
from aether_operator.api.reasons import Reason
from aether_operator.api.resources import Resource
from aether_operator.observed.kinds import Ref
from aether_operator.observed.observation import Blocker
from aether_operator.observed.platforms import ObservedPlatform
from aether_operator.observed.reports import Drift, SchemaReport, ServerReport
from aether_operator.status import platforms as platform_status
from aether_operator.status import sanitizer
from aether_testing.values import observations, structural

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
NEVER: Final = {"observedGeneration": -1}
SPEC: Final = crds.spec_schema(platform_definition.DEFINITION)
STATUS: Final = crds.status_schema(platform_definition.DEFINITION)
EXPLANATIONS: Final = st.text(st.characters(codec=None, exclude_categories=()), max_size=40).map(lambda one: one * 40)
"""Any characters, with surrogates, and too many of them."""


def consistent(spec: dict[str, Any]) -> dict[str, Any]:
    """A spec without contradictions between fields."""
    plane = spec.get("dataPlane") or {}
    for server in Server:
        part = plane.get(server.value)
        if part is None:
            continue
        if part.get("mode") == Mode.EXTERNAL and part.get("external") is not None:
            part.pop("managed", None)
        else:
            part.pop("external", None)
            part.pop("mode", None)
    if spec.get("pairs"):
        spec["pairs"] = list(dict.fromkeys(spec["pairs"]))
    components = spec.get("components") or {}
    if spec.get("venue"):
        spec["venue"]["feed"] = FEEDS[VenueName(spec["venue"].get("name") or VenueName.SIMULATED)]
        if spec["venue"].get("name") == VenueName.KRAKEN:
            components.pop("exchangeSim", None)
    stored = [(plane.get(server.value) or {}).get("managed") for server in Server]
    for one in (*stored, components.get("exchangeSim"), components.get("ingest")):
        if one and one.get("resources"):
            one["resources"].pop("requests", None)
        if one and one.get("storage") is not None:
            one["storage"] = "1Gi"
    return spec


def stored_platform(spec: dict[str, Any]) -> dict[str, Any]:
    """A platform as the API server stores it."""
    meta = {
        "name": "paper",
        "namespace": "desk",
        "uid": "u",
        "generation": 3,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    return {"metadata": meta, "spec": structural.admit(spec, SPEC), "status": NEVER}


def status_of(
    raw: dict[str, Any], change: Any = lambda observed: observed, build: Any = observations.healthy
) -> dict[str, Any]:
    """The status of a platform with this spec, healthy but for one change."""
    read = parsing.parse(DEFINITION, raw)
    newest = read if isinstance(read, Resource) else None
    inputs: platform_status.PlatformInput = status.StatusInput(
        generation=3,
        paused=raw["spec"].get("paused") is True,
        in_force=newest,
        newest=newest,
        problems=() if isinstance(read, Resource) else read.problems,
        observed=change(build(newest)) if newest else ObservedPlatform(children={}),
        previous=raw["status"],
    )
    return platform_status.compute_status(inputs, now=NOW)


def schema_errors(result: dict[str, Any]) -> list[str]:
    return list(structural.problems(result, STATUS, "status"))


def has_empty_parts(result: Any) -> bool:
    """Whether it contains an empty object or a null."""
    if isinstance(result, dict):
        return not result or any(map(has_empty_parts, result.values()))
    return result is None or (isinstance(result, list) and any(map(has_empty_parts, result)))


SPECS: Final = structural.values(SPEC)


@settings(max_examples=50)
@given(before=SPECS.map(consistent), after=SPECS.map(consistent) | SPECS)
def test_api_server_accepts_the_status_of_any_spec_change(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert isinstance(parsing.parse(DEFINITION, stored_platform(before)), Resource), (
        "of the specs enough are understood"
    )
    first, second = status_of(stored_platform(before)), status_of(stored_platform(after))
    stored = structural.apply(structural.apply(NEVER, {}, first), first, second)
    assert schema_errors(stored) == []
    assert stored == second
    assert not has_empty_parts(second)


@settings(max_examples=50)
@given(
    texts=st.lists(EXPLANATIONS, min_size=5, max_size=5),
    days=st.integers(min_value=-(1 << 70), max_value=1 << 70),
    many=st.integers(min_value=0, max_value=40),
    reason=st.sampled_from(Reason),
)
def test_api_server_accepts_the_status_of_any_server_message(
    texts: list[str], days: int, many: int, reason: Reason
) -> None:
    message, version, revision, name, what = texts

    def change(observed: ObservedPlatform) -> ObservedPlatform:
        schema = SchemaReport(
            reason=reason,
            message=message,
            revision=revision,
            days={"trades": days},
            held=tuple(f"{number} {what}" for number in range(many)),
            drift=tuple(Drift(name=f"{number} {name}", what=what, repaired=False) for number in range(many)),
            warnings=(what,) * many,
        )
        servers = {one: ServerReport(server=one, reason=reason, message=message, version=version) for one in Server}
        blockers = (Blocker(ref=Ref("Service", "paper-old"), reason=Reason.REQUEST_REJECTED, message=what),)
        return dataclasses.replace(observed, schema=schema, servers=servers, blockers=blockers)

    raw = stored_platform({})
    result = status_of(raw, change)
    assert schema_errors(result) == []
    assert not has_empty_parts(result)
    assert status_of({**raw, "status": result}, change) == result, "it would be written again and again"
    failed = status.compute_failed_status(DEFINITION, {**raw, "status": result}, message, now=NOW)
    assert schema_errors(result | failed) == []
    assert "observedGeneration" not in failed
    assert (
        schema_errors(status.compute_terminating_status(DEFINITION, {**raw, "status": result}, "deleted", now=NOW))
        == []
    )


RESOURCES: Final = {part: {"cpu": "2", "memory": "1Gi"} for part in ("requests", "limits")}
STORED: Final = {"storage": "20Gi", "resources": RESOURCES}
PLACE: Final = {"host": "there", "port": 7, "tls": "Disabled", "secretName": "login"}
WHOLE: Final = (
    {
        "paused": False,
        "progressDeadlineSeconds": 60,
        "venue": {"name": "Simulated", "feed": "Synthetic"},
        "pairs": ["BTC/USD", "ETH/USD"],
        "retention": {"tradesDays": 9, "booksDays": 8, "tickersDays": 7, "candlesDays": 60},
        "dataPlane": {
            "postgres": {"mode": "Managed", "timescale": "Preferred", "managed": STORED},
            **{one: {"mode": "Managed", "managed": STORED} for one in ("kafka", "nats", "redis")},
        },
        "components": {
            **{
                component_field(name): {**model().model_dump(mode="json", by_alias=True), "resources": RESOURCES}
                for name, model in component_models().items()
            },
            "ingest": {"replicas": 2, "resources": RESOURCES},
            "exchangeSim": {**STORED, "speed": 3},
        },
    },
    {
        "dataPlane": {
            "postgres": {"mode": "External", "external": {**PLACE, "database": "desk"}},
            **{one: {"mode": "External", "external": PLACE} for one in ("kafka", "nats", "redis")},
        },
    },
)
"""Specs that together have every field."""


def paths(value: Any) -> set[tuple[str, ...]]:
    """The paths of a spec, or of the properties of a schema."""
    parts = value.items() if isinstance(value, dict) else ()
    return {(key, *rest) for key, one in parts for rest in [(), *paths(one)]}


def properties(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: properties(one) for key, one in schema.get("properties", {}).items()}


def variants(spec: dict[str, Any], path: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Specs with one field left out, null, zero and empty."""
    stand_ins: tuple[Any, ...] = (spec, None, 0, False, "", {}, [])
    for instead in stand_ins:
        changed = copy.deepcopy(spec)
        at = changed
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = instead
        if instead is spec:
            del at[path[-1]]
        if not list(structural.problems(structural.admit(changed, SPEC), SPEC, "spec")):
            yield changed


def no_children(_: Platform) -> ObservedPlatform:
    return ObservedPlatform(children={})


def test_any_field_may_be_missing_null_zero_or_empty() -> None:
    assert set().union(*map(paths, WHOLE)) == paths(properties(SPEC)), "no field is forgotten"
    tried = set()
    for spec in WHOLE:
        first = status_of(stored_platform(spec), build=no_children)
        assert isinstance(parsing.parse(DEFINITION, stored_platform(spec)), Resource)
        for path in paths(spec):
            for changed in variants(spec, path):
                second = status_of(stored_platform(changed), build=no_children)
                stored = structural.apply(structural.apply(NEVER, {}, first), first, second)
                assert schema_errors(stored) == [], path
                assert stored == second
                assert not has_empty_parts(second)
                tried.add(path)
    assert {path for path in paths(properties(SPEC)) - tried if path[-2:-1] != ("external",)} == set()


def test_removed_limits_are_omitted_and_no_null_is_left() -> None:
    """A patch that once blocked all status writes: `{"limits": null}` over existing limits."""

    def of(limits: Any) -> dict[str, Any]:
        managed = {"resources": {"requests": {"cpu": "100m"}, "limits": limits}}
        return stored_platform({"dataPlane": {"redis": {"managed": managed}}})

    first, second = status_of(of({"memory": "1Gi"})), status_of(of(None))
    stored = structural.apply(first, first, second)
    assert schema_errors(stored) == []
    assert stored["applied"]["dataPlane"]["redis"]["managed"]["resources"] == {"requests": {"cpu": "100m"}}
    naive = structural.apply({"limits": {"memory": "1Gi"}}, {"limits": {"memory": "1Gi"}}, {"limits": {}})
    assert naive == {"limits": None}, "what an API server stores"


CONDITION: Final = {
    "type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2026-01-01T12:00:00Z",
}  # fmt: skip


@pytest.mark.parametrize(
    ("result", "left"),
    [
        ({"state": None, "message": ""}, {"message": ""}),
        ({"state": 7, "unknown": 1}, {}),
        ({"schema": {"tradesDays": 1 << 31, "booksDays": True}}, {}),
        ({"schema": {"tradesDays": (1 << 31) - 1, "held": []}}, {"schema": {"tradesDays": (1 << 31) - 1}}),
        ({"servers": {"nats": {"version": "x" * 129}}}, {"servers": {"nats": {"version": "x" * 127 + "…"}}}),
        ({"schema": {"held": ["x"] * 40}}, {"schema": {"held": ["x"] * 32}}),
        ({"message": "half \ud83d"}, {"message": "half ?"}),
        ({"applied": {"pairs": ["BTC/USD", "btc", None, "ETH/USD\n"]}}, {"applied": {"pairs": ["BTC/USD"]}}),
        ({"applied": {"pairs": [], "paused": "no"}}, {}),
        (
            {"applied": {"dataPlane": {"nats": {"managed": {"storage": 5, "resources": {"limits": {"cpu": -1}}}}}}},
            {"applied": {"dataPlane": {"nats": {"managed": {"storage": 5}}}}},
        ),
        ({"conditions": [CONDITION, CONDITION, {**CONDITION, "status": "Yes"}]}, {"conditions": [CONDITION]}),
        ({"conditions": [{**CONDITION, "lastTransitionTime": "yesterday"}]}, {}),
    ],
)  # fmt: skip
def test_values_the_api_server_would_reject_are_shortened_or_omitted(
    result: dict[str, Any], left: dict[str, Any]
) -> None:
    assert sanitizer.sanitize(result, DEFINITION) == left
    assert schema_errors(left) == []
