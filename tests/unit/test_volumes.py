"""The plan for the pool of local volumes."""

from __future__ import annotations

import itertools
from typing import Any

from aether_cli.local import volumes


def a_volume(name: str, phase: str, **metadata: Any) -> dict[str, Any]:
    one = volumes.volume(name)
    return {**one, "metadata": {**one["metadata"], **metadata}, "status": {"phase": phase}}


def plan(*pool: dict[str, Any], mounted: frozenset[str] = frozenset()) -> list[volumes.Action]:
    numbers = itertools.count()
    return volumes.plan(pool, mounted=mounted.__contains__, new_name=lambda: f"new-{next(numbers)}")


FULL = [a_volume(f"spare-{n}", "Available") for n in range(volumes.SPARE)]


def test_empty_cluster_gets_a_complete_pool() -> None:
    assert plan() == [volumes.Create(f"new-{n}") for n in range(volumes.SPARE)]


def test_full_pool_needs_no_change() -> None:
    assert plan(*FULL) == []


def test_foreign_volumes_do_not_count() -> None:
    foreign = a_volume("nfs", "Available")
    foreign["spec"]["storageClassName"] = "nfs"
    assert len(plan(foreign)) == volumes.SPARE


def test_bound_volume_is_replaced() -> None:
    assert plan(*FULL[1:], a_volume("taken", "Bound")) == [volumes.Create("new-0")]


def test_new_volume_counts_before_the_controller_has_observed_it() -> None:
    fresh = volumes.volume("fresh")
    assert plan(*FULL[1:], fresh) == []


def test_released_volume_is_deleted_with_its_data() -> None:
    assert plan(*FULL, a_volume("old", "Released")) == [volumes.Remove("old")]


def test_released_volume_stays_while_a_pod_uses_it() -> None:
    assert plan(*FULL, a_volume("old", "Released"), mounted=frozenset({"old"})) == []


def test_released_volume_with_retain_stays() -> None:
    kept = a_volume("kept", "Released")
    kept["spec"]["persistentVolumeReclaimPolicy"] = "Retain"
    assert plan(*FULL, kept) == []


def test_a_volume_that_is_being_deleted_is_not_deleted_again() -> None:
    assert plan(*FULL, a_volume("going", "Released", deletionTimestamp="2026-01-01T00:00:00Z")) == []
