"""The connection check of Redis, and the key with its owner."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any, Final

from redis import asyncio as library
from redis import exceptions

from aether_operator.api.reasons import Reason
from aether_operator.brokers import connections
from aether_operator.brokers.connections import Refused, Told
from aether_operator.catalog.owners import KEY

if TYPE_CHECKING:
    from asyncio import StreamWriter
    from collections.abc import AsyncIterator, Callable

    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.owners import Owner

LEAST: Final = (6, 2)
_COMMANDS: Final = frozenset({"HELLO", "PING", "GET", "SET"})
PROBE_KEY: Final = "aether:check"
"""A key that nobody writes; the check writes it only if it exists."""


async def ask(endpoint: Endpoint, owner: Owner, guard: Callable[[], object] | None, deadline: float) -> Told:
    """Log in, see the version, try what reads and writes need, and see whose it is.

    With a guard, the owner is written down where there is none.
    """
    await connections.reach(endpoint, patience=deadline / 2)
    try:
        async with _connection(endpoint) as connection:
            version = await _asked(connection)
            return Told(version, await _record(connection, endpoint, owner, guard))
    except (exceptions.AuthenticationError, exceptions.AuthorizationError) as fault:
        raise Refused(Reason.AUTHENTICATION_FAILED, "the login is refused") from fault
    except exceptions.NoPermissionError as fault:
        command = re.search(r"'(\w+)' command", str(fault))
        named = command[1].upper() if command else ""
        lacking = named if named in _COMMANDS else "the keys that Aether uses"
        raise Refused(Reason.PERMISSION_DENIED, f"the login may not use {lacking}") from fault
    except exceptions.BusyLoadingError as fault:
        raise Refused(Reason.UNREACHABLE, "it is still loading its data") from fault
    except exceptions.ReadOnlyError as fault:
        raise Refused(Reason.PERMISSION_DENIED, "it is a replica, which nobody may write to") from fault
    except exceptions.ResponseError as fault:
        raise Refused(Reason.FAILED, f"it refuses a command: {connections.said(fault, endpoint)}") from fault
    except exceptions.TimeoutError as fault:
        raise TimeoutError from fault
    except (exceptions.RedisError, OSError, EOFError) as fault:
        raise Refused(Reason.UNREACHABLE, f"{connections.said(fault, endpoint)}{_hint(endpoint)}") from fault


def _hint(endpoint: Endpoint) -> str:
    return "" if endpoint.tls else "; does it want TLS?"


@contextlib.asynccontextmanager
async def _connection(endpoint: Endpoint) -> AsyncIterator[library.Connection]:
    """A connection that is still to be made, and is cut afterwards."""
    writers: list[StreamWriter] = []

    async def begin(connection: library.Connection) -> None:
        if (writer := connection._writer) is not None:  # noqa: SLF001 - the library closes politely, and forgets it
            writers.append(writer)
        await connection.on_connect()

    where: dict[str, Any] = {
        "host": endpoint.host,
        "port": endpoint.port,
        "username": endpoint.username or None,
        "password": endpoint.password.text or None,
        "decode_responses": True,
        # It would tell the server its name and version, which an old one refuses.
        "driver_info": None,
        "protocol": 2,
        "redis_connect_func": begin,
    }
    connection = (
        library.SSLConnection(**where, ssl_ca_data=connections.authorities(endpoint), ssl_check_hostname=True)
        if endpoint.tls
        else library.Connection(**where)
    )
    try:
        yield connection
    finally:
        await connection.disconnect(nowait=True)
        for writer in writers:
            await connections.cut(writer.transport)


async def _asked(connection: library.Connection) -> str:
    await connection.connect()  # type: ignore[no-untyped-call]
    try:
        hello = await _told(connection, "HELLO")
    except exceptions.ResponseError as fault:
        if "NOAUTH" in str(fault):
            raise exceptions.AuthenticationError from fault
        raise Refused(Reason.VERSION_UNSUPPORTED, "older than Redis 6.2, the oldest that is supported") from fault
    facts = dict(zip(hello[::2], hello[1::2], strict=False)) if isinstance(hello, list) else hello
    version = str(facts["version"])
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < LEAST:
        raise Refused(Reason.VERSION_UNSUPPORTED, f"Redis {version}; 6.2 is the oldest that is supported")
    for command in (("PING",), ("GET", PROBE_KEY), ("SET", PROBE_KEY, "", "XX")):
        await _told(connection, *command)
    return version


async def _record(
    connection: library.Connection, endpoint: Endpoint, owner: Owner, guard: Callable[[], object] | None
) -> str | None:
    try:
        found: str | None = await _told(connection, "GET", KEY)
        if found is None and guard is not None:
            connections.permit(guard)
            await _told(connection, "SET", KEY, owner.record, "NX")
            found = await _told(connection, "GET", KEY)
    except exceptions.NoPermissionError as fault:
        files = connections.CA_FILE if endpoint.ca else ""
        tls = (" --tls" if endpoint.tls else "") + (" --cacert FILE" if endpoint.ca else "")
        command = f"redis-cli -h {endpoint.host} -p {endpoint.port}{tls} SET {KEY} '{owner.record}' NX"
        needs = f"read and write the key (ACL SETUSER … ~{KEY} +get +set)"
        raise connections.by_hand(f"the login may not use the key {KEY}", needs, command, files) from fault
    return found


async def _told(connection: library.Connection, *command: str) -> Any:
    await connection.send_command(*command)
    return await connection.read_response()
