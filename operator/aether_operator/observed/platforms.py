"""The observed state of one platform in one reconcile."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aether_operator.observed.observation import Observed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_operator.api.platforms import Server
    from aether_operator.observed.components import ComponentReport
    from aether_operator.observed.reports import SchemaReport, ServerReport, TopicsReport
    from aether_operator.observed.server_owners import Ownership, ServerOwner


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedPlatform(Observed):
    """One platform's objects, servers and components, read live; `None` for what was not read."""

    identity: ServerOwner | None = None
    """The platform as its servers record their owner."""
    servers: Mapping[Server, ServerReport] = field(default_factory=dict)
    schema: SchemaReport | None = None
    topics: TopicsReport | None = None
    owners: Mapping[Server, Ownership] = field(default_factory=dict)
    """The owners of the servers; without those that are unknown."""
    component_reports: Mapping[str, ComponentReport] = field(default_factory=dict)
    """Pod → its report, of the type of its service if it answered; without pods that could not be queried."""
