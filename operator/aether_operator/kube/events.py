"""Kubernetes Events on the objects that the operator reconciles; a repetition counts up a series."""

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

SERIES_WINDOW: Final = 600.0
"""Seconds within which an equal event is a repetition."""
MAX_REMEMBERED: Final = 4096
MAX_NOTE_BYTES: Final = 1024
"""The API server's limit, which it applies to bytes and not to characters."""


@dataclass(slots=True)
class _Emitted:
    name: str
    count: int
    last: float


@dataclass(slots=True, kw_only=True)
class EventRecorder:
    """Writes the events of one operator process, `instance`."""

    api: api_client.Api
    instance: str
    clock: Callable[[], float] = time.monotonic
    _emitted: OrderedDict[tuple[str, ...], _Emitted] = field(default_factory=OrderedDict)

    async def emit(self, about: Manifest, reason: str, note: str, *, warning: bool = False, action: str) -> None:
        """Write an event, without retries.

        Raises:
            Unavailable: The API server did not take it.
            ApiError: The API server rejected it.
        """
        meta = about["metadata"]
        note = _truncated(note)
        type_ = "Warning" if warning else "Normal"
        key = (meta["uid"], type_, reason, note)
        known = self._emitted.get(key)
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        if known is not None and self.clock() - known.last < SERIES_WINDOW:
            known.count, known.last = known.count + 1, self.clock()
            where = api_client.path(EVENTS, meta["namespace"], known.name)
            series = {"series": {"count": known.count, "lastObservedTime": now}}
            await self.api.write("PATCH", where, EVENTS.kind, body=series, content=api_client.MERGE)
            return
        suffix = hashlib.sha256("\0".join((*key, self.instance, now)).encode()).hexdigest()[:16]
        event: dict[str, Any] = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": f"{meta['name']}.{suffix}", "namespace": meta["namespace"]},
            "eventTime": now,
            "reportingController": f"trading.aether.io/{labels.OPERATOR}",
            "reportingInstance": self.instance,
            "type": type_,
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
        self._emitted[key] = _Emitted(event["metadata"]["name"], 1, self.clock())
        self._emitted.move_to_end(key)
        while len(self._emitted) > MAX_REMEMBERED:
            self._emitted.popitem(last=False)


def _truncated(note: str) -> str:
    """A note within the limit: the API server rejects an event whose note is longer."""
    encoded, ellipsis = note.encode(errors="replace"), "…"
    if len(encoded) <= MAX_NOTE_BYTES:
        return encoded.decode()
    return encoded[: MAX_NOTE_BYTES - len(ellipsis.encode())].decode(errors="ignore") + ellipsis
