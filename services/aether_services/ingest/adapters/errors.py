"""Translates the clients' error into that of ingest's ports."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from aether_services.clients.servers import ServerUnavailable
from aether_services.ingest.ports import OutputUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Within it, a server that is unavailable is an output that is unavailable, for the same cause."""
    try:
        yield
    except ServerUnavailable as fault:
        raise OutputUnavailable(str(fault)) from fault
