"""WebSocket connections, their subscriptions and rate limits, and the broadcast of messages with injected faults."""

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
"""Seconds without a message after which a heartbeat is sent."""
CONNECT_WINDOW: Final = 600.0
"""Seconds over which connections of an address are counted, and for which an address with too many is blocked."""
GOING_AWAY, TRY_AGAIN = 1001, 1013
"""WebSocket close codes. Never 1008: Kraken's own SDK reconnects after every code but that one
(krakenfx/kraken-api-sdk, rust/docs/guides/error-handling.md), and a slow or idle client may come back. Clients that
exceed a rate limit are not closed: a connection attempt gets 429, a request gets an error.
"""


class Connection:
    """One client's WebSocket: its subscriptions and its queue of outgoing messages."""

    def __init__(self, *, limit: int, rate: int, now: float) -> None:
        self.connection_id = secrets.randbits(63)
        self.subscribed: dict[Key, None] = {}
        self.last_sent_at = now
        """When the last message was sent, or the connection opened."""
        self.subscribed_at = now
        """When the connection last had a subscription."""
        self.closing: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        """Completed with code and reason to have the connection closed."""
        self.waiting: deque[str] = deque()
        self._limit = limit
        self._more = asyncio.Event()
        self._message_bucket = TokenBucket(rate, now)

    def push(self, text: str, now: float) -> None:
        """Queue a message; the connection is closed when the queue is full."""
        if self.closing.done():
            return
        if len(self.waiting) >= self._limit:
            self.close_as_slow()
            return
        self.waiting.append(text)
        self.last_sent_at = now
        self._more.set()

    async def next(self) -> str:
        """Take the oldest message from the queue, waiting for one."""
        while not self.waiting:
            self._more.clear()
            await self._more.wait()
        return self.waiting.popleft()

    def close(self, code: int, reason: str) -> None:
        """Request that the connection is closed; the first reason wins."""
        if not self.closing.done():
            self.closing.set_result((code, reason))

    def close_as_slow(self) -> None:
        """Close the connection as a slow consumer."""
        if not self.closing.done():
            log.warning("slow_consumer", extra={"connection": self.connection_id, "waiting": self._limit})
            self.close(TRY_AGAIN, f"slow consumer: {self._limit} messages wait")

    def allows_message(self, now: float) -> bool:
        """Whether the client is within its rate of requests."""
        return self._message_bucket.take(now)


class TokenBucket:
    """A rate limit: `rate` per second, with a burst of twice the rate."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate, self._most = rate, max(2.0 * rate, 1.0)
        self._left, self._counted_at = self._most, now

    def take(self, now: float) -> bool:
        """Take a token, if there is one."""
        self._left = min(self._most, self._left + (now - self._counted_at) * self._rate)
        self._counted_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class CallLimiter:
    """Limits REST calls per address; without limit when the rate is 0."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._buckets: dict[str, TokenBucket] = {}
        self._blocked_until = 0.0

    def allows(self, address: str, now: float) -> bool:
        """Whether another call from an address is answered."""
        if now < self._blocked_until:
            return False
        if not self._rate:
            return True
        if address not in self._buckets:
            self._buckets[address] = TokenBucket(self._rate, now)
        return self._buckets[address].take(now)

    def block_until(self, until: float) -> None:
        """Reject all calls until a time."""
        self._blocked_until = until

    def blocked_for(self, now: float) -> float:
        """Seconds until calls are answered again."""
        return max(self._blocked_until - now, 0.0)


class ConnectionLimiter:
    """Limits WebSocket connections per address in CONNECT_WINDOW; an address that exceeds the limit is blocked."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._recent: dict[str, deque[float]] = {}
        self._blocked_until: dict[str, float] = {}

    def allows(self, address: str, now: float) -> bool:
        """Whether another connection from an address is accepted."""
        if now < self._blocked_until.get(address, 0.0):
            return False
        recent = self._recent.setdefault(address, deque())
        while recent and recent[0] <= now - CONNECT_WINDOW:
            recent.popleft()
        if len(recent) >= self._limit:
            self._blocked_until[address] = now + CONNECT_WINDOW
            recent.clear()
            log.warning("connection_limit_exceeded", extra={"address": address, "seconds": CONNECT_WINDOW})
            return False
        recent.append(now)
        return True


class Subscribers:
    """All connections and their subscriptions."""

    def __init__(self, settings: Settings, clock: Clock, registry: prometheus_client.CollectorRegistry) -> None:
        self.connections: dict[Connection, None] = {}
        self.faults = Faults()
        self._settings, self._clock = settings, clock
        self._subscribers: dict[Key, dict[Connection, None]] = {}
        self._silent_until = 0.0
        self._removed = asyncio.Event()
        self._sent = prometheus_client.Counter(
            "aether_venue_messages", "Messages sent to clients, by channel", ["channel"], registry=registry
        )
        self._closed = prometheus_client.Counter(
            "aether_venue_connections_closed", "Connections closed by the venue, by code", ["code"], registry=registry
        )

    # ---- connections and subscriptions

    def add(self) -> Connection:
        rate, now = self._settings.message_rate, self._clock.elapsed()
        connection = Connection(limit=self._settings.queue, rate=rate, now=now)
        self.connections[connection] = None
        return connection

    def remove(self, connection: Connection) -> None:
        self.connections.pop(connection, None)
        self._removed.set()
        for key in list(connection.subscribed):
            self.unsubscribe(connection, key)
        if connection.closing.done() and not connection.closing.cancelled():
            self._closed.labels(str(connection.closing.result()[0])).inc()

    def close_all(self, code: int, reason: str) -> int:
        """Close all connections; returns their number."""
        for connection in self.connections:
            connection.close(code, reason)
        return len(self.connections)

    async def wait_closed(self) -> None:
        """Wait until no connection is left: each has received the close frame, or timed out."""
        while self.connections:
            self._removed.clear()
            await self._removed.wait()

    def close_all_as_slow(self) -> int:
        """Close all connections as slow consumers; returns their number."""
        for connection in self.connections:
            connection.close_as_slow()
        return len(self.connections)

    def subscribe(self, connection: Connection, key: Key) -> bool:
        """Add a subscription; False if it exists."""
        if key in connection.subscribed:
            return False
        connection.subscribed[key] = None
        self._subscribers.setdefault(key, {})[connection] = None
        return True

    def unsubscribe(self, connection: Connection, key: Key) -> bool:
        """Remove a subscription; False if it does not exist."""
        if key not in connection.subscribed:
            return False
        del connection.subscribed[key]
        connection.subscribed_at = self._clock.elapsed()
        remaining = self._subscribers[key]
        del remaining[connection]
        if not remaining:
            del self._subscribers[key]
        return True

    # ---- sending

    def has_subscribers(self, key: Key) -> bool:
        """Whether there is a subscriber, so that a message must be encoded."""
        return key in self._subscribers

    def broadcast(self, messages: Iterable[tuple[Key, str]]) -> None:
        """Send one message to the subscribers of its keys, with one text for each key, such as for each book depth.

        Injected faults affect all subscribers alike.
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
        """Send a snapshot to a new subscriber, unless the channel is muted."""
        if not self.faults.muted(key.channel, key.symbol, self._clock.elapsed(), snapshot=True):
            self.send(text, key.channel, connection)

    def send(self, text: str, channel: str, *connections: Connection) -> None:
        """Queue a message for these connections; dropped during an injected silence."""
        now = self._clock.elapsed()
        if now < self._silent_until:
            return
        for connection in connections:
            connection.push(text, now)
        self._sent.labels(channel).inc(len(connections))

    def check_connections(self) -> None:
        """Send heartbeats, and close connections that are idle without a subscription."""
        now = self._clock.elapsed()
        for connection in self.connections:
            if connection.subscribed:
                if now - connection.last_sent_at >= HEARTBEAT:
                    self.send(wire_format.HEARTBEAT, "heartbeat", connection)
            elif now - connection.subscribed_at >= self._settings.idle_seconds:
                connection.close(GOING_AWAY, "no subscription")

    def silence(self, seconds: float) -> None:
        """Drop all messages for some seconds."""
        self._silent_until = self._clock.elapsed() + seconds

    def mute(self, channel: str, symbol: str, seconds: float, *, snapshots: bool) -> None:
        """Drop all messages of one channel of one market for some seconds; snapshots only if not `snapshots`."""
        self.faults.mute(channel, symbol, self._clock.elapsed() + seconds, snapshots=snapshots)

    def describe_faults(self) -> dict[str, object]:
        """The active faults, and the number of subscriptions by channel."""
        now = self._clock.elapsed()
        return {
            "silent_seconds": max(self._silent_until - now, 0.0),
            "muted_seconds": self.faults.muted_seconds(now),
            "waiting": self.faults.pending(),
            "subscriptions": Counter(key.channel for key in self._subscribers),
        }
