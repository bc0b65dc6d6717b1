"""Computes the children of a platform from its spec and the observed state, one module per kind. Values only."""

from __future__ import annotations

from aether_operator.desired.logins import Missing, database_logins, endpoint, is_serving, secret_values
from aether_operator.desired.platforms import children
from aether_operator.desired.secrets import decoded
from aether_operator.observed.child_refs import all_of as child_refs

__all__ = ["Missing", "child_refs", "children", "database_logins", "decoded", "endpoint", "is_serving", "secret_values"]
