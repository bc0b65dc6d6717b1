"""Runs a service as a process: reads its settings, sets up logs, composes it, and serves it until SIGTERM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import prometheus_client
import uvloop

from aether_runtime import logs
from aether_services.kit import http_server
from aether_services.kit.settings import ServiceSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    import fastapi

    from aether_services.kit.http_server import Runnable

SomeSettings = TypeVar("SomeSettings", bound=ServiceSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    """A service whose parts exist: the app that is served, and the work that runs beside it."""

    app: fastapi.FastAPI
    work: Runnable


@dataclass(frozen=True, slots=True, kw_only=True)
class Service(Generic[SomeSettings]):
    """What a service's module `app` declares as SERVICE.

    Attributes:
        settings: The model of its settings.
        compose: Creates its parts from the settings and the registry of its metrics, which has those of the process
            already; leaving the context closes them.
        grace: Seconds for draining after SIGTERM.
    """

    settings: type[SomeSettings]
    compose: Callable[[SomeSettings, prometheus_client.CollectorRegistry], AbstractAsyncContextManager[Composed]]
    grace: float


def run(name: str, service: Service[SomeSettings], environ: Mapping[str, str]) -> None:
    """Run a service until SIGTERM.

    Args:
        name: Its name in the log.
        service: The service.
        environ: The environment variables.

    Raises:
        InvalidSettings: A setting is missing, unknown or invalid, or what it names cannot be read.
        Exception: The error that ended the service's work.
    """
    settings = service.settings.read(environ)
    logs.set_up(settings.log_level, service=name)
    uvloop.run(_serve(service, settings))


async def _serve(service: Service[SomeSettings], settings: SomeSettings) -> None:
    registry = prometheus_client.CollectorRegistry()
    prometheus_client.ProcessCollector(registry=registry)
    async with service.compose(settings, registry) as composed:
        server = http_server.server(composed.app, host=settings.http_host, port=settings.http_port)
        await http_server.serve(server, composed.work, grace=service.grace)
