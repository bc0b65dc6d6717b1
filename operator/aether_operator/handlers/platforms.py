"""Event handlers for TradingPlatforms, their children and the Secrets that they name: each adds keys to the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import kopf

from aether_operator.api import labels
from aether_operator.api.platforms import KIND
from aether_operator.controllers.workqueue import Key
from aether_operator.observed import kinds

if TYPE_CHECKING:
    from aether_operator.controllers.platforms import Index
    from aether_operator.controllers.workqueue import Queue
    from aether_operator.observed.kinds import Kind


def register(registry: kopf.OperatorRegistry, queue: Queue, index: Index) -> None:
    """Register handlers for the events of TradingPlatforms, their children and pods, and all Secrets."""

    async def enqueue_platform(body: kopf.RawBody, type: str | None, **_: Any) -> None:  # noqa: A002 - Kopf's word
        meta = body["metadata"]
        key = Key(KIND, meta["namespace"], meta["name"])
        # Not for our own write of the status, unless it comes in the list with which a watch begins.
        if type != "MODIFIED" or index.own_writes.get(key) != meta["resourceVersion"]:
            queue.add(key)

    _on_event(kinds.PLATFORMS, enqueue_platform, registry)
    for kind in (*kinds.CHILDREN, kinds.PODS):

        async def enqueue_owners(body: kopf.RawBody, kind: Kind = kind, **_: Any) -> None:
            for key in _owners(kind, body, index):
                queue.add(key)

        _on_event(kind, enqueue_owners, registry)


def _on_event(kind: Kind, handler: Any, registry: kopf.OperatorRegistry) -> None:
    group, _, version = kind.api_version.rpartition("/")
    kopf.on.event(group, version, kind.plural, registry=registry, id=f"enqueue-{kind.plural}")(handler)


def _owners(kind: Kind, body: kopf.RawBody, index: Index) -> frozenset[Key]:
    """The platforms that own or use an object, by its label and by the index."""
    meta = body["metadata"]
    platform = meta.get("labels", {}).get(labels.PLATFORM)
    labelled = {Key(KIND, meta["namespace"], platform)} if platform is not None else set()
    return frozenset(labelled | index.keys.get((meta["namespace"], kind.kind, meta["name"]), set()))
