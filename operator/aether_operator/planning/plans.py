"""Compares desired with observed state: the actions that are left, in order, and what blocks others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aether_operator.api import labels
from aether_operator.observed import kinds, live_objects, workloads
from aether_operator.planning import blockers, child_kinds, comparisons

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from aether_operator.api.owners import Owner
    from aether_operator.observed.kinds import Manifest, Ref
    from aether_operator.observed.observation import Blocker, Observed


NO_STORAGE: Final[Mapping[str, str]] = {}


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


def plan(
    desired: Sequence[Manifest], observed: Observed, owner: Owner, storage_fields: Mapping[str, str] = NO_STORAGE
) -> Plan:
    """The actions that are left: none if observed and desired state agree.

    Applies come first, in the order of kinds, then config syncs, then deletes. An object of somebody else with the name
    of a child is left unchanged.

    Args:
        desired: The children that the owner should have.
        observed: The live objects.
        owner: The owner of the children.
        storage_fields: Component → the field of the owner's spec that sets its storage, for messages.
    """
    actions: list[Action] = []
    found: list[Blocker] = []
    for manifest in sorted(desired, key=lambda manifest: child_kinds.ORDER[manifest["kind"]]):
        live = observed.children.get(kinds.ref(manifest))
        if live is None:
            actions.append(Apply(manifest=manifest, live=None))
            continue
        if not live_objects.belongs_to(live, owner):
            found.append(blockers.name_taken(manifest, live, owner))
            continue
        acceptable, blocker = child_kinds.BY_NAME[manifest["kind"]].acceptable(manifest, live, storage_fields)
        if blocker is not None:
            found.append(blocker)
        if acceptable is None or live_objects.is_deleting(live):
            continue  # what is being deleted is recreated once it is deleted
        if not comparisons.is_up_to_date(acceptable, live):
            actions.append(Apply(manifest=acceptable, live=live))
    blocked = {one.ref for one in found}
    return Plan(
        (*actions, *_config_syncs(desired, observed, blocked), *_pruned(desired, observed, owner)), tuple(found)
    )


def _config_syncs(desired: Sequence[Manifest], observed: Observed, blocked: set[Ref]) -> Iterator[SyncConfig]:
    """A config sync for each pod that mounts live settings and lacks the newest digest, new pods included."""
    for config in desired:
        digest, which = config["metadata"].get("annotations", {}).get(labels.SETTINGS), kinds.ref(config)
        if config["kind"] != kinds.CONFIG_MAPS.kind or digest is None or which in blocked:
            continue
        for stateful_set in desired:
            live = observed.children.get(kinds.ref(stateful_set))
            if live is None or which not in child_kinds.required_refs(stateful_set):
                continue
            for pod in workloads.pods_of(observed.pods, live):
                current = (pod["metadata"].get("annotations") or {}).get(labels.SETTINGS)
                if current != digest and not live_objects.is_deleting(pod):
                    meta = pod["metadata"]
                    yield SyncConfig(pod=meta["name"], uid=meta["uid"], settings=which, digest=digest)


def _pruned(desired: Sequence[Manifest], observed: Observed, owner: Owner) -> list[Delete]:
    """Deletes our children that are no longer desired. Children without an owner reference are data, and stay."""
    keep = {kinds.ref(manifest) for manifest in desired}
    deletions = [
        Delete(ref=ref, uid=live["metadata"]["uid"], resource_version=live["metadata"]["resourceVersion"])
        for ref, live in observed.children.items()
        if ref not in keep
        and child_kinds.BY_NAME[ref.kind].pruned
        and (live["metadata"].get("labels") or {}).get(labels.MANAGED_BY) == labels.OPERATOR
        and live_objects.named_owner(live) == (owner.kind, owner.name)
        and live_objects.has_owner(live, owner.uid)
        and not live_objects.is_deleting(live)
    ]
    # Workloads first, then what they depend on.
    return sorted(deletions, key=lambda action: (-child_kinds.ORDER[action.ref.kind], action.ref.name))
