"""What a platform becomes: spec and observation to children, one module per child kind. Values only."""

from __future__ import annotations

from aether_operator.desired.logins import Missing, endpoint, hidden, of_database, serving
from aether_operator.desired.platforms import wanted as children
from aether_operator.desired.secrets import decoded
from aether_operator.observed.families import all_of as names

__all__ = ["Missing", "children", "decoded", "endpoint", "hidden", "names", "of_database", "serving"]
