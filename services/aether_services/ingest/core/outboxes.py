"""The queue of book and ticker messages for an output, conflated to the newest of each market when it is full."""

from __future__ import annotations

from collections import deque

import msgspec

from aether_services.contracts.marketdata import Topic
from aether_services.domain.instruments import Symbol
from aether_services.domain.times import Nanoseconds


class EncodedMessage(msgspec.Struct, frozen=True, gc=False):
    """An encoded message. A msgspec struct, since there are so many that the cost of creating one matters."""

    topic: Topic
    symbol: Symbol
    body: bytes
    received: Nanoseconds
    """When its content was received from the venue."""


class Outbox:
    """Messages in order. Beyond `limit` only the newest of each topic and market is kept."""

    def __init__(self, limit: int) -> None:
        self._messages: deque[EncodedMessage] = deque()
        self._limit = limit
        self.conflated = 0
        """The number of messages that were replaced by newer ones."""

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def oldest(self) -> Nanoseconds | None:
        """When the oldest queued message was received."""
        return self._messages[0].received if self._messages else None

    def put(self, message: EncodedMessage) -> None:
        self._messages.append(message)
        if len(self._messages) > self._limit:
            self._conflate()

    def _conflate(self) -> None:
        newest = {(message.topic, message.symbol): message for message in self._messages}
        # Each market keeps the position of its newest message.
        kept = [message for message in self._messages if newest[message.topic, message.symbol] is message]
        self.conflated += len(self._messages) - len(kept)
        self._messages = deque(kept)

    def take(self, count: int) -> list[EncodedMessage]:
        """Remove and return the oldest messages, at most `count`."""
        return [self._messages.popleft() for _ in range(min(count, len(self._messages)))]

    def put_back(self, messages: list[EncodedMessage]) -> None:
        """Put messages that could not be sent back to the front."""
        self._messages.extendleft(reversed(messages))
        if len(self._messages) > self._limit:
            self._conflate()
