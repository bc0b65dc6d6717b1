"""Events for people, on the platform they are about: each said once, repetitions counted."""

from __future__ import annotations

import datetime
import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aether_operator.api import labels
from aether_operator.kube import api_client
from aether_operator.observed.kinds import EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from aether_operator.observed.kinds import Manifest

SAME: Final = 600.0
"""Seconds within which the same event again is a repetition."""
KEPT: Final = 4096
LONGEST: Final = 1024
"""Bytes in an event's note: the API's limit, which here counts no letters."""


@dataclass(slots=True)
class _Emitted:
    name: str
    count: int
    last: float


@dataclass(slots=True, kw_only=True)
class EventRecorder:
    """The reporter of one operator process."""

    api: api_client.Api
    instance: str
    clock: Callable[[], float] = time.monotonic
    _said: OrderedDict[tuple[str, ...], _Emitted] = field(default_factory=OrderedDict)

    async def emit(self, about: Manifest, reason: str, note: str, *, warning: bool = False, action: str) -> None:
        """Tell it. An event is worth one try: what cannot be told is not told again."""
        meta = about["metadata"]
        note = _bounded(note)
        key = (meta["uid"], reason, note)
        known = self._said.get(key)
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        if known is not None and self.clock() - known.last < SAME:
            known.count, known.last = known.count + 1, self.clock()
            where = api_client.path(EVENTS, meta["namespace"], known.name)
            series = {"series": {"count": known.count, "lastObservedTime": now}}
            await self.api.write("PATCH", where, EVENTS.kind, body=series, content=api_client.MERGE)
            return
        word = hashlib.sha256("\0".join((*key, self.instance, now)).encode()).hexdigest()[:16]
        event: dict[str, Any] = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": f"{meta['name']}.{word}", "namespace": meta["namespace"]},
            "eventTime": now,
            "reportingController": f"trading.aether.io/{labels.OPERATOR}",
            "reportingInstance": self.instance,
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "action": action,
            "note": note,
            "regarding": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "name": meta["name"],
                "namespace": meta["namespace"],
                "uid": meta["uid"],
            },
        }
        await self.api.write("POST", api_client.path(EVENTS, meta["namespace"]), EVENTS.kind, body=event)
        self._said[key] = _Emitted(event["metadata"]["name"], 1, self.clock())
        self._said.move_to_end(key)
        while len(self._said) > KEPT:
            self._said.popitem(last=False)


def _bounded(note: str) -> str:
    """As much of a note as the API server takes, which refuses the whole event for one byte more."""
    said, more = note.encode(errors="replace"), "…"
    if len(said) <= LONGEST:
        return said.decode()
    return said[: LONGEST - len(more.encode())].decode(errors="ignore") + more
