"""Logs: one JSON object per line on standard error, an event with keys; the same format as the operator's."""

from __future__ import annotations

import datetime
import json
import logging
import sys
import sysconfig
import traceback
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import TracebackType

_PLAIN: Final = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) | {
    "message", "taskName", "color_message",
}  # fmt: skip

LEVELS: Final = {
    "uvicorn": logging.ERROR,
    # The adapters log the errors of these, once, in words of ours and without secrets.
    "aiokafka": logging.CRITICAL + 1,
    "nats": logging.CRITICAL + 1,
    "psycopg": logging.CRITICAL + 1,
}
_HEAD: Final = "Traceback (most recent call last):\n"
MAX_DEPTH: Final = 8
"""The number of exceptions of a chain that are logged."""
_QUOTED_PACKAGES: Final = frozenset({"builtins", "aether_services"})
_LIBRARY_PATHS: Final = tuple(
    set(sysconfig.get_paths().values()) - {sysconfig.get_path("data"), sysconfig.get_path("scripts")}
)
"""Paths of the standard library and of installed packages."""


class JsonFormatter(logging.Formatter):
    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "event": _event(record),
        }
        line |= {key: value for key, value in record.__dict__.items() if key not in _PLAIN and key not in line}
        if record.exc_info and record.exc_info[1] is not None:
            line["trace"] = trace(record.exc_info[1])
        return json.dumps(line, default=str)


def _event(record: logging.LogRecord) -> str:
    """The event's name. Of a record of asyncio only the first line: the others repeat the exception."""
    text = record.getMessage()
    return text.partition("\n")[0] if record.name == "asyncio" else text


def trace(error: BaseException) -> str:
    """The traceback of an exception and its causes, with messages only of exceptions that our own code raised.

    A driver's message may quote what was sent to a server, credentials included.
    """
    parts: list[str] = []
    one: BaseException | None = error
    while one is not None and len(parts) < MAX_DEPTH:
        text = "".join([_HEAD, *traceback.format_tb(one.__traceback__), _describe(one)])
        inner = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        parts.append("\n".join([text, *(trace(each) for each in inner)]))
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return "\nafter\n".join(reversed(parts))


def _describe(error: BaseException) -> str:
    name, frames = type(error).__qualname__, traceback.extract_tb(error.__traceback__)
    own_exception = type(error).__module__.partition(".")[0] in _QUOTED_PACKAGES
    raised_in_library = bool(frames) and frames[-1].filename.startswith(_LIBRARY_PATHS)
    text = str(error) if own_exception and not raised_in_library else ""
    return f"{name}: {text}" if text else name


def set_up(service: str, level: str = "INFO") -> None:
    """Configure logging for the whole process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    sys.excepthook = _log_uncaught
    for name, least in LEVELS.items():
        logging.getLogger(name).setLevel(least)


def _log_uncaught(kind: type[BaseException], error: BaseException, tb: TracebackType | None) -> None:
    """Log an uncaught exception as one JSON line, like any other event."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, tb)
        return
    logging.getLogger(__name__).critical("uncaught_exception", exc_info=(kind, error, tb))
