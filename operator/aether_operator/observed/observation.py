"""The observed state of one platform in one reconcile."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_operator.api.platforms import Server
    from aether_operator.api.reasons import Reason
    from aether_operator.observed.components import ComponentReport
    from aether_operator.observed.kinds import Manifest, Ref
    from aether_operator.observed.reports import SchemaReport, ServerReport, TopicsReport
    from aether_operator.observed.server_owners import Ownership


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocker:
    """A child that only a person can unblock: NAME_TAKEN, IMMUTABLE_FIELD or REQUEST_REJECTED."""

    ref: Ref
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One platform's children, Secrets, servers and components, read live; `None` for what was not read.

    `children` are the live objects with this platform's label, and those with the name of a child. `pods` are those of
    its StatefulSets; `events` are read only while a StatefulSet lacks a pod or a claim lacks a volume. `secrets` are
    the user's Secrets that the spec names: name → key → value, with None for a Secret that does not exist; the values
    never leave the reconcile.
    """

    children: Mapping[Ref, Manifest]
    paused: bool = False
    """Whether the platform is paused, so that nothing is changed."""
    pods: tuple[Manifest, ...] = ()
    events: tuple[Manifest, ...] = ()
    secrets: Mapping[str, Mapping[str, str] | None] = field(default_factory=dict, repr=False)
    servers: Mapping[Server, ServerReport] = field(default_factory=dict)
    schema: SchemaReport | None = None
    topics: TopicsReport | None = None
    owners: Mapping[Server, Ownership] = field(default_factory=dict)
    """The owners of the servers; without those that are unknown."""
    component_reports: Mapping[str, ComponentReport] = field(default_factory=dict)
    """Pod → its report; without pods that could not be queried."""
    blockers: tuple[Blocker, ...] = ()
