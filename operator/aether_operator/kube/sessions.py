"""How the operator reaches the API server: the pod's service account or a kubeconfig, and the session for watches."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from kubernetes.aio import client, config

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import SimpleNamespace

CONNECTIONS: Final = 32
"""Concurrent requests of a client at most, watches apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseHead:
    """A response of the API server, before its body: the path and whether it was a watch are the request's."""

    path: str
    status: int
    watch: bool


@dataclass(slots=True)
class Freshness:
    """When each watched path last received data, by the monotonic clock: any byte of a response counts."""

    last_received: dict[str, float] = field(default_factory=dict)

    def expect(self, path: str) -> None:
        """Start to measure a path, from now on."""
        self.last_received[path] = time.monotonic()

    def record(self, path: str) -> None:
        """Data of a path was received."""
        if path in self.last_received:
            self.last_received[path] = time.monotonic()

    def forget(self, path: str) -> None:
        """Stop to measure a path that is not watched any more."""
        self.last_received.pop(path, None)

    def ages(self) -> dict[str, float]:
        """Seconds since data was received, by path."""
        now = time.monotonic()
        return {path: now - received for path, received in self.last_received.items()}

    def trace_config(self, on_response: Callable[[ResponseHead], None] = lambda _: None) -> aiohttp.TraceConfig:
        """A tracing of a session that records what it receives; `on_response` is called with each response's head."""
        trace: aiohttp.TraceConfig = aiohttp.TraceConfig()

        async def on_request_end(_: Any, __: SimpleNamespace, params: aiohttp.TraceRequestEndParams) -> None:
            path, status = params.url.path, params.response.status
            on_response(ResponseHead(path=path, status=status, watch="watch" in params.url.query))
            if status == 200:  # noqa: PLR2004 - OK: a watch or a list was accepted
                self.record(path)
                # aiohttp traces chunks only where a whole body is read at once, which a watch's never is.
                params.response.content = _RecordingStream(params.response.content, lambda: self.record(path))  # type: ignore[assignment]

        trace.on_request_end.append(on_request_end)
        return trace


class _RecordingStream:
    """The body of a response; calls `record` for each chunk."""

    def __init__(self, content: aiohttp.StreamReader, record: Callable[[], None]) -> None:
        self._content = content
        self._record = record

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """The method by which Kopf reads a watch."""
        async for data in self._content.iter_chunked(size):
            self._record()
            yield data


async def load_configuration() -> client.Configuration:
    """The pod's service account; outside of a cluster, the kubeconfig that KUBECONFIG names."""
    configuration = client.Configuration(connection_pool_maxsize=CONNECTIONS, retries=False)
    if os.environ.get("KUBECONFIG"):
        await config.load_kube_config(config_file=os.environ["KUBECONFIG"], client_configuration=configuration)
    else:
        config.load_incluster_config(client_configuration=configuration)
    return configuration


async def auth_headers(configuration: client.Configuration) -> dict[str, str]:
    """The headers that authenticate a request, read anew each time: the kubelet renews a pod's token on disk."""
    return {
        setting["key"]: setting["value"]
        for setting in (await configuration.auth_settings()).values()
        if setting["in"] == "header"
    }


def watch_session(
    configuration: client.Configuration, freshness: Freshness, on_response: Callable[[ResponseHead], None]
) -> aiohttp.ClientSession:
    """A session for Kopf: it authenticates every request anew, and records every response and every chunk."""
    rest = client.rest.RESTClientObject(configuration)

    async def authenticate(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        request.headers.update(await auth_headers(configuration))
        return await handler(request)

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=rest.ssl_context),
        middlewares=(authenticate,),
        trace_configs=[freshness.trace_config(on_response)],
        read_bufsize=1 << 21,
    )
