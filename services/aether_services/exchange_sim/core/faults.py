"""Faults on demand: injected into the next messages, or into a channel for a while."""

from __future__ import annotations

from enum import StrEnum


class FaultKind(StrEnum):
    """A fault of one message, for all its subscribers."""

    CHECKSUM = "checksum"
    """The checksum of a book message is wrong."""
    DROP = "drop"
    """The message is not sent."""
    DOUBLE = "double"
    """The message is sent twice."""


class Faults:
    """The pending faults and the muted channels."""

    def __init__(self) -> None:
        self._pending: dict[tuple[FaultKind, str, str], int] = {}
        self._muted: dict[tuple[str, str], tuple[float, bool]] = {}
        """(channel, symbol) → until when it is muted, and whether its snapshots are sent nevertheless."""

    def add(self, kind: FaultKind, channel: str, symbol: str, count: int) -> None:
        """Inject a fault into the next `count` messages of a channel, of one market or (with symbol "") of any."""
        self._pending[kind, channel, symbol] = self._pending.get((kind, channel, symbol), 0) + count

    def take(self, kind: FaultKind, channel: str, symbol: str) -> bool:
        """Whether this message gets the fault, which then counts as injected."""
        if not self._pending:
            return False
        for key in ((kind, channel, symbol), (kind, channel, "")):
            left = self._pending.get(key, 0)
            if left:
                if left == 1:
                    del self._pending[key]
                else:
                    self._pending[key] = left - 1
                return True
        return False

    def mute(self, channel: str, symbol: str, until: float, *, snapshots: bool) -> None:
        """Mute one channel of one market until a time; with `snapshots`, all but its snapshots."""
        self._muted[channel, symbol] = until, snapshots

    def muted(self, channel: str, symbol: str, now: float, *, snapshot: bool = False) -> bool:
        """Whether a message of a channel of a market is dropped."""
        until, snapshots = self._muted.get((channel, symbol), (now, False))
        return now < until and not (snapshot and snapshots)

    def muted_seconds(self, now: float) -> dict[str, float]:
        """Muted channels: "channel symbol" → remaining seconds."""
        return {
            f"{channel} {symbol}": until - now for (channel, symbol), (until, _) in self._muted.items() if until > now
        }

    def pending(self) -> dict[str, int]:
        """Pending faults: "kind channel symbol" → number of messages."""
        return {" ".join(filter(None, key)): count for key, count in self._pending.items()}
