"""The way to the API server: TLS, one session for the admin and one for tokens, and requests with one response."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import aiohttp
import yarl
from aiohttp import hdrs, web
from multidict import CIMultiDict

from aether_testing import wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

Headers: TypeAlias = CIMultiDict[str]
Answer: TypeAlias = tuple[int, Headers, bytes]
"""Status code, headers and body of a response."""
ONE_HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "content-length"}
)
DEFAULT_HEADERS: Final = (hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.USER_AGENT, hdrs.CONTENT_TYPE)
"""Headers that aiohttp would add by default."""
CLOSE_TIMEOUT: Final = 20.0
"""Seconds that the connections may take to close."""


@dataclass(slots=True)
class Upstream:
    """The API server behind the proxy; used on the loop's thread only."""

    url: str
    admin: aiohttp.ClientSession
    token: aiohttp.ClientSession
    _forwarding: set[asyncio.Task[Answer]] = field(default_factory=set)

    def of(self, request: web.BaseRequest) -> yarl.URL:
        """The URL of the same request to the API server."""
        return yarl.URL(self.url + request.raw_path, encoded=True)

    def session(self, headers: Headers) -> aiohttp.ClientSession:
        """The session for a request: one with a token has no client certificate, which would take precedence."""
        return self.token if hdrs.AUTHORIZATION in headers else self.admin

    async def forward(self, method: str, url: yarl.URL, headers: Headers, body: bytes) -> Answer:
        """Send a request, and receive the whole response."""
        async with self.session(headers).request(
            method, url, headers=headers, data=body or None, skip_auto_headers=DEFAULT_HEADERS, allow_redirects=False
        ) as answer:
            return answer.status, end_to_end(answer.headers), await answer.read()

    def forwarding(self, method: str, url: yarl.URL, headers: Headers, body: bytes) -> asyncio.Task[Answer]:
        """The same as a task that goes on when the client disconnects: what was sent is applied."""
        task = asyncio.create_task(self.forward(method, url, headers, body))
        self._forwarding.add(task)
        task.add_done_callback(self._forwarding.discard)
        return task

    async def finish(self) -> None:
        """Wait for the responses to requests that were sent."""
        if self._forwarding:
            await asyncio.wait(self._forwarding)


@contextlib.asynccontextmanager
async def connected(kubeconfig: Mapping[str, Any]) -> AsyncIterator[Upstream]:
    """The API server of an admin's kubeconfig; at the end every connection is closed."""
    url: str = kubeconfig["clusters"][0]["cluster"]["server"]
    admin, anybody = _tls(kubeconfig, admin=True), _tls(kubeconfig, admin=False)
    sockets: list[socket.socket] = []
    async with _session(admin, sockets) as admin_session, _session(anybody, sockets) as token_session:
        yield Upstream(url, admin_session, token_session)
    # Closing TLS takes a moment, and aiohttp does not report its end.
    await wait.until_async(
        lambda: all(one.fileno() == -1 for one in sockets),
        "the connections to the API server are closed",
        seconds=CLOSE_TIMEOUT,
        interval=0.001,
    )


def end_to_end(headers: Mapping[str, str]) -> Headers:
    """The headers that a proxy forwards."""
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in {*ONE_HOP, "host"})


def without(headers: Headers, name: str) -> Headers:
    """The headers without one of them."""
    return CIMultiDict((key, value) for key, value in headers.items() if key.lower() != name.lower())


def response(code: int, headers: Headers, body: bytes) -> web.Response:
    """The response for the client."""
    return web.Response(status=code, headers=headers, body=body)


def drop(request: web.BaseRequest) -> web.Response:
    """Abort the client's connection; the returned response is never sent."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _session(tls: ssl.SSLContext, sockets: list[socket.socket]) -> aiohttp.ClientSession:
    def make(address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = address
        sockets[:] = [one for one in sockets if one.fileno() != -1]
        sockets.append(socket.socket(family, kind, protocol))
        return sockets[-1]

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=tls, socket_factory=make),
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
        read_bufsize=1 << 20,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def _tls(config: Mapping[str, Any], *, admin: bool) -> ssl.SSLContext:
    """The cluster's CA and, for the admin, the client certificate of its kubeconfig."""

    def inline(where: dict[str, str], key: str) -> bytes:
        return base64.b64decode(where[key])

    ca = inline(config["clusters"][0]["cluster"], "certificate-authority-data")
    tls = ssl.create_default_context(cadata=ca.decode())
    if admin:
        user = config["users"][0]["user"]
        with tempfile.TemporaryDirectory() as folder:
            pair = Path(folder, "pair")
            pair.touch(mode=0o600)
            pair.write_bytes(inline(user, "client-certificate-data") + b"\n" + inline(user, "client-key-data"))
            tls.load_cert_chain(pair)
    return tls
