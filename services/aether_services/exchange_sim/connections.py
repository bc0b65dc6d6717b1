"""Connections, and who hears what: one text for all that are subscribed to it, and what goes wrong on purpose."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter, deque
from typing import TYPE_CHECKING, Final

import prometheus_client

from aether_services.exchange_sim.core import wire_format
from aether_services.exchange_sim.core.faults import FaultKind, Faults

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aether_services.exchange_sim.schemas import Key
    from aether_services.exchange_sim.settings import Settings
    from aether_services.kit.clocks import Clock

log = logging.getLogger(__name__)

HEARTBEAT: Final = 1.0
"""Seconds without a message after which there is one that says only that."""
CONNECT_WINDOW: Final = 600.0
"""Seconds over which connects are counted, and for which an address with too many is refused."""
GOING_AWAY, TRY_AGAIN = 1001, 1013
"""Codes that a connection is closed with. Not 1008: after that one Kraken's own SDK never connects again, after every
other it does (krakenfx/kraken-api-sdk, rust/docs/guides/error-handling.md), and whoever is slow or idle may come back.
Who breaks a rule is refused, and not closed: a connect with 429, a message with an error.
"""


class Connection:
    """One WebSocket, as the venue knows it."""

    def __init__(self, *, limit: int, rate: int, now: float) -> None:
        self.connection_id = secrets.randbits(63)
        self.subscribed: dict[Key, None] = {}
        self.last_sent_at = now
        """When it was sent something, or when it came."""
        self.subscribed_at = now
        """When it last had a subscription."""
        self.closing: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        """Why it is closed: a code and words."""
        self.waiting: deque[str] = deque()
        self._limit = limit
        self._more = asyncio.Event()
        self._message_bucket = TokenBucket(rate, now)

    def push(self, text: str, now: float) -> None:
        """Have a message wait for it; one too many, and it is closed."""
        if self.closing.done():
            return
        if len(self.waiting) >= self._limit:
            self.close_as_slow()
            return
        self.waiting.append(text)
        self.last_sent_at = now
        self._more.set()

    async def next(self) -> str:
        """The message that waits longest."""
        while not self.waiting:
            self._more.clear()
            await self._more.wait()
        return self.waiting.popleft()

    def close(self, code: int, reason: str) -> None:
        """Have it closed; the first reason counts."""
        if not self.closing.done():
            self.closing.set_result((code, reason))

    def close_as_slow(self) -> None:
        """Have it closed as one for which too many messages wait."""
        if not self.closing.done():
            log.warning("slow_consumer", extra={"connection": self.connection_id, "waiting": self._limit})
            self.close(TRY_AGAIN, f"slow consumer: {self._limit} messages wait")

    def allows_message(self, now: float) -> bool:
        """Whether it has not said too much lately."""
        return self._message_bucket.take(now)


class TokenBucket:
    """So many a second, and twice as many at once."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate, self._most = rate, max(2.0 * rate, 1.0)
        self._left, self._counted_at = self._most, now

    def take(self, now: float) -> bool:
        """Whether there is one more."""
        self._left = min(self._most, self._left + (now - self._counted_at) * self._rate)
        self._counted_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class CallLimiter:
    """Which calls of REST are answered: so many a second of one address, any number with a rate of 0."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._buckets: dict[str, TokenBucket] = {}
        self._blocked_until = 0.0

    def allows(self, address: str, now: float) -> bool:
        """Whether one more call of an address is answered."""
        if now < self._blocked_until:
            return False
        if not self._rate:
            return True
        if address not in self._buckets:
            self._buckets[address] = TokenBucket(self._rate, now)
        return self._buckets[address].take(now)

    def block_until(self, until: float) -> None:
        """Answer nobody for a while."""
        self._blocked_until = until

    def blocked_for(self, now: float) -> float:
        """For how many seconds yet."""
        return max(self._blocked_until - now, 0.0)


class ConnectionLimiter:
    """Who is let in: so many connects of one address, and then none for a while."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._recent: dict[str, deque[float]] = {}
        self._blocked_until: dict[str, float] = {}

    def allows(self, address: str, now: float) -> bool:
        """Whether one more connect from an address is let in."""
        if now < self._blocked_until.get(address, 0.0):
            return False
        recent = self._recent.setdefault(address, deque())
        while recent and recent[0] <= now - CONNECT_WINDOW:
            recent.popleft()
        if len(recent) >= self._limit:
            self._blocked_until[address] = now + CONNECT_WINDOW
            recent.clear()
            log.warning("connects_refused", extra={"address": address, "seconds": CONNECT_WINDOW})
            return False
        recent.append(now)
        return True


class Subscribers:
    """All connections, and what each is subscribed to."""

    def __init__(self, settings: Settings, clock: Clock, registry: prometheus_client.CollectorRegistry) -> None:
        self.connections: dict[Connection, None] = {}
        self.faults = Faults()
        self._settings, self._clock = settings, clock
        self._subscribers: dict[Key, dict[Connection, None]] = {}
        self._silent_until = 0.0
        self._removed = asyncio.Event()
        self._sent = prometheus_client.Counter(
            "aether_venue_messages", "Messages for clients, by channel", ["channel"], registry=registry
        )
        self._closed = prometheus_client.Counter(
            "aether_venue_closed", "Connections closed by the venue, by code", ["code"], registry=registry
        )

    # ---- coming and going

    def add(self) -> Connection:
        """A new connection."""
        rate, now = self._settings.message_rate, self._clock.elapsed()
        connection = Connection(limit=self._settings.queue, rate=rate, now=now)
        self.connections[connection] = None
        return connection

    def remove(self, connection: Connection) -> None:
        """It is gone."""
        self.connections.pop(connection, None)
        self._removed.set()
        for key in list(connection.subscribed):
            self.unsubscribe(connection, key)
        if connection.closing.done() and not connection.closing.cancelled():
            self._closed.labels(str(connection.closing.result()[0])).inc()

    def close_all(self, code: int, reason: str) -> int:
        """Close every connection; how many."""
        for connection in self.connections:
            connection.close(code, reason)
        return len(self.connections)

    async def wait_closed(self) -> None:
        """Wait until no connection is left: each has been sent why it is closed, or does not take it."""
        while self.connections:
            self._removed.clear()
            await self._removed.wait()

    def close_all_as_slow(self) -> int:
        """Close every connection as if too many messages waited for it; how many."""
        for connection in self.connections:
            connection.close_as_slow()
        return len(self.connections)

    def subscribe(self, connection: Connection, key: Key) -> bool:
        """Subscribe; whether it was not before."""
        if key in connection.subscribed:
            return False
        connection.subscribed[key] = None
        self._subscribers.setdefault(key, {})[connection] = None
        return True

    def unsubscribe(self, connection: Connection, key: Key) -> bool:
        """Undo that; whether there was something to undo."""
        if key not in connection.subscribed:
            return False
        del connection.subscribed[key]
        connection.subscribed_at = self._clock.elapsed()
        remaining = self._subscribers[key]
        del remaining[connection]
        if not remaining:
            del self._subscribers[key]
        return True

    # ---- telling

    def has_subscribers(self, key: Key) -> bool:
        """Whether anybody is subscribed: what nobody hears need not be written."""
        return key in self._subscribers

    def broadcast(self, messages: Iterable[tuple[Key, str]]) -> None:
        """Tell those who are subscribed one message, which may have a text for each key: of each depth, say.

        What goes wrong with it on purpose goes wrong with it for everybody.
        """
        copies, now = -1, self._clock.elapsed()
        for key, text in messages:
            if self.faults.muted(key.channel, key.symbol, now):
                continue
            if copies < 0:
                dropped = self.faults.take(FaultKind.DROP, key.channel, key.symbol)
                copies = 0 if dropped else 1 + self.faults.take(FaultKind.DOUBLE, key.channel, key.symbol)
            for _ in range(copies):
                self.send(text, key.channel, *self._subscribers.get(key, ()))

    def send_snapshot(self, key: Key, text: str, connection: Connection) -> None:
        """Tell one who has just subscribed what there is."""
        if not self.faults.muted(key.channel, key.symbol, self._clock.elapsed(), snapshot=True):
            self.send(text, key.channel, connection)

    def send(self, text: str, channel: str, *connections: Connection) -> None:
        """Tell these; or, during a silence, nobody."""
        now = self._clock.elapsed()
        if now < self._silent_until:
            return
        for connection in connections:
            connection.push(text, now)
        self._sent.labels(channel).inc(len(connections))

    def check_connections(self) -> None:
        """Heartbeats, and an end to those who want nothing."""
        now = self._clock.elapsed()
        for connection in self.connections:
            if connection.subscribed:
                if now - connection.last_sent_at >= HEARTBEAT:
                    self.send(wire_format.HEARTBEAT, "heartbeat", connection)
            elif now - connection.subscribed_at >= self._settings.idle_seconds:
                connection.close(GOING_AWAY, "no subscription")

    def silence(self, seconds: float) -> None:
        """Send nothing to anybody for a while: what would have been sent is lost."""
        self._silent_until = self._clock.elapsed() + seconds

    def mute(self, channel: str, symbol: str, seconds: float, *, snapshots: bool) -> None:
        """Send nothing of one channel of one market for a while, whoever is subscribed."""
        self.faults.mute(channel, symbol, self._clock.elapsed() + seconds, snapshots=snapshots)

    def describe_faults(self) -> dict[str, object]:
        """What is wrong on purpose, and what is listened to."""
        now = self._clock.elapsed()
        return {
            "silent_seconds": max(self._silent_until - now, 0.0),
            "muted_seconds": self.faults.muted_seconds(now),
            "waiting": self.faults.pending(),
            "subscriptions": Counter(key.channel for key in self._subscribers),
        }
