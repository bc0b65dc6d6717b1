"""How the operator reaches the API server: the pod's own account, or a kubeconfig; and how fresh what it hears is."""

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
"""Requests that may be under way at once, watches apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseHead:
    """The head of an answer of the API server: to what, which code, and whether a watch was asked for."""

    path: str
    status: int
    watch: bool


@dataclass(slots=True)
class Freshness:
    """When each watched resource was last heard of, by the monotonic clock: any byte of an answer counts."""

    last_received: dict[str, float] = field(default_factory=dict)

    def expect(self, path: str) -> None:
        """This resource is watched from now on."""
        self.last_received[path] = time.monotonic()

    def record(self, path: str) -> None:
        """Something came."""
        if path in self.last_received:
            self.last_received[path] = time.monotonic()

    def forget(self, path: str) -> None:
        """This resource is not watched any more: its silence says nothing."""
        self.last_received.pop(path, None)

    def ages(self) -> dict[str, float]:
        """Seconds of silence, by path."""
        now = time.monotonic()
        return {path: now - last_received for path, last_received in self.last_received.items()}

    def trace_config(self, on_response: Callable[[ResponseHead], None] = lambda _: None) -> aiohttp.TraceConfig:
        """What reports to this, for a session; `told` hears of every answer as soon as its head is there."""
        trace: aiohttp.TraceConfig = aiohttp.TraceConfig()

        async def answered(_: Any, __: SimpleNamespace, params: aiohttp.TraceRequestEndParams) -> None:
            path, status = params.url.path, params.response.status
            on_response(ResponseHead(path=path, status=status, watch="watch" in params.url.query))
            if status == 200:  # noqa: PLR2004 - OK: a watch or a list was accepted
                self.record(path)
                # A trace hears of chunks only where a whole answer is read at once, which a watch never is.
                params.response.content = _RecordingStream(params.response.content, lambda: self.record(path))  # type: ignore[assignment]

        trace.on_request_end.append(answered)
        return trace


class _RecordingStream:
    """The content of an answer, which tells of each piece of it that comes."""

    def __init__(self, content: aiohttp.StreamReader, record: Callable[[], None]) -> None:
        self._content = content
        self._hear = record

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """As Kopf reads a watch."""
        async for data in self._content.iter_chunked(size):
            self._hear()
            yield data


async def load_configuration() -> client.Configuration:
    """The pod's own account; outside of a cluster, the kubeconfig that KUBECONFIG names."""
    found = client.Configuration(connection_pool_maxsize=CONNECTIONS, retries=False)
    if os.environ.get("KUBECONFIG"):
        await config.load_kube_config(config_file=os.environ["KUBECONFIG"], client_configuration=found)
    else:
        config.load_incluster_config(client_configuration=found)
    return found


async def auth_headers(found: client.Configuration) -> dict[str, str]:
    """Who we are, freshly: the kubelet renews a pod's token on disk."""
    return {
        setting["key"]: setting["value"]
        for setting in (await found.auth_settings()).values()
        if setting["in"] == "header"
    }


def watch_session(
    found: client.Configuration, freshness: Freshness, on_response: Callable[[ResponseHead], None]
) -> aiohttp.ClientSession:
    """A session for Kopf: every request signs itself anew, and every answer and every byte that comes is noted."""
    rest = client.rest.RESTClientObject(found)

    async def signed(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        request.headers.update(await auth_headers(found))
        return await handler(request)

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=rest.ssl_context),
        middlewares=(signed,),
        trace_configs=[freshness.trace_config(on_response)],
        read_bufsize=1 << 21,
    )
