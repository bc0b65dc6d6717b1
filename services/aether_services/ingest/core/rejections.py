"""What was received and is not taken: counted each time, named in the log once."""

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
"""How far the venue's time of something may be ahead of our clock: more than two clocks that are set ever differ."""
MAX_BEFORE: Final = 24 * 60 * times.MINUTE
"""How much earlier than the trade before it a trade may be: the venue's times are in order but for moments."""
_MAX_LOGGED: Final = 10_000
"""Refusals whose name is remembered; then they are named again."""


class RejectionReason(StrEnum):
    """Why something was refused."""

    NOT_UNDERSTOOD = "NotUnderstood"
    TIME_AHEAD = "TimeAhead"
    TIME_BEFORE = "TimeBefore"
    DECIMALS = "MoreDecimals"
    UNEXPECTED = "Unexpected"
    """A fault of ours: the log has its traceback."""


class RejectedValue(ValueError):
    """Something that is understood, and cannot be so; in words that stay the same, since they become a condition."""

    def __init__(self, reason: RejectionReason, message: str, value: object) -> None:
        super().__init__(message)
        self.reason, self.value = reason, value


def check_time(at: Nanoseconds, now: Nanoseconds) -> None:
    """Refuse a time that cannot be.

    Raises:
        Refused: It is further ahead of our clock than clocks differ, or before 1970.
    """
    if at > now + MAX_AHEAD:
        raise RejectedValue(RejectionReason.TIME_AHEAD, "a time ahead of our clock", times.text(at))
    if at < 0:
        raise RejectedValue(RejectionReason.TIME_BEFORE, "a time before 1970", times.text(at))


def check_sequence(at: Nanoseconds, before: Nanoseconds) -> None:
    """Refuse a trade's time that is long before that of the trade before it.

    Raises:
        Refused: It is.
    """
    if at < before - MAX_BEFORE:
        raise RejectedValue(
            RejectionReason.TIME_BEFORE, "a time long before that of the trade before it", times.text(at)
        )


class Rejections:
    """All refusals of this replica."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, RejectionReason]] = Counter()
        """Where it was received and why it was refused → times."""
        self._logged: set[tuple[str, str, RejectionReason]] = set()

    def record(self, channel: str, name: str, fault: Exception, *, unexpected: bool = False) -> RejectionReason:
        """Count one.

        Args:
            channel: Where it was received: a channel, or a method of REST.
            name: What it is about: a market, as far as that can be told.
            fault: Why; what is no ValueError is a fault of ours.
            unexpected: Whether it is one in any case.
        """
        unexpected = unexpected or not isinstance(fault, ValueError)
        reason = (
            fault.reason
            if isinstance(fault, RejectedValue)
            else RejectionReason.UNEXPECTED
            if unexpected
            else RejectionReason.NOT_UNDERSTOOD
        )
        self.counts[channel, reason] += 1
        key = channel, name, reason
        if key not in self._logged:
            if len(self._logged) >= _MAX_LOGGED:
                self._logged.clear()
            self._logged.add(key)
            details = {"channel": channel, "of": name, "why": reason, "cause": str(fault)[:200]}
            if isinstance(fault, RejectedValue):
                details["value"] = str(fault.value)
            if reason is RejectionReason.UNEXPECTED:
                log.error("refused_unexpectedly", extra=details | {"fault": type(fault).__name__}, exc_info=fault)
            else:
                log.warning("not_taken", extra=details)
        return reason
