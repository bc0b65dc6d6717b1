"""What an output has still to send of books and tickers; when that is too much, the newest of each market."""

from __future__ import annotations

from collections import deque

import msgspec

from aether_services.contracts.marketdata import Topic
from aether_services.domain.instruments import Symbol
from aether_services.domain.times import Nanoseconds


class EncodedMessage(msgspec.Struct, frozen=True, gc=False):
    """One message, written. There are so many of them that it matters how fast one is made."""

    topic: Topic
    symbol: Symbol
    body: bytes
    received: Nanoseconds
    """When what it says was received from the venue."""


class Outbox:
    """Letters in order, at most `limit` of them: one more, and of each topic and market only the newest stays."""

    def __init__(self, limit: int) -> None:
        self._messages: deque[EncodedMessage] = deque()
        self._limit = limit
        self.conflated = 0
        """Letters that a newer one took the place of."""

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def oldest(self) -> Nanoseconds | None:
        """When the oldest that waits was received."""
        return self._messages[0].received if self._messages else None

    def put(self, message: EncodedMessage) -> None:
        """Add one."""
        self._messages.append(message)
        if len(self._messages) > self._limit:
            self._conflate()

    def _conflate(self) -> None:
        newest = {(message.topic, message.symbol): message for message in self._messages}
        # By the place of the newest: a market's order is kept, and so is that between markets, as far as it can be.
        kept = [message for message in self._messages if newest[message.topic, message.symbol] is message]
        self.conflated += len(self._messages) - len(kept)
        self._messages = deque(kept)

    def take(self, most: int) -> list[EncodedMessage]:
        """The oldest, which are not here any more."""
        return [self._messages.popleft() for _ in range(min(most, len(self._messages)))]

    def put_back(self, messages: list[EncodedMessage]) -> None:
        """Letters that could not be sent, before all others."""
        self._messages.extendleft(reversed(messages))
        if len(self._messages) > self._limit:
            self._conflate()
