"""Composes ingest from its settings."""

from __future__ import annotations

import contextlib
import secrets
from typing import TYPE_CHECKING, Final

from aether_services.contracts.statuses import IngestStatus
from aether_services.ingest import endpoints
from aether_services.ingest.adapters.files import LiveFile
from aether_services.ingest.adapters.kafka import Kafka
from aether_services.ingest.adapters.kraken import Kraken
from aether_services.ingest.adapters.nats import Nats
from aether_services.ingest.adapters.peers import HttpPeers
from aether_services.ingest.adapters.tables import Tables
from aether_services.ingest.core.rejections import Rejections
from aether_services.ingest.metrics import Latencies, Metrics
from aether_services.ingest.service import Ingest
from aether_services.ingest.service.ingest import Options
from aether_services.ingest.settings import Settings, Venue
from aether_services.kit import apps
from aether_services.kit.clocks import SystemClock
from aether_services.kit.process import Composed, Service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import prometheus_client

GRACE: Final = 20.0
"""Seconds for draining; the pod has thirty."""
PAUSES: Final = {Venue.KRAKEN: 1.0, Venue.SIMULATED: 0.0}
"""Seconds between two REST calls to a venue."""


@contextlib.asynccontextmanager
async def compose(settings: Settings, registry: prometheus_client.CollectorRegistry) -> AsyncIterator[Composed]:
    """Connect ingest's logic with its adapters."""
    clock, rejections = SystemClock(), Rejections()
    tables = Tables(settings.postgres, settings.postgres_database)
    async with (
        Kraken(
            ws_url=settings.venue_ws_url,
            rest_url=settings.venue_rest_url,
            pause=PAUSES[settings.venue],
            clock=clock,
            rejections=rejections,
        ) as venue,
        HttpPeers(settings.peer_url, settings.number) as peers,
    ):
        ingest = Ingest(
            instance=settings.instance,
            number=settings.number,
            release=settings.release,
            writer=secrets.token_hex(6),
            venue=venue,
            outputs=[Kafka(settings.kafka), Nats(settings.nats), tables],
            instruments=tables,
            live=LiveFile(settings.live_settings),
            peers=peers,
            clock=clock,
            observer=Latencies(registry),
            options=Options(
                depth=settings.book_depth,
                refresh=settings.book_refresh_seconds,
                trade_log_length=settings.tape_length,
                rest_interval=PAUSES[settings.venue],
            ),
            rejections=rejections,
        )
        Metrics(ingest, registry)
        app = apps.create(ingest, title="Market data", status_model=IngestStatus, registry=registry)
        app.include_router(endpoints.router(ingest))
        yield Composed(app=app, work=ingest)


SERVICE: Final = Service(settings=Settings, compose=compose, grace=GRACE)
