"""Logs: one JSON object per line on standard error, an event with keys."""

from __future__ import annotations

import contextvars
import datetime
import json
import logging
import sys
import sysconfig
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import TracebackType

CONTEXT: Final[contextvars.ContextVar[dict[str, str]]] = contextvars.ContextVar("context", default={})  # noqa: B039 - never changed
"""Keys that are on every line of the current task: of a reconcile, its key and its id."""
_PLAIN: Final = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) | {
    "message", "taskName", "color_message",
}  # fmt: skip
"""Attributes of a record that are not keys of its line: logging's own, and uvicorn's copy of the message."""
_KOPF: Final = "k8s_"
"""The prefix of the attributes that Kopf adds to a record."""
LEVELS: Final = {
    # Kopf logs each event that it receives; the operator logs what it does about them.
    "kopf": logging.WARNING,
    "kopf.objects": logging.ERROR,
    # Single attempts at a request, and the ends of its tasks: hundreds a minute while the API server denies access.
    # `handlers.watcher` logs the cause, once.
    "kopf._cogs.clients": logging.CRITICAL,
    "kopf._core.reactor.orchestration": logging.CRITICAL,
    "kopf._core.reactor.running": logging.CRITICAL,
    "alembic": logging.WARNING,
    "uvicorn": logging.ERROR,
    # A report, or an adapter, has the cause once, in words of ours and without secrets.
    "aiokafka": logging.CRITICAL + 1,
    "nats": logging.CRITICAL + 1,
    "psycopg": logging.CRITICAL + 1,
}
"""Library → the least level of its own lines."""
_HEAD: Final = "Traceback (most recent call last):\n"
MAX_DEPTH: Final = 8
"""The number of exceptions of a chain that are logged."""
_OWN_PACKAGES: Final = frozenset({"aether_operator", "aether_runtime", "aether_services"})
_QUOTED_PACKAGES: Final = _OWN_PACKAGES | {"builtins"}
"""Where the exceptions come from whose message is logged."""
_LIBRARY_PATHS: Final = tuple(
    set(sysconfig.get_paths().values()) - {sysconfig.get_path("data"), sysconfig.get_path("scripts")}
)
"""Paths of the standard library and of installed packages."""
_OWN_PATHS: Final = tuple(f"{Path(__file__).parents[1] / name}/" for name in sorted(_OWN_PACKAGES))
"""Our packages are installed as well, in an image."""


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON.

    Args:
        service: The value of the key `service`; without it the line has none, as the operator's.
    """

    def __init__(self, service: str = "") -> None:
        super().__init__()
        self._service = {"service": service} if service else {}

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            **self._service,
            "logger": record.name,
            "event": _event(record),
        }
        extra = {key: value for key, value in record.__dict__.items() if key not in _PLAIN and key not in line}
        line |= CONTEXT.get() | {key: value for key, value in extra.items() if not key.startswith(_KOPF)}
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


def summary(error: BaseException) -> str:
    """An exception in one line, for a status: its class, its message as in `trace`, and the line of our code."""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if not _of_library(one.filename)]
    at = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{_describe(error)}{at}"


def _describe(error: BaseException) -> str:
    name, frames = type(error).__qualname__, traceback.extract_tb(error.__traceback__)
    own_exception = type(error).__module__.partition(".")[0] in _QUOTED_PACKAGES
    raised_in_library = bool(frames) and _of_library(frames[-1].filename)
    text = str(error) if own_exception and not raised_in_library else ""
    return f"{name}: {text}" if text else name


def _of_library(filename: str) -> bool:
    return filename.startswith(_LIBRARY_PATHS) and not filename.startswith(_OWN_PATHS)


def set_up(level: str = "INFO", *, service: str = "") -> None:
    """Configure logging for the whole process, uncaught exceptions included; `service` as in JsonFormatter."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    sys.excepthook = _log_uncaught
    for name, least in LEVELS.items():
        logging.getLogger(name).setLevel(least)


def _log_uncaught(kind: type[BaseException], error: BaseException, tb: TracebackType | None) -> None:
    """The `sys.excepthook`: an exception that ends the process is a log line like any other."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, tb)
        return
    logging.getLogger(__name__).critical("uncaught_exception", exc_info=(kind, error, tb))
