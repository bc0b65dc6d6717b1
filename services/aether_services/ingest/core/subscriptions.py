"""The subscriptions of one connection as a table of states, driven by replies and data, and the next requests to send.

The table follows the venue's state even when a reply is lost: data proves a subscription, and so do the errors "already
subscribed" and "subscription not found".
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
"""Seconds to wait for a reply until a request is repeated."""
RETRY_REJECTED: Final = 60.0
"""Seconds until a rejected subscription is requested again: a market may be listed later."""
SNAPSHOT_TIMEOUT: Final = {Channel.BOOK: 3.0, Channel.INSTRUMENT: REPLY_TIMEOUT}
"""Seconds to wait for the snapshot of a subscription until it is subscribed to again, since it is useless without one.

A market that never traded has no trades to send, so for the trade channel a missing snapshot proves nothing.
"""
SYMBOLS_AT_ONCE: Final = 50
"""Symbols in one request. The venue acknowledges each of them separately.

Kraken documents no limit for the book channel (200 symbols for level3), and exchange_sim limits only the message size.
A snapshot of a hundred levels is about ten kilobytes, so the data after one request is about half a megabyte: more
would delay the messages of other markets, and lose more with a lost request.
"""
TOO_FAST_PAUSE: Final = 5.0
"""Seconds without a request after a rate-limit error."""
LONGEST_BACKOFF: Final = 60.0
STABLE_AFTER: Final = 30.0
"""Seconds of verified updates after which a book counts as stable, so that its backoff is reset."""

# Error texts of the venue in lower case.
_ALREADY: Final = "already subscribed"
_NOT_THERE: Final = "subscription not found"
_TOO_FAST: Final = "exceeded msg rate"


class State(Enum):
    """The state of a subscription."""

    SUBSCRIBING = "subscribing"
    SUBSCRIBED = "subscribed"
    UNSUBSCRIBING = "unsubscribing"
    REJECTED = "rejected"


class Urgency(IntEnum):
    """The priority of requests."""

    FIRST = 0
    """New subscriptions, and the end of those that are no longer required."""
    AGAIN = 1
    """Subscriptions that failed."""
    REFRESH = 2
    """Healthy subscriptions that are due for a new snapshot."""


Key = tuple[Channel, "Symbol | None"]
_SUBSCRIBE, _UNSUBSCRIBE = "subscribe", "unsubscribe"


class ReplyResult(NamedTuple):
    """The effect of a reply: the subscriptions concerned, their new state, and the venue's error text if any."""

    keys: tuple[Key, ...]
    state: State
    error: str = ""


@dataclass(slots=True)
class _Subscription:
    state: State
    due: float
    """When the next request is due, unless a reply or data comes before; when SUBSCRIBED, the snapshot's deadline."""
    req_id: int = 0
    """The id of the current request; 0 while none was sent in this state."""
    requested_at: float = float("-inf")
    urgency: Urgency = Urgency.AGAIN
    error: str = ""
    renew: bool = False
    """Whether to subscribe again after unsubscribing, for a new snapshot."""
    alone: bool = False
    """Whether to request it separately: an error for several symbols did not name one."""
    already: int = 0
    """How often in a row the venue replied "already subscribed"."""
    since: float | None = None
    """Since when a required snapshot is waited for; None once it came."""


class _Due(NamedTuple):
    urgency: Urgency
    method: str
    requested_at: float
    key: Key


def _priority(item: _Due) -> tuple[Urgency, float, Channel, str]:
    return item.urgency, item.requested_at, item.key[0], item.key[1] or ""


@dataclass(slots=True)
class Subscriptions:
    """The subscriptions of one connection.

    Args:
        params: Channel → parameters of requests, which unsubscribing must repeat.
        jitter: Returns a random number from 0 to 1, which spreads the retries.
        extra: Channel → additional parameters for subscribing.
        failures: Subscription → consecutive failures; pass a mapping to keep it beyond the connection.
        symbols_at_once: Symbols in one request.
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

    # Requests.

    def requests(self, required: set[Key], now: float, *, limit: int) -> Iterator[str]:
        """The next requests, at most `limit`, so that exactly the `required` subscriptions exist.

        Within a priority the least recently requested subscription comes first, so that none starves.
        """
        for key, entry in list(self._entries.items()):
            pending = entry.req_id and entry.state is not State.REJECTED
            if key not in required and not pending and entry.state is not State.UNSUBSCRIBING:
                self._forget(key)
            elif entry.state is State.SUBSCRIBED and entry.since is not None and now >= entry.due:
                self._fail(key, entry, now)
        for _ in range(limit if now >= self._paused_until else 0):
            due = sorted(self._due(required, now), key=_priority)
            if not due:
                return
            first = due[0]
            keys = [item.key for item in due if item[:2] == first[:2] and item.key[0] == first.key[0]]
            yield self._request(first.method, self._together(keys, first.urgency), now)

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

    def _together(self, keys: list[Key], urgency: Urgency) -> list[Key]:
        """Which of the keys go into one request.

        Healthy subscriptions are refreshed one by one, so that a lost reply affects only one good book.
        """
        first = self._entries.get(keys[0])
        if urgency is Urgency.REFRESH or (first is not None and first.alone):
            return keys[:1]
        others = [key for key in keys if (entry := self._entries.get(key)) is None or not entry.alone]
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
            entry.req_id, entry.urgency = self._next, Urgency.AGAIN
            entry.requested_at, entry.due = now, now + REPLY_TIMEOUT
            self._entries[key] = entry
        self._pending[self._next] = set(keys)
        self._next += 1
        params = {**self.params.get(channel, {}), **(self.extra.get(channel, {}) if method == _SUBSCRIBE else {})}
        symbols = [key[1] for key in keys if key[1] is not None]
        return wire.request(method, channel, self._next - 1, symbols, **params)

    def resubscribe(self, key: Key, now: float, *, failed: bool = True) -> None:
        """Unsubscribe and subscribe again for a new snapshot; with backoff if it `failed`."""
        entry = self._entries.get(key)
        if entry is None:
            return
        subscribed = entry.state is State.SUBSCRIBED and entry.since is None
        if failed and (subscribed or entry.urgency is Urgency.REFRESH):
            self._fail(key, entry, now)
        elif subscribed:
            self._resubscribe(key, entry, now, Urgency.REFRESH)

    def mark_stable(self, key: Key) -> None:
        """Reset the backoff of a subscription."""
        self.failures.pop(key, None)

    def _fail(self, key: Key, entry: _Subscription, now: float) -> None:
        """Subscribe again: at once the first time, then with backoff, so that one market does not use all requests."""
        count = self.failures.get(key, 0)
        self.failures[key] = count + 1
        self._resubscribe(key, entry, now + self._backoff(count), Urgency.AGAIN)

    def _backoff(self, failures: int) -> float:
        return min(LONGEST_BACKOFF, 2.0 ** min(failures - 1, 30)) * (0.8 + 0.4 * self.jitter()) if failures else 0.0

    def _resubscribe(self, key: Key, entry: _Subscription, due: float, urgency: Urgency) -> None:
        self._forget_request(entry.req_id, key)  # a late reply must not count for the next request
        entry.state, entry.due, entry.req_id, entry.urgency, entry.renew = State.UNSUBSCRIBING, due, 0, urgency, True

    # Replies and data.

    def data_received(self, key: Key, now: float) -> None:
        """Data of a subscription was received (the snapshot, where one is required): it is subscribed."""
        entry = self._entries.get(key)
        if entry is None or not entry.req_id or entry.state not in {State.SUBSCRIBING, State.SUBSCRIBED}:
            return  # messages that were sent before the unsubscription
        if entry.state is State.SUBSCRIBING:
            self._subscribed(key, entry, now)
        entry.since = None
        if key[0] is Channel.INSTRUMENT:  # only its snapshot is needed
            self.mark_stable(key)

    def handle_reply(self, reply: Head, now: float) -> ReplyResult | None:
        """Apply a reply; None where it is not one, or belongs to an outdated request."""
        error = "" if reply.success else reply.error or "rejected without an error text"
        error_text = " ".join(error.lower().split())
        req_id = reply.req_id or 0  # 0 is never used
        if error_text.startswith(_TOO_FAST):
            return self._slow_down(req_id, error, now)
        pending, symbol = self._pending.get(req_id, set()), reply.about
        # Some errors name no symbol: with a single key in the request, its id is enough.
        key = next((key for key in pending if key[1] == symbol or (not symbol and len(pending) == 1)), None)
        if key is None:
            for item in pending if error and not symbol else ():
                self._entries[item].alone = True
            return None
        self._forget_request(req_id, key)
        entry = self._entries[key]
        if entry.state is State.UNSUBSCRIBING:
            return ReplyResult((key,), State.UNSUBSCRIBING, self._unsubscribed(key, entry, error, error_text, now))
        if error_text.startswith(_ALREADY):
            if entry.state is State.SUBSCRIBING:  # its reply and its snapshot were lost
                self._resubscribe(key, entry, now + self._backoff(entry.already), Urgency.AGAIN)
                entry.already += 1
        elif error:
            entry.state, entry.due, entry.error = State.REJECTED, now + RETRY_REJECTED, error
        elif entry.state is State.SUBSCRIBING:
            self._subscribed(key, entry, now)
        return ReplyResult((key,), entry.state, entry.error)

    def _slow_down(self, req_id: int, error: str, now: float) -> ReplyResult | None:
        """A request was rate-limited: pause all requests, then repeat it."""
        self._paused_until = now + TOO_FAST_PAUSE
        keys = tuple(self._pending.pop(req_id, ()))
        for key in keys:
            self._entries[key].due = self._paused_until
        return ReplyResult(keys, self._entries[keys[0]].state, error) if keys else None

    def _unsubscribed(self, key: Key, entry: _Subscription, error: str, error_text: str, now: float) -> str:
        """Apply the reply to an unsubscription; returns its error if the subscription still exists."""
        if error and not error_text.startswith(_NOT_THERE):
            return error  # it is repeated after the timeout
        if entry.renew:
            entry.state, entry.due, entry.req_id = State.SUBSCRIBING, now, 0
        else:
            self._forget(key)
        return ""

    def _subscribed(self, key: Key, entry: _Subscription, now: float) -> None:
        entry.state, entry.error, entry.alone, entry.already = State.SUBSCRIBED, "", False, 0
        entry.due = now + SNAPSHOT_TIMEOUT.get(key[0], float("inf"))

    def _forget_request(self, req_id: int, key: Key) -> None:
        """A pending request no longer concerns a subscription."""
        if (pending := self._pending.get(req_id)) is not None:
            pending.discard(key)
            if not pending:
                del self._pending[req_id]

    def _forget(self, key: Key) -> None:
        self._forget_request(self._entries.pop(key).req_id, key)
        self.failures.pop(key, None)

    # State.

    def state(self, key: Key) -> State | None:
        entry = self._entries.get(key)
        return None if entry is None else entry.state

    def error(self, key: Key) -> str:
        """The venue's error text for a rejected subscription."""
        entry = self._entries.get(key)
        return "" if entry is None else entry.error

    def snapshot_wait(self, key: Key, now: float) -> float:
        """Seconds since a required snapshot is waited for; 0 if none is."""
        entry = self._entries.get(key)
        return 0.0 if entry is None or entry.since is None else now - entry.since

    def backoff(self, key: Key, now: float) -> float:
        """Seconds until a failed subscription is requested again; 0 when not in backoff."""
        entry = self._entries.get(key)
        pending = entry is not None and entry.state is State.UNSUBSCRIBING and not entry.req_id
        return max(0.0, entry.due - now) if entry is not None and pending else 0.0
