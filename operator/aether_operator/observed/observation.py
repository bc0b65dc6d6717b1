"""What a visit saw of one platform's surroundings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_operator.api.platforms import Server
    from aether_operator.api.reasons import Reason
    from aether_operator.observed.components import ComponentReport
    from aether_operator.observed.kinds import Manifest, Ref
    from aether_operator.observed.owners import Ownership
    from aether_operator.observed.reports import SchemaReport, ServerReport, TopicsReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocker:
    """An object of ours that could not be made as it should be: NAME_TAKEN, IMMUTABLE_FIELD, REFUSED."""

    ref: Ref
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One platform's surroundings, read live; `None` for what could not be read or was not asked yet.

    `children` are the live objects with this platform's label, and those found under a name that a child should have.
    `pods` are those of its StatefulSets; `events` those of StatefulSets that lack a pod and of claims without a volume,
    read while that is so. `secrets` are the user's Secrets that the spec names: name → key → value, with
    None where there is no such Secret; their values never leave the visit.
    """

    children: Mapping[Ref, Manifest]
    paused: bool = False
    """Whether nothing is changed: what is missing stays missing."""
    pods: tuple[Manifest, ...] = ()
    events: tuple[Manifest, ...] = ()
    secrets: Mapping[str, Mapping[str, str] | None] = field(default_factory=dict, repr=False)
    servers: Mapping[Server, ServerReport] = field(default_factory=dict)
    schema: SchemaReport | None = None
    topics: TopicsReport | None = None
    owners: Mapping[Server, Ownership] = field(default_factory=dict)
    """Whose the servers are that the spec names; without those that nobody knows it of."""
    component_reports: Mapping[str, ComponentReport] = field(default_factory=dict)
    """Pod → what it said; without pods that could not be asked."""
    blockers: tuple[Blocker, ...] = ()
