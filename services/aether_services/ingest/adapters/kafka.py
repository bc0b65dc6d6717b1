"""Kafka: topics md.*, keyed by symbol, at least once."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import aiokafka
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from aether_services.clients import kafka
from aether_services.contracts.marketdata import Topic, TradeMessage
from aether_services.contracts.statuses import Output
from aether_services.domain.instruments import Symbol
from aether_services.ingest.adapters import errors
from aether_services.ingest.core import encoding
from aether_services.ingest.core.trade_logs import Cursor
from aether_services.ingest.ports import OutputUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence

    from aether_services.clients.servers import Server
    from aether_services.domain.times import Nanoseconds
    from aether_services.ingest.core.outboxes import EncodedMessage
    from aether_services.ingest.core.trade_logs import ReceivedTrade

CLIENT_ID: Final = "aether-ingest"
PERMISSIONS: Final = "Describe, Read and Write on the topics md.*"
LOOKBACK: Final = 5000
"""Records at the end of a partition that are searched first for a market's newest trade."""
LOOKBACK_GROWTH: Final = 8
"""The factor by which the search goes further back each time, until the market is found or the partition begins."""


class Kafka:
    """The Kafka output."""

    name: Final = Output.KAFKA
    batch_interval: Final = 0.0

    def __init__(self, server: Server) -> None:
        self._server = server

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[_Sink]:
        """Start a producer; consumers for the cursors are started when needed."""
        with errors.translated():
            session = kafka.Session(self._server, client_id=CLIENT_ID, permissions=PERMISSIONS)
        producer = aiokafka.AIOKafkaProducer(
            **session.options,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=256 * 1024,
            request_timeout_ms=8000,
        )
        try:
            await producer.start()
            yield _Sink(producer, session)
        except (KafkaError, OSError, TimeoutError) as fault:
            raise OutputUnavailable(await session.connection_cause(fault)) from fault
        finally:
            await kafka.stop(producer)


class _Sink:
    def __init__(self, producer: aiokafka.AIOKafkaProducer, session: kafka.Session) -> None:
        self._producer, self._session = producer, session

    async def cursors(self, symbols: Collection[Symbol]) -> Mapping[Symbol, Cursor]:
        """The newest trade of each market in its partition, searched from the end."""
        consumer = aiokafka.AIOKafkaConsumer(**self._session.options, enable_auto_commit=False, request_timeout_ms=8000)
        try:
            await consumer.start()
            partition_ids = await self._producer.partitions_for(Topic.TRADES)
            partitions = [TopicPartition(Topic.TRADES, number) for number in partition_ids]
            return await _newest(consumer, partitions, frozenset(symbols))
        except (KafkaError, OSError) as fault:
            raise OutputUnavailable(self._session.cause(fault)) from fault
        finally:
            await kafka.stop(consumer)

    async def deliver(
        self,
        trades: Sequence[ReceivedTrade],
        messages: Sequence[EncodedMessage],
        complete: Mapping[Symbol, Nanoseconds],
    ) -> int:
        """Send all, and wait until all in-sync replicas have acknowledged."""
        del complete
        sent = [
            await self._producer.send(Topic.TRADES, encoding.trade(one), key=one.trade.symbol.encode())
            for one in trades
        ]
        sent += [
            await self._producer.send(message.topic, message.body, key=message.symbol.encode()) for message in messages
        ]
        try:
            for one in sent:
                await one
        except (KafkaError, OSError) as fault:
            raise OutputUnavailable(self._session.cause(fault)) from fault
        return len(sent)


async def _newest(
    consumer: aiokafka.AIOKafkaConsumer, partitions: list[TopicPartition], symbols: frozenset[Symbol]
) -> dict[Symbol, Cursor]:
    """The newest trade of each market: the last records are searched first, then further and further back."""
    begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    found: dict[Symbol, Cursor] = {}
    back = LOOKBACK
    while (missing := symbols - set(found)) and any(ends[one] > begins[one] for one in partitions):
        starts = {one: max(begins[one], ends[one] - back) for one in partitions if ends[one] > begins[one]}
        newest = {key: value async for key, value in _records(consumer, starts, ends)}
        for symbol in missing & {Symbol(key.decode()) for key in newest}:
            message = TradeMessage.model_validate_json(newest[symbol.encode()])
            found[symbol] = Cursor(trade_id=message.trade_id, at=message.at)
        ends |= starts
        back *= LOOKBACK_GROWTH
    return found


async def _records(
    consumer: aiokafka.AIOKafkaConsumer, starts: dict[TopicPartition, int], ends: dict[TopicPartition, int]
) -> AsyncIterator[tuple[bytes, bytes]]:
    """Keys and values of the records between two offsets of each partition."""
    consumer.assign(sorted(starts))
    for one, start in starts.items():
        consumer.seek(one, start)
    unread = set(starts)
    while unread:
        for partition, records in (await consumer.getmany(*unread, timeout_ms=200)).items():
            for record in records:
                if record.offset < ends[partition]:
                    yield record.key, record.value
        unread = {one for one in unread if await consumer.position(one) < ends[one]}
