"""NATS: subjects md.*, for who wants it fast. It keeps nothing, so it begins with what comes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from nats.aio.client import Client
from nats.errors import Error

from aether_services.contracts.marketdata import Topic, subject
from aether_services.contracts.statuses import Output
from aether_services.ingest.core import encoding, trade_log
from aether_services.ingest.ports import OutputAway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence

    from aether_services.domain.instruments import Symbol
    from aether_services.domain.times import Nanoseconds
    from aether_services.ingest.adapters.servers import Login, Server
    from aether_services.ingest.core.outboxes import Letter
    from aether_services.ingest.core.trade_log import Place, Received

CONNECT: Final = 5


class _InClear(Error):  # type: ignore[misc]  # the library has no types
    """The server offers no protection, and was to."""


class Nats:
    """The output. The places of trades are kept while the process lives, so that an outage is made up for."""

    name: Final = Output.NATS
    gather: Final = 0.0

    def __init__(self, server: Server) -> None:
        self._server = server
        self._places: dict[Symbol, Place] = {}

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[_Sink]:
        """A connection, which is not mended by the library: what was under way is ours to know."""
        login = self._server.login()
        trust = self._server.trust()
        client = Client()

        def guarded() -> str:
            # The library goes on in the clear where the server offers no TLS. It asks for the password just before it
            # sends it, once it is known whether it does.
            if trust is not None and not client._server_info.get("tls_required"):  # noqa: SLF001 - told nowhere else
                raise _InClear("the server does not offer TLS")
            return login.password

        faults: list[Exception] = []

        async def note(fault: Exception) -> None:
            """The library tries more than once, and says in the end only that there is no server."""
            faults.append(fault)

        who = {"user": login.username, "password": guarded} if login.username else {}
        try:
            async with asyncio.timeout(2 * CONNECT):
                await client.connect(
                    f"nats://{self._server.place}",
                    name="aether-ingest",
                    tls=trust,
                    tls_hostname=self._server.host if trust else None,
                    connect_timeout=CONNECT,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    error_cb=note,
                    **who,
                )
        except (Error, OSError, TimeoutError) as fault:
            await _closed(client)
            raise OutputAway(login.words(faults[-1] if faults else fault)) from fault
        try:
            yield _Sink(client, self._places, login)
        finally:
            await _closed(client)


async def _closed(client: Client) -> None:
    """End a connection; a farewell is not waited for."""
    with contextlib.suppress(Error, OSError, TimeoutError):
        async with asyncio.timeout(2):
            await client.close()


class _Sink:
    def __init__(self, client: Client, places: dict[Symbol, Place], login: Login) -> None:
        self._client, self._places, self._login = client, places, login
        self._subjects: dict[tuple[Topic, Symbol], str] = {}

    async def places(self, symbols: Collection[Symbol]) -> Mapping[Symbol, Place]:
        """Where this process has come to."""
        return {symbol: self._places[symbol] for symbol in symbols if symbol in self._places}

    async def deliver(
        self, trades: Sequence[Received], letters: Sequence[Letter], complete: Mapping[Symbol, Nanoseconds]
    ) -> int:
        """Publish all, and wait until the server has it."""
        del complete
        try:
            for one in trades:
                await self._client.publish(self._subject(Topic.TRADES, one.trade.symbol), encoding.trade(one))
            for letter in letters:
                await self._client.publish(self._subject(letter.topic, letter.symbol), letter.body)
            await self._client.flush()
        except (Error, OSError, TimeoutError) as fault:
            raise OutputAway(self._login.words(fault)) from fault
        for one in trades:
            self._places[one.trade.symbol] = trade_log.place_of(one.trade)
        return len(trades) + len(letters)

    def _subject(self, topic: Topic, symbol: Symbol) -> str:
        key = topic, symbol
        if (known := self._subjects.get(key)) is None:
            known = self._subjects[key] = subject(topic, symbol)
        return known
