"""The observed state of one owner in one reconcile, as far as it is the same for every kind."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_operator.api.reasons import Reason
    from aether_operator.observed.kinds import Manifest, Ref


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocker:
    """A child that only a person can unblock: NAME_TAKEN, IMMUTABLE_FIELD or REQUEST_REJECTED."""

    ref: Ref
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The objects of one owner, read live. What a kind learns beyond them is in a type of its own, derived from this.

    `children` are the live objects with the owner's labels, and those with the name of a child. `pods` are those of its
    workloads; `events` are read only while a StatefulSet lacks a pod or a claim lacks a volume. `secrets` are the
    user's Secrets that the spec names: name → key → value, with None for a Secret that does not exist; the values
    never leave the reconcile. `parents` are the other custom resources that the spec names, None if one does not exist.
    """

    children: Mapping[Ref, Manifest]
    paused: bool = False
    """Whether the owner is paused, so that nothing is changed."""
    deleting: bool = False
    """Whether the owner is being deleted, and what it has outside of the cluster is undone."""
    pods: tuple[Manifest, ...] = ()
    events: tuple[Manifest, ...] = ()
    secrets: Mapping[str, Mapping[str, str] | None] = field(default_factory=dict, repr=False)
    parents: Mapping[Ref, Manifest | None] = field(default_factory=dict)
    blockers: tuple[Blocker, ...] = ()

    @classmethod
    def of(cls, objects: Observed, **learned: Any) -> Self:
        """A kind's own observed state: these objects, and what it learned beyond them."""
        return cls(**{one.name: getattr(objects, one.name) for one in dataclasses.fields(Observed)}, **learned)
