"""Which events and log lines a change of the status leads to: a clean start has no warning."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from aether_operator.api.reasons import Reason
from aether_operator.controllers.data_plane import DataPlane
from aether_operator.controllers.engine import Engine
from aether_operator.controllers.index import Index
from aether_operator.controllers.platforms import PlatformReconciler
from aether_operator.controllers.reconciler import Context
from aether_operator.controllers.workqueue import Key
from aether_operator.observed.platforms import ObservedPlatform
from aether_operator.observed.reports import Drift
from aether_operator.status import transitions
from aether_runtime import logs
from aether_testing.values import changes, evaluations, observations

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from aether_operator.status.transitions import StatusEvent

PLATFORM = observations.a_platform(progressDeadlineSeconds=60)
HEALTHY = observations.healthy(PLATFORM)
UNREACHABLE = changes.server(Reason.UNREACHABLE)(HEALTHY)


def history(*steps: tuple[float, ObservedPlatform]) -> list[dict[str, Any]]:
    """The statuses of a platform, the first before its first reconcile; a step is (seconds, observed)."""
    statuses: list[dict[str, Any]] = [evaluations.NEVER]
    for seconds, observed in steps:
        given = evaluations.inputs(PLATFORM, observed)
        statuses.append(evaluations.status_of(given, statuses[-1], at=seconds))
    return statuses


def events_of(statuses: list[dict[str, Any]]) -> list[StatusEvent]:
    return [event for one, other in itertools.pairwise(statuses) for event in transitions.events(one, other)]


def transition(before: dict[str, Any], after: dict[str, Any], at: float) -> transitions.Transition | None:
    now = evaluations.NOW + timedelta(seconds=at)
    return transitions.transition(before, after, created=evaluations.NOW, now=now)


def test_clean_start_has_only_normal_events() -> None:
    starting = (ObservedPlatform(children={}), UNREACHABLE, changes.schema(Reason.FAILED)(HEALTHY))
    found = events_of(history(*((10.0 * step, one) for step, one in enumerate((*starting, HEALTHY)))))
    assert {event.reason for event in found} >= {Reason.UNREACHABLE, Reason.READY, Reason.EVALUATION_ONLY}
    assert [event for event in found if event.warning] == []


def test_event_is_a_warning_once_the_deadline_passed() -> None:
    found = events_of(history((0, HEALTHY), (10, UNREACHABLE), (69, UNREACHABLE), (70, UNREACHABLE)))
    assert [(one.reason, one.warning) for one in found if one.reason != Reason.EVALUATION_ONLY] == [
        (Reason.READY, False),
        (Reason.UNREACHABLE, False),
        (Reason.PROGRESS_DEADLINE_EXCEEDED, True),
    ]


def test_what_only_a_person_resolves_is_a_warning_at_once() -> None:
    taken = changes.server(Reason.SERVER_OWNED_BY_ANOTHER)(HEALTHY)
    found = [one for one in events_of(history((0, HEALTHY), (10, taken))) if one.reason != Reason.EVALUATION_ONLY]
    assert {one.reason for one in found if one.warning} == {Reason.SERVER_OWNED_BY_ANOTHER}


def test_warning_condition_that_needs_action_is_a_warning_event() -> None:
    drift = Drift(name="index i", what="is gone", repaired=False)
    drifted = changes.schema(Reason.READY, drift=(drift,))(HEALTHY)
    (found,) = events_of(history((0, HEALTHY), (10, drifted)))[-1:]
    assert (found.reason, found.warning) == (Reason.SCHEMA_DRIFTED, True)


def test_unchanged_status_has_no_event_and_no_transition() -> None:
    *_, one, other = history((0, UNREACHABLE), (10, UNREACHABLE), (20, UNREACHABLE))
    assert (transitions.events(one, other), transition(one, other, 20)) == ([], None)


def test_transition_says_how_long_it_took() -> None:
    created, starting, ready, broken, stalled = history(
        (0, UNREACHABLE), (30, HEALTHY), (100, UNREACHABLE), (160, UNREACHABLE)
    )
    found = [
        transition(created, starting, 2),
        transition(starting, ready, 30),
        transition(ready, broken, 100),
        transition(broken, stalled, 160),
    ]
    assert [(one.state.value, one.seconds) for one in found if one is not None] == [
        ("Reconciling", 2.0),
        ("Ready", 30.0),
        ("Reconciling", 70.0),
        ("Stalled", 60.0),
    ]


@dataclasses.dataclass
class Api:
    """One platform, whose status can be merged."""

    raw: dict[str, Any]

    async def get(self, *_: str) -> dict[str, Any]:
        return self.raw

    async def merge_status(self, *_: object, fields: dict[str, Any], **__: object) -> dict[str, Any]:
        self.raw["status"] = {**self.raw.get("status", {}), **fields}
        return self.raw


@dataclasses.dataclass
class Events:
    """Collects what is emitted."""

    emitted: list[tuple[str, bool]] = dataclasses.field(default_factory=list)

    async def emit(self, _raw: object, reason: str, _note: str, *, warning: bool, action: str) -> None:
        del action
        self.emitted.append((reason, warning))


async def test_operator_logs_each_state_change_once(caplog: pytest.LogCaptureFixture) -> None:
    meta = {
        "name": "paper", "namespace": "desk", "uid": "u", "generation": 1, "resourceVersion": "1",
        "creationTimestamp": "2026-01-01T12:00:00Z",
    }  # fmt: skip
    raw = {"metadata": meta, "spec": {"progressDeadlineSeconds": 60}}
    seconds, events = [0.0], Events()
    now: Callable[[], datetime] = lambda: datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(seconds=seconds[0])  # noqa: E731
    context = Context(
        api=cast("Any", Api(raw)), config=cast("Any", None), fences=cast("Any", None), threads=cast("Any", None),
        new_password=str, now=now,
    )  # fmt: skip
    engine = Engine(reconciler=PlatformReconciler(context), events=cast("Any", events), index=Index())
    caplog.set_level(logging.INFO)
    for at in (5.0, 30.0, 65.0, 90.0):
        seconds[0] = at
        await engine.report_failure(Key("TradingPlatform", "desk", "paper"), "no response")
    lines = [(one.levelname, one.getMessage(), one.__dict__["seconds"]) for one in caplog.records]
    assert lines == [("INFO", "progressing", 5.0), ("WARNING", "stalled", 60.0)]
    assert events.emitted == [(Reason.PROGRESS_DEADLINE_EXCEEDED, True)]


async def test_database_thread_logs_with_the_reconcile_key() -> None:
    threads = ThreadPoolExecutor(1)
    context = Context(
        api=cast("Any", None), config=cast("Any", None), fences=cast("Any", None), threads=threads,
        new_password=str, now=datetime.now,
    )  # fmt: skip
    plane = DataPlane(context=context)
    token = logs.CONTEXT.set({"key": "TradingPlatform/desk/paper"})
    try:
        assert await plane._in_database_thread(logs.CONTEXT.get) == {"key": "TradingPlatform/desk/paper"}  # noqa: SLF001
    finally:
        logs.CONTEXT.reset(token)
        threads.shutdown()
