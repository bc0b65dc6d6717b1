"""The connection check of Kafka.

It uses the library's single connection to the broker that the endpoint names. The library's clients work with a whole
cluster, and report every broker that rejects them as "no brokers available".
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from typing import TYPE_CHECKING, Any, Final

from aiokafka import errors
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol import types
from aiokafka.protocol.admin import CreateTopicsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response, ResponseHeader_v0
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.produce import ProduceRequest

from aether_operator.api.reasons import Reason
from aether_operator.brokers import connections
from aether_operator.brokers.connections import BrokerError
from aether_runtime import network_errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from aether_operator.observed.endpoints import Endpoint

PROBE_TOPIC: Final = "md.aether-check"
"""A topic that does not exist: a broker checks the rights before it reports that the topic is unknown."""
MECHANISM: Final = "SCRAM-SHA-512"
_UNAUTHORIZED: Final = {29, 31}  # on the topic, on the cluster
_RETRIABLE: Final = {-1, 7}  # unknown server error, request timed out: a broker without a controller
_RELEASES: Final = (
    *((28, "4.2 or newer"), (26, "4.1"), (22, "4.0"), (21, "3.9"), (20, "3.8"), (15, "3.7"), (12, "3.6"), (9, "3.5")),
    *((8, "3.4"), (1, "3.3")),
)
"""The lowest level of `metadata.version` of each release: a broker reports this level, and not its version."""
OLD_RELEASE: Final = "older than 3.3"


async def check_login(endpoint: Endpoint, connection: AIOKafkaConnection) -> str:
    """The broker's release, after checking that the login may create, describe, write to and read topics `md.*`."""
    version = await _release(connection)
    async for operation, code in _try_operations(connection):
        if code in _RETRIABLE:
            raise BrokerError(Reason.UNREACHABLE, f"the broker could not check the rights on topics (code {code})")
        if code in _UNAUTHORIZED:
            who = "the login" if endpoint.username else "a client without a login"
            raise BrokerError(Reason.PERMISSION_DENIED, f"{who} may not {operation} topics md.*")
    return version


@contextlib.asynccontextmanager
async def connect(endpoint: Endpoint, deadline: float) -> AsyncIterator[AIOKafkaConnection]:
    """An authenticated connection for a block.

    Raises:
        BrokerError: It cannot be opened, or it broke.
    """
    await connections.check_reachable(endpoint, handshake_timeout=deadline / 2)
    login: dict[str, Any] = {}
    if endpoint.username:
        login = {
            "sasl_mechanism": MECHANISM,
            "sasl_plain_username": endpoint.username,
            "sasl_plain_password": endpoint.password.text,
        }
    connection = AIOKafkaConnection(
        endpoint.host,
        endpoint.port,
        client_id="aether-operator",
        request_timeout_ms=round(deadline * 1000),
        ssl_context=connections.ssl_context(endpoint),
        security_protocol=_protocol(endpoint),
        **login,
    )
    try:
        await connection.connect()
        yield connection
    except (errors.AuthenticationFailedError, errors.IllegalSaslStateError, errors.SaslAuthenticationFailed) as fault:
        raise BrokerError(Reason.AUTHENTICATION_FAILED, network_errors.AUTHENTICATION_FAILED) from fault
    except errors.UnsupportedSaslMechanismError as fault:
        raise BrokerError(Reason.AUTHENTICATION_FAILED, f"the broker does not accept {MECHANISM}") from fault
    except (errors.IncompatibleBrokerVersion, NotImplementedError) as fault:
        raise BrokerError(Reason.VERSION_UNSUPPORTED, "no protocol version of the broker is supported") from fault
    except TimeoutError:
        raise
    except (errors.KafkaError, OSError, EOFError) as fault:
        raise BrokerError(Reason.UNREACHABLE, network_errors.CLOSED) from fault
    finally:
        await _close(connection)


def _protocol(endpoint: Endpoint) -> str:
    return ("SASL_" if endpoint.username else "") + ("SSL" if endpoint.tls else "PLAINTEXT")


def client_properties(endpoint: Endpoint) -> str:
    """The properties that Kafka's own command-line tools need for this server; empty where they need none."""
    found = [f"security.protocol={_protocol(endpoint)}"]
    if endpoint.username:
        found += [f"sasl.mechanism={MECHANISM}", "sasl.jaas.config (of an authorized login)"]
    if endpoint.ca:
        found += ["ssl.truststore.type=PEM", "ssl.truststore.location (ca.crt of the Secret)"]
    return ", ".join(found) if endpoint.username or endpoint.tls else ""


async def _try_operations(connection: AIOKafkaConnection) -> AsyncIterator[tuple[str, int]]:
    """Try each operation that Aether needs on a topic that does not exist; yields its name and the error code."""
    created = await connection.send(
        CreateTopicsRequest([(PROBE_TOPIC, 1, 1, [], [])], timeout=5000, validate_only=True)
    )
    yield "create", created.topic_errors[0][1]
    described = await connection.send(MetadataRequest([PROBE_TOPIC], allow_auto_topic_creation=False))
    yield "describe", described.topics[0][0]
    written = await connection.send(ProduceRequest(None, 1, 5000, [(PROBE_TOPIC, [(0, b"")])]))
    yield "write to", written.topics[0][1][0][1]
    read = await connection.send(FetchRequest(0, 1, 1, 0, [(PROBE_TOPIC, [(0, 0, 1)])]))
    yield "read", read.topics[0][1][0][1]


async def _release(connection: AIOKafkaConnection) -> str:
    """The release, as precisely as its feature level tells."""
    response = await connection.send(_Features())
    if response.error_code:
        return OLD_RELEASE  # it does not know this request
    level = dict(_features(response.tags.get(0, b"\0"))).get("metadata.version", 0)
    return next((release for least, release in _RELEASES if level >= least), OLD_RELEASE)


def _features(tag: bytes) -> Iterator[tuple[str, int]]:
    """Feature → the highest level that the broker supports."""
    for name, _, most, _ in _SUPPORTED.decode(io.BytesIO(tag)) or ():
        yield name, most


_SUPPORTED: Final = types.CompactArray(
    ("name", types.CompactString("utf-8")), ("least", types.Int16), ("most", types.Int16), ("tags", types.TaggedFields)
)


class _FeaturesResponse(Response):  # type: ignore[misc]  # the library has no types
    """The response to ApiVersions in version 3, the first with features; the library has only older versions."""

    API_KEY = 18
    API_VERSION = 3
    SCHEMA = types.Schema(
        ("error_code", types.Int16),
        (
            "api_versions",
            types.CompactArray(
                ("api_key", types.Int16),
                ("min_version", types.Int16),
                ("max_version", types.Int16),
                ("tags", types.TaggedFields),
            ),
        ),
        ("throttle_time_ms", types.Int32),
        ("tags", types.TaggedFields),
    )


class _FeaturesRequest(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 18
    API_VERSION = 3
    RESPONSE_TYPE = _FeaturesResponse
    SCHEMA = types.Schema(
        ("software", types.CompactString("utf-8")),
        ("version", types.CompactString("utf-8")),
        ("tags", types.TaggedFields),
    )

    def parse_response_header(self, read_buffer: io.BytesIO | bytes) -> ResponseHeader_v0:
        """This response alone has the old header: the client does not know yet which versions the broker has."""
        return ResponseHeader_v0.decode(read_buffer)


class _Features(Request[_FeaturesRequest]):  # type: ignore[misc]
    API_KEY = 18

    def build(self, request_struct_class: type[_FeaturesRequest]) -> _FeaturesRequest:
        return request_struct_class("aether-operator", "1", {})


async def _close(connection: AIOKafkaConnection) -> None:
    """Close a connection and its task."""
    protocol = connection._protocol  # noqa: SLF001 - the library has only a graceful close
    ended = connection.close()
    if ended is not None:
        await asyncio.wait([ended], timeout=1)
    if protocol is not None and protocol._transport is not None:  # noqa: SLF001
        await connections.abort(protocol._transport)  # noqa: SLF001
