"""Logs: one JSON object a line, an event with keys; the key and the id of the visit that it belongs to are on it."""

from __future__ import annotations

import contextvars
import datetime
import json
import logging
import sys
from typing import Any, Final

VISIT: Final[contextvars.ContextVar[dict[str, str]]] = contextvars.ContextVar("visit", default={})  # noqa: B039 - never changed
_PLAIN: Final = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) | {"message", "taskName"}


class Lines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **VISIT.get(),
            **{
                key: value for key, value in record.__dict__.items() if key not in _PLAIN and not key.startswith("k8s_")
            },
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def set_up(level: str = "INFO") -> None:
    """Everything that this process logs, on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # What Kopf says of each event it hears is ours to say, once.
    logging.getLogger("kopf").setLevel(logging.WARNING)
    logging.getLogger("kopf.objects").setLevel(logging.ERROR)
