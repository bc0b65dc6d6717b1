"""Desired against observed: the acts that are left to do, in order, and what stands in their way."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aether_operator.observed import kinds, ownership
from aether_operator.reconcile import comparisons, troubles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aether_operator.api.platforms import Platform
    from aether_operator.observed.kinds import Manifest, Ref
    from aether_operator.observed.worlds import Trouble, World


@dataclass(frozen=True, slots=True, kw_only=True)
class Apply:
    """Make a child as wanted. `live` is what is there, or nothing."""

    manifest: Manifest
    live: Manifest | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Delete a child that is not wanted any more: this one, as it was seen, or none."""

    ref: Ref
    uid: str
    resource_version: str


Act = Apply | Delete


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in this order, and what nobody but a person can mend."""

    acts: tuple[Act, ...]
    troubles: tuple[Trouble, ...]


def plan(wanted: Sequence[Manifest], world: World, platform: Platform) -> Plan:
    """What is left to do: nothing, where the world is as wanted.

    Applies come in the order of kinds, deletes last. A name that somebody else's object has is left alone.
    """
    acts: list[Act] = []
    found: list[Trouble] = []
    order = {kind.kind: place for place, kind in enumerate(kinds.CHILDREN)}
    for manifest in sorted(wanted, key=lambda thing: order[thing["kind"]]):
        live = world.children.get(kinds.ref(manifest))
        if live is None:
            acts.append(Apply(manifest=manifest, live=None))
            continue
        if not ownership.ours(live, platform.name):
            found.append(troubles.name_taken(manifest, live))
            continue
        possible, trouble = _possible(manifest, live)
        if trouble is not None:
            found.append(trouble)
        if possible is None or ownership.deleting(live):
            continue  # what is on its way out is made anew when it is gone
        if not comparisons.as_wanted(possible, live):
            acts.append(Apply(manifest=possible, live=live))
    return Plan((*acts, *_pruned(wanted, world, platform)), tuple(found))


def _possible(manifest: Manifest, live: Manifest) -> tuple[Manifest | None, Trouble | None]:
    """As much of a manifest as the API server can accept over what is there, and what it cannot."""
    kind = kinds.of(manifest)
    if kind == kinds.CLAIMS:
        less = troubles.shrinking(manifest, live)
        if less is None:
            return manifest, None
        kept = copy.deepcopy(manifest)
        kept["spec"]["resources"]["requests"]["storage"] = live["spec"]["resources"]["requests"]["storage"]
        return kept, less
    if kind == kinds.STATEFUL_SETS:
        fixed = troubles.fixed_fields(manifest, live)
        return (manifest, None) if fixed is None else (None, fixed)
    return manifest, None


def _pruned(wanted: Sequence[Manifest], world: World, platform: Platform) -> list[Delete]:
    """Our children that are not wanted any more. What has no owner is data, and stays."""
    keep = {kinds.ref(manifest) for manifest in wanted}
    order = {kind.kind: place for place, kind in enumerate(kinds.CHILDREN)}
    gone = [
        Delete(ref=ref, uid=live["metadata"]["uid"], resource_version=live["metadata"]["resourceVersion"])
        for ref, live in world.children.items()
        if ref.kind in order
        and ref not in keep
        and _labelled(live, platform)
        and ownership.owned_by(live, platform.uid)
        and not ownership.deleting(live)
    ]
    # Workloads first, and what they need last.
    return sorted(gone, key=lambda act: (-order[act.ref.kind], act.ref.name))


def _labelled(live: Manifest, platform: Platform) -> bool:
    from_us = live["metadata"].get("labels") or {}
    return {**from_us, **troubles.marks(platform.name)} == from_us
