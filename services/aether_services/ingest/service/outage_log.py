"""Logs outages of the servers and the venue: each cause once, and as a warning only where a person should act.

While a platform starts, servers, logins and venue are not there yet. /status has the cause of the latest attempt.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from aether_services.kit.clocks import Clock

START_GRACE: Final = 300.0
"""Seconds after the start in which an outage is no warning: the default of spec.progressDeadlineSeconds."""


class OutageLog:
    """The log lines about one server or venue.

    Args:
        log: Where they are written.
        down: The event of an outage.
        up: The event of its end, and of the first success.
        clock: The time.
    """

    def __init__(self, log: logging.Logger, *, down: str, up: str, clock: Clock) -> None:
        self._log, self._down, self._up, self._clock = log, down, up, clock
        self._started = clock.elapsed()
        self._down_since: float | None = self._started
        """When the start or the outage began; None while it works."""
        self._logged: tuple[int, str] | None = None

    def record_failure(self, cause: str, **keys: Any) -> None:
        """Log a failed attempt or a broken connection, unless the same was logged before."""
        elapsed = self._clock.elapsed()
        if self._down_since is None:
            self._down_since = elapsed
        level = logging.INFO if elapsed - self._started < START_GRACE else logging.WARNING
        if self._logged != (level, cause):
            self._logged = level, cause
            self._log.log(level, self._down, extra={**keys, "cause": cause})

    def record_success(self, **keys: Any) -> None:
        """Log that it works, with the seconds since the start or since the outage began; nothing if it did before."""
        if self._down_since is None:
            return
        seconds = round(self._clock.elapsed() - self._down_since, 1)
        self._down_since = self._logged = None
        self._log.info(self._up, extra={**keys, "seconds": seconds})
