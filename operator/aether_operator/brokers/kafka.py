"""The connection check of Kafka.

One connection to the broker that the endpoint names, by the library's own: its clients know a cluster, and of a broker
that refuses them they say only that there is none.
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
from aether_operator.brokers.connections import Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from aether_operator.observed.endpoints import Endpoint

PROBE_TOPIC: Final = "md.aether-check"
"""A topic that nobody makes: a broker tells first whether one may, and then that it is not there."""
MECHANISM: Final = "SCRAM-SHA-512"
_UNAUTHORIZED: Final = {29, 31}  # for the topic, for the cluster
_UNSURE: Final = {-1, 7}  # something unexpected, timed out: a broker whose controllers are away
_LEVELS: Final = (
    *((28, "4.2 or newer"), (26, "4.1"), (22, "4.0"), (21, "3.9"), (20, "3.8"), (15, "3.7"), (12, "3.6"), (9, "3.5")),
    *((8, "3.4"), (1, "3.3")),
)
"""From which level of `metadata.version` on a broker is of which release: it tells the level, and no version."""
OLDEST: Final = "older than 3.3"


async def check(endpoint: Endpoint, connection: AIOKafkaConnection) -> str:
    """The version, once the login is seen to be one that may make, see, write and read topics `md.*`."""
    version = await _version(connection)
    async for operation, code in _rights(connection):
        if code in _UNSURE:
            raise Refused(Reason.UNREACHABLE, f"it could not say whether topics may be used (code {code})")
        if code in _UNAUTHORIZED:
            login_said = "the login" if endpoint.username else "who does not log in"
            raise Refused(Reason.PERMISSION_DENIED, f"{login_said} may not {operation} topics md.*")
    return version


@contextlib.asynccontextmanager
async def connected(endpoint: Endpoint, deadline: float) -> AsyncIterator[AIOKafkaConnection]:
    """A connection, logged in; what goes wrong on it is told in our words.

    Raises:
        Refused: There is none, or it broke.
    """
    await connections.reach(endpoint, patience=deadline / 2)
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
        ssl_context=connections.trust(endpoint),
        security_protocol=_protocol(endpoint),
        **login,
    )
    try:
        await connection.connect()
        yield connection
    except (errors.AuthenticationFailedError, errors.IllegalSaslStateError, errors.SaslAuthenticationFailed) as fault:
        raise Refused(Reason.AUTHENTICATION_FAILED, "the login is refused") from fault
    except errors.UnsupportedSaslMechanismError as fault:
        raise Refused(Reason.AUTHENTICATION_FAILED, f"it does not take logins by {MECHANISM}") from fault
    except (errors.IncompatibleBrokerVersion, NotImplementedError) as fault:
        raise Refused(Reason.VERSION_UNSUPPORTED, "it speaks none of the versions that are understood here") from fault
    except TimeoutError:
        raise
    except (errors.KafkaError, OSError, EOFError) as fault:
        hint = "" if endpoint.tls else "; does it want TLS?"
        raise Refused(Reason.UNREACHABLE, f"it ends the connection{hint}") from fault
    finally:
        await _closed(connection)


def _protocol(endpoint: Endpoint) -> str:
    return ("SASL_" if endpoint.username else "") + ("SSL" if endpoint.tls else "PLAINTEXT")


def settings(endpoint: Endpoint) -> str:
    """What the file of settings has that Kafka's own commands need for this server; nothing where they need none."""
    found = [f"security.protocol={_protocol(endpoint)}"]
    if endpoint.username:
        found += [f"sasl.mechanism={MECHANISM}", "sasl.jaas.config (of a login that may)"]
    if endpoint.ca:
        found += ["ssl.truststore.type=PEM", "ssl.truststore.location (ca.crt of the Secret)"]
    return ", ".join(found) if endpoint.username or endpoint.tls else ""


async def _rights(connection: AIOKafkaConnection) -> AsyncIterator[tuple[str, int]]:
    """What Aether does with topics, and the code that the broker answers when it is tried on one that is not there."""
    made = await connection.send(CreateTopicsRequest([(PROBE_TOPIC, 1, 1, [], [])], timeout=5000, validate_only=True))
    yield "create", made.topic_errors[0][1]
    seen = await connection.send(MetadataRequest([PROBE_TOPIC], allow_auto_topic_creation=False))
    yield "describe", seen.topics[0][0]
    written = await connection.send(ProduceRequest(None, 1, 5000, [(PROBE_TOPIC, [(0, b"")])]))
    yield "write to", written.topics[0][1][0][1]
    read = await connection.send(FetchRequest(0, 1, 1, 0, [(PROBE_TOPIC, [(0, 0, 1)])]))
    yield "read", read.topics[0][1][0][1]


async def _version(connection: AIOKafkaConnection) -> str:
    """The release, as far as a broker tells it."""
    answer = await connection.send(_Features())
    if answer.error_code:
        return OLDEST  # it does not know the question
    level = dict(_features(answer.tags.get(0, b"\0"))).get("metadata.version", 0)
    return next((release for least, release in _LEVELS if level >= least), OLDEST)


def _features(tag: bytes) -> Iterator[tuple[str, int]]:
    """Feature → the highest level that the broker supports."""
    for name, _, most, _ in _SUPPORTED.decode(io.BytesIO(tag)) or ():
        yield name, most


_SUPPORTED: Final = types.CompactArray(
    ("name", types.CompactString("utf-8")), ("least", types.Int16), ("most", types.Int16), ("tags", types.TaggedFields)
)


class _FeaturesResponse(Response):  # type: ignore[misc]  # the library has no types
    """The answer to ApiVersions in version 3, the first that tells features; the library knows those before it."""

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
        """Of this one answer the header is the old one: the asker may not know the new one."""
        return ResponseHeader_v0.decode(read_buffer)


class _Features(Request[_FeaturesRequest]):  # type: ignore[misc]
    API_KEY = 18

    def build(self, request_struct_class: type[_FeaturesRequest]) -> _FeaturesRequest:
        return request_struct_class("aether-operator", "1", {})


async def _closed(connection: AIOKafkaConnection) -> None:
    """End a connection and its task."""
    protocol = connection._protocol  # noqa: SLF001 - the library closes politely, and has no other way
    ended = connection.close()
    if ended is not None:
        await asyncio.wait([ended], timeout=1)
    if protocol is not None and protocol._transport is not None:  # noqa: SLF001
        await connections.cut(protocol._transport)  # noqa: SLF001
