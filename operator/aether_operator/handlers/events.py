"""Event handlers for Aether's kinds, their children and the Secrets that they name: each adds keys to the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import kopf

from aether_operator.controllers.workqueue import Key
from aether_operator.observed import kinds, live_objects
from aether_operator.planning import child_kinds

if TYPE_CHECKING:
    from collections.abc import Collection

    from aether_operator.controllers.index import Index
    from aether_operator.controllers.workqueue import Queue
    from aether_operator.observed.kinds import Kind


def register(registry: kopf.OperatorRegistry, own: Collection[Kind], queue: Queue, index: Index) -> None:
    """Register handlers for the events of our `own` kinds, of children and pods, and of all Secrets."""
    names = frozenset(kind.kind for kind in own)
    for kind in own:

        async def enqueue_own(
            body: kopf.RawBody,
            type: str | None,  # noqa: A002 - Kopf's word
            kind: Kind = kind,
            **_: Any,
        ) -> None:
            meta = body["metadata"]
            key = Key(kind.kind, meta["namespace"], meta["name"])
            # Not for our own write of the status, unless it comes in the list with which a watch begins.
            if type != "MODIFIED" or index.own_writes.get(key) != meta["resourceVersion"]:
                queue.add(key)
            for other in index.keys_of(key.namespace, kinds.Ref(kind.kind, key.name)):
                queue.add(other)

        _on_event(kind, enqueue_own, registry)
    for kind in (*child_kinds.KINDS, kinds.PODS):

        async def enqueue_owners(body: kopf.RawBody, kind: Kind = kind, **_: Any) -> None:
            meta = body["metadata"]
            owner = live_objects.named_owner(dict(body))
            if owner is not None and owner[0] in names:
                queue.add(Key(owner[0], meta["namespace"], owner[1]))
            for key in index.keys_of(meta["namespace"], kinds.Ref(kind.kind, meta["name"])):
                queue.add(key)

        _on_event(kind, enqueue_owners, registry)


def _on_event(kind: Kind, handler: Any, registry: kopf.OperatorRegistry) -> None:
    group, _, version = kind.api_version.rpartition("/")
    kopf.on.event(group, version, kind.plural, registry=registry, id=f"enqueue-{kind.plural}")(handler)
