"""Desired against observed: an ordered plan of acts. Values only."""

from __future__ import annotations

from aether_operator.planning.blockers import trouble_of
from aether_operator.planning.plans import Act, Apply, Delete, Plan, SyncConfig, mounted, plan

__all__ = ["Act", "Apply", "Delete", "Plan", "SyncConfig", "mounted", "plan", "trouble_of"]
