"""When to reconnect to the venue: at once after a stable session, then with backoff, and within a budget."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aether_services.domain import times

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW: Final = 600.0
MAX_CONNECTS: Final = 100
"""Connection attempts in any ten minutes, of all replicas together, which may share an address.

Kraken bans an address beyond about 150 (Cloudflare's limit, according to its WebSocket guide). The difference is for
replicas that restart, for a share that shrank meanwhile, and for other clients at the same address.
"""
STABLE_AFTER: Final = 30 * times.SECOND
"""How long a session must receive messages so that its end counts as a first failure again."""
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 30.0
MAINTENANCE_PAUSE: Final = 5.0
POLICY_PAUSE: Final = WINDOW
"""The pause after close code 1008: the venue rejects this client, and a ban lasts ten minutes."""
_POLICY: Final = 1008
TOO_MANY: Final = 429
"""The HTTP status of a rate-limited connection attempt. It does not say how long the address is banned. The longest
pause allows twenty attempts in ten minutes: few enough for a ban to expire, and often enough to notice it soon.
"""


@dataclass(slots=True)
class ReconnectPolicy:
    """The reconnect backoff and budget of one replica, over all its sessions.

    Args:
        jitter: Returns a random number from 0 to 1, so that replicas do not reconnect at the same time.
        replicas: The number of replicas that share the budget.
    """

    jitter: Callable[[], float]
    replicas: int = 1
    _attempts: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_CONNECTS))
    _failures: int = 0

    @property
    def share(self) -> int:
        """Connection attempts in ten minutes that this replica may make."""
        return max(1, MAX_CONNECTS // self.replicas)

    def record_attempt(self, now: float) -> None:
        """Count a connection attempt, successful or not."""
        self._attempts.append(now)

    def session_stable(self) -> None:
        """A session lasted for STABLE_AFTER: reset the backoff."""
        self._failures = 0

    def pause(self, now: float, *, code: int = 0, maintenance: bool = False) -> float:
        """Seconds until the next attempt, after a session ended or an attempt failed."""
        self._failures += 1
        # With a small share attempts are spread out, so that the budget is not exhausted when the venue comes back.
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
