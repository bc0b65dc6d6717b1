"""The status of a platform, computed from its observed state; each also as kstatus reads it."""

from __future__ import annotations

import copy
import dataclasses
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from aether_operator import planning, status
from aether_operator.api.platform_definition import DEFINITION
from aether_operator.api.platforms import PlatformSpec, Server
from aether_operator.api.reasons import ConditionType, Reason, Remedy
from aether_operator.catalog.components import Component
from aether_operator.controllers.platforms import PlatformReconciler
from aether_operator.observed.kinds import Ref
from aether_operator.observed.platforms import ObservedPlatform
from aether_operator.observed.reports import Drift, Engine
from aether_operator.status import summaries
from aether_testing.values import changes, evaluations, kstatus, observations

if TYPE_CHECKING:
    from aether_operator.api.platforms import Platform

READY, RECONCILING, STALLED = evaluations.READY, evaluations.RECONCILING, evaluations.STALLED


def test_new_generation_restarts_the_deadline() -> None:
    observed = changes.server(Reason.UNREACHABLE)(observations.healthy(observations.a_platform()))
    old, new = (observations.a_platform(generation=number, progressDeadlineSeconds=60) for number in (1, 2))
    late = evaluations.status_of(
        evaluations.inputs(old, observed), evaluations.status_of(evaluations.inputs(old, observed)), at=60
    )
    assert late["state"] == STALLED
    again = evaluations.status_of(evaluations.inputs(new, observed), late, at=70)
    assert again["state"] == RECONCILING
    edited_while_waiting = evaluations.status_of(
        evaluations.inputs(new, observed), evaluations.status_of(evaluations.inputs(old, observed)), at=59
    )
    assert evaluations.status_of(evaluations.inputs(new, observed), edited_while_waiting, at=61)["state"] == RECONCILING
    assert evaluations.status_of(evaluations.inputs(new, observed), edited_while_waiting, at=119)["state"] == STALLED


def test_longer_deadline_takes_effect() -> None:
    observed = changes.server(Reason.UNREACHABLE)(observations.healthy(observations.a_platform()))
    platform = observations.a_platform(progressDeadlineSeconds=600)
    first = evaluations.status_of(evaluations.inputs(platform, observed))
    assert evaluations.status_of(evaluations.inputs(platform, observed), first, at=599)["state"] == RECONCILING


def test_transition_time_changes_only_with_the_status() -> None:
    platform = observations.a_platform()
    good = evaluations.inputs(platform, observations.healthy(platform))
    bad = evaluations.inputs(platform, changes.server(Reason.UNREACHABLE)(observations.healthy(platform)))
    first = evaluations.status_of(good)
    then = evaluations.status_of(bad, first, at=30)
    times = {kind: one["lastTransitionTime"] for kind, one in evaluations.conditions(then).items()}
    changed = {
        kind for kind, time in times.items() if time != evaluations.conditions(first)[kind]["lastTransitionTime"]
    }
    assert changed == {"Ready", "Reconciling", "KafkaReady", "TopicsReady"}
    assert times["Ready"] == "2026-01-01T12:00:30Z"


def test_server_condition_names_its_version_or_what_it_lacks() -> None:
    platform = observations.a_platform()
    result = evaluations.conditions(
        evaluations.status_of(
            evaluations.inputs(platform, changes.server(Reason.UNREACHABLE, "no")(observations.healthy(platform)))
        )
    )
    assert (result["PostgresReady"]["status"], result["PostgresReady"]["message"]) == ("True", "15.8")
    assert (result["KafkaReady"]["status"], result["KafkaReady"]["message"]) == ("False", "no")
    assert result["SchemaReady"]["status"] == "True"


def test_unobserved_condition_is_unknown_not_false() -> None:
    platform = observations.a_platform()
    result = evaluations.conditions(
        evaluations.status_of(
            evaluations.inputs(platform, dataclasses.replace(observations.healthy(platform), servers={}, schema=None))
        )
    )
    assert {result[kind]["status"] for kind in ("PostgresReady", "KafkaReady", "SchemaReady")} == {"Unknown"}


# Specs that are not in force.


def test_invalid_spec_keeps_the_last_good_one_and_names_fields() -> None:
    platform = observations.a_platform(retention={"tradesDays": 30})
    before = evaluations.status_of(evaluations.inputs(platform, observations.healthy(platform)))
    problems = ("spec.retention.tradesDays: 0 is below 1", "spec.dataPlane.kafka.mode: unknown")
    inputs = evaluations.inputs(platform, observations.healthy(platform), generation=2, newest=None, problems=problems)
    result = evaluations.status_of(inputs, before, at=5)
    assert (result["state"], result["reason"], evaluations.kstatus_of(result, generation=2)) == (
        STALLED, Reason.INVALID_SPEC, kstatus.FAILED,
    )  # fmt: skip
    assert result["message"] == f"spec: {problems[1]}; {problems[0]}"
    assert result["applied"] == before["applied"]
    assert result["applied"]["retention"]["tradesDays"] == 30
    assert evaluations.conditions(result)["PostgresReady"]["status"] == "True"
    healed = evaluations.status_of(
        evaluations.inputs(platform, observations.healthy(platform), generation=3), result, at=9
    )
    assert healed["state"] == READY


def test_printed_counts_are_those_of_ready_parts_and_pairs() -> None:
    platform = observations.a_platform()
    observed = observations.healthy(platform)
    result = evaluations.status_of(evaluations.inputs(platform, observed))
    pairs, parts = len(platform.spec.pairs), len(Server) + 2 + len(Component)  # the schema and the topics
    assert (result["readyParts"], result["readyPairs"]) == (f"{parts}/{parts}", f"{pairs}/{pairs}")
    new = evaluations.status_of(evaluations.inputs(platform, observations.created(platform)))
    assert (new["readyParts"], new["readyPairs"]) == (f"0/{parts}", f"0/{pairs}")


def test_a_platform_that_never_was_valid_has_nothing_applied() -> None:
    result = evaluations.status_of(evaluations.inputs(None, newest=None, problems=("spec.retention: no",)))
    assert (result["state"], result["message"]) == (STALLED, "spec: spec.retention: no")
    assert not {"applied", "endpoints", "servers", "schema", "readyPairs"} & result.keys()
    assert evaluations.conditions(result)["PostgresReady"]["status"] == "Unknown"


def test_paused_platform_with_an_applied_spec_keeps_its_status() -> None:
    platform = observations.a_platform()
    before = evaluations.status_of(evaluations.inputs(platform, observations.healthy(platform)))
    paused = observations.a_platform(generation=2, paused=True)
    observed = dataclasses.replace(observations.healthy(platform), schema=None)
    result = evaluations.status_of(
        evaluations.inputs(platform, observed, generation=2, paused=True, newest=paused), before, at=9
    )
    assert (result["state"], evaluations.kstatus_of(result, generation=2)) == (READY, kstatus.CURRENT)
    assert evaluations.conditions(result)["Paused"]["status"] == "True"
    assert (result["applied"], result["schema"]) == (before["applied"], before["schema"])


def test_failure_reason_of_a_newer_release_survives_a_pause() -> None:
    platform = observations.a_platform()
    before = evaluations.status_of(
        evaluations.inputs(platform, changes.schema(Reason.WAITING_FOR_LOCK)(observations.healthy(platform)))
    )
    (schema,) = [one for one in before["conditions"] if one["type"] == ConditionType.SCHEMA_READY]
    schema["reason"] = "FromTheFuture"
    observed = dataclasses.replace(observations.healthy(platform), schema=None)
    result = evaluations.status_of(evaluations.inputs(platform, observed, paused=True, newest=platform), before)
    assert evaluations.conditions(result)[ConditionType.SCHEMA_READY]["reason"] == Reason.FAILED


def test_spec_left_unapplied_by_a_pause_is_not_current() -> None:
    platform = observations.a_platform()
    before = evaluations.status_of(evaluations.inputs(platform, observations.healthy(platform)))
    newest = observations.a_platform(generation=2, paused=True, retention={"tradesDays": 7})
    inputs = evaluations.inputs(platform, observations.healthy(platform), generation=2, paused=True, newest=newest)
    result = evaluations.status_of(inputs, before, at=9)
    assert (result["state"], result["reason"], evaluations.kstatus_of(result, generation=2)) == (
        STALLED, Reason.PAUSED_BY_SPEC, kstatus.FAILED,
    )  # fmt: skip
    assert result["applied"] == before["applied"]
    unpaused = observations.a_platform(generation=3, retention={"tradesDays": 7})
    result = evaluations.status_of(evaluations.inputs(unpaused, observations.healthy(platform)), result, at=19)
    assert (result["state"], result["applied"]["retention"]["tradesDays"]) == (READY, 7)


def test_platform_created_paused_is_not_current() -> None:
    newest = observations.a_platform(paused=True)
    result = evaluations.status_of(evaluations.inputs(None, generation=1, paused=True, newest=newest))
    assert (result["state"], result["reason"], evaluations.kstatus_of(result)) == (
        STALLED,
        Reason.PAUSED_BY_SPEC,
        kstatus.FAILED,
    )
    assert "applied" not in result


def _paused(platform: Platform, observed: ObservedPlatform) -> dict[str, tuple[str, str, str]]:
    """Condition → its status, reason and message, of a platform that was Ready, is paused, and was then changed."""
    before = evaluations.status_of(evaluations.inputs(platform, observations.healthy(platform)))
    paused = observations.a_platform(generation=2, paused=True)
    observed = dataclasses.replace(observed, paused=True, schema=None, topics=None)
    result = evaluations.status_of(
        evaluations.inputs(platform, observed, generation=2, paused=True, newest=paused), before, at=9
    )
    assert (result["state"], result["reason"]) == (STALLED, Reason.PAUSED_BY_SPEC)
    return {
        kind: (one["status"], one["reason"], one["message"]) for kind, one in evaluations.conditions(result).items()
    }


@pytest.mark.parametrize(
    ("name", "kind"), [("nats", "NatsReady"), ("postgres", "PostgresReady"), ("exchange", "VenueReady")]
)
def test_workload_scaled_down_in_a_pause_is_not_ready(name: str, kind: str) -> None:
    """The last check of its server does not count, and no message asks to wait."""
    platform = observations.a_platform()
    live = copy.deepcopy(observations.healthy(platform).children[Ref("StatefulSet", f"paper-{name}")])
    live["spec"]["replicas"] = 0
    live["status"] |= {"replicas": 0, "readyReplicas": 0, "availableReplicas": 0, "updatedReplicas": 0}
    result = _paused(platform, observations.with_objects(observations.healthy(platform), live))
    held = f"StatefulSet paper-{name} is scaled to 0 of 1 pods, and nothing is changed while spec.paused is true"
    assert result[kind] == ("False", Reason.PAUSED_BY_SPEC, held)


def test_child_deleted_in_a_pause_is_not_awaited() -> None:
    platform = observations.a_platform()
    result = _paused(platform, observations.without(observations.healthy(platform), Ref("Service", "paper-redis")))
    held = "Service paper-redis does not exist, and nothing is changed while spec.paused is true"
    assert result["RedisReady"] == ("False", Reason.PAUSED_BY_SPEC, held)


def test_paused_platform_does_not_wait_for_an_unobserved_schema() -> None:
    platform = observations.a_platform()
    observed = dataclasses.replace(observations.healthy(platform), schema=None, paused=True)
    result = evaluations.status_of(evaluations.inputs(platform, observed, paused=True))
    schema = evaluations.conditions(result)["SchemaReady"]
    assert (schema["status"], schema["reason"]) == ("Unknown", Reason.PAUSED_BY_SPEC)


def test_platform_created_paused_waits_for_no_part() -> None:
    result = evaluations.status_of(
        evaluations.inputs(
            None, ObservedPlatform(children={}, paused=True), paused=True, newest=observations.a_platform(paused=True)
        )
    )
    parts = {
        kind: one["reason"]
        for kind, one in evaluations.conditions(result).items()
        if kind.endswith("Ready") and kind != "Ready"
    }
    waiting = {"SchemaReady", "TopicsReady"}  # for their servers, which say why
    assert {kind for kind, reason in parts.items() if reason != Reason.PAUSED_BY_SPEC} == waiting


def test_pause_does_not_hide_a_schema_problem() -> None:
    platform = observations.a_platform()
    before = evaluations.status_of(
        evaluations.inputs(platform, changes.schema(Reason.SCHEMA_NEWER)(observations.healthy(platform)))
    )
    observed = dataclasses.replace(observations.healthy(platform), schema=None)
    result = evaluations.status_of(evaluations.inputs(platform, observed, paused=True), before, at=9)
    assert (result["state"], result["reason"]) == (STALLED, Reason.SCHEMA_NEWER)


def _terminating(raw: dict[str, Any], at: float = 0) -> dict[str, Any]:
    now = evaluations.NOW + timedelta(seconds=at)
    return status.compute_terminating_status(DEFINITION, raw, DEFINITION.terminating, now=now)


def test_platform_being_deleted_reports_it_and_keeps_its_status() -> None:
    platform = observations.a_platform()
    before = evaluations.status_of(evaluations.inputs(platform, observations.healthy(platform)))
    meta: dict[str, Any] = {"generation": 2, "deletionTimestamp": "2026-01-01T12:00:00Z"}
    result = _terminating({"metadata": meta, "status": before})
    assert (result["state"], result["reason"]) == (status.State.TERMINATING, Reason.TERMINATING)
    assert evaluations.kstatus_of(result, **meta) == kstatus.TERMINATING
    assert {result[key] == before[key] for key in ("applied", "endpoints", "schema")} == {True}
    assert [one["type"] for one in result["conditions"]] == [one["type"] for one in before["conditions"]]
    assert _terminating({"metadata": meta, "status": result}, at=9) == result
    assert evaluations.conditions(result)["Reconciling"]["status"] == "True"


# Parts that people read.


def _warning(observed: ObservedPlatform, platform: Platform) -> tuple[str, str, str]:
    one = evaluations.conditions(evaluations.status_of(evaluations.inputs(platform, observed)))["Warning"]
    return one["status"], one["reason"], one["message"]


def test_all_warnings_are_reported_most_severe_first() -> None:
    platform = observations.a_platform()
    observed = changes.schema(
        Reason.READY,
        engine=Engine.PARTMAN,
        held=("aether.trades: 3 partitions",),
        drift=(Drift(name="index i", what="is gone", repaired=False),),
        warnings=("the reader may not log in",),
    )(observations.healthy(platform))
    truth, reason, message = _warning(observed, platform)
    assert (truth, reason) == ("True", Reason.RETENTION_HELD)
    for part in ("aether.trades: 3 partitions", "index i: is gone", "reader may not", "evaluation"):
        assert part in message


def test_only_managed_servers_are_warned_as_for_evaluation() -> None:
    managed, external = observations.a_platform(), observations.an_external_platform()
    assert _warning(observations.healthy(managed), managed)[:2] == ("True", Reason.EVALUATION_ONLY)
    assert _warning(observations.healthy(external), external) == ("False", Reason.READY, "")


def test_endpoints_have_server_addresses_and_the_secret_to_connect_with() -> None:
    managed = evaluations.status_of(
        evaluations.inputs(observations.a_platform(), observations.healthy(observations.a_platform()))
    )["endpoints"]
    assert managed["postgres"] == {
        "host": "paper-postgres.desk.svc", "port": 5432, "database": "aether", "secretName": "paper-postgres-reader",
    }  # fmt: skip
    assert managed["nats"] == {"host": "paper-nats.desk.svc", "port": 4222, "secretName": "paper-nats"}
    platform = observations.an_external_platform()
    external = evaluations.status_of(evaluations.inputs(platform, observations.healthy(platform)))["endpoints"]
    assert external["postgres"]["secretName"] == "paper-postgres-reader"
    assert external["redis"] == {"host": "redis.example.org", "port": 1003, "secretName": "my-redis"}


def test_applied_spec_has_all_defaults_and_is_a_valid_spec() -> None:
    platform = observations.a_platform()
    applied = evaluations.status_of(evaluations.inputs(platform, observations.healthy(platform)))["applied"]
    assert applied["dataPlane"]["kafka"] == {"mode": "Managed", "managed": {"storage": "10Gi"}}
    assert applied["progressDeadlineSeconds"] == 300
    again = observations.a_platform(**applied)
    assert evaluations.status_of(evaluations.inputs(again, observations.healthy(platform)))["applied"] == applied
    assert PlatformSpec.model_validate(applied).retention == platform.spec.retention


def test_versions_and_schema_are_reported_unchanged() -> None:
    platform = observations.a_platform()
    result = evaluations.status_of(evaluations.inputs(platform, observations.healthy(platform)))
    assert result["servers"] == {server.value: {"version": "15.8"} for server in Server}
    assert result["schema"] == {"revision": "0001", "engine": "TimescaleDB", "tradesDays": 90}


def test_no_value_of_a_users_secret_is_in_a_status() -> None:
    platform = observations.an_external_platform()
    observed = observations.healthy(platform)
    assert "canary" in json.dumps(observed.secrets)
    assert "canary" not in json.dumps(evaluations.status_of(evaluations.inputs(platform, observed)))


def test_messages_fit_a_status() -> None:
    platform = observations.a_platform()
    result = evaluations.status_of(
        evaluations.inputs(platform, changes.server(Reason.FAILED, "x" * 100_000)(observations.healthy(platform)))
    )
    assert max(len(one["message"]) for one in [result, *result["conditions"]]) <= 1000


def test_every_reason_has_a_remedy_and_every_remedy_is_used() -> None:
    assert {summaries.remedy(reason) for reason in Reason} == set(Remedy)


def test_shrinking_claim_is_stalled_with_the_field_to_fix() -> None:
    before = observations.healthy(observations.a_platform())
    platform = observations.a_platform(dataPlane={"postgres": {"managed": {"storage": "5Gi"}}})
    wanted = observations.created(platform).children.values()
    blockers = planning.plan(list(wanted), before, platform.owner, PlatformReconciler.storage_fields).blockers
    result = evaluations.status_of(evaluations.inputs(platform, dataclasses.replace(before, blockers=blockers)))
    assert (result["state"], result["reason"]) == (STALLED, Reason.IMMUTABLE_FIELD)
    assert "spec.dataPlane.postgres.managed.storage" in result["message"]
