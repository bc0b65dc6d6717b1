"""Composes the venue from its settings, and serves it until it is told to end."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import prometheus_client
import uvloop

from aether_services.contracts.statuses import VenueStatus
from aether_services.exchange_sim.adapters.journals import SqliteJournal
from aether_services.exchange_sim.core import markets, recordings
from aether_services.exchange_sim.endpoints import admin, rest, sockets
from aether_services.exchange_sim.ports import JournalBroken
from aether_services.exchange_sim.service import Venue
from aether_services.exchange_sim.settings import Settings
from aether_services.kit import apps, http_server, logs
from aether_services.kit.clocks import SystemClock
from aether_services.kit.settings import WrongSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    import fastapi
    import uvicorn

log = logging.getLogger(__name__)

GRACE: Final = 5.0
"""Seconds to say goodbye."""
HERE: Final = "127.0.0.1"


def main(environ: Mapping[str, str]) -> None:
    """Run the room.

    Raises:
        WrongSettings: A setting is wrong, or names a recording or a journal that is none.
    """
    settings = Settings.read(environ)
    logs.set_up("exchange_sim")
    uvloop.run(_run(settings))


async def _run(settings: Settings) -> None:
    recording = _recording(settings)
    known = {recording.symbol: markets.MARKETS[recording.symbol]} if recording else markets.MARKETS
    try:
        journal = SqliteJournal(settings.journal)
    except (OSError, JournalBroken) as fault:
        raise WrongSettings(f"AETHER_JOURNAL: {fault}") from fault
    try:
        registry = prometheus_client.CollectorRegistry()
        venue = Venue(
            settings, instruments=known, journal=journal, clock=SystemClock(), registry=registry, recording=recording
        )
        log.info("opened", extra={"feed": settings.feed.value, "markets": len(known), "journal": settings.journal.name})
        beside = http_server.server(admin.create(venue), host=HERE, port=settings.admin_port)
        server = http_server.server(create(venue, registry), host=settings.http_host, port=settings.http_port)
        await http_server.serve(server, _Both(venue, beside), grace=GRACE)
    finally:
        journal.close()


def create(venue: Venue, registry: prometheus_client.CollectorRegistry) -> fastapi.FastAPI:
    """What its clients see."""
    app = apps.create(venue, title="A venue that speaks as Kraken does", status_model=VenueStatus, registry=registry)
    rest.add(app, venue)
    sockets.add(app, venue)
    return app


def _recording(settings: Settings) -> recordings.Recording | None:
    if settings.recording is None:
        return None
    try:
        with settings.recording.open("rb") as lines:
            return recordings.read(lines, markets.MARKETS.values())
    except (OSError, recordings.Unreadable) as fault:
        raise WrongSettings(f"AETHER_RECORDING: {fault}") from fault


class _Both:
    """The venue, and beside it the admin app: when one ends, both do."""

    def __init__(self, venue: Venue, beside: uvicorn.Server) -> None:
        self._venue, self._beside = venue, beside

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._venue.run())
            tasks.create_task(self._serve())

    async def _serve(self) -> None:
        serving_ = asyncio.create_task(self._beside.serve())
        try:
            await asyncio.shield(serving_)
        finally:
            self._beside.should_exit = True
            await serving_

    async def drain(self) -> None:
        await self._venue.drain()
