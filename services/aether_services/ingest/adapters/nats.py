"""NATS: subjects md.*, for low latency. Core NATS stores nothing, so delivery begins with new messages."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, Final

from nats.aio.client import Client
from nats.errors import Error

from aether_runtime import network_errors
from aether_services.contracts.marketdata import Topic, subject
from aether_services.contracts.statuses import Output
from aether_services.ingest.adapters import servers
from aether_services.ingest.core import encoding, trade_logs
from aether_services.ingest.ports import OutputUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence

    from aether_services.domain.instruments import Symbol
    from aether_services.domain.times import Nanoseconds
    from aether_services.ingest.adapters.servers import Login, Server
    from aether_services.ingest.core.outboxes import EncodedMessage
    from aether_services.ingest.core.trade_logs import Cursor, ReceivedTrade

CONNECT: Final = 5


class _TlsNotOffered(Error):  # type: ignore[misc]  # the library has no types
    """TLS is required, but the server does not offer it."""


class Nats:
    """The NATS output. Cursors are kept in memory, so that trades missed in an outage are published after it."""

    name: Final = Output.NATS
    batch_interval: Final = 0.0

    def __init__(self, server: Server) -> None:
        self._server = server
        self._cursors: dict[Symbol, Cursor] = {}

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[_Sink]:
        """Connect, without the library's reconnect: after an outage the cursors decide what is published again."""
        login = self._server.login()
        ssl_context = self._server.ssl_context()
        client = Client()

        def password() -> str:
            # Without TLS on the server the library would continue in plain text. It calls this function just before it
            # sends the password, when the server's offer is known.
            if ssl_context is not None and not client._server_info.get("tls_required"):  # noqa: SLF001 - no public API
                raise _TlsNotOffered("the server does not offer TLS")
            return login.password

        faults: list[Exception] = []

        async def record_error(fault: Exception) -> None:
            """Keep the cause: after several attempts the library only raises that no server is available."""
            faults.append(fault)

        credentials = {"user": login.username, "password": password} if login.username else {}
        try:
            async with asyncio.timeout(2 * CONNECT):
                await client.connect(
                    f"nats://{self._server.address}",
                    name="aether-ingest",
                    tls=ssl_context,
                    tls_hostname=self._server.host if ssl_context else None,
                    connect_timeout=CONNECT,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    error_cb=record_error,
                    **credentials,
                )
        except (Error, OSError, TimeoutError) as fault:
            await _closed(client)
            raise OutputUnavailable(_cause(self._server, login, faults[-1] if faults else fault)) from fault
        try:
            yield _Sink(client, self._cursors, self._server, login)
        finally:
            await _closed(client)


def _cause(server: Server, login: Login, fault: BaseException) -> str:
    text = str(fault)
    if isinstance(fault, _TlsNotOffered):
        known = "the server does not offer TLS: enable it there, or set tls to Off in the spec"
    elif isinstance(fault, Error) and re.search("authorization|authentication", text, re.IGNORECASE):
        known = servers.AUTHENTICATION_FAILED
    elif isinstance(fault, Error) and re.search("permissions violation", text, re.IGNORECASE):
        known = "the login lacks a permission: let it publish to md.>"
    else:
        known = network_errors.describe_text(text) if isinstance(fault, Error) else ""
    return server.cause(fault, login, known)


async def _closed(client: Client) -> None:
    """Close a connection, without waiting long for a server that does not answer."""
    with contextlib.suppress(Error, OSError, TimeoutError):
        async with asyncio.timeout(2):
            await client.close()


class _Sink:
    def __init__(self, client: Client, cursors: dict[Symbol, Cursor], server: Server, login: Login) -> None:
        self._client, self._cursors, self._server, self._login = client, cursors, server, login
        self._subjects: dict[tuple[Topic, Symbol], str] = {}

    async def cursors(self, symbols: Collection[Symbol]) -> Mapping[Symbol, Cursor]:
        return {symbol: self._cursors[symbol] for symbol in symbols if symbol in self._cursors}

    async def deliver(
        self,
        trades: Sequence[ReceivedTrade],
        messages: Sequence[EncodedMessage],
        complete: Mapping[Symbol, Nanoseconds],
    ) -> int:
        """Publish all, and wait until the server has processed it."""
        del complete
        try:
            for one in trades:
                await self._client.publish(self._subject(Topic.TRADES, one.trade.symbol), encoding.trade(one))
            for message in messages:
                await self._client.publish(self._subject(message.topic, message.symbol), message.body)
            await self._client.flush()
        except (Error, OSError, TimeoutError) as fault:
            raise OutputUnavailable(_cause(self._server, self._login, fault)) from fault
        for one in trades:
            self._cursors[one.trade.symbol] = trade_logs.cursor_after(one.trade)
        return len(trades) + len(messages)

    def _subject(self, topic: Topic, symbol: Symbol) -> str:
        key = topic, symbol
        if (known := self._subjects.get(key)) is None:
            known = self._subjects[key] = subject(topic, symbol)
        return known
