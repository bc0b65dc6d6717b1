"""When the venue is connected to again: at once after a session that lasted, then slower, and never too often."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aether_services.domain import times

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW: Final = 600.0
MAX_CONNECTS: Final = 100
"""Connects in any ten minutes, of all replicas together, which may share an address.

Kraken bans an address beyond about 150 (its guide to the WebSocket names Cloudflare's limit). What is left is for a
replica that begins anew, or whose share became smaller meanwhile, and for what else connects from there.
"""
STABLE_AFTER: Final = 30 * times.SECOND
"""For which a session has been heard of, so that its end is the first failure again."""
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 30.0
MAINTENANCE_PAUSE: Final = 5.0
POLICY_PAUSE: Final = WINDOW
"""After a close with code 1008: the venue refuses us, and a ban lasts ten minutes."""
_POLICY: Final = 1008
TOO_MANY: Final = 429
"""The status of a connect that was one too many. How long the address is banned it does not say, and the longest pause
is twenty connects in ten minutes: few enough for any ban to end, and its end is not found minutes later.
"""


@dataclass(slots=True)
class ReconnectPolicy:
    """The connects of one replica, through all its sessions.

    Args:
        chance: A number from 0 to 1, so that replicas do not come back at the same time.
        replicas: How many of them share the budget.
    """

    jitter: Callable[[], float]
    replicas: int = 1
    _attempts: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_CONNECTS))
    _failures: int = 0

    @property
    def share(self) -> int:
        """Connects in ten minutes that this replica may make."""
        return max(1, MAX_CONNECTS // self.replicas)

    def record_attempt(self, now: float) -> None:
        """The venue is connected to, or not: it counts."""
        self._attempts.append(now)

    def session_stable(self) -> None:
        """The session was heard of for long enough."""
        self._failures = 0

    def pause(self, now: float, *, code: int = 0, maintenance: bool = False) -> float:
        """Seconds until the next connect, after a session that ended or did not begin."""
        self._failures += 1
        # A share that is small is not used up early, so that the venue is not found to be back minutes later.
        longest, jitter = max(LONGEST_PAUSE, 2 * WINDOW / self.share), 0.8 + 0.4 * self.jitter()
        pause = FIRST_PAUSE
        if code == _POLICY:
            pause = POLICY_PAUSE
        elif code == TOO_MANY:
            pause = longest * jitter
        elif self._failures > 1:
            pause = min(longest, 2.0 ** min(self._failures - 2, 30)) * jitter
        if maintenance:
            pause = max(pause, MAINTENANCE_PAUSE)
        return max(pause, self._attempts[-self.share] + WINDOW - now if len(self._attempts) >= self.share else 0.0)
