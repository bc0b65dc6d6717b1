"""What was seen, judged: a world, and how it is told; each also as kstatus reads it."""

from __future__ import annotations

import copy
import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from aether_operator import desired, reconcile, status
from aether_operator.api.platforms import PlatformSpec, Server
from aether_operator.api.reasons import ConditionType, Reason, Remedy
from aether_operator.observed.kinds import Ref
from aether_operator.observed.reports import Drift, Engine, SchemaReport, ServerReport
from aether_operator.observed.worlds import Trouble, World
from aether_operator.status import judgements
from aether_testing import kstatus, worlds

if TYPE_CHECKING:
    from collections.abc import Callable

    from aether_operator.api.platforms import Platform
    from aether_operator.observed.kinds import Manifest

NOW: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
NEVER: Final[dict[str, Any]] = {"observedGeneration": -1}
"""The status that the API server gives to a platform nobody has looked at."""
SET: Final = Ref("StatefulSet", "paper-postgres")
CLAIM: Final = Ref("PersistentVolumeClaim", "paper-postgres-data")


def _seen(platform: Platform | None, world: World | None = None, **parts: Any) -> status.Seen:
    """What a visit sees when nothing is odd about the platform itself."""
    usual: dict[str, Any] = {
        "generation": platform.generation if platform else 1,
        "paused": False,
        "newest": platform,
        "world": world if world is not None else World(children={}),
    }
    return status.Seen(platform=platform, **{**usual, **parts})


def _judged(seen: status.Seen, previous: dict[str, Any] | None = None, at: float = 0) -> dict[str, Any]:
    return status.judge(seen, NEVER if previous is None else previous, now=NOW + timedelta(seconds=at))


def _conditions(told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["type"]: one for one in told["conditions"]}


def _in_kstatus(told: dict[str, Any], generation: int = 1, **meta: Any) -> str:
    return kstatus.compute({"metadata": {"generation": generation, **meta}, "status": told})


# The table: how a platform is told to be, and how kstatus reads that.

READY, RECONCILING, STALLED = status.State.READY, status.State.RECONCILING, status.State.STALLED


def _with_set(**changes: Any) -> Callable[[World], World]:
    """A StatefulSet that is not as far yet."""

    def changed(world: World) -> World:
        live = copy.deepcopy(world.children[SET])
        live["status"] |= changes
        return worlds.having(world, live)

    return changed


def _with_pod(**said: Any) -> Callable[[World], World]:
    """A StatefulSet whose pod does not come up, and says why."""

    def changed(world: World) -> World:
        pod = worlds.a_pod_of(world.children[SET], **said)
        return dataclasses.replace(_with_set(readyReplicas=0, availableReplicas=0)(world), pods=(pod,))

    return changed


def _waiting(reason: str, **more: Any) -> Callable[[World], World]:
    return _with_pod(containerStatuses=[{"name": "postgres", "state": {"waiting": {"reason": reason}}, **more}])


def _changed(ref: Ref, change: Callable[[Manifest], Any]) -> Callable[[World], World]:
    def changed(world: World) -> World:
        live = copy.deepcopy(world.children[ref])
        change(live)
        return worlds.having(world, live)

    return changed


def _without(ref: Ref) -> Callable[[World], World]:
    return lambda world: worlds.without(world, ref)


def _saying(reason: Reason, message: str = "it says so", server: Server = Server.KAFKA) -> Callable[[World], World]:
    return lambda world: worlds.saying(world, ServerReport(server=server, reason=reason, message=message))


def _schema(reason: Reason, message: str = "it says so", **parts: Any) -> Callable[[World], World]:
    report = SchemaReport(reason=reason, message=message, revision="0001", **parts)
    return lambda world: dataclasses.replace(world, schema=report)


def _troubled(reason: Reason, message: str = "do this", ref: Ref = SET) -> Callable[[World], World]:
    trouble = Trouble(ref=ref, reason=reason, message=message)
    return lambda world: dataclasses.replace(world, troubles=(trouble,))


def _all(*changes: Callable[[World], World]) -> Callable[[World], World]:
    def changed(world: World) -> World:
        for change in changes:
            world = change(world)
        return world

    return changed


def _leaving(live: Manifest) -> None:
    live["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"


UNSCHEDULABLE: Final = {
    "phase": "Pending",
    "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient cpu.",
    }],
}  # fmt: skip
CRASHING: Final = _waiting("CrashLoopBackOff", lastState={"terminated": {"reason": "Error", "exitCode": 3}})

TABLE: Final[dict[str, tuple[Callable[[World], World], status.State, Reason, str]]] = {
    "all is well": (lambda world: world, READY, Reason.READY, "Everything"),
    # Children.
    "nothing is made yet": (
        lambda world: dataclasses.replace(world, children={}, servers={}, schema=None),
        RECONCILING, Reason.PROGRESSING, "StatefulSet paper-kafka is not there yet",
    ),
    "a workload is gone": (_without(SET), RECONCILING, Reason.PROGRESSING, "StatefulSet paper-postgres"),
    "a service is gone": (
        _without(Ref("Service", "paper-nats")), RECONCILING, Reason.PROGRESSING, "Service paper-nats",
    ),
    "a policy is gone": (
        _without(Ref("NetworkPolicy", "paper-nats")), RECONCILING, Reason.PROGRESSING, "NetworkPolicy paper-nats",
    ),
    "credentials are gone": (
        _without(Ref("Secret", "paper-redis")), RECONCILING, Reason.PROGRESSING, "Secret paper-redis",
    ),
    "the login for people is gone": (
        _without(Ref("Secret", "paper-postgres-reader")), RECONCILING, Reason.PROGRESSING, "paper-postgres-reader",
    ),
    "a volume is gone": (_without(CLAIM), RECONCILING, Reason.PROGRESSING, "paper-postgres-data is not there yet"),
    "a child is being deleted": (_changed(SET, _leaving), RECONCILING, Reason.PROGRESSING, "is being deleted"),
    # Roll-outs.
    "a workload was changed just now": (
        _changed(SET, lambda live: live["metadata"].update(generation=2)),
        RECONCILING, Reason.ROLLING_OUT, "StatefulSet paper-postgres was changed just now",
    ),
    "a workload has no status yet": (
        _changed(SET, lambda live: live.pop("status")), RECONCILING, Reason.ROLLING_OUT, "was changed just now",
    ),
    "no pod is of the newest revision": (
        _with_set(updatedReplicas=0), RECONCILING, Reason.ROLLING_OUT, "0 of 1 pods are of the newest revision",
    ),
    "the newest revision is not the current one": (
        _with_set(updateRevision="r2"), RECONCILING, Reason.ROLLING_OUT, "rolls out",
    ),
    "no pod is ready": (_with_set(readyReplicas=0), RECONCILING, Reason.ROLLING_OUT, "has 0 of 1 pods ready"),
    "a ready pod is not available": (
        _with_set(availableReplicas=0), RECONCILING, Reason.ROLLING_OUT, "has 0 of 1 pods ready",
    ),
    "a pod has no node": (
        _with_pod(**UNSCHEDULABLE), RECONCILING, Reason.UNSCHEDULABLE,
        ("Pod paper-postgres-0: no node takes it: Insufficient cpu; see: kubectl --namespace desk describe pod "
        "paper-postgres-0"),
    ),
    "an image is not there": (
        _waiting("ImagePullBackOff", image="a/b:1"), RECONCILING, Reason.ROLLING_OUT,
        "Pod paper-postgres-0: ImagePullBackOff of a/b:1",
    ),
    "a pod crashes": (
        CRASHING, RECONCILING, Reason.ROLLING_OUT, "CrashLoopBackOff (its last end: Error, exit code 3)",
    ),
    "a container ended": (
        _with_pod(containerStatuses=[{"state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}]),
        RECONCILING, Reason.ROLLING_OUT, "OOMKilled (exit code 137)",
    ),
    "a pod was evicted": (
        _with_pod(phase="Failed", reason="Evicted", message="low on memory"),
        RECONCILING, Reason.ROLLING_OUT, "Evicted: low on memory",
    ),
    "a pod starts as pods do": (
        _waiting("ContainerCreating"), RECONCILING, Reason.ROLLING_OUT,
        "postgres: StatefulSet paper-postgres has 0 of 1 pods ready",
    ),
    "a volume waits for its pod": (
        _all(_with_pod(**UNSCHEDULABLE), _changed(CLAIM, lambda live: live.update(status={"phase": "Pending"}))),
        RECONCILING, Reason.UNSCHEDULABLE, "PersistentVolumeClaim paper-postgres-data is Pending",
    ),
    "a volume is lost under a ready pod": (
        _changed(CLAIM, lambda live: live.update(status={"phase": "Lost"})), RECONCILING, Reason.ROLLING_OUT, "is Lost",
    ),
    # Servers.
    "a server was not asked yet": (
        lambda world: dataclasses.replace(world, servers={}), RECONCILING, Reason.PROGRESSING, "not asked yet",
    ),
    "a Secret is missing": (
        _saying(Reason.SECRET_MISSING, "Secret my-kafka does not exist"),
        RECONCILING, Reason.SECRET_MISSING, "kafka: Secret my-kafka does not exist",
    ),
    "a key is missing": (
        _saying(Reason.SECRET_KEY_MISSING, "Secret x has no key password"),
        RECONCILING, Reason.SECRET_KEY_MISSING, "Secret x has no key password",
    ),
    **{
        f"a server says {reason.value}": (_saying(reason), RECONCILING, reason, "kafka: it says so")
        for reason in (
            Reason.UNREACHABLE, Reason.TLS_FAILED, Reason.LOGIN_REFUSED, Reason.RIGHT_MISSING,
            Reason.VERSION_UNSUPPORTED, Reason.FAILED,
        )
    },
    **{
        f"a server says {reason.value}": (_saying(reason), STALLED, reason, "kafka: it says so")
        for reason in (
            Reason.SERVER_OWNED_BY_ANOTHER, Reason.VENUE_MISMATCH, Reason.OWNER_NOT_RECORDED, Reason.JETSTREAM_OFF,
        )
    },
    **{
        f"PostgreSQL says {reason.value}": (
            _saying(reason, server=Server.POSTGRES), RECONCILING, reason, "postgres: it says so",
        )
        for reason in (Reason.DATABASE_MISSING, Reason.TIMESCALE_MISSING, Reason.PARTMAN_MISSING)
    },
    # The schema.
    "the schema was not looked at": (
        lambda world: dataclasses.replace(world, schema=None), RECONCILING, Reason.PROGRESSING, "schema: it was not",
    ),
    **{
        f"the schema says {reason.value}": (_schema(reason), RECONCILING, reason, "schema: it says so")
        for reason in (Reason.MIGRATING, Reason.LOCKED, Reason.FAILED, Reason.RIGHT_MISSING, Reason.UNREACHABLE)
    },
    **{
        f"the schema says {reason.value}": (_schema(reason), STALLED, reason, "schema: it says so")
        for reason in (
            Reason.DATABASE_OWNED_BY_ANOTHER, Reason.VENUE_MISMATCH, Reason.VENUE_UNKNOWN, Reason.SCHEMA_NEWER,
            Reason.DRIFTED,
        )
    },
    # What only a person mends.
    **{
        f"an object of ours is {reason.value}": (_troubled(reason), STALLED, reason, "postgres: do this")
        for reason in (Reason.NAME_TAKEN, Reason.IMMUTABLE_FIELD, Reason.REFUSED)
    },
    "trouble with what is no server's": (
        _troubled(Reason.REFUSED, ref=Ref("Service", "paper-old")), STALLED, Reason.REFUSED, "do this",
    ),
    "what a person mends comes before what time mends": (
        _all(_saying(Reason.UNREACHABLE), _schema(Reason.SCHEMA_NEWER)),
        STALLED, Reason.SCHEMA_NEWER, "schema: it says so; kafka: it says so",
    ),
    # It works, and a person should know.
    "partitions are native": (_schema(Reason.READY, engine=Engine.PARTMAN), READY, Reason.READY, "Everything"),
    "a retention is held": (_schema(Reason.READY, held=("aether.trades: 3 partitions",)), READY, Reason.READY, ""),
    "drift was repaired": (
        _schema(Reason.READY, drift=(Drift(name="i", what="gone", repaired=True),)), READY, Reason.READY, "",
    ),
}  # fmt: skip
"""A name → what is different from a steady world, and the state, reason and part of the message that are told."""

IN_KSTATUS: Final = {READY: kstatus.CURRENT, RECONCILING: kstatus.IN_PROGRESS, STALLED: kstatus.FAILED}


def test_the_table_has_forty_states() -> None:
    assert len(TABLE) >= 40


@pytest.mark.parametrize("name", TABLE)
def test_a_state_is_judged_as_the_table_says_and_read_so_by_kstatus(name: str) -> None:
    change, state, reason, part = TABLE[name]
    platform = worlds.a_platform()
    told = _judged(_seen(platform, change(worlds.steady(platform))))
    assert (told["state"], told["reason"]) == (state, reason)
    assert part in told["message"]
    assert _in_kstatus(told) == IN_KSTATUS[state]
    truths = {kind: one["status"] for kind, one in _conditions(told).items()}
    assert (truths["Ready"] == "True") is (state is READY)
    assert (truths["Reconciling"] == "True") is (state is RECONCILING)
    assert (truths["Stalled"] == "True") is (state is STALLED)


@pytest.mark.parametrize("name", TABLE)
def test_every_condition_is_there_and_of_the_generation_that_was_looked_at(name: str) -> None:
    platform = worlds.a_platform(generation=4)
    told = _judged(_seen(platform, TABLE[name][0](worlds.steady(platform))))
    assert [one["type"] for one in told["conditions"]] == [kind.value for kind in ConditionType]
    assert {one["observedGeneration"] for one in told["conditions"]} == {told["observedGeneration"]} == {4}
    assert all(one["reason"] and one["lastTransitionTime"] for one in told["conditions"])
    assert _in_kstatus(told, generation=5) == kstatus.IN_PROGRESS


@pytest.mark.parametrize("name", TABLE)
def test_the_same_world_is_told_in_the_same_bytes_whenever_it_is_looked_at(name: str) -> None:
    platform = worlds.a_platform()
    seen = _seen(platform, TABLE[name][0](worlds.steady(platform)))
    first = _judged(seen)
    assert json.dumps(_judged(seen, first, at=200)) == json.dumps(first)


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row[1] is RECONCILING])
def test_what_time_does_not_mend_is_stalled_after_the_deadline_until_it_is_mended(name: str) -> None:
    change, _, reason, part = TABLE[name]
    platform = worlds.a_platform(progressDeadlineSeconds=60)
    bad, good = (_seen(platform, world) for world in (change(worlds.steady(platform)), worlds.steady(platform)))
    first = _judged(bad)
    patient = _judged(bad, first, at=59)
    assert patient["state"] == RECONCILING
    late = _judged(bad, patient, at=60)
    assert (late["state"], late["reason"], _in_kstatus(late)) == (STALLED, reason, kstatus.FAILED)
    assert _conditions(late)["Stalled"]["reason"] == Reason.PROGRESS_DEADLINE_EXCEEDED
    assert part in late["message"]
    assert "after 60 s" in late["message"]
    assert _judged(bad, late, at=500) == late
    mended = _judged(good, late, at=600)
    assert (mended["state"], _in_kstatus(mended)) == (READY, kstatus.CURRENT)


def test_a_new_generation_has_the_whole_deadline_again() -> None:
    world = _saying(Reason.UNREACHABLE)(worlds.steady(worlds.a_platform()))
    old, new = (worlds.a_platform(generation=number, progressDeadlineSeconds=60) for number in (1, 2))
    late = _judged(_seen(old, world), _judged(_seen(old, world)), at=60)
    assert late["state"] == STALLED
    again = _judged(_seen(new, world), late, at=70)
    assert again["state"] == RECONCILING
    edited_while_waiting = _judged(_seen(new, world), _judged(_seen(old, world)), at=59)
    assert _judged(_seen(new, world), edited_while_waiting, at=61)["state"] == RECONCILING
    assert _judged(_seen(new, world), edited_while_waiting, at=119)["state"] == STALLED


def test_a_longer_deadline_is_an_edit_that_counts() -> None:
    world = _saying(Reason.UNREACHABLE)(worlds.steady(worlds.a_platform()))
    platform = worlds.a_platform(progressDeadlineSeconds=600)
    first = _judged(_seen(platform, world))
    assert _judged(_seen(platform, world), first, at=599)["state"] == RECONCILING


def test_a_times_change_is_the_truths_change() -> None:
    platform = worlds.a_platform()
    good = _seen(platform, worlds.steady(platform))
    bad = _seen(platform, _saying(Reason.UNREACHABLE)(worlds.steady(platform)))
    first = _judged(good)
    then = _judged(bad, first, at=30)
    times = {kind: one["lastTransitionTime"] for kind, one in _conditions(then).items()}
    changed = {kind for kind, time in times.items() if time != _conditions(first)[kind]["lastTransitionTime"]}
    assert changed == {"Ready", "Reconciling", "KafkaReady", "TopicsReady"}
    assert times["Ready"] == "2026-01-01T12:00:30Z"


def test_a_condition_of_a_server_names_its_version_or_what_it_lacks() -> None:
    platform = worlds.a_platform()
    told = _conditions(_judged(_seen(platform, _saying(Reason.UNREACHABLE, "no")(worlds.steady(platform)))))
    assert (told["PostgresReady"]["status"], told["PostgresReady"]["message"]) == ("True", "15.8")
    assert (told["KafkaReady"]["status"], told["KafkaReady"]["message"]) == ("False", "no")
    assert told["SchemaReady"]["status"] == "True"


def test_what_was_not_seen_is_unknown_and_not_false() -> None:
    platform = worlds.a_platform()
    told = _conditions(_judged(_seen(platform, dataclasses.replace(worlds.steady(platform), servers={}, schema=None))))
    assert {told[kind]["status"] for kind in ("PostgresReady", "KafkaReady", "SchemaReady")} == {"Unknown"}


# Specs that are not in force.


def test_an_invalid_spec_leaves_the_last_good_one_in_force_and_names_its_fields() -> None:
    platform = worlds.a_platform(retention={"tradesDays": 30})
    before = _judged(_seen(platform, worlds.steady(platform)))
    problems = ("spec.retention.tradesDays: 0 is below 1", "spec.dataPlane.kafka.mode: unknown")
    seen = _seen(platform, worlds.steady(platform), generation=2, newest=None, problems=problems)
    told = _judged(seen, before, at=5)
    assert (told["state"], told["reason"], _in_kstatus(told, generation=2)) == (
        STALLED, Reason.INVALID_SPEC, kstatus.FAILED,
    )  # fmt: skip
    assert told["message"] == f"spec: {problems[1]}; {problems[0]}"
    assert told["applied"] == before["applied"]
    assert told["applied"]["retention"]["tradesDays"] == 30
    assert _conditions(told)["PostgresReady"]["status"] == "True"
    healed = _judged(_seen(platform, worlds.steady(platform), generation=3), told, at=9)
    assert healed["state"] == READY


def test_a_platform_that_never_was_valid_has_nothing_applied() -> None:
    told = _judged(_seen(None, newest=None, problems=("spec.retention: no",)))
    assert (told["state"], told["message"]) == (STALLED, "spec: spec.retention: no")
    assert not {"applied", "endpoints", "servers", "schema"} & told.keys()
    assert _conditions(told)["PostgresReady"]["status"] == "Unknown"


def test_a_paused_platform_whose_spec_is_in_force_stays_as_it_is() -> None:
    platform = worlds.a_platform()
    before = _judged(_seen(platform, worlds.steady(platform)))
    paused = worlds.a_platform(generation=2, paused=True)
    world = dataclasses.replace(worlds.steady(platform), schema=None)
    told = _judged(_seen(platform, world, generation=2, paused=True, newest=paused), before, at=9)
    assert (told["state"], _in_kstatus(told, generation=2)) == (READY, kstatus.CURRENT)
    assert _conditions(told)["Paused"]["status"] == "True"
    assert (told["applied"], told["schema"]) == (before["applied"], before["schema"])


def test_a_reason_of_a_newer_release_is_kept_as_a_failure_through_a_pause() -> None:
    platform = worlds.a_platform()
    before = _judged(_seen(platform, _schema(Reason.LOCKED)(worlds.steady(platform))))
    (schema,) = [one for one in before["conditions"] if one["type"] == ConditionType.SCHEMA_READY]
    schema["reason"] = "FromTheFuture"
    world = dataclasses.replace(worlds.steady(platform), schema=None)
    told = _judged(_seen(platform, world, paused=True, newest=platform), before)
    assert _conditions(told)[ConditionType.SCHEMA_READY]["reason"] == Reason.FAILED


def test_a_spec_that_is_not_applied_because_of_the_pause_is_not_current() -> None:
    platform = worlds.a_platform()
    before = _judged(_seen(platform, worlds.steady(platform)))
    newest = worlds.a_platform(generation=2, paused=True, retention={"tradesDays": 7})
    seen = _seen(platform, worlds.steady(platform), generation=2, paused=True, newest=newest)
    told = _judged(seen, before, at=9)
    assert (told["state"], told["reason"], _in_kstatus(told, generation=2)) == (
        STALLED, Reason.PAUSED_BY_SPEC, kstatus.FAILED,
    )  # fmt: skip
    assert told["applied"] == before["applied"]
    unpaused = worlds.a_platform(generation=3, retention={"tradesDays": 7})
    told = _judged(_seen(unpaused, worlds.steady(platform)), told, at=19)
    assert (told["state"], told["applied"]["retention"]["tradesDays"]) == (READY, 7)


def test_a_platform_that_was_born_paused_is_not_current() -> None:
    newest = worlds.a_platform(paused=True)
    told = _judged(_seen(None, generation=1, paused=True, newest=newest))
    assert (told["state"], told["reason"], _in_kstatus(told)) == (STALLED, Reason.PAUSED_BY_SPEC, kstatus.FAILED)
    assert "applied" not in told


def _paused(platform: Platform, world: World) -> dict[str, tuple[str, str, str]]:
    """Condition → its truth, reason and message, of a platform that was well, is paused, and was then touched."""
    before = _judged(_seen(platform, worlds.steady(platform)))
    paused = worlds.a_platform(generation=2, paused=True)
    world = dataclasses.replace(world, paused=True, schema=None, topics=None)
    told = _judged(_seen(platform, world, generation=2, paused=True, newest=paused), before, at=9)
    assert (told["state"], told["reason"]) == (STALLED, Reason.PAUSED_BY_SPEC)
    return {kind: (one["status"], one["reason"], one["message"]) for kind, one in _conditions(told).items()}


@pytest.mark.parametrize(
    ("name", "kind"), [("nats", "NatsReady"), ("postgres", "PostgresReady"), ("exchange", "VenueReady")]
)
def test_who_is_scaled_away_in_a_pause_is_not_ready(name: str, kind: str) -> None:
    """What its server said a moment ago does not count, and nobody is told to wait."""
    platform = worlds.a_platform()
    live = copy.deepcopy(worlds.steady(platform).children[Ref("StatefulSet", f"paper-{name}")])
    live["spec"]["replicas"] = 0
    live["status"] |= {"replicas": 0, "readyReplicas": 0, "availableReplicas": 0, "updatedReplicas": 0}
    told = _paused(platform, worlds.having(worlds.steady(platform), live))
    held = f"StatefulSet paper-{name} is scaled to 0 of 1 pods, and nothing is changed while spec.paused is true"
    assert told[kind] == ("False", Reason.PAUSED_BY_SPEC, held)


def test_what_is_deleted_in_a_pause_is_not_waited_for() -> None:
    platform = worlds.a_platform()
    told = _paused(platform, worlds.without(worlds.steady(platform), Ref("Service", "paper-redis")))
    held = "Service paper-redis is not there, and nothing is changed while spec.paused is true"
    assert told["RedisReady"] == ("False", Reason.PAUSED_BY_SPEC, held)


def test_a_schema_that_was_never_looked_at_is_not_waited_for_in_a_pause() -> None:
    platform = worlds.a_platform()
    world = dataclasses.replace(worlds.steady(platform), schema=None, paused=True)
    told = _judged(_seen(platform, world, paused=True))
    schema = _conditions(told)["SchemaReady"]
    assert (schema["status"], schema["reason"]) == ("Unknown", Reason.PAUSED_BY_SPEC)


def test_of_a_platform_born_paused_no_part_is_waited_for() -> None:
    told = _judged(_seen(None, World(children={}, paused=True), paused=True, newest=worlds.a_platform(paused=True)))
    parts = {
        kind: one["reason"] for kind, one in _conditions(told).items() if kind.endswith("Ready") and kind != "Ready"
    }
    waiting = {"SchemaReady", "TopicsReady"}  # for their servers, which say why
    assert {kind for kind, reason in parts.items() if reason != Reason.PAUSED_BY_SPEC} == waiting


def test_a_pause_does_not_hide_what_is_wrong_with_the_schema() -> None:
    platform = worlds.a_platform()
    before = _judged(_seen(platform, _schema(Reason.SCHEMA_NEWER)(worlds.steady(platform))))
    world = dataclasses.replace(worlds.steady(platform), schema=None)
    told = _judged(_seen(platform, world, paused=True), before, at=9)
    assert (told["state"], told["reason"]) == (STALLED, Reason.SCHEMA_NEWER)


def test_a_platform_that_is_being_deleted_says_so_and_keeps_what_is_known() -> None:
    platform = worlds.a_platform()
    before = _judged(_seen(platform, worlds.steady(platform)))
    meta: dict[str, Any] = {"generation": 2, "deletionTimestamp": "2026-01-01T12:00:00Z"}
    told = status.judge_terminating({"metadata": meta, "status": before}, now=NOW)
    assert (told["state"], told["reason"]) == (status.State.TERMINATING, Reason.TERMINATING)
    assert _in_kstatus(told, **meta) == kstatus.TERMINATING
    assert {told[key] == before[key] for key in ("applied", "endpoints", "schema")} == {True}
    assert [one["type"] for one in told["conditions"]] == [one["type"] for one in before["conditions"]]
    assert status.judge_terminating({"metadata": meta, "status": told}, now=NOW + timedelta(seconds=9)) == told
    assert _conditions(told)["Reconciling"]["status"] == "True"


# What a person reads.


def _warning(world: World, platform: Platform) -> tuple[str, str, str]:
    one = _conditions(_judged(_seen(platform, world)))["Warning"]
    return one["status"], one["reason"], one["message"]


def test_warnings_are_all_said_the_gravest_first() -> None:
    platform = worlds.a_platform()
    world = _schema(
        Reason.READY,
        engine=Engine.PARTMAN,
        held=("aether.trades: 3 partitions",),
        drift=(Drift(name="index i", what="is gone", repaired=False),),
        warnings=("the reader may not log in",),
    )(worlds.steady(platform))
    truth, reason, message = _warning(world, platform)
    assert (truth, reason) == ("True", Reason.RETENTION_HELD)
    for part in ("aether.trades: 3 partitions", "index i: is gone", "reader may not", "evaluation"):
        assert part in message


def test_a_managed_server_is_for_evaluation_and_an_external_one_is_not_warned_of() -> None:
    managed, external = worlds.a_platform(), worlds.an_external_platform()
    assert _warning(worlds.steady(managed), managed)[:2] == ("True", Reason.EVALUATION_ONLY)
    assert _warning(worlds.steady(external), external) == ("False", Reason.READY, "")


def test_endpoints_say_where_servers_are_and_which_secret_lets_one_in() -> None:
    managed = _judged(_seen(worlds.a_platform(), worlds.steady(worlds.a_platform())))["endpoints"]
    assert managed["postgres"] == {
        "host": "paper-postgres.desk.svc", "port": 5432, "database": "aether", "secretName": "paper-postgres-reader",
    }  # fmt: skip
    assert managed["nats"] == {"host": "paper-nats.desk.svc", "port": 4222, "secretName": "paper-nats"}
    platform = worlds.an_external_platform()
    external = _judged(_seen(platform, worlds.steady(platform)))["endpoints"]
    assert external["postgres"]["secretName"] == "paper-postgres-reader"
    assert external["redis"] == {"host": "redis.example.org", "port": 1003, "secretName": "my-redis"}


def test_the_applied_spec_has_what_defaults_stand_for_and_is_a_spec_again() -> None:
    platform = worlds.a_platform()
    applied = _judged(_seen(platform, worlds.steady(platform)))["applied"]
    assert applied["dataPlane"]["kafka"] == {"mode": "Managed", "managed": {"storage": "10Gi"}}
    assert applied["progressDeadlineSeconds"] == 300
    again = worlds.a_platform(**applied)
    assert _judged(_seen(again, worlds.steady(platform)))["applied"] == applied
    assert PlatformSpec.model_validate(applied).retention == platform.spec.retention


def test_versions_and_the_schema_are_told_as_they_were_said() -> None:
    platform = worlds.a_platform()
    told = _judged(_seen(platform, worlds.steady(platform)))
    assert told["servers"] == {server.value: {"version": "15.8"} for server in Server}
    assert told["schema"] == {"revision": "0001", "engine": "TimescaleDB", "tradesDays": 90}


@pytest.mark.parametrize("name", TABLE)
def test_no_value_of_a_secret_is_in_a_status(name: str) -> None:
    platform = worlds.a_platform()
    world = worlds.steady(platform)
    text = json.dumps(_judged(_seen(platform, TABLE[name][0](world))))
    passwords = [desired.decoded(one)["password"] for ref, one in world.children.items() if ref.kind == "Secret"]
    assert len(passwords) == 6
    assert not [one for one in passwords if one in text]


def test_no_value_of_a_users_secret_is_in_a_status() -> None:
    platform = worlds.an_external_platform()
    world = worlds.steady(platform)
    assert "canary" in json.dumps(world.secrets)
    assert "canary" not in json.dumps(_judged(_seen(platform, world)))


def test_messages_are_as_long_as_a_status_bears() -> None:
    platform = worlds.a_platform()
    told = _judged(_seen(platform, _saying(Reason.FAILED, "x" * 100_000)(worlds.steady(platform))))
    assert max(len(one["message"]) for one in [told, *told["conditions"]]) <= 1000


def test_every_reason_that_can_stand_in_the_way_has_a_remedy() -> None:
    assert {judgements.remedy(reason) for reason in Reason} == set(Remedy)


def test_a_claim_that_would_shrink_is_stalled_with_the_field_that_mends_it() -> None:
    before = worlds.steady(worlds.a_platform())
    platform = worlds.a_platform(dataPlane={"postgres": {"managed": {"storage": "5Gi"}}})
    wanted = worlds.made(platform).children.values()
    troubles = reconcile.plan(list(wanted), before, platform).troubles
    told = _judged(_seen(platform, dataclasses.replace(before, troubles=troubles)))
    assert (told["state"], told["reason"]) == (STALLED, Reason.IMMUTABLE_FIELD)
    assert "spec.dataPlane.postgres.managed.storage" in told["message"]
