"""Desired against observed: an ordered plan of acts. Values only."""

from __future__ import annotations

from aether_operator.planning.blockers import blocker_from_error
from aether_operator.planning.plans import Act, Apply, Delete, Plan, SyncConfig, mounted, plan

__all__ = ["Act", "Apply", "Delete", "Plan", "SyncConfig", "blocker_from_error", "mounted", "plan"]
