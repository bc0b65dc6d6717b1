"""The kinds that the operator reconciles, and what the engine computes for one that it does not know."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

import pytest

from aether_operator import __main__ as operator
from aether_operator.api import parsing
from aether_operator.api.definitions import DEFINITIONS
from aether_operator.api.resources import Resource
from aether_operator.status import StatusInput
from aether_testing.values.widgets import WIDGET, ObservedWidget, Widget, WidgetReconciler

NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
WIDGETS: Final = WidgetReconciler(cast("Any", None))


def inputs(
    previous: dict[str, Any], *, valid: bool = True, paused: bool = False
) -> StatusInput[Widget, ObservedWidget]:
    """A widget whose children, Secret and platform do not exist; after ten seconds it is Stalled."""
    raw = {
        "metadata": {
            "namespace": "desk", "name": "small", "uid": "1", "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"platform": "paper", "secretName": "mine", "progressDeadlineSeconds": 10},
    }  # fmt: skip
    widget = parsing.parse(WIDGET, raw)
    assert isinstance(widget, Resource)
    refs = WIDGETS.references(widget)
    observed = ObservedWidget(
        children={}, paused=paused, secrets=dict.fromkeys(refs.secrets), parents=dict.fromkeys(refs.parents)
    )
    newest = widget if valid else None
    return StatusInput(
        generation=1, paused=paused, in_force=None if paused else newest, newest=newest,
        problems=() if valid else ("spec.size: too large",), observed=observed, previous=previous,
    )  # fmt: skip


def test_every_kind_of_the_table_is_reconciled() -> None:
    assert [one.definition for one in operator.RECONCILERS] == list(DEFINITIONS.values())


def test_incomplete_widget_is_stalled_once_its_deadline_passed() -> None:
    first = WIDGETS.compute_status(inputs({}), now=NOW).status
    assert (first["state"], first["reason"]) == ("Reconciling", "Progressing")
    assert [part.partition(":")[0] for part in first["message"].split("; ")] == ["children", "secret", "platform"]
    later = WIDGETS.compute_status(inputs(first), now=NOW + timedelta(seconds=10)).status
    assert later["state"] == "Stalled"
    assert later["message"].startswith("not ready after 10 s: ")


@pytest.mark.parametrize(
    ("case", "reason"),
    [({"valid": False}, "InvalidSpec"), ({"paused": True}, "PausedBySpec")],
    ids=["invalid", "paused"],
)
def test_widget_that_was_never_applied_is_stalled(case: dict[str, bool], reason: str) -> None:
    computed = WIDGETS.compute_status(inputs({}, **case), now=NOW)
    assert (computed.status["state"], computed.status["reason"]) == ("Stalled", reason)
    assert "applied" not in computed.status
    assert [one.reason for one in computed.events] == [reason]
