"""What is subscribed to on one connection, and what is to be asked next: a table, walked by replies and data.

The table follows what the venue holds, whatever became of a reply: data of a subscription proves it, and so does a
refusal because it is there already, or is not there any more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aether_services.ingest.core import wire
from aether_services.ingest.core.wire import Channel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence

    from aether_services.domain.instruments import Symbol
    from aether_services.ingest.core.wire import Head

PATIENCE: Final = 10.0
"""Seconds for an answer; then it is asked again."""
RETRY_REFUSED: Final = 60.0
"""Seconds until what was refused is asked again: a market may be listed later."""
SNAPSHOT_PATIENCE: Final = {Channel.BOOK: 3.0, Channel.INSTRUMENT: PATIENCE}
"""Seconds for the snapshot of what is held; without one these are of no use, so they are subscribed to anew.

A market that never traded has an empty snapshot of trades, so there its absence proves nothing.
"""
SYMBOLS_AT_ONCE: Final = 50
"""Symbols of one request. The venue acknowledges each by itself.

Kraken's page on book names no limit (that on level3 names 200 symbols), and exchange_sim has none but the size of a
message. A snapshot of a hundred levels is about ten kilobytes, so the replies to one request are about half a megabyte:
more at once would make what other markets have to say wait behind them, and what is lost with a request is more.
"""
TOO_FAST_PAUSE: Final = 5.0
"""Seconds without a request after the venue said that there were too many."""
LONGEST_BACKOFF: Final = 60.0
STEADY: Final = 30.0
"""Seconds of verified updates after which a book is trusted to stay: its next failure is the first again."""

# The venue's words, in small letters: Kraken's, and exchange_sim's.
_ALREADY: Final = "already subscribed"
_NOT_THERE: Final = "subscription not found"
_TOO_FAST: Final = "exceeded msg rate"


class Step(Enum):
    """How far a subscription is."""

    JOINING = "joining"
    HELD = "held"
    LEAVING = "leaving"
    REFUSED = "refused"


class Urgency(IntEnum):
    """Which request comes first."""

    FIRST = 0
    """What was not asked for yet on this connection, and what is not wanted any more."""
    AGAIN = 1
    """What was asked for, and came to nothing."""
    REFRESH = 2
    """What is well, and to be renewed."""


Key = tuple[Channel, "Symbol | None"]
_SUBSCRIBE, _UNSUBSCRIBE = "subscribe", "unsubscribe"


class Answered(NamedTuple):
    """What a reply was about: which subscriptions, how far they are now, and the venue's words where it refused."""

    keys: tuple[Key, ...]
    step: Step
    error: str = ""


@dataclass(slots=True)
class _Subscription:
    step: Step
    due: float
    """When it is asked for, again or at all, if nothing comes meanwhile; where it is held, the snapshot is due then."""
    req_id: int = 0
    """Of the request that counts; 0 while none has been sent for this step."""
    asked_at: float = float("-inf")
    urgency: Urgency = Urgency.AGAIN
    error: str = ""
    again: bool = False
    """Whether it is to be joined anew once it is left: that brings a snapshot."""
    alone: bool = False
    """Whether it is asked for in a request of its own: a refusal among several did not say whose it was."""
    already: int = 0
    """How often in a row it was said to be there already, though its end had been asked for."""
    since: float | None = None
    """Since when a snapshot is waited for that it is of no use without."""


class _Due(NamedTuple):
    urgency: Urgency
    method: str
    asked_at: float
    key: Key


def _by_turn(one: _Due) -> tuple[Urgency, float, Channel, str]:
    return one.urgency, one.asked_at, one.key[0], one.key[1] or ""


@dataclass(slots=True)
class Subscriptions:
    """The subscriptions of one connection.

    Args:
        params: Channel → what is asked for with it; the key of a subscription, which its end has to repeat.
        chance: A number from 0 to 1, so that not all come back at the same time.
        extra: Channel → what else is asked for when joining.
        failures: Subscription → how often it failed in a row; outlives a connection where it is given.
        symbols_at_once: Symbols of one request.
    """

    params: Mapping[Channel, Mapping[str, Any]]
    chance: Callable[[], float]
    extra: Mapping[Channel, Mapping[str, Any]] = field(default_factory=dict)
    failures: MutableMapping[Key, int] = field(default_factory=dict)
    symbols_at_once: int = SYMBOLS_AT_ONCE
    _known: dict[Key, _Subscription] = field(default_factory=dict)
    _asked: dict[int, set[Key]] = field(default_factory=dict)
    _next: int = 1
    _paused_until: float = float("-inf")

    # What is asked.

    def requests(self, wanted: set[Key], now: float, *, most: int) -> Iterator[str]:
        """What to send, at most so much at once, so that what is wanted is held and nothing else.

        Of what is equally urgent the one that was asked for longest ago comes first, so none waits for ever.
        """
        for key, known in list(self._known.items()):
            asked = known.req_id and known.step is not Step.REFUSED
            if key not in wanted and not asked and known.step is not Step.LEAVING:
                self._forget(key)
            elif known.step is Step.HELD and known.since is not None and now >= known.due:
                self._fail(key, known, now)
        for _ in range(most if now >= self._paused_until else 0):
            due = sorted(self._due(wanted, now), key=_by_turn)
            if not due:
                return
            first = due[0]
            alike = [one.key for one in due if one[:2] == first[:2] and one.key[0] == first.key[0]]
            yield self._ask(first.method, self._together(alike, first.urgency), now)

    def _due(self, wanted: set[Key], now: float) -> Iterator[_Due]:
        for key in wanted - self._known.keys():
            yield _Due(Urgency.FIRST, _SUBSCRIBE, float("-inf"), key)
        for key, known in self._known.items():
            urgency, method = known.urgency, _SUBSCRIBE
            if key not in wanted and (known.step is Step.HELD or (known.step is Step.LEAVING and not known.req_id)):
                urgency, method = Urgency.FIRST, _UNSUBSCRIBE
            elif known.step is Step.HELD or now < known.due:
                continue
            elif known.step is Step.LEAVING or key not in wanted:
                method = _UNSUBSCRIBE
            yield _Due(urgency, method, known.asked_at, key)

    def _together(self, alike: list[Key], urgency: Urgency) -> list[Key]:
        """Which of them go into one request.

        What is well is renewed one by one, so that no lost reply takes many good books with it.
        """
        first = self._known.get(alike[0])
        if urgency is Urgency.REFRESH or (first is not None and first.alone):
            return alike[:1]
        others = [key for key in alike if (known := self._known.get(key)) is None or not known.alone]
        return others[: self.symbols_at_once]

    def _ask(self, method: str, keys: Sequence[Key], now: float) -> str:
        channel = keys[0][0]
        for key in keys:
            known = self._known.get(key) or _Subscription(Step.JOINING, now)
            self._take_out(known.req_id, key)
            if method == _UNSUBSCRIBE:
                known.step, known.again = Step.LEAVING, known.again and known.step is Step.LEAVING
            else:
                known.step, known.again = Step.JOINING, False
            if channel in SNAPSHOT_PATIENCE and known.since is None and (method == _SUBSCRIBE or known.again):
                known.since = now
            known.req_id, known.asked_at, known.due, known.urgency = self._next, now, now + PATIENCE, Urgency.AGAIN
            self._known[key] = known
        self._asked[self._next] = set(keys)
        self._next += 1
        params = {**self.params.get(channel, {}), **(self.extra.get(channel, {}) if method == _SUBSCRIBE else {})}
        symbols = [key[1] for key in keys if key[1] is not None]
        return wire.request(method, channel, self._next - 1, symbols, **params)

    def renew(self, key: Key, now: float, *, failed: bool = True) -> None:
        """Have what is held left and joined anew, for a snapshot: after a backoff where it failed."""
        known = self._known.get(key)
        if known is None:
            return
        held = known.step is Step.HELD and known.since is None
        if failed and (held or known.urgency is Urgency.REFRESH):
            self._fail(key, known, now)
        elif held:
            self._leave_and_join(key, known, now, Urgency.REFRESH)

    def steady(self, key: Key) -> None:
        """It has been well for long enough."""
        self.failures.pop(key, None)

    def _fail(self, key: Key, known: _Subscription, now: float) -> None:
        """At once the first time, then later and later: a market that cannot be had takes no other's requests."""
        count = self.failures.get(key, 0)
        self.failures[key] = count + 1
        self._leave_and_join(key, known, now + self._pause(count), Urgency.AGAIN)

    def _pause(self, failures: int) -> float:
        return min(LONGEST_BACKOFF, 2.0 ** min(failures - 1, 30)) * (0.8 + 0.4 * self.chance()) if failures else 0.0

    def _leave_and_join(self, key: Key, known: _Subscription, due: float, urgency: Urgency) -> None:
        self._take_out(known.req_id, key)  # a reply that comes late is none to the next request
        known.step, known.due, known.req_id, known.urgency, known.again = Step.LEAVING, due, 0, urgency, True

    # What is heard.

    def heard(self, key: Key, now: float) -> None:
        """Data of a subscription came (of one that is nothing without its snapshot: the snapshot): it is held."""
        known = self._known.get(key)
        if known is None or not known.req_id or known.step not in {Step.JOINING, Step.HELD}:
            return  # the last words of what is left
        if known.step is Step.JOINING:
            self._hold(key, known, now)
        known.since = None
        if key[0] is Channel.INSTRUMENT:  # whose snapshot is all that it is for
            self.steady(key)

    def answered(self, reply: Head, now: float) -> Answered | None:
        """What a reply was about; nothing where it is none, or to a request that counts no more."""
        error = "" if reply.success else reply.error or "refused without a word"
        words = " ".join(error.lower().split())
        req_id = reply.req_id or 0  # which no request has
        if words.startswith(_TOO_FAST):
            return self._slow_down(req_id, error, now)
        asked, about = self._asked.get(req_id, set()), reply.about
        # What is asked for alone is known by the request's number, which is all that some refusals have.
        key = next((key for key in asked if key[1] == about or (not about and len(asked) == 1)), None)
        if key is None:
            for one in asked if error and not about else ():
                self._known[one].alone = True
            return None
        self._take_out(req_id, key)
        known = self._known[key]
        if known.step is Step.LEAVING:
            return Answered((key,), Step.LEAVING, self._left(key, known, error, words, now))
        if words.startswith(_ALREADY):
            if known.step is Step.JOINING:  # and nothing came of it: its snapshot was lost, as its reply was
                self._leave_and_join(key, known, now + self._pause(known.already), Urgency.AGAIN)
                known.already += 1
        elif error:
            known.step, known.due, known.error = Step.REFUSED, now + RETRY_REFUSED, error
        elif known.step is Step.JOINING:
            self._hold(key, known, now)
        return Answered((key,), known.step, known.error)

    def _slow_down(self, req_id: int, error: str, now: float) -> Answered | None:
        """A request was not looked at, since there were too many: none for a while, and then it again."""
        self._paused_until = now + TOO_FAST_PAUSE
        keys = tuple(self._asked.pop(req_id, ()))
        for key in keys:
            self._known[key].due = self._paused_until
        return Answered(keys, self._known[keys[0]].step, error) if keys else None

    def _left(self, key: Key, known: _Subscription, error: str, words: str, now: float) -> str:
        """Its end was answered; what that was refused for, where it is there still."""
        if error and not words.startswith(_NOT_THERE):
            return error  # and is asked for again
        if known.again:
            known.step, known.due, known.req_id = Step.JOINING, now, 0
        else:
            self._forget(key)
        return ""

    def _hold(self, key: Key, known: _Subscription, now: float) -> None:
        known.step, known.error, known.alone, known.already = Step.HELD, "", False, 0
        known.due = now + SNAPSHOT_PATIENCE.get(key[0], float("inf"))

    def _take_out(self, req_id: int, key: Key) -> None:
        """The reply to a request has nothing more to say of one."""
        if (asked := self._asked.get(req_id)) is not None:
            asked.discard(key)
            if not asked:
                del self._asked[req_id]

    def _forget(self, key: Key) -> None:
        self._take_out(self._known.pop(key).req_id, key)
        self.failures.pop(key, None)

    # What is known.

    def step(self, key: Key) -> Step | None:
        """How far a subscription is."""
        known = self._known.get(key)
        return None if known is None else known.step

    def error(self, key: Key) -> str:
        """Why the venue refused it."""
        known = self._known.get(key)
        return "" if known is None else known.error

    def waits(self, key: Key, now: float) -> float:
        """Seconds for which a snapshot has been waited for; 0 where it has come."""
        known = self._known.get(key)
        return 0.0 if known is None or known.since is None else now - known.since

    def backoff(self, key: Key, now: float) -> float:
        """Seconds until it is asked for again, where it failed; 0 where it is not waited with."""
        known = self._known.get(key)
        pending = known is not None and known.step is Step.LEAVING and not known.req_id
        return max(0.0, known.due - now) if known is not None and pending else 0.0
