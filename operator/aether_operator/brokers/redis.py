"""The connection check of Redis, and the key that records its owner."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any, Final

from redis import asyncio as library
from redis import exceptions

from aether_operator.api.reasons import Reason
from aether_operator.brokers import connections
from aether_operator.brokers.connections import BrokerError, CheckResult
from aether_operator.catalog.owners import KEY
from aether_runtime import network_errors

if TYPE_CHECKING:
    from asyncio import StreamWriter
    from collections.abc import AsyncIterator, Callable

    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.server_owners import ServerOwner

MIN_VERSION: Final = (6, 2)
_COMMANDS: Final = frozenset({"HELLO", "PING", "GET", "SET"})
PROBE_KEY: Final = "aether:check"
"""A key that does not exist: the check sets it only if it exists (`SET … XX`)."""


async def check(
    endpoint: Endpoint, owner: ServerOwner, guard: Callable[[], object] | None, deadline: float
) -> CheckResult:
    """Log in, check the version and the rights to read and write, and read the owner.

    With a guard, `owner` is recorded where none is.
    """
    await connections.check_reachable(endpoint, handshake_timeout=deadline / 2)
    try:
        async with _connection(endpoint) as connection:
            version = await _check_version_and_commands(connection)
            return CheckResult(version, await _read_or_claim(connection, endpoint, owner, guard))
    except (exceptions.AuthenticationError, exceptions.AuthorizationError) as fault:
        raise BrokerError(Reason.AUTHENTICATION_FAILED, network_errors.AUTHENTICATION_FAILED) from fault
    except exceptions.NoPermissionError as fault:
        command = re.search(r"'(\w+)' command", str(fault))
        command_name = command[1].upper() if command else ""
        denied = command_name if command_name in _COMMANDS else "the keys that Aether uses"
        raise BrokerError(Reason.PERMISSION_DENIED, f"the login may not use {denied}") from fault
    except exceptions.BusyLoadingError as fault:
        raise BrokerError(Reason.UNREACHABLE, "it is still loading its data") from fault
    except exceptions.ReadOnlyError as fault:
        raise BrokerError(Reason.PERMISSION_DENIED, "it is a read-only replica") from fault
    except exceptions.ResponseError as fault:
        raise BrokerError(Reason.FAILED, f"a command failed: {endpoint.excerpt(str(fault))}") from fault
    except exceptions.TimeoutError as fault:
        raise TimeoutError from fault
    except (exceptions.RedisError, OSError, EOFError) as fault:
        raise BrokerError(Reason.UNREACHABLE, connections.describe(fault, endpoint)) from fault


@contextlib.asynccontextmanager
async def _connection(endpoint: Endpoint) -> AsyncIterator[library.Connection]:
    """A connection that is opened by its user, and aborted at the end of the block."""
    writers: list[StreamWriter] = []

    async def begin(connection: library.Connection) -> None:
        if (writer := connection._writer) is not None:  # noqa: SLF001 - the library has only a graceful close, and drops the writer
            writers.append(writer)
        await connection.on_connect()

    options: dict[str, Any] = {
        "host": endpoint.host,
        "port": endpoint.port,
        "username": endpoint.username or None,
        "password": endpoint.password.text or None,
        "decode_responses": True,
        # No CLIENT SETINFO with the library's name and version: old servers reject it.
        "driver_info": None,
        "protocol": 2,
        "redis_connect_func": begin,
    }
    connection = (
        library.SSLConnection(**options, ssl_ca_data=connections.ca_pem(endpoint), ssl_check_hostname=True)
        if endpoint.tls
        else library.Connection(**options)
    )
    try:
        yield connection
    finally:
        await connection.disconnect(nowait=True)
        for writer in writers:
            await connections.abort(writer.transport)


async def _check_version_and_commands(connection: library.Connection) -> str:
    await connection.connect()  # type: ignore[no-untyped-call]
    try:
        hello = await _execute(connection, "HELLO")
    except exceptions.ResponseError as fault:
        if "NOAUTH" in str(fault):
            raise exceptions.AuthenticationError from fault
        raise BrokerError(Reason.VERSION_UNSUPPORTED, "older than Redis 6.2, the oldest supported version") from fault
    info = dict(zip(hello[::2], hello[1::2], strict=False)) if isinstance(hello, list) else hello
    version = str(info["version"])
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < MIN_VERSION:
        raise BrokerError(Reason.VERSION_UNSUPPORTED, f"Redis {version}: 6.2 is the oldest supported version")
    for command in (("PING",), ("GET", PROBE_KEY), ("SET", PROBE_KEY, "", "XX")):
        await _execute(connection, *command)
    return version


async def _read_or_claim(
    connection: library.Connection, endpoint: Endpoint, owner: ServerOwner, guard: Callable[[], object] | None
) -> str | None:
    try:
        record: str | None = await _execute(connection, "GET", KEY)
        if record is None and guard is not None:
            connections.check_guard(guard)
            await _execute(connection, "SET", KEY, owner.record, "NX")
            record = await _execute(connection, "GET", KEY)
    except exceptions.NoPermissionError as fault:
        files = connections.CA_FILE if endpoint.ca else ""
        tls = (" --tls" if endpoint.tls else "") + (" --cacert FILE" if endpoint.ca else "")
        command = f"redis-cli -h {endpoint.host} -p {endpoint.port}{tls} SET {KEY} '{owner.record}' NX"
        needs = f"read and write the key (ACL SETUSER … ~{KEY} +get +set)"
        raise connections.owner_not_recorded(f"the login may not use the key {KEY}", needs, command, files) from fault
    return record


async def _execute(connection: library.Connection, *command: str) -> Any:
    await connection.send_command(*command)
    return await connection.read_response()
