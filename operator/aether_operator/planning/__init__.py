"""Compares desired with observed state and returns an ordered plan of actions. Values only."""

from __future__ import annotations

from aether_operator.planning.blockers import blocker_from_error
from aether_operator.planning.child_kinds import required_refs
from aether_operator.planning.plans import Action, Apply, Delete, Plan, SyncConfig, plan

__all__ = ["Action", "Apply", "Delete", "Plan", "SyncConfig", "blocker_from_error", "plan", "required_refs"]
