"""What has been asked of the venue on one connection, and what is to be asked next: a table, walked by its answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from aether_services.ingest.core import wire
from aether_services.ingest.core.wire import Channel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aether_services.domain.instruments import Symbol
    from aether_services.ingest.core.wire import Head

PATIENCE: Final = 10.0
"""Seconds for an answer; then it is asked again."""
RETRY_REFUSED: Final = 60.0
"""Seconds until what was refused is asked again: a market may be listed later."""


class Step(Enum):
    """How far a subscription is."""

    JOINING = "joining"
    HELD = "held"
    LEAVING = "leaving"
    REFUSED = "refused"


Key = tuple[Channel, "Symbol | None"]


@dataclass(slots=True)
class _Subscription:
    step: Step
    req_id: int
    at: float
    error: str = ""
    again: bool = False
    """Whether it is to be joined anew once it is left: that brings a snapshot."""


@dataclass(slots=True)
class Subscriptions:
    """The subscriptions of one connection.

    Args:
        params: Channel → what is asked for with it; the key of a subscription, which its end has to repeat.
        extra: Channel → what else is asked for when joining.
    """

    params: Mapping[Channel, Mapping[str, Any]]
    extra: Mapping[Channel, Mapping[str, Any]] = field(default_factory=dict)
    _known: dict[Key, _Subscription] = field(default_factory=dict)
    _asked: dict[int, Key] = field(default_factory=dict)
    _next: int = 1

    def requests(self, wanted: set[Key], now: float, *, most: int) -> Iterator[str]:
        """What to send, at most so much at once, so that what is wanted is held and nothing else."""
        for key in sorted(wanted | set(self._known), key=lambda key: (key[1] or "", key[0])):
            if most <= 0:
                return
            known = self._known.get(key)
            if known is not None and known.step is Step.REFUSED and key not in wanted:
                self._forget(key)
                continue
            if known is None or (known.step is Step.REFUSED and now - known.at >= RETRY_REFUSED):
                asked = self._join(key, now)
            elif known.step in {Step.JOINING, Step.LEAVING} and now - known.at >= PATIENCE:
                joins = known.step is Step.JOINING and key in wanted
                asked = self._join(key, now) if joins else self._leave(key, now, again=known.again)
            elif known.step is Step.HELD and key not in wanted:
                asked = self._leave(key, now, again=False)
            else:
                continue
            most -= 1
            yield asked

    def renew(self, key: Key, now: float) -> str | None:
        """What to send for a fresh snapshot: the subscription ends, and its end is answered by a new one."""
        known = self._known.get(key)
        return self._leave(key, now, again=True) if known is not None and known.step is Step.HELD else None

    def answered(self, reply: Head, now: float) -> tuple[Key, Step, str] | None:
        """Whose reply it is, how far that is now, and the venue's words where it refused."""
        key = self._asked.pop(reply.req_id, None) if reply.req_id is not None else None
        known = self._known.get(key) if key is not None else None
        if key is None or known is None or known.req_id != reply.req_id:
            return None
        if known.step is Step.JOINING:
            known.step, known.at = (Step.HELD if reply.success else Step.REFUSED), now
            known.error = "" if reply.success else reply.error or "refused without a word"
            return key, known.step, known.error
        # Whether it was held or not, it is not any more.
        again = known.again
        self._forget(key)
        if again:
            self._known[key] = _Subscription(Step.JOINING, 0, now - PATIENCE)
        return key, Step.LEAVING, ""

    def step(self, key: Key) -> Step | None:
        """How far a subscription is."""
        known = self._known.get(key)
        return None if known is None else known.step

    def error(self, key: Key) -> str:
        """Why the venue refused it."""
        known = self._known.get(key)
        return "" if known is None else known.error

    def _join(self, key: Key, now: float) -> str:
        asked = {**self.params.get(key[0], {}), **self.extra.get(key[0], {})}
        return self._ask("subscribe", key, _Subscription(Step.JOINING, self._next, now), asked)

    def _leave(self, key: Key, now: float, *, again: bool) -> str:
        left = _Subscription(Step.LEAVING, self._next, now, again=again)
        return self._ask("unsubscribe", key, left, self.params.get(key[0], {}))

    def _ask(self, method: str, key: Key, state: _Subscription, params: Mapping[str, Any]) -> str:
        self._known[key] = state
        self._asked[state.req_id] = key
        self._next += 1
        return wire.request(method, key[0], state.req_id, key[1], **params)

    def _forget(self, key: Key) -> None:
        self._known.pop(key, None)
