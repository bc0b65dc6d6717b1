"""The kinds of children: one row each, in the order in which children are applied."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aether_operator.observed import kinds
from aether_operator.observed.kinds import Ref
from aether_operator.planning import blockers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aether_operator.observed.kinds import Kind, Manifest
    from aether_operator.observed.observation import Blocker

    Acceptable = Callable[[Manifest, Manifest, Mapping[str, str]], tuple[Manifest | None, Blocker | None]]


def _whole(manifest: Manifest, _live: Manifest, _storage: Mapping[str, str]) -> tuple[Manifest | None, Blocker | None]:
    return manifest, None


def _without_shrinking(
    manifest: Manifest, live: Manifest, storage: Mapping[str, str]
) -> tuple[Manifest | None, Blocker | None]:
    shrinking = blockers.claim_shrinks(manifest, live, storage)
    if shrinking is None:
        return manifest, None
    reduced = copy.deepcopy(manifest)
    reduced["spec"]["resources"]["requests"]["storage"] = live["spec"]["resources"]["requests"]["storage"]
    return reduced, shrinking


def _if_mutable(
    manifest: Manifest, live: Manifest, _storage: Mapping[str, str]
) -> tuple[Manifest | None, Blocker | None]:
    immutable = blockers.immutable_fields(manifest, live)
    return (manifest, None) if immutable is None else (None, immutable)


def _nothing(_manifest: Manifest) -> frozenset[Ref]:
    return frozenset()


def _of_pod_template(manifest: Manifest) -> frozenset[Ref]:
    found = set()
    for volume in manifest["spec"]["template"]["spec"].get("volumes", ()):
        if "secret" in volume:
            found.add(Ref(kinds.SECRETS.kind, volume["secret"]["secretName"]))
        if "configMap" in volume:
            found.add(Ref(kinds.CONFIG_MAPS.kind, volume["configMap"]["name"]))
        for source in volume.get("projected", {}).get("sources", ()):
            for part, kind in (("secret", kinds.SECRETS.kind), ("configMap", kinds.CONFIG_MAPS.kind)):
                if part in source and not source[part].get("optional"):
                    found.add(Ref(kind, source[part]["name"]))
    return frozenset(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildKind:
    """What planning knows of a kind of children."""

    kind: Kind
    acceptable: Acceptable = _whole
    """The part of a manifest that the API server can accept over the live object, and what blocks the rest. Its third
    argument is the field of the owner's spec that sets a component's storage."""
    required_refs: Callable[[Manifest], frozenset[Ref]] = _nothing
    """The Secrets and ConfigMaps that its pods cannot start without."""

    @property
    def pruned(self) -> bool:
        """Whether a child that is not desired any more is deleted. Data are not: there is no right to delete them."""
        return "delete" in self.kind.verbs


CHILD_KINDS: Final = (
    ChildKind(kind=kinds.SECRETS),
    ChildKind(kind=kinds.CONFIG_MAPS),
    ChildKind(kind=kinds.SERVICES),
    ChildKind(kind=kinds.CLAIMS, acceptable=_without_shrinking),
    ChildKind(kind=kinds.POLICIES),
    ChildKind(kind=kinds.BUDGETS),
    ChildKind(kind=kinds.STATEFUL_SETS, acceptable=_if_mutable, required_refs=_of_pod_template),
)
KINDS: Final = tuple(one.kind for one in CHILD_KINDS)
BY_NAME: Final = {one.kind.kind: one for one in CHILD_KINDS}
ORDER: Final = {one.kind.kind: index for index, one in enumerate(CHILD_KINDS)}


def required_refs(manifest: Manifest) -> frozenset[Ref]:
    """The Secrets and ConfigMaps that a child's pods cannot start without; empty for kinds without pods."""
    return BY_NAME[manifest["kind"]].required_refs(manifest)
