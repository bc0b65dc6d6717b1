"""Compares desired with observed state: the actions that are left, in order, and what blocks others."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aether_operator.api import labels
from aether_operator.observed import kinds, live_objects, workloads
from aether_operator.observed.kinds import Ref
from aether_operator.planning import blockers, comparisons

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aether_operator.api.platforms import Platform
    from aether_operator.observed.kinds import Manifest
    from aether_operator.observed.observation import Blocker, Observed


@dataclass(frozen=True, slots=True, kw_only=True)
class Apply:
    """Apply a child. `live` is the existing object, if any."""

    manifest: Manifest
    live: Manifest | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Delete a child that is no longer desired, if it is still the object that was observed."""

    ref: Ref
    uid: str
    resource_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncConfig:
    """Write the digest of the newest live settings into a pod's annotations.

    A kubelet syncs a changed pod at once, including the files of its ConfigMaps; otherwise it does so once a minute.
    The pod reads the file, not the annotation.
    """

    pod: str
    uid: str
    settings: Ref
    """The ConfigMap that must be up to date first."""
    digest: str


Action = Apply | SyncConfig | Delete


@dataclass(frozen=True, slots=True)
class Plan:
    """Actions, in this order, and blockers that only a person can resolve."""

    actions: tuple[Action, ...]
    blockers: tuple[Blocker, ...]


def plan(desired: Sequence[Manifest], observed: Observed, platform: Platform) -> Plan:
    """The actions that are left: none if observed and desired state agree.

    Applies come first, in the order of kinds, then config syncs, then deletes. An object of somebody else with the name
    of a child is left unchanged.
    """
    actions: list[Action] = []
    found: list[Blocker] = []
    order = {kind.kind: index for index, kind in enumerate(kinds.CHILDREN)}
    for manifest in sorted(desired, key=lambda manifest: order[manifest["kind"]]):
        live = observed.children.get(kinds.ref(manifest))
        if live is None:
            actions.append(Apply(manifest=manifest, live=None))
            continue
        if not live_objects.belongs_to(live, platform.name):
            found.append(blockers.name_taken(manifest, live))
            continue
        acceptable, blocker = _acceptable(manifest, live)
        if blocker is not None:
            found.append(blocker)
        if acceptable is None or live_objects.is_deleting(live):
            continue  # what is being deleted is recreated once it is deleted
        if not comparisons.is_up_to_date(acceptable, live):
            actions.append(Apply(manifest=acceptable, live=live))
    blocked = {one.ref for one in found}
    return Plan(
        (*actions, *_config_syncs(desired, observed, blocked), *_pruned(desired, observed, platform)), tuple(found)
    )


def _config_syncs(desired: Sequence[Manifest], observed: Observed, blocked: set[Ref]) -> Iterator[SyncConfig]:
    """A config sync for each pod that mounts live settings and lacks the newest digest, new pods included."""
    settings = [one for one in desired if one["kind"] == kinds.CONFIG_MAPS.kind and kinds.ref(one) not in blocked]
    for config in settings:
        digest, which = config["metadata"]["annotations"][labels.SETTINGS], kinds.ref(config)
        for stateful_set in desired:
            live = observed.children.get(kinds.ref(stateful_set))
            if live is None or which not in required_refs(stateful_set):
                continue
            for pod in workloads.pods_of(observed.pods, live):
                current = (pod["metadata"].get("annotations") or {}).get(labels.SETTINGS)
                if current != digest and not live_objects.is_deleting(pod):
                    meta = pod["metadata"]
                    yield SyncConfig(pod=meta["name"], uid=meta["uid"], settings=which, digest=digest)


def required_refs(manifest: Manifest) -> frozenset[Ref]:
    """The Secrets and ConfigMaps that a StatefulSet's pods cannot start without; empty for other kinds."""
    if manifest["kind"] != kinds.STATEFUL_SETS.kind:
        return frozenset()
    found = set()
    for volume in manifest["spec"]["template"]["spec"]["volumes"]:
        if "secret" in volume:
            found.add(Ref(kinds.SECRETS.kind, volume["secret"]["secretName"]))
        if "configMap" in volume:
            found.add(Ref(kinds.CONFIG_MAPS.kind, volume["configMap"]["name"]))
        for source in volume.get("projected", {}).get("sources", ()):
            if not source["secret"].get("optional"):
                found.add(Ref(kinds.SECRETS.kind, source["secret"]["name"]))
    return frozenset(found)


def _acceptable(manifest: Manifest, live: Manifest) -> tuple[Manifest | None, Blocker | None]:
    """The part of a manifest that the API server can accept over the live object, and what blocks the rest."""
    kind = kinds.of(manifest)
    if kind == kinds.CLAIMS:
        shrinking = blockers.claim_shrinks(manifest, live)
        if shrinking is None:
            return manifest, None
        reduced = copy.deepcopy(manifest)
        reduced["spec"]["resources"]["requests"]["storage"] = live["spec"]["resources"]["requests"]["storage"]
        return reduced, shrinking
    if kind == kinds.STATEFUL_SETS:
        immutable = blockers.immutable_fields(manifest, live)
        return (manifest, None) if immutable is None else (None, immutable)
    return manifest, None


def _pruned(desired: Sequence[Manifest], observed: Observed, platform: Platform) -> list[Delete]:
    """Deletes our children that are no longer desired. Children without an owner reference are data, and stay."""
    keep = {kinds.ref(manifest) for manifest in desired}
    order = {kind.kind: index for index, kind in enumerate(kinds.CHILDREN)}
    deletions = [
        Delete(ref=ref, uid=live["metadata"]["uid"], resource_version=live["metadata"]["resourceVersion"])
        for ref, live in observed.children.items()
        if ref.kind in order
        and ref not in keep
        and _has_our_labels(live, platform)
        and live_objects.has_owner(live, platform.uid)
        and not live_objects.is_deleting(live)
    ]
    # Workloads first, then what they depend on.
    return sorted(deletions, key=lambda action: (-order[action.ref.kind], action.ref.name))


def _has_our_labels(live: Manifest, platform: Platform) -> bool:
    from_us = live["metadata"].get("labels") or {}
    return {**from_us, **blockers.child_labels(platform.name)} == from_us
