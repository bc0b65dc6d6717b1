"""NATS: subjects md.*, for low latency. Core NATS stores nothing, so delivery begins with new messages."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from nats.errors import Error

from aether_services.clients import nats
from aether_services.contracts.marketdata import Topic, subject
from aether_services.contracts.statuses import Output
from aether_services.ingest.adapters import errors
from aether_services.ingest.core import encoding, trade_logs
from aether_services.ingest.ports import OutputUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence

    from aether_services.clients.servers import Server
    from aether_services.domain.instruments import Symbol
    from aether_services.domain.times import Nanoseconds
    from aether_services.ingest.core.outboxes import EncodedMessage
    from aether_services.ingest.core.trade_logs import Cursor, ReceivedTrade

NAME: Final = "aether-ingest"
PERMISSION: Final = "publish to md.>"


class Nats:
    """The NATS output. Cursors are kept in memory, so that trades missed in an outage are published after it."""

    name: Final = Output.NATS
    batch_interval: Final = 0.0

    def __init__(self, server: Server) -> None:
        self._server = server
        self._cursors: dict[Symbol, Cursor] = {}

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[_Sink]:
        """Connect. After an outage the cursors decide what is published again."""
        with errors.translated():
            async with nats.connected(self._server, name=NAME, permission=PERMISSION) as connection:
                yield _Sink(connection, self._cursors)


class _Sink:
    def __init__(self, connection: nats.Connection, cursors: dict[Symbol, Cursor]) -> None:
        self._connection, self._cursors = connection, cursors
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
        client = self._connection.client
        try:
            for one in trades:
                await client.publish(self._subject(Topic.TRADES, one.trade.symbol), encoding.trade(one))
            for message in messages:
                await client.publish(self._subject(message.topic, message.symbol), message.body)
            await client.flush()
        except (Error, OSError, TimeoutError) as fault:
            raise OutputUnavailable(self._connection.cause(fault)) from fault
        for one in trades:
            self._cursors[one.trade.symbol] = trade_logs.cursor_after(one.trade)
        return len(trades) + len(messages)

    def _subject(self, topic: Topic, symbol: Symbol) -> str:
        key = topic, symbol
        if (known := self._subjects.get(key)) is None:
            known = self._subjects[key] = subject(topic, symbol)
        return known
