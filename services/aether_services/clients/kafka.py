"""Kafka: how a service's clients log in at the brokers, and why one failed."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from aiokafka import errors
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError

from aether_runtime import network_errors
from aether_services.clients import servers

if TYPE_CHECKING:
    import aiokafka

    from aether_services.clients.servers import Server

MECHANISM: Final = "SCRAM-SHA-512"
CONNECT_TIMEOUT: Final = 5.0
"""Seconds for the connection that finds out why the clients have none."""
STOP_TIMEOUT: Final = 2.0
_DENIED: Final = (errors.TopicAuthorizationFailedError, errors.ClusterAuthorizationFailedError)
_CAUSES: Final[tuple[tuple[tuple[type[KafkaError], ...], str], ...]] = (
    (
        (errors.AuthenticationFailedError, errors.SaslAuthenticationFailed),
        servers.AUTHENTICATION_FAILED,
    ),
    ((errors.IllegalSaslStateError,), f"the listener has no login: name a port of the broker with {MECHANISM}"),
    ((errors.UnsupportedSaslMechanismError,), f"the broker does not accept {MECHANISM}: enable it for this listener"),
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


class Session:
    """A login at the brokers, with the credentials of now.

    Args:
        server: A broker.
        client_id: What the brokers call the client.
        permissions: What the login must be granted, for the error where it is not: "Read on the topics md.*".

    Attributes:
        options: The arguments of aiokafka's clients that connect and log in.

    Raises:
        ServerUnavailable: The credentials cannot be read.
    """

    def __init__(self, server: Server, *, client_id: str, permissions: str) -> None:
        self._server, self._permissions = server, permissions
        self._login = login = server.login()
        ssl_context = server.ssl_context()
        self.options: dict[str, Any] = {
            "bootstrap_servers": server.address,
            "security_protocol": ("SASL_" if login.username else "") + ("SSL" if ssl_context else "PLAINTEXT"),
            "ssl_context": ssl_context,
            "client_id": client_id,
        }
        if login.username:
            self.options |= {
                "sasl_mechanism": MECHANISM,
                "sasl_plain_username": login.username,
                "sasl_plain_password": login.password,
            }

    def cause(self, fault: BaseException) -> str:
        """The address, why it failed, and what to do."""
        if isinstance(fault, _DENIED):
            known = f"the login lacks a permission: grant {self._permissions}"
        else:
            known = next((text for classes, text in _CAUSES if isinstance(fault, classes)), "")
        return self._server.cause(fault, self._login, known)

    async def connection_cause(self, fault: BaseException) -> str:
        """The same, for a client that could not be started: it may only say that it has no connection."""
        inner = await self._connection_error() if isinstance(fault, errors.KafkaConnectionError) else None
        return self.cause(inner or fault)

    async def _connection_error(self) -> BaseException | None:
        """The error of one connection to the broker; None if it works."""
        options = {name: value for name, value in self.options.items() if name != "bootstrap_servers"}
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                connection = await create_conn(self._server.host, self._server.port, **options)
        except (KafkaError, OSError, TimeoutError) as fault:
            return fault
        connection.close()
        return None


async def stop(client: aiokafka.AIOKafkaProducer | aiokafka.AIOKafkaConsumer) -> None:
    """Stop a client, without waiting long for a server that does not answer."""
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(STOP_TIMEOUT):
            await client.stop()
