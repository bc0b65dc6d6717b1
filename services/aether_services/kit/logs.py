"""Logs: one JSON object a line on standard error, an event with keys; the same form as the operator's."""

from __future__ import annotations

import datetime
import json
import logging
import sys
from typing import Any, Final

_PLAIN: Final = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) | {
    "message", "taskName", "color_message",
}  # fmt: skip


class Lines(logging.Formatter):
    """A record as one line of JSON."""

    def __init__(self, room: str) -> None:
        super().__init__()
        self._room = room

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "room": self._room,
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= {key: value for key, value in record.__dict__.items() if key not in _PLAIN and key not in line}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def set_up(room: str, level: str = "INFO") -> None:
    """Everything that this process logs."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines(room))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for quiet in ("aiokafka", "nats", "uvicorn"):  # what they have to say, the adapters say once
        logging.getLogger(quiet).setLevel(logging.ERROR)
