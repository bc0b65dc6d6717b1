"""Of TradingPlatforms, their children and the Secrets they name: notice that something happened, and nothing more."""

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
    """Have every event of these kinds put a key into the queue."""

    async def notice_platform(body: kopf.RawBody, type: str | None, **_: Any) -> None:  # noqa: A002 - Kopf's word
        meta = body["metadata"]
        key = Key(KIND, meta["namespace"], meta["name"])
        # Our own write of its status, and not the list of a new beginning: nothing that we do not know.
        if type != "MODIFIED" or index.own_writes.get(key) != meta["resourceVersion"]:
            queue.add(key)

    _on(kinds.PLATFORMS, notice_platform, registry)
    for kind in (*kinds.CHILDREN, kinds.PODS):

        async def notice_child(body: kopf.RawBody, kind: Kind = kind, **_: Any) -> None:
            for key in _whose(kind, body, index):
                queue.add(key)

        _on(kind, notice_child, registry)


def _on(kind: Kind, notice: Any, registry: kopf.OperatorRegistry) -> None:
    group, _, version = kind.api_version.rpartition("/")
    kopf.on.event(group, version, kind.plural, registry=registry, id=f"notice-{kind.plural}")(notice)


def _whose(kind: Kind, body: kopf.RawBody, index: Index) -> frozenset[Key]:
    """The platforms that an object concerns, by its label and by what former visits saw."""
    meta = body["metadata"]
    platform = meta.get("labels", {}).get(labels.PLATFORM)
    named = {Key(KIND, meta["namespace"], platform)} if platform is not None else set()
    return frozenset(named | index.keys.get((meta["namespace"], kind.kind, meta["name"]), set()))
