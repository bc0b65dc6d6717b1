"""Faults on demand: what is to go wrong with the next messages."""

from __future__ import annotations

from enum import StrEnum


class FaultKind(StrEnum):
    """What goes wrong with a message, for everybody who would get it."""

    CHECKSUM = "checksum"
    """A book's checksum is wrong."""
    DROP = "drop"
    """It is not sent."""
    DOUBLE = "double"
    """It is sent twice."""


class Faults:
    """Those that wait to happen."""

    def __init__(self) -> None:
        self._pending: dict[tuple[FaultKind, str, str], int] = {}
        self._muted: dict[tuple[str, str], tuple[float, bool]] = {}
        """Channel and market → until when nothing of it is sent, and whether its snapshots are all the same."""

    def add(self, kind: FaultKind, channel: str, symbol: str, count: int) -> None:
        """Let it happen to the next `count` messages of a channel, of one market or (symbol "") of any."""
        self._pending[kind, channel, symbol] = self._pending.get((kind, channel, symbol), 0) + count

    def take(self, kind: FaultKind, channel: str, symbol: str) -> bool:
        """Whether it happens to this message."""
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
        """Send nothing of one channel of one market until then, or with `snapshots` nothing else."""
        self._muted[channel, symbol] = until, snapshots

    def muted(self, channel: str, symbol: str, now: float, *, snapshot: bool = False) -> bool:
        """Whether a message of a channel of a market is not sent."""
        until, snapshots = self._muted.get((channel, symbol), (now, False))
        return now < until and not (snapshot and snapshots)

    def muted_seconds(self, now: float) -> dict[str, float]:
        """What is muted: channel and market → for how many seconds more."""
        return {
            f"{channel} {symbol}": until - now for (channel, symbol), (until, _) in self._muted.items() if until > now
        }

    def pending(self) -> dict[str, int]:
        """What has not happened yet: kind, channel and market → how often."""
        return {" ".join(filter(None, key)): count for key, count in self._pending.items()}
