"""Reconnects to the venue over hours of virtual time."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aether_services.ingest.core import reconnects
from aether_services.ingest.core.reconnects import ReconnectPolicy

VENUE: Final = 150
"""Connects in ten minutes that Kraken bears."""


def most_in_a_window(attempts: list[float]) -> int:
    return max(sum(begin <= one < begin + reconnects.WINDOW for one in attempts) for begin in attempts)


def attempts_of(one: ReconnectPolicy, sessions: list[float], *, until: float, code: int = 0) -> list[float]:
    """When it connects to a venue whose sessions last so long, again and again."""
    now, made = 0.0, list[float]()
    while now < until:
        for lasts in sessions:
            one.record_attempt(now)
            made.append(now)
            now += lasts
            if lasts >= 30:
                one.session_stable()
            now += one.pause(now, code=code)
    return made


@given(
    sessions=st.lists(st.sampled_from([0.0, 0.05, 1.0, 10.0, 29.9, 30.0, 31.0, 45.0]), min_size=1, max_size=8),
    replicas=st.integers(1, 8),
    jitter=st.floats(0, 1),
)
def test_no_venue_is_reconnected_too_often_however_sessions_end(
    sessions: list[float], replicas: int, jitter: float
) -> None:
    one = ReconnectPolicy(lambda: jitter, replicas)
    made = attempts_of(one, sessions, until=3600)
    assert most_in_a_window(made) <= reconnects.MAX_CONNECTS // replicas
    assert replicas * most_in_a_window(made) < VENUE
    assert max(later - earlier for earlier, later in pairwise(made)) <= reconnects.WINDOW  # and it is never given up


def test_lasting_session_is_followed_by_an_immediate_reconnect() -> None:
    one = ReconnectPolicy(lambda: 0.5)
    for now in (0.0, 40.0, 80.0):
        one.record_attempt(now)
        one.session_stable()
        assert one.pause(now + 39) == reconnects.FIRST_PAUSE


def test_short_sessions_back_off() -> None:
    one = ReconnectPolicy(lambda: 0.5)
    waits = [one.pause(now) for now in range(8)]
    assert waits == [0.1, 1, 2, 4, 8, 16, 30, 30]


def test_additional_replica_reduces_each_share_at_once() -> None:
    one = ReconnectPolicy(lambda: 0.5)
    for now in range(50):
        one.record_attempt(now)
        one.session_stable()
    assert one.pause(50) == reconnects.FIRST_PAUSE
    one.replicas = 2
    one.session_stable()
    assert one.pause(50) == reconnects.WINDOW - 50


@pytest.mark.parametrize("failures", [0, 5])
def test_rate_limited_connect_waits_the_longest_pause(failures: int) -> None:
    one = ReconnectPolicy(lambda: 0.5)
    for _ in range(failures):
        one.pause(0)
    assert one.pause(0, code=429) == reconnects.LONGEST_PAUSE


@pytest.mark.parametrize("failures", [0, 5])
def test_policy_rejection_waits_ten_minutes_and_maintenance_five_seconds(failures: int) -> None:
    one = ReconnectPolicy(lambda: 0.5)
    for _ in range(failures):
        one.pause(0)
    assert one.pause(0, code=1008) == 600
    one.session_stable()
    assert one.pause(0, maintenance=True) == 5
