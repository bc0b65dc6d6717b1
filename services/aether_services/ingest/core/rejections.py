"""Messages and values of the venue that are rejected: each is counted, and logged once per kind."""

from __future__ import annotations

import logging
from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from aether_services.domain import times

if TYPE_CHECKING:
    from aether_services.domain.times import Nanoseconds

log = logging.getLogger(__name__)

MAX_AHEAD: Final = 5 * times.MINUTE
"""How far a time of the venue may be ahead of our clock: more than two synchronised clocks ever differ."""
MAX_BEFORE: Final = 24 * 60 * times.MINUTE
"""How much earlier than its predecessor a trade may be: the venue's times are out of order only slightly."""
_MAX_LOGGED: Final = 10_000
"""The number of kinds that are remembered as logged; then all are logged again."""


class RejectionReason(StrEnum):
    """Why a message or value was rejected; the `reason` label of the metric."""

    MALFORMED = "Malformed"
    TIME_AHEAD = "TimeAhead"
    TIME_BEFORE = "TimeBefore"
    DECIMALS = "MoreDecimals"
    UNEXPECTED = "Unexpected"
    """A bug in our code; the log has its traceback."""


class RejectedValue(ValueError):
    """A well-formed but implausible value. The text has no variable parts, since it becomes a condition's message."""

    def __init__(self, reason: RejectionReason, message: str, value: object) -> None:
        super().__init__(message)
        self.reason, self.value = reason, value


def check_time(at: Nanoseconds, now: Nanoseconds) -> None:
    """Check a time of the venue.

    Raises:
        RejectedValue: It is more than MAX_AHEAD ahead of our clock, or before 1970.
    """
    if at > now + MAX_AHEAD:
        raise RejectedValue(RejectionReason.TIME_AHEAD, "a time ahead of our clock", times.text(at))
    if at < 0:
        raise RejectedValue(RejectionReason.TIME_BEFORE, "a time before 1970", times.text(at))


def check_sequence(at: Nanoseconds, before: Nanoseconds) -> None:
    """Check a trade's time against that of its predecessor.

    Raises:
        RejectedValue: It is more than MAX_BEFORE earlier.
    """
    if at < before - MAX_BEFORE:
        raise RejectedValue(
            RejectionReason.TIME_BEFORE, "a time long before that of the trade before it", times.text(at)
        )


class Rejections:
    """Counts and logs the rejections of this replica."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, RejectionReason]] = Counter()
        """(channel or REST method, reason) → number of rejections."""
        self._logged: set[tuple[str, str, RejectionReason]] = set()

    def record(self, channel: str, name: str, fault: Exception, *, unexpected: bool = False) -> RejectionReason:
        """Count a rejection, and log the first of its kind.

        Args:
            channel: The source: a channel, or a REST method.
            name: The market, where it is known.
            fault: The cause; anything but a ValueError is a bug in our code.
            unexpected: Whether it is a bug in any case.
        """
        if isinstance(fault, RejectedValue):
            reason = fault.reason
        elif unexpected or not isinstance(fault, ValueError):
            reason = RejectionReason.UNEXPECTED
        else:
            reason = RejectionReason.MALFORMED
        self.counts[channel, reason] += 1
        key = channel, name, reason
        if key not in self._logged:
            if len(self._logged) >= _MAX_LOGGED:
                self._logged.clear()
            self._logged.add(key)
            details = {"channel": channel, "symbol": name, "reason": reason, "cause": str(fault)[:200]}
            if isinstance(fault, RejectedValue):
                details["value"] = str(fault.value)
            if reason is RejectionReason.UNEXPECTED:
                log.error("unexpected_error", extra=details | {"error": type(fault).__name__}, exc_info=fault)
            else:
                log.warning("message_rejected", extra=details)
        return reason
