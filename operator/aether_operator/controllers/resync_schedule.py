"""When steady objects are reconciled again without an event: never more than `RESYNCS_PER_SECOND`, over all of them.

Neither a count of the objects nor jitter would do: after a failover every object is reconciled within a minute, so all
would come back within a minute, however late.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aether_operator.controllers.workqueue import Key

RESYNCS_PER_SECOND: Final = 5


@dataclass(frozen=True, slots=True)
class Resync:
    """A reconcile that a steady object needs only because some changes send no event.

    `seconds` from now, or later where the cap needs it or the object has a later slot already. What may not wait for
    other objects is a plain number instead. Urgent kinds are few, and have no cap.
    """

    seconds: float


@dataclass(slots=True)
class ResyncSchedule:
    """Gives each object a slot of its own: slot n is at n / `RESYNCS_PER_SECOND` seconds of the loop's clock."""

    _slots: dict[Key, int] = field(default_factory=dict)
    _taken: set[int] = field(default_factory=set)

    def next(self, key: Key, resync: Resync, *, now: float) -> float:
        """Seconds until the resync of an object: in the slot that it has, or else in the first free one."""
        slot = self._slots.get(key)
        # A slot to come is kept, or frequent events would put off what they do not report. The slot that is just
        # beginning is this reconcile's.
        if slot is None or slot <= math.ceil(now * RESYNCS_PER_SECOND):
            self.forget(key)
            slot = math.ceil((now + resync.seconds) * RESYNCS_PER_SECOND)
            while slot in self._taken:
                slot += 1
            self._slots[key] = slot
            self._taken.add(slot)
        return slot / RESYNCS_PER_SECOND - now

    def forget(self, key: Key) -> None:
        """Free the slot of an object that is not reconciled any more, if it has one."""
        slot = self._slots.pop(key, None)
        if slot is not None:
            self._taken.remove(slot)
