"""A table of observed states and the status that is computed from each; each also as kstatus reads it."""

from __future__ import annotations

import json
from typing import Final

import pytest

from aether_operator import desired, status
from aether_operator.api.platform_definition import DEFINITION
from aether_operator.api.platforms import Server
from aether_operator.api.reasons import Reason
from aether_operator.catalog.logins import DatabaseUser
from aether_operator.observed.reports import Drift, Engine
from aether_testing.values import changes, evaluations, kstatus, observations

READY, RECONCILING, STALLED = evaluations.READY, evaluations.RECONCILING, evaluations.STALLED


CRASHING: Final = changes.container("CrashLoopBackOff", lastState={"terminated": {"reason": "Error", "exitCode": 3}})

TABLE: Final[dict[str, tuple[changes.Change, status.State, Reason, str]]] = {
    "everything is ready": (changes.none, READY, Reason.READY, "Everything"),
    # Children.
    "no child exists yet": (
        changes.fields(children={}, servers={}, schema=None),
        RECONCILING, Reason.PROGRESSING, "StatefulSet paper-kafka does not exist yet",
    ),
    "a StatefulSet is missing": (
        changes.without("StatefulSet", "paper-postgres"), RECONCILING, Reason.PROGRESSING, "StatefulSet paper-postgres",
    ),
    "a Service is missing": (
        changes.without("Service", "paper-nats"), RECONCILING, Reason.PROGRESSING, "Service paper-nats",
    ),
    "a NetworkPolicy is missing": (
        changes.without("NetworkPolicy", "paper-nats"), RECONCILING, Reason.PROGRESSING, "NetworkPolicy paper-nats",
    ),
    "credentials are missing": (
        changes.without("Secret", "paper-redis"), RECONCILING, Reason.PROGRESSING, "Secret paper-redis",
    ),
    "the reader's login is missing": (
        changes.without("Secret", "paper-postgres-reader"), RECONCILING, Reason.PROGRESSING, "paper-postgres-reader",
    ),
    "a claim is missing": (
        changes.without("PersistentVolumeClaim", "paper-postgres-data"),
        RECONCILING, Reason.PROGRESSING, "paper-postgres-data does not exist yet",
    ),
    "a child is being deleted": (
        changes.deleting("StatefulSet", "paper-postgres"),
        RECONCILING, Reason.PROGRESSING, "is being deleted",
    ),
    # Roll-outs.
    "a StatefulSet was changed just now": (
        changes.edited(changes.SET, lambda live: live["metadata"].update(generation=2)),
        RECONCILING, Reason.ROLLING_OUT, "StatefulSet paper-postgres was changed just now",
    ),
    "a StatefulSet has no status yet": (
        changes.edited(changes.SET, lambda live: live.pop("status")),
        RECONCILING, Reason.ROLLING_OUT, "was changed just now",
    ),
    "no pod is of the newest revision": (
        changes.workload(updatedReplicas=0), RECONCILING, Reason.ROLLING_OUT, "0 of 1 pods are of the newest revision",
    ),
    "the newest revision is not the current one": (
        changes.workload(updateRevision="r2"), RECONCILING, Reason.ROLLING_OUT, "rolls out",
    ),
    "no pod is ready": (changes.workload(readyReplicas=0), RECONCILING, Reason.ROLLING_OUT, "has 0 of 1 pods ready"),
    "a ready pod is not available": (
        changes.workload(availableReplicas=0), RECONCILING, Reason.ROLLING_OUT, "has 0 of 1 pods ready",
    ),
    "a pod cannot be scheduled": (
        changes.unready(**changes.UNSCHEDULABLE), RECONCILING, Reason.UNSCHEDULABLE,
        ("Pod paper-postgres-0: no node can run it: Insufficient cpu; see: kubectl --namespace desk describe pod "
        "paper-postgres-0"),
    ),
    "an image cannot be pulled": (
        changes.container("ImagePullBackOff", image="a/b:1"), RECONCILING, Reason.ROLLING_OUT,
        "Pod paper-postgres-0: ImagePullBackOff of a/b:1",
    ),
    "a pod crashes": (
        CRASHING, RECONCILING, Reason.ROLLING_OUT, "CrashLoopBackOff (last exit: Error, exit code 3)",
    ),
    "a container ended": (
        changes.unready(containerStatuses=[{"state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}]),
        RECONCILING, Reason.ROLLING_OUT, "OOMKilled (exit code 137)",
    ),
    "a pod was evicted": (
        changes.unready(phase="Failed", reason="Evicted", message="low on memory"),
        RECONCILING, Reason.ROLLING_OUT, "Evicted: low on memory",
    ),
    "a pod starts normally": (
        changes.container("ContainerCreating"), RECONCILING, Reason.ROLLING_OUT,
        "postgres: StatefulSet paper-postgres has 0 of 1 pods ready",
    ),
    "a claim is pending": (
        changes.all_of(changes.unready(**changes.UNSCHEDULABLE), changes.claim("Pending")),
        RECONCILING, Reason.UNSCHEDULABLE, "PersistentVolumeClaim paper-postgres-data is Pending",
    ),
    "a volume is lost although its pod is ready": (
        changes.claim("Lost"), RECONCILING, Reason.ROLLING_OUT, "is Lost",
    ),
    # Servers.
    "a server was not checked yet": (
        changes.fields(servers={}), RECONCILING, Reason.PROGRESSING, "not checked yet",
    ),
    "a Secret is missing": (
        changes.server(Reason.SECRET_MISSING, "Secret my-kafka does not exist"),
        RECONCILING, Reason.SECRET_MISSING, "kafka: Secret my-kafka does not exist",
    ),
    "a key is missing": (
        changes.server(Reason.SECRET_KEY_MISSING, "Secret x has no key password"),
        RECONCILING, Reason.SECRET_KEY_MISSING, "Secret x has no key password",
    ),
    **{
        f"the check of a server reports {reason.value}": (
            changes.server(reason), RECONCILING, reason, "kafka: as reported",
        )
        for reason in (
            Reason.UNREACHABLE, Reason.TLS_FAILED, Reason.AUTHENTICATION_FAILED, Reason.PERMISSION_DENIED,
            Reason.VERSION_UNSUPPORTED, Reason.FAILED,
        )
    },
    **{
        f"the check of a server reports {reason.value}": (
            changes.server(reason), STALLED, reason, "kafka: as reported",
        )
        for reason in (
            Reason.SERVER_OWNED_BY_ANOTHER, Reason.VENUE_MISMATCH, Reason.OWNER_NOT_RECORDED, Reason.JETSTREAM_DISABLED,
        )
    },
    **{
        f"the check of PostgreSQL reports {reason.value}": (
            changes.server(reason, of=Server.POSTGRES),
            RECONCILING, reason, "postgres: as reported",
        )
        for reason in (Reason.DATABASE_MISSING, Reason.TIMESCALE_MISSING, Reason.PARTMAN_MISSING)
    },
    # The schema.
    "the schema was not checked": (
        changes.fields(schema=None),
        RECONCILING, Reason.PROGRESSING, "schema: not checked yet",
    ),
    **{
        f"the schema reports {reason.value}": (
            changes.schema(reason), RECONCILING, reason, "schema: as reported",
        )
        for reason in (
            Reason.MIGRATING, Reason.WAITING_FOR_LOCK, Reason.FAILED, Reason.PERMISSION_DENIED, Reason.UNREACHABLE,
        )
    },
    **{
        f"the schema reports {reason.value}": (changes.schema(reason), STALLED, reason, "schema: as reported")
        for reason in (
            Reason.DATABASE_OWNED_BY_ANOTHER, Reason.VENUE_MISMATCH, Reason.VENUE_UNKNOWN, Reason.SCHEMA_NEWER,
            Reason.SCHEMA_DRIFTED,
        )
    },
    # What only a person can resolve.
    **{
        f"a child is blocked by {reason.value}": (changes.blocked(reason), STALLED, reason, "postgres: do this")
        for reason in (Reason.NAME_TAKEN, Reason.IMMUTABLE_FIELD, Reason.REQUEST_REJECTED)
    },
    "an object of no server is blocked": (
        changes.blocked(Reason.REQUEST_REJECTED, kind="Service", name="paper-old"),
        STALLED, Reason.REQUEST_REJECTED, "do this",
    ),
    "what a person must resolve comes first": (
        changes.all_of(changes.server(Reason.UNREACHABLE), changes.schema(Reason.SCHEMA_NEWER)),
        STALLED, Reason.SCHEMA_NEWER, "schema: as reported; kafka: as reported",
    ),
    # Warnings.
    "native partitions": (
        changes.schema(Reason.READY, engine=Engine.PARTMAN), READY, Reason.READY, "Everything",
    ),
    "a retention is held": (
        changes.schema(Reason.READY, held=("aether.trades: 3 partitions",)), READY, Reason.READY, "",
    ),
    "drift was repaired": (
        changes.schema(Reason.READY, drift=(Drift(name="i", what="gone", repaired=True),)),
        READY, Reason.READY, "",
    ),
}  # fmt: skip
"""Name → change to the healthy state, and the expected state, reason and part of the message."""

IN_KSTATUS: Final = {READY: kstatus.CURRENT, RECONCILING: kstatus.IN_PROGRESS, STALLED: kstatus.FAILED}


def test_the_table_has_forty_states() -> None:
    assert len(TABLE) >= 40


@pytest.mark.parametrize("name", TABLE)
def test_status_matches_the_table_and_kstatus_agrees(name: str) -> None:
    change, state, reason, part = TABLE[name]
    platform = observations.a_platform()
    result = evaluations.status_of(evaluations.inputs(platform, change(observations.healthy(platform))))
    assert (result["state"], result["reason"]) == (state, reason)
    assert part in result["message"]
    assert evaluations.kstatus_of(result) == IN_KSTATUS[state]
    truths = {kind: one["status"] for kind, one in evaluations.conditions(result).items()}
    assert (truths["Ready"] == "True") is (state is READY)
    assert (truths["Reconciling"] == "True") is (state is RECONCILING)
    assert (truths["Stalled"] == "True") is (state is STALLED)


@pytest.mark.parametrize("name", TABLE)
def test_every_condition_exists_with_the_observed_generation(name: str) -> None:
    platform = observations.a_platform(generation=4)
    result = evaluations.status_of(evaluations.inputs(platform, TABLE[name][0](observations.healthy(platform))))
    assert [one["type"] for one in result["conditions"]] == [kind.value for kind in DEFINITION.all_conditions]
    assert {one["observedGeneration"] for one in result["conditions"]} == {result["observedGeneration"]} == {4}
    assert all(one["reason"] and one["lastTransitionTime"] for one in result["conditions"])
    assert evaluations.kstatus_of(result, generation=5) == kstatus.IN_PROGRESS


@pytest.mark.parametrize("name", TABLE)
def test_same_observation_gives_the_same_bytes_at_any_time(name: str) -> None:
    platform = observations.a_platform()
    inputs = evaluations.inputs(platform, TABLE[name][0](observations.healthy(platform)))
    first = evaluations.status_of(inputs)
    assert json.dumps(evaluations.status_of(inputs, first, at=200)) == json.dumps(first)


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row[1] is RECONCILING])
def test_lasting_problem_stalls_after_the_deadline_until_it_is_fixed(name: str) -> None:
    change, _, reason, part = TABLE[name]
    platform = observations.a_platform(progressDeadlineSeconds=60)
    bad, good = (
        evaluations.inputs(platform, observed)
        for observed in (change(observations.healthy(platform)), observations.healthy(platform))
    )
    first = evaluations.status_of(bad)
    patient = evaluations.status_of(bad, first, at=59)
    assert patient["state"] == RECONCILING
    late = evaluations.status_of(bad, patient, at=60)
    assert (late["state"], late["reason"], evaluations.kstatus_of(late)) == (STALLED, reason, kstatus.FAILED)
    assert evaluations.conditions(late)["Stalled"]["reason"] == Reason.PROGRESS_DEADLINE_EXCEEDED
    assert part in late["message"]
    assert "after 60 s" in late["message"]
    assert evaluations.status_of(bad, late, at=500) == late
    resolved = evaluations.status_of(good, late, at=600)
    assert (resolved["state"], evaluations.kstatus_of(resolved)) == (READY, kstatus.CURRENT)


@pytest.mark.parametrize("name", TABLE)
def test_no_value_of_a_secret_is_in_a_status(name: str) -> None:
    platform = observations.a_platform()
    observed = observations.healthy(platform)
    text = json.dumps(evaluations.status_of(evaluations.inputs(platform, TABLE[name][0](observed))))
    passwords = [desired.decoded(one)["password"] for ref, one in observed.children.items() if ref.kind == "Secret"]
    assert len(passwords) == len(Server) + len(DatabaseUser)
    assert not [one for one in passwords if one in text]
