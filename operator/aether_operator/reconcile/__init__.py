"""Desired against observed: an ordered plan of acts. Values only."""

from __future__ import annotations

from aether_operator.reconcile.plans import Act, Apply, Delete, Nudge, Plan, mounted, plan
from aether_operator.reconcile.troubles import trouble_of

__all__ = ["Act", "Apply", "Delete", "Nudge", "Plan", "mounted", "plan", "trouble_of"]
