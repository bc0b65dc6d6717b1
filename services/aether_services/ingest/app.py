"""Composes ingest from its settings, and serves it until SIGTERM."""

from __future__ import annotations

import contextlib
import secrets
from typing import TYPE_CHECKING, Final

import prometheus_client
import uvloop

from aether_runtime import logs
from aether_services.contracts.statuses import IngestStatus
from aether_services.ingest import endpoints
from aether_services.ingest.adapters.files import LiveFile
from aether_services.ingest.adapters.kafka import Kafka
from aether_services.ingest.adapters.kraken import Kraken
from aether_services.ingest.adapters.nats import Nats
from aether_services.ingest.adapters.peers import HttpPeers
from aether_services.ingest.adapters.servers import Server
from aether_services.ingest.adapters.tables import Tables
from aether_services.ingest.core.rejections import Rejections
from aether_services.ingest.metrics import Metrics
from aether_services.ingest.service import Ingest
from aether_services.ingest.service.ingest import Options
from aether_services.ingest.settings import Settings, Tls, Venue
from aether_services.kit import apps, http_server
from aether_services.kit.clocks import SystemClock

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from aether_services.ingest.ports import Output

GRACE: Final = 20.0
"""Seconds for draining; the pod has thirty."""
PAUSES: Final = {Venue.KRAKEN: 1.0, Venue.SIMULATED: 0.0}
"""Seconds between two REST calls to a venue."""


def main(environ: Mapping[str, str]) -> None:
    """Run the service.

    Raises:
        InvalidSettings: A setting is missing, unknown or invalid.
    """
    settings = Settings.read(environ)
    logs.set_up(settings.log_level, service="ingest")
    uvloop.run(run(settings))


async def run(settings: Settings) -> None:
    clock = SystemClock()
    tables = Tables(
        _server(settings.postgres_host, settings.postgres_port, settings.postgres_tls, settings.postgres_credentials),
        settings.postgres_database,
    )
    outputs: list[Output] = [
        Kafka(_server(settings.kafka_host, settings.kafka_port, settings.kafka_tls, settings.kafka_credentials)),
        Nats(_server(settings.nats_host, settings.nats_port, settings.nats_tls, settings.nats_credentials)),
        tables,
    ]
    rejections = Rejections()
    async with contextlib.AsyncExitStack() as stack:
        venue = await stack.enter_async_context(
            Kraken(
                ws_url=settings.venue_ws_url,
                rest_url=settings.venue_rest_url,
                pause=PAUSES[settings.venue],
                clock=clock,
                rejections=rejections,
            )
        )
        peers = await stack.enter_async_context(HttpPeers(settings.peer_url, settings.number))
        ingest = Ingest(
            instance=settings.instance,
            number=settings.number,
            release=settings.release,
            writer=secrets.token_hex(6),
            venue=venue,
            outputs=outputs,
            instruments=tables,
            live=LiveFile(settings.live_settings),
            peers=peers,
            clock=clock,
            options=Options(
                depth=settings.book_depth,
                refresh=settings.book_refresh_seconds,
                trade_log_length=settings.tape_length,
                rest_interval=PAUSES[settings.venue],
            ),
            rejections=rejections,
        )
        registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=registry)
        Metrics(ingest, registry)
        app = apps.create(ingest, title="Market data", status_model=IngestStatus, registry=registry)
        app.include_router(endpoints.router(ingest))
        server = http_server.server(app, host=settings.http_host, port=settings.http_port)
        await http_server.serve(server, ingest, grace=GRACE)


def _server(host: str, port: int, tls: Tls, credentials: Path) -> Server:
    return Server(host=host, port=port, tls=tls, credentials=credentials)
