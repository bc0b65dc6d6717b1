"""Composes the venue from its settings."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from aether_services.contracts.statuses import VenueStatus
from aether_services.exchange_sim.adapters.journals import SqliteJournal
from aether_services.exchange_sim.core import markets, recordings
from aether_services.exchange_sim.endpoints import admin, rest, sockets
from aether_services.exchange_sim.ports import JournalError
from aether_services.exchange_sim.service import Venue
from aether_services.exchange_sim.settings import Settings
from aether_services.kit import apps, http_server
from aether_services.kit.clocks import SystemClock
from aether_services.kit.process import Composed, Service
from aether_services.kit.settings import InvalidSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import fastapi
    import prometheus_client
    import uvicorn

log = logging.getLogger(__name__)

DRAIN_TIMEOUT: Final = 5.0
"""Seconds for closing the connections."""
LOOPBACK: Final = "127.0.0.1"


@contextlib.asynccontextmanager
async def compose(settings: Settings, registry: prometheus_client.CollectorRegistry) -> AsyncIterator[Composed]:
    """Connect the venue with its journal, and with its app for clients and the one for faults.

    Raises:
        InvalidSettings: The recording or the journal cannot be read.
    """
    recording = _recording(settings)
    instruments = {recording.symbol: markets.MARKETS[recording.symbol]} if recording else markets.MARKETS
    try:
        journal = SqliteJournal(settings.journal)
    except (OSError, JournalError) as error:
        raise InvalidSettings(f"AETHER_JOURNAL: {error}") from error
    with contextlib.closing(journal):
        venue = Venue(
            settings,
            instruments=instruments,
            journal=journal,
            clock=SystemClock(),
            registry=registry,
            recording=recording,
        )
        log.info(
            "venue_started",
            extra={"feed": settings.feed.value, "markets": len(instruments), "journal": settings.journal.name},
        )
        admin_server = http_server.server(admin.create(venue), host=LOOPBACK, port=settings.admin_port)
        yield Composed(app=create(venue, registry), work=_VenueAndAdmin(venue, admin_server))


def create(venue: Venue, registry: prometheus_client.CollectorRegistry) -> fastapi.FastAPI:
    """The app for clients of the venue: REST, WebSocket, and the endpoints of all services."""
    app = apps.create(venue, title="Simulated venue with Kraken's API", status_model=VenueStatus, registry=registry)
    rest.add(app, venue)
    sockets.add(app, venue)
    return app


def _recording(settings: Settings) -> recordings.Recording | None:
    if settings.recording is None:
        return None
    try:
        with settings.recording.open("rb") as lines:
            return recordings.read(lines, markets.MARKETS.values())
    except (OSError, recordings.InvalidRecording) as error:
        raise InvalidSettings(f"AETHER_RECORDING: {error}") from error


class _VenueAndAdmin:
    """The venue and the server of its admin app: when one ends, the other does too."""

    def __init__(self, venue: Venue, admin_server: uvicorn.Server) -> None:
        self._venue, self._admin_server = venue, admin_server

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._venue.run())
            tasks.create_task(self._serve())

    async def _serve(self) -> None:
        serving = asyncio.create_task(self._admin_server.serve())
        try:
            await asyncio.shield(serving)
        finally:
            self._admin_server.should_exit = True
            await serving

    async def drain(self) -> None:
        await self._venue.drain()


SERVICE: Final = Service(settings=Settings, compose=compose, grace=DRAIN_TIMEOUT)
