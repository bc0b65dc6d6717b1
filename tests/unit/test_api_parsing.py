"""Parsing of specs: what the API server rejects is rejected here too, with the same fields."""

from __future__ import annotations

from typing import Any

import pytest

from aether_operator.api import parsing, platform_checks, platforms
from aether_operator.api.platform_definition import DEFINITION
from aether_operator.api.platforms import MAX_NAME_LENGTH, PlatformSpec, Server
from aether_operator.api.resources import Resource
from aether_testing.values import manifests, observations


def raw(spec: Any, name: str = "paper", **status: Any) -> dict[str, Any]:
    """A platform object as the API server returns it."""
    thing = manifests.a_manifest(spec, name)
    thing["metadata"] |= {
        "namespace": "desk",
        "uid": "u-1",
        "generation": 3,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    return thing | ({"status": status} if status else {})


def problems(spec: Any, name: str = "paper") -> tuple[str, ...]:
    read = parsing.parse(DEFINITION, raw(spec, name))
    assert isinstance(read, parsing.Invalid)
    return read.problems


@pytest.mark.parametrize("wrong", manifests.INVALID, ids=lambda wrong: wrong.id)
def test_spec_rejected_by_the_api_server_names_its_invalid_field(wrong: manifests.InvalidManifest) -> None:
    found = problems(wrong.spec, wrong.name)
    assert [line for line in found if line.startswith(f"{wrong.field}: ")], found


@pytest.mark.parametrize("name", manifests.VALID)
def test_valid_spec_becomes_a_platform(name: str) -> None:
    read = parsing.parse(DEFINITION, raw(manifests.VALID[name]))
    assert isinstance(read, Resource)
    assert (read.namespace, read.name, read.uid, read.generation) == ("desk", "paper", "u-1", 3)
    assert read.spec == PlatformSpec.model_validate(manifests.VALID[name])


def test_empty_spec_is_a_small_platform_with_managed_servers() -> None:
    read = parsing.parse(DEFINITION, raw({}))
    assert isinstance(read, Resource)
    assert {read.spec.data_plane.of(server).mode for server in Server} == {platforms.Mode.MANAGED}
    assert (read.spec.paused, read.spec.progress_deadline_seconds, read.spec.retention.trades_days) == (False, 300, 90)


def test_all_problems_are_reported_at_once_in_a_bounded_list() -> None:
    spec = {"paused": 1, "retention": {"tradesDays": 0}, "dataPlane": {"kafka": {"mode": "Cloud"}}}
    assert [line.partition(":")[0] for line in problems(spec)] == [
        "spec.dataPlane.kafka.mode", "spec.paused", "spec.retention.tradesDays",
    ]  # fmt: skip
    assert len(problems({f"x{number}": 1 for number in range(100)})) == parsing.MAX_PROBLEMS


def test_contradictions_of_several_servers_are_reported_together() -> None:
    external = {server.value: {"mode": "External"} for server in Server}
    found = problems({"dataPlane": external}, "a" * (MAX_NAME_LENGTH + 1))
    assert [line.partition(":")[0] for line in found] == [
        "metadata.name", *(f"spec.dataPlane.{name}.external" for name in sorted(external)),
    ]  # fmt: skip


def test_contradictions_of_components_are_reported_together() -> None:
    components = {"ingest": {"replicas": 2}, "exchangeSim": {"storage": "0"}}
    spec = {"venue": {"name": "Kraken", "feed": "Synthetic"}, "pairs": ["A/USD", "A/USD"], "components": components}
    assert [line.partition(":")[0] for line in problems(spec)] == [
        "spec.components.exchangeSim.storage", "spec.components.exchangeSim", "spec.pairs", "spec.venue.feed",
    ]  # fmt: skip


def test_previous_release_spec_gets_a_simulated_venue_and_its_markets() -> None:
    good = parsing.last_applied(DEFINITION, raw({}, applied={"dataPlane": {}, "retention": {"tradesDays": 7}}))
    assert good is not None
    assert (good.spec.venue.name, good.spec.venue.effective_feed) == ("Simulated", "Synthetic")
    assert good.spec.pairs == platforms.DEFAULT_PAIRS


def test_validation_message_contains_no_value_of_the_spec() -> None:
    place = {**observations.EXTERNAL["kafka"]["external"], "password": "canary-1", "port": "canary-2"}
    found = problems({"dataPlane": {"kafka": {"mode": "External", "external": place}}})
    assert len(found) == 2
    assert "canary" not in " ".join(found)


def test_name_of_maximum_length_is_valid() -> None:
    assert isinstance(parsing.parse(DEFINITION, raw({}, "a" * MAX_NAME_LENGTH)), Resource)


def test_the_last_good_spec_is_read_from_the_status() -> None:
    applied = {"retention": {"tradesDays": 7}}
    good = parsing.last_applied(DEFINITION, raw({"retention": {"tradesDays": 0}}, applied=applied))
    assert good is not None
    assert (good.name, good.spec.retention.trades_days) == ("paper", 7)


def test_no_last_good_spec_before_an_applied_or_readable_one() -> None:
    assert parsing.last_applied(DEFINITION, raw({})) is None
    assert parsing.last_applied(DEFINITION, raw({}, observedGeneration=-1)) is None
    assert parsing.last_applied(DEFINITION, raw({}, applied={"fieldOfAnOlderRelease": 1})) is None


def test_the_secrets_of_a_spec_are_those_of_external_servers() -> None:
    assert platform_checks.secret_names(PlatformSpec()) == frozenset()
    spec = PlatformSpec.model_validate({"dataPlane": observations.EXTERNAL})
    assert platform_checks.secret_names(spec) == {f"my-{server.value}" for server in Server}
