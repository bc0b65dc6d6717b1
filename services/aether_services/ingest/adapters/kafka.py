"""Kafka: topics md.*, keyed by symbol, at least once."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

import aiokafka
from aiokafka import TopicPartition, errors
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError

from aether_runtime import network_errors
from aether_services.contracts.marketdata import Topic, TradeMessage
from aether_services.contracts.statuses import Output
from aether_services.domain.instruments import Symbol
from aether_services.ingest.adapters import servers
from aether_services.ingest.core import encoding
from aether_services.ingest.core.trade_logs import Cursor
from aether_services.ingest.ports import OutputUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence

    from aether_services.domain.times import Nanoseconds
    from aether_services.ingest.adapters.servers import Login, Server
    from aether_services.ingest.core.outboxes import EncodedMessage
    from aether_services.ingest.core.trade_logs import ReceivedTrade

MECHANISM: Final = "SCRAM-SHA-512"
CONNECT_TIMEOUT: Final = 5.0
"""Seconds for the connection that finds out why the clients have none."""
_CAUSES: Final[tuple[tuple[tuple[type[KafkaError], ...], str], ...]] = (
    (
        (errors.AuthenticationFailedError, errors.SaslAuthenticationFailed),
        servers.AUTHENTICATION_FAILED,
    ),
    ((errors.IllegalSaslStateError,), f"the listener has no login: name a port of the broker with {MECHANISM}"),
    ((errors.UnsupportedSaslMechanismError,), f"the broker does not accept {MECHANISM}: enable it for this listener"),
    (
        (errors.TopicAuthorizationFailedError, errors.ClusterAuthorizationFailedError),
        "the login lacks a permission: grant Describe, Read and Write on the topics md.*",
    ),
    (
        (errors.UnknownTopicOrPartitionError,),
        "a topic does not exist yet: the operator creates it, see the condition TopicsReady",
    ),
    (
        (
            errors.LeaderNotAvailableError,
            errors.NotLeaderForPartitionError,
            errors.NotEnoughReplicasError,
            errors.NotEnoughReplicasAfterAppendError,
        ),
        "a partition has no leader or too few replicas: check that all brokers run",
    ),
    ((errors.KafkaTimeoutError, errors.RequestTimedOutError), network_errors.TIMED_OUT),
    ((errors.KafkaConnectionError, errors.NodeNotReadyError), network_errors.CLOSED),
    (
        (errors.IncompatibleBrokerVersion, errors.UnrecognizedBrokerVersion),
        "no protocol version of the broker is supported: see the supported releases",
    ),
)
"""The library's errors → the cause, and what to do. The first class that fits counts."""
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
        login = self._server.login()
        ssl_context = self._server.ssl_context()
        common: dict[str, Any] = {
            "bootstrap_servers": self._server.address,
            "security_protocol": ("SASL_" if login.username else "") + ("SSL" if ssl_context else "PLAINTEXT"),
            "ssl_context": ssl_context,
            "client_id": "aether-ingest",
        }
        if login.username:
            common |= {
                "sasl_mechanism": MECHANISM,
                "sasl_plain_username": login.username,
                "sasl_plain_password": login.password,
            }
        producer = aiokafka.AIOKafkaProducer(
            **common,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=256 * 1024,
            request_timeout_ms=8000,
        )
        try:
            await producer.start()
            yield _Sink(producer, common, self._server, login)
        except (KafkaError, OSError, TimeoutError) as fault:
            cause = await self._bootstrap_error(common) if isinstance(fault, errors.KafkaConnectionError) else None
            raise OutputUnavailable(_cause(self._server, login, cause or fault)) from fault
        finally:
            await _stop(producer)

    async def _bootstrap_error(self, common: dict[str, Any]) -> BaseException | None:
        """The error of one connection to the broker: the clients only say that none could be opened."""
        options = {name: value for name, value in common.items() if name != "bootstrap_servers"}
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                connection = await create_conn(self._server.host, self._server.port, **options)
        except (KafkaError, OSError, TimeoutError) as fault:
            return fault
        connection.close()
        return None


class _Sink:
    def __init__(
        self, producer: aiokafka.AIOKafkaProducer, common: dict[str, Any], server: Server, login: Login
    ) -> None:
        self._producer, self._common, self._server, self._login = producer, common, server, login

    async def cursors(self, symbols: Collection[Symbol]) -> Mapping[Symbol, Cursor]:
        """The newest trade of each market in its partition, searched from the end."""
        consumer = aiokafka.AIOKafkaConsumer(**self._common, enable_auto_commit=False, request_timeout_ms=8000)
        try:
            await consumer.start()
            partition_ids = await self._producer.partitions_for(Topic.TRADES)
            partitions = [TopicPartition(Topic.TRADES, number) for number in partition_ids]
            return await _newest(consumer, partitions, frozenset(symbols))
        except (KafkaError, OSError) as fault:
            raise OutputUnavailable(_cause(self._server, self._login, fault)) from fault
        finally:
            await _stop(consumer)

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
            raise OutputUnavailable(_cause(self._server, self._login, fault)) from fault
        return len(sent)


def _cause(server: Server, login: Login, fault: BaseException) -> str:
    known = next((text for classes, text in _CAUSES if isinstance(fault, classes)), "")
    return server.cause(fault, login, known)


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


async def _stop(client: aiokafka.AIOKafkaProducer | aiokafka.AIOKafkaConsumer) -> None:
    """Stop a client, without waiting long for a server that does not answer."""
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(2):
            await client.stop()
