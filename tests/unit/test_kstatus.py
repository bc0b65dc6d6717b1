"""The rules of kstatus, in their order, as tests use them."""

from __future__ import annotations

from typing import Any

import pytest

from aether_testing.values import kstatus


def result_of(*conditions: str, observed: int | None = 1, **meta: Any) -> str:
    status: dict[str, Any] = {
        "conditions": [dict(zip(("type", "status"), one.split("="), strict=True)) for one in conditions]
    }
    if observed is not None:
        status["observedGeneration"] = observed
    return kstatus.compute({"metadata": {"generation": 1, **meta}, "status": status})


@pytest.mark.parametrize(
    ("conditions", "result"),
    [
        ((), kstatus.CURRENT),
        (("Ready=True",), kstatus.CURRENT),
        (("Ready=False",), kstatus.IN_PROGRESS),
        (("Ready=Unknown",), kstatus.IN_PROGRESS),
        (("Ready=True", "Reconciling=True"), kstatus.IN_PROGRESS),
        (("Ready=True", "Stalled=True"), kstatus.FAILED),
        (("Reconciling=True", "Stalled=True"), kstatus.IN_PROGRESS),
        (("Ready=True", "Reconciling=False", "Stalled=False"), kstatus.CURRENT),
        (("Other=False",), kstatus.CURRENT),
    ],
)
def test_conditions_are_read_in_their_order(conditions: tuple[str, ...], result: str) -> None:
    assert result_of(*conditions) == result


@pytest.mark.parametrize("observed", [-1, 0, 2])
def test_status_of_another_generation_is_in_progress(observed: int) -> None:
    assert result_of("Ready=True", "Stalled=True", observed=observed) == kstatus.IN_PROGRESS


def test_status_without_a_generation_is_believed() -> None:
    assert result_of("Ready=True", observed=None) == kstatus.CURRENT


def test_object_being_deleted_is_terminating_whatever_its_status() -> None:
    assert result_of("Ready=True", deletionTimestamp="2026-01-01T00:00:00Z") == kstatus.TERMINATING


def test_object_without_a_status_is_current() -> None:
    assert kstatus.compute({"metadata": {"generation": 1}}) == kstatus.CURRENT
