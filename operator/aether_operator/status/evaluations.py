"""What the operator concludes about one component of a platform."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_operator.status.findings import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentEvaluation:
    """A component has a problem of its own, or only waits for something that has one, or works."""

    finding: Finding | None = None
    """Its own problem; None if it has none."""
    waiting_for: str = ""
    """What keeps it from working, and is reported by another condition, as `the venue`."""
    message: str = ""
    """The message of its condition when it works."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """The fields of the platform's status that are about it, whatever its condition says."""
