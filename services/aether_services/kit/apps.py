"""The app factory: what every room answers, besides what it is there for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import fastapi
import prometheus_client
from fastapi import Response, status

from aether_services.contracts.statuses import Check, Status

if TYPE_CHECKING:
    from collections.abc import Mapping


class Service(Protocol):
    """A room's service, as far as every room has one."""

    @property
    def draining(self) -> bool:
        """Whether it is about to end and takes no more work."""
        ...

    def checks(self) -> Mapping[str, Check]:
        """What it needs, by name; it is ready when all are well."""
        ...

    def status(self) -> Status:
        """What it says of itself."""
        ...


def ready(service: Service) -> bool:
    """Whether a room does what it is there for."""
    return not service.draining and all(check.ok for check in service.checks().values())


def create(
    service: Service, *, title: str, status_model: type[Status], registry: prometheus_client.CollectorRegistry
) -> fastapi.FastAPI:
    """An app with /healthz, /readyz, /status, /metrics and /openapi.json; a room adds its own endpoints.

    Args:
        service: What it serves.
        title: What the room is, in a few words.
        status_model: The form of its /status.
        registry: Its metrics.
    """
    app = fastapi.FastAPI(title=title, version="1", docs_url=None, redoc_url=None)

    @app.get("/healthz", response_class=fastapi.responses.PlainTextResponse, tags=["service"])
    async def healthz() -> str:
        """The process turns."""
        return "ok\n"

    @app.get("/readyz", tags=["service"])
    async def readyz(response: Response) -> dict[str, Check]:
        """What the room needs, check by check: 200 when all are well, else 503."""
        if not ready(service):
            response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        draining = {"draining": Check(ok=False, detail="about to end")} if service.draining else {}
        return {**service.checks(), **draining}

    async def get_status() -> Status:
        """What the room says of itself."""
        return service.status()

    app.add_api_route("/status", get_status, response_model=status_model, tags=["service"])

    @app.get("/metrics", response_class=fastapi.responses.PlainTextResponse, tags=["service"])
    async def metrics() -> Response:
        """Metrics in Prometheus' text form."""
        return Response(prometheus_client.generate_latest(registry), media_type=prometheus_client.CONTENT_TYPE_LATEST)

    return app
