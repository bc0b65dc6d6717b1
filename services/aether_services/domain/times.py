"""Points in time: nanoseconds since 1970 in UTC inside, RFC 3339 with nanoseconds on the wire."""

from __future__ import annotations

import datetime
import re
from typing import Final, NewType

Nanoseconds = NewType("Nanoseconds", int)
"""Nanoseconds since 1970-01-01T00:00:00Z, without leap seconds."""

SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_FORM: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z", re.ASCII)


def parse(text: str) -> Nanoseconds:
    """Parse RFC 3339 in UTC (with Z), with up to nine decimals of a second.

    Raises:
        ValueError: The text has another form.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(f"not a time in UTC with at most nanoseconds: {text!r}")
    whole = datetime.datetime.fromisoformat(match[1]).replace(tzinfo=datetime.UTC) - _EPOCH
    return Nanoseconds((whole.days * 86_400 + whole.seconds) * SECOND + int((match[2] or "").ljust(9, "0")))


def text(at: Nanoseconds) -> str:
    """RFC 3339 in UTC with nine decimals of a second: 2023-07-30T15:29:58.343415000Z."""
    seconds, rest = divmod(at, SECOND)
    return f"{(_EPOCH + datetime.timedelta(seconds=seconds)).isoformat()[:19]}.{rest:09d}Z"


def to_datetime(at: Nanoseconds) -> datetime.datetime:
    """The time as PostgreSQL stores it: in microseconds, truncated and not rounded."""
    return _EPOCH + datetime.timedelta(microseconds=at // 1000)


def from_datetime(at: datetime.datetime) -> Nanoseconds:
    """The nanoseconds of an aware datetime."""
    since = at - _EPOCH
    return Nanoseconds(((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1000)
