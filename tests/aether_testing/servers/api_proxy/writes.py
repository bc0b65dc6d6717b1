"""The log of counted writes: it numbers them, and has the faults that are planned for a number."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp import web

    from aether_testing.servers.api_proxy.faults import Fault
    from aether_testing.servers.api_proxy.targets import Target

WRITING: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One write that passed the proxy."""

    number: int
    verb: str
    path: str
    about: Target
    user_agent: str
    sha256: str
    """Of the body."""
    fault: str = ""
    """The injected fault's class name, if any."""
    forwarded: bool = False
    code: int | None = None
    """The API server's status code, or the injected one; None while there is no response."""


@dataclass(slots=True)
class WriteLog:
    """The writes since the last reset. Its methods may be called from any thread."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _writes: list[Write] = field(default_factory=list)
    _plan: dict[int, Fault] = field(default_factory=dict)

    @property
    def writes(self) -> tuple[Write, ...]:
        """In order of arrival."""
        with self._lock:
            return tuple(self._writes)

    @property
    def planned(self) -> Mapping[int, Fault]:
        """Number of a write → its fault that has not happened yet."""
        with self._lock:
            return dict(self._plan)

    def reset(self) -> None:
        """Count from 1 again, and drop planned faults."""
        with self._lock:
            self._writes, self._plan = [], {}

    def plan(self, number: int, fault: Fault) -> None:
        """Plan a fault, once, for the write with this number."""
        with self._lock:
            assert number > len(self._writes), f"write {number} has passed already"
            self._plan[number] = fault

    def begin(self, request: web.BaseRequest, about: Target, body: bytes) -> tuple[Callable[..., None], Fault | None]:
        """Number a write; returns a function that changes fields of its entry, and the fault that is planned for it."""
        with self._lock:
            writes, number = self._writes, len(self._writes) + 1
            fault = self._plan.pop(number, None)
            entry = Write(
                number=number, verb=request.method, path=request.path, about=about,
                user_agent=request.headers.get("User-Agent", ""), sha256=hashlib.sha256(body).hexdigest(),
                fault="" if fault is None else type(fault).__name__,
            )  # fmt: skip
            writes.append(entry)

        def note(**changes: Any) -> None:
            with self._lock:  # `writes`, not the present list: a reset begins another one
                writes[number - 1] = replace(writes[number - 1], **changes)

        return note, fault
