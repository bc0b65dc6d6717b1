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

REPLY_TIMEOUT: Final = 10.0
"""Seconds for an answer; then it is asked again."""
RETRY_REJECTED: Final = 60.0
"""Seconds until what was refused is asked again: a market may be listed later."""
SNAPSHOT_TIMEOUT: Final = {Channel.BOOK: 3.0, Channel.INSTRUMENT: REPLY_TIMEOUT}
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
STABLE_AFTER: Final = 30.0
"""Seconds of verified updates after which a book is trusted to stay: its next failure is the first again."""

# The venue's words, in small letters: Kraken's, and exchange_sim's.
_ALREADY: Final = "already subscribed"
_NOT_THERE: Final = "subscription not found"
_TOO_FAST: Final = "exceeded msg rate"


class State(Enum):
    """How far a subscription is."""

    SUBSCRIBING = "subscribing"
    SUBSCRIBED = "subscribed"
    UNSUBSCRIBING = "unsubscribing"
    REJECTED = "rejected"


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


class ReplyResult(NamedTuple):
    """What a reply was about: which subscriptions, how far they are now, and the venue's words where it refused."""

    keys: tuple[Key, ...]
    state: State
    error: str = ""


@dataclass(slots=True)
class _Subscription:
    state: State
    due: float
    """When it is asked for, again or at all, if nothing comes meanwhile; where it is held, the snapshot is due then."""
    req_id: int = 0
    """Of the request that counts; 0 while none has been sent for this step."""
    requested_at: float = float("-inf")
    urgency: Urgency = Urgency.AGAIN
    error: str = ""
    renew: bool = False
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
    requested_at: float
    key: Key


def _priority(one: _Due) -> tuple[Urgency, float, Channel, str]:
    return one.urgency, one.requested_at, one.key[0], one.key[1] or ""


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
    jitter: Callable[[], float]
    extra: Mapping[Channel, Mapping[str, Any]] = field(default_factory=dict)
    failures: MutableMapping[Key, int] = field(default_factory=dict)
    symbols_at_once: int = SYMBOLS_AT_ONCE
    _entries: dict[Key, _Subscription] = field(default_factory=dict)
    _pending: dict[int, set[Key]] = field(default_factory=dict)
    _next: int = 1
    _paused_until: float = float("-inf")

    # What is asked.

    def requests(self, required: set[Key], now: float, *, most: int) -> Iterator[str]:
        """What to send, at most so much at once, so that what is wanted is held and nothing else.

        Of what is equally urgent the one that was asked for longest ago comes first, so none waits for ever.
        """
        for key, entry in list(self._entries.items()):
            asked = entry.req_id and entry.state is not State.REJECTED
            if key not in required and not asked and entry.state is not State.UNSUBSCRIBING:
                self._forget(key)
            elif entry.state is State.SUBSCRIBED and entry.since is not None and now >= entry.due:
                self._fail(key, entry, now)
        for _ in range(most if now >= self._paused_until else 0):
            due = sorted(self._due(required, now), key=_priority)
            if not due:
                return
            first = due[0]
            keys_alike = [one.key for one in due if one[:2] == first[:2] and one.key[0] == first.key[0]]
            yield self._request(first.method, self._together(keys_alike, first.urgency), now)

    def _due(self, required: set[Key], now: float) -> Iterator[_Due]:
        for key in required - self._entries.keys():
            yield _Due(Urgency.FIRST, _SUBSCRIBE, float("-inf"), key)
        for key, entry in self._entries.items():
            urgency, method = entry.urgency, _SUBSCRIBE
            if key not in required and (
                entry.state is State.SUBSCRIBED or (entry.state is State.UNSUBSCRIBING and not entry.req_id)
            ):
                urgency, method = Urgency.FIRST, _UNSUBSCRIBE
            elif entry.state is State.SUBSCRIBED or now < entry.due:
                continue
            elif entry.state is State.UNSUBSCRIBING or key not in required:
                method = _UNSUBSCRIBE
            yield _Due(urgency, method, entry.requested_at, key)

    def _together(self, keys_alike: list[Key], urgency: Urgency) -> list[Key]:
        """Which of them go into one request.

        What is well is renewed one by one, so that no lost reply takes many good books with it.
        """
        first = self._entries.get(keys_alike[0])
        if urgency is Urgency.REFRESH or (first is not None and first.alone):
            return keys_alike[:1]
        others = [key for key in keys_alike if (entry := self._entries.get(key)) is None or not entry.alone]
        return others[: self.symbols_at_once]

    def _request(self, method: str, keys: Sequence[Key], now: float) -> str:
        channel = keys[0][0]
        for key in keys:
            entry = self._entries.get(key) or _Subscription(State.SUBSCRIBING, now)
            self._forget_request(entry.req_id, key)
            if method == _UNSUBSCRIBE:
                entry.state, entry.renew = State.UNSUBSCRIBING, entry.renew and entry.state is State.UNSUBSCRIBING
            else:
                entry.state, entry.renew = State.SUBSCRIBING, False
            if channel in SNAPSHOT_TIMEOUT and entry.since is None and (method == _SUBSCRIBE or entry.renew):
                entry.since = now
            entry.req_id, entry.requested_at, entry.due, entry.urgency = (
                self._next,
                now,
                now + REPLY_TIMEOUT,
                Urgency.AGAIN,
            )
            self._entries[key] = entry
        self._pending[self._next] = set(keys)
        self._next += 1
        params = {**self.params.get(channel, {}), **(self.extra.get(channel, {}) if method == _SUBSCRIBE else {})}
        symbols = [key[1] for key in keys if key[1] is not None]
        return wire.request(method, channel, self._next - 1, symbols, **params)

    def resubscribe(self, key: Key, now: float, *, failed: bool = True) -> None:
        """Have what is held left and joined anew, for a snapshot: after a backoff where it failed."""
        entry = self._entries.get(key)
        if entry is None:
            return
        held = entry.state is State.SUBSCRIBED and entry.since is None
        if failed and (held or entry.urgency is Urgency.REFRESH):
            self._fail(key, entry, now)
        elif held:
            self._resubscribe(key, entry, now, Urgency.REFRESH)

    def mark_stable(self, key: Key) -> None:
        """It has been well for long enough."""
        self.failures.pop(key, None)

    def _fail(self, key: Key, entry: _Subscription, now: float) -> None:
        """At once the first time, then later and later: a market that cannot be had takes no other's requests."""
        count = self.failures.get(key, 0)
        self.failures[key] = count + 1
        self._resubscribe(key, entry, now + self._backoff(count), Urgency.AGAIN)

    def _backoff(self, failures: int) -> float:
        return min(LONGEST_BACKOFF, 2.0 ** min(failures - 1, 30)) * (0.8 + 0.4 * self.jitter()) if failures else 0.0

    def _resubscribe(self, key: Key, entry: _Subscription, due: float, urgency: Urgency) -> None:
        self._forget_request(entry.req_id, key)  # a reply that comes late is none to the next request
        entry.state, entry.due, entry.req_id, entry.urgency, entry.renew = State.UNSUBSCRIBING, due, 0, urgency, True

    # What is heard.

    def data_received(self, key: Key, now: float) -> None:
        """Data of a subscription came (of one that is nothing without its snapshot: the snapshot): it is held."""
        entry = self._entries.get(key)
        if entry is None or not entry.req_id or entry.state not in {State.SUBSCRIBING, State.SUBSCRIBED}:
            return  # the last words of what is left
        if entry.state is State.SUBSCRIBING:
            self._subscribed(key, entry, now)
        entry.since = None
        if key[0] is Channel.INSTRUMENT:  # whose snapshot is all that it is for
            self.mark_stable(key)

    def handle_reply(self, reply: Head, now: float) -> ReplyResult | None:
        """What a reply was about; nothing where it is none, or to a request that counts no more."""
        error = "" if reply.success else reply.error or "refused without a word"
        words = " ".join(error.lower().split())
        req_id = reply.req_id or 0  # which no request has
        if words.startswith(_TOO_FAST):
            return self._slow_down(req_id, error, now)
        asked, about = self._pending.get(req_id, set()), reply.about
        # What is asked for alone is known by the request's number, which is all that some refusals have.
        key = next((key for key in asked if key[1] == about or (not about and len(asked) == 1)), None)
        if key is None:
            for one in asked if error and not about else ():
                self._entries[one].alone = True
            return None
        self._forget_request(req_id, key)
        entry = self._entries[key]
        if entry.state is State.UNSUBSCRIBING:
            return ReplyResult((key,), State.UNSUBSCRIBING, self._unsubscribed(key, entry, error, words, now))
        if words.startswith(_ALREADY):
            if entry.state is State.SUBSCRIBING:  # and nothing came of it: its snapshot was lost, as its reply was
                self._resubscribe(key, entry, now + self._backoff(entry.already), Urgency.AGAIN)
                entry.already += 1
        elif error:
            entry.state, entry.due, entry.error = State.REJECTED, now + RETRY_REJECTED, error
        elif entry.state is State.SUBSCRIBING:
            self._subscribed(key, entry, now)
        return ReplyResult((key,), entry.state, entry.error)

    def _slow_down(self, req_id: int, error: str, now: float) -> ReplyResult | None:
        """A request was not looked at, since there were too many: none for a while, and then it again."""
        self._paused_until = now + TOO_FAST_PAUSE
        keys = tuple(self._pending.pop(req_id, ()))
        for key in keys:
            self._entries[key].due = self._paused_until
        return ReplyResult(keys, self._entries[keys[0]].state, error) if keys else None

    def _unsubscribed(self, key: Key, entry: _Subscription, error: str, words: str, now: float) -> str:
        """Its end was answered; what that was refused for, where it is there still."""
        if error and not words.startswith(_NOT_THERE):
            return error  # and is asked for again
        if entry.renew:
            entry.state, entry.due, entry.req_id = State.SUBSCRIBING, now, 0
        else:
            self._forget(key)
        return ""

    def _subscribed(self, key: Key, entry: _Subscription, now: float) -> None:
        entry.state, entry.error, entry.alone, entry.already = State.SUBSCRIBED, "", False, 0
        entry.due = now + SNAPSHOT_TIMEOUT.get(key[0], float("inf"))

    def _forget_request(self, req_id: int, key: Key) -> None:
        """The reply to a request has nothing more to say of one."""
        if (asked := self._pending.get(req_id)) is not None:
            asked.discard(key)
            if not asked:
                del self._pending[req_id]

    def _forget(self, key: Key) -> None:
        self._forget_request(self._entries.pop(key).req_id, key)
        self.failures.pop(key, None)

    # What is known.

    def state(self, key: Key) -> State | None:
        """How far a subscription is."""
        entry = self._entries.get(key)
        return None if entry is None else entry.state

    def error(self, key: Key) -> str:
        """Why the venue refused it."""
        entry = self._entries.get(key)
        return "" if entry is None else entry.error

    def snapshot_wait(self, key: Key, now: float) -> float:
        """Seconds for which a snapshot has been waited for; 0 where it has come."""
        entry = self._entries.get(key)
        return 0.0 if entry is None or entry.since is None else now - entry.since

    def backoff(self, key: Key, now: float) -> float:
        """Seconds until it is asked for again, where it failed; 0 where it is not waited with."""
        entry = self._entries.get(key)
        pending = entry is not None and entry.state is State.UNSUBSCRIBING and not entry.req_id
        return max(0.0, entry.due - now) if entry is not None and pending else 0.0
