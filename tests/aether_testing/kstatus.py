"""The rules by which kstatus (Flux, kpt, cli-utils) reads an object of a kind that it does not know.

The order is theirs: deletion, generation, Reconciling, Stalled, Ready; and an object that says nothing is done.
"""

from __future__ import annotations

from typing import Any, Final

TERMINATING: Final = "Terminating"
IN_PROGRESS: Final = "InProgress"
FAILED: Final = "Failed"
CURRENT: Final = "Current"


def compute(obj: dict[str, Any]) -> str:
    """How kstatus sees an object."""
    meta, status = obj["metadata"], obj.get("status") or {}
    if meta.get("deletionTimestamp"):
        return TERMINATING
    observed = status.get("observedGeneration")
    if observed is not None and observed != meta.get("generation"):
        return IN_PROGRESS
    truths = {one["type"]: one["status"] for one in status.get("conditions") or ()}
    if truths.get("Reconciling") == "True":
        return IN_PROGRESS
    if truths.get("Stalled") == "True":
        return FAILED
    if "Ready" in truths and truths["Ready"] != "True":
        return IN_PROGRESS
    return CURRENT
