"""Computes conditions and status from the observed state. Values only; it does not know the desired state."""

from __future__ import annotations

from aether_operator.status.findings import Finding
from aether_operator.status.summaries import (
    Evaluation,
    State,
    StatusInput,
    compute_failed_status,
    compute_status,
    compute_terminating_status,
)

__all__ = [
    "Evaluation",
    "Finding",
    "State",
    "StatusInput",
    "compute_failed_status",
    "compute_status",
    "compute_terminating_status",
]
