"""NATS: a service's connection, and why it failed."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, Final

from nats.aio.client import Client
from nats.errors import Error

from aether_runtime import network_errors
from aether_services.clients import servers
from aether_services.clients.servers import ServerUnavailable, Tls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aether_services.clients.servers import Login, Server

CONNECT_TIMEOUT: Final = 5
CLOSE_TIMEOUT: Final = 2.0


class _TlsNotOffered(Error):  # type: ignore[misc]  # the library has no types
    """TLS is required, but the server does not offer it."""


class Connection:
    """A connection; `client` is the library's.

    Args:
        server: The server.
        login: The login of the connection.
        permission: What the login must be allowed to do, for the error where it is not: "publish to md.>".

    Raises:
        ServerUnavailable: ca.crt is not a certificate.
    """

    def __init__(self, server: Server, login: Login, permission: str) -> None:
        self._server, self._login, self._permission = server, login, permission
        self._ssl_context = server.ssl_context()  # here: the library cannot close a client that has never connected
        self.client = Client()

    def cause(self, fault: BaseException) -> str:
        """The address, why it failed, and what to do."""
        text = str(fault)
        if isinstance(fault, _TlsNotOffered):
            known = f"the server does not offer TLS: enable it there, or set tls to {Tls.OFF} in the spec"
        elif isinstance(fault, Error) and re.search("authorization|authentication", text, re.IGNORECASE):
            known = servers.AUTHENTICATION_FAILED
        elif isinstance(fault, Error) and re.search("permissions violation", text, re.IGNORECASE):
            known = f"the login lacks a permission: let it {self._permission}"
        else:
            known = network_errors.describe_text(text) if isinstance(fault, Error) else ""
        return self._server.cause(fault, self._login, known)

    async def open(self, name: str) -> None:
        """Connect, without the library's reconnect: after an outage the service decides what is sent again.

        Args:
            name: What the server calls the client.

        Raises:
            ServerUnavailable: The connection fails.
        """
        ssl_context = self._ssl_context

        def password() -> str:
            # Without TLS on the server the library would continue in plain text. It calls this function just before it
            # sends the password, when the server's offer is known.
            if ssl_context is not None and not self.client._server_info.get("tls_required"):  # noqa: SLF001 - no public API
                raise _TlsNotOffered("the server does not offer TLS")
            return self._login.password

        faults: list[Exception] = []

        async def record_error(fault: Exception) -> None:
            """Keep the cause: after several attempts the library only raises that no server is available."""
            faults.append(fault)

        credentials = {"user": self._login.username, "password": password} if self._login.username else {}
        try:
            async with asyncio.timeout(2 * CONNECT_TIMEOUT):
                await self.client.connect(
                    f"nats://{self._server.address}",
                    name=name,
                    tls=ssl_context,
                    tls_hostname=self._server.host if ssl_context else None,
                    connect_timeout=CONNECT_TIMEOUT,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    error_cb=record_error,
                    **credentials,
                )
        except (Error, OSError, TimeoutError) as fault:
            raise ServerUnavailable(self.cause(faults[-1] if faults else fault)) from fault

    async def close(self) -> None:
        """Close, without waiting long for a server that does not answer."""
        with contextlib.suppress(Error, OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self.client.close()


@contextlib.asynccontextmanager
async def connected(server: Server, *, name: str, permission: str) -> AsyncIterator[Connection]:
    """A connection as a context, with the credentials of now; the arguments are those of `Connection` and `open`.

    Raises:
        ServerUnavailable: The connection fails.
    """
    connection = Connection(server, server.login(), permission)
    try:
        await connection.open(name)
        yield connection
    finally:
        await connection.close()
