"""What an output has still to send of books and tickers; when that is too much, the newest of each market."""

from __future__ import annotations

from collections import deque

import msgspec

from aether_services.contracts.marketdata import Topic
from aether_services.domain.instruments import Symbol
from aether_services.domain.times import Nanoseconds


class Letter(msgspec.Struct, frozen=True, gc=False):
    """One message, written. There are so many of them that it matters how fast one is made."""

    topic: Topic
    symbol: Symbol
    body: bytes
    received: Nanoseconds
    """When what it says was received from the venue."""


class Outbox:
    """Letters in order, at most `limit` of them: one more, and of each topic and market only the newest stays."""

    def __init__(self, limit: int) -> None:
        self._letters: deque[Letter] = deque()
        self._limit = limit
        self.conflated = 0
        """Letters that a newer one took the place of."""

    def __len__(self) -> int:
        return len(self._letters)

    @property
    def oldest(self) -> Nanoseconds | None:
        """When the oldest that waits was received."""
        return self._letters[0].received if self._letters else None

    def put(self, letter: Letter) -> None:
        """Add one."""
        self._letters.append(letter)
        if len(self._letters) > self._limit:
            self._conflate()

    def _conflate(self) -> None:
        newest = {(letter.topic, letter.symbol): letter for letter in self._letters}
        # By the place of the newest: a market's order is kept, and so is that between markets, as far as it can be.
        kept = [letter for letter in self._letters if newest[letter.topic, letter.symbol] is letter]
        self.conflated += len(self._letters) - len(kept)
        self._letters = deque(kept)

    def take(self, most: int) -> list[Letter]:
        """The oldest, which are not here any more."""
        return [self._letters.popleft() for _ in range(min(most, len(self._letters)))]

    def put_back(self, letters: list[Letter]) -> None:
        """Letters that could not be sent, before all others."""
        self._letters.extendleft(reversed(letters))
        if len(self._letters) > self._limit:
            self._conflate()
