"""The faults that a test plans for a write, as values; and the errors that the proxy returns by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiohttp import hdrs, web

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REASONS: Final[Mapping[int, str]] = {
    409: "Conflict", 410: "Expired", 422: "Invalid", 429: "TooManyRequests", 500: "InternalError",
    503: "ServiceUnavailable",
}  # fmt: skip
LONGEST: Final = 60.0
"""Seconds that a client is kept waiting, if it does not give up earlier."""


@dataclass(frozen=True, slots=True)
class KillBefore:
    """Do not forward the write; call `kill`, and drop the connection."""

    kill: Callable[[], object]


@dataclass(frozen=True, slots=True)
class KillAfter:
    """Forward the write; then call `kill`, and drop the response."""

    kill: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Answer:
    """Return this status code without forwarding; 429 and 503 have a Retry-After."""

    code: int
    retry_after: int = 1


@dataclass(frozen=True, slots=True)
class AppliedThenSilent:
    """Forward the write and withhold the response until the client gives up, for at most so many seconds."""

    longest: float = LONGEST


@dataclass(frozen=True, slots=True)
class Hang:
    """Do not forward, and do not respond until the client gives up, for at most so many seconds."""

    longest: float = LONGEST


@dataclass(frozen=True, slots=True)
class Reset:
    """Reset the connection without forwarding."""


Fault = KillBefore | KillAfter | Answer | AppliedThenSilent | Hang | Reset


def status(code: int, message: str = "", *, retry_after: int | None = None) -> dict[str, Any]:
    """A Status, as the API server returns it instead of an object."""
    details = {"retryAfterSeconds": retry_after} if retry_after is not None else {}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message or f"the proxy was set to return {code}",
        "reason": REASONS[code],
        **({"details": details} if details else {}),
        "code": code,
    }


def response(answer: Answer) -> web.Response:
    """The response of an `Answer`."""
    later = answer.retry_after if answer.code in {429, 503} else None
    more = {} if later is None else {hdrs.RETRY_AFTER: str(later)}
    return web.json_response(status(answer.code, retry_after=later), status=answer.code, headers=more)
