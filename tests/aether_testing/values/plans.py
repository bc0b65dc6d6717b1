"""The plan for a platform in an observed state, and its actions by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aether_operator import desired, planning
from aether_operator.controllers.platforms import PlatformReconciler
from aether_operator.observed import kinds
from aether_operator.planning import child_kinds
from aether_testing.values import observations

if TYPE_CHECKING:
    from aether_operator.api.platforms import Platform
    from aether_operator.observed.kinds import Manifest, Ref
    from aether_operator.observed.platforms import ObservedPlatform


def planned(platform: Platform, observed: ObservedPlatform) -> planning.Plan:
    """What the operator would do for a platform in this state."""
    expected = desired.children(platform, observed, observations.a_release(), observations.tokens("n"))
    return planning.plan(expected, observed, platform.owner, PlatformReconciler.storage_fields)


def _name(action: planning.Action) -> str:
    match action:
        case planning.Apply():
            return str(kinds.ref(action.manifest))
        case planning.SyncConfig():
            return f"sync config {action.pod}"
        case planning.Delete():
            return str(action.ref)


def names(plan: planning.Plan) -> list[str]:
    """A plan's actions in order: `Service paper-nats` is applied or deleted, `sync config paper-ingest-0`."""
    return [_name(action) for action in plan.actions]


def other_object(ref: Ref, **meta: Any) -> Manifest:
    """An object that somebody else created, with the name of a child."""
    kind = next(kind for kind in child_kinds.KINDS if kind.kind == ref.kind)
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": ref.name, "namespace": "desk", "uid": "u", "resourceVersion": "3", **meta},
        "spec": {},
    }
