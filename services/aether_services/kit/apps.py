"""Creates the HTTP app of a service with the endpoints that all services have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import fastapi
import prometheus_client
from fastapi import Response, status

from aether_services.contracts.statuses import Check, Status

if TYPE_CHECKING:
    from collections.abc import Mapping


class Service(Protocol):
    """What the app needs from a service."""

    @property
    def draining(self) -> bool:
        """Whether the service is shutting down and takes no more work."""
        ...

    def checks(self) -> Mapping[str, Check]:
        """The service's readiness checks by name; it is ready when all of them are ok."""
        ...

    def status(self) -> Status: ...


def ready(service: Service) -> bool:
    """Whether a service is ready: it is not draining, and all its checks are ok."""
    return not service.draining and all(check.ok for check in service.checks().values())


def create(
    service: Service, *, title: str, status_model: type[Status], registry: prometheus_client.CollectorRegistry
) -> fastapi.FastAPI:
    """An app with /healthz, /readyz, /status, /metrics and /openapi.json; the service adds its own endpoints.

    Args:
        service: The service whose readiness and status the app reports.
        title: The title in /openapi.json.
        status_model: The model of /status.
        registry: The metrics of /metrics.
    """
    app = fastapi.FastAPI(title=title, version="1", docs_url=None, redoc_url=None)

    @app.get("/healthz", response_class=fastapi.responses.PlainTextResponse, tags=["service"])
    async def healthz() -> str:
        """Liveness: 200 while the event loop runs."""
        return "ok\n"

    @app.get("/readyz", tags=["service"])
    async def readyz(response: Response) -> dict[str, Check]:
        """Readiness, check by check: 200 when all are ok, else 503."""
        if not ready(service):
            response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        draining = {"draining": Check(ok=False, detail="shutting down")} if service.draining else {}
        return {**service.checks(), **draining}

    async def get_status() -> Status:
        """The service's own status."""
        return service.status()

    app.add_api_route("/status", get_status, response_model=status_model, tags=["service"])

    @app.get("/metrics", response_class=fastapi.responses.PlainTextResponse, tags=["service"])
    async def metrics() -> Response:
        """Metrics in the Prometheus text format."""
        return Response(prometheus_client.generate_latest(registry), media_type=prometheus_client.CONTENT_TYPE_LATEST)

    return app
