"""How kstatus (Flux, kpt, cli-utils) computes the status of a custom resource.

In its order: deletion, generation, Reconciling, Stalled, Ready; an object without any of these is current.
"""

from __future__ import annotations

from typing import Any, Final

TERMINATING: Final = "Terminating"
IN_PROGRESS: Final = "InProgress"
FAILED: Final = "Failed"
CURRENT: Final = "Current"


def compute(obj: dict[str, Any]) -> str:
    """`Current`, `InProgress`, `Failed` or `Terminating`."""
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
