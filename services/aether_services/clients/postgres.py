"""PostgreSQL: a service's connection, and why it failed."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Final

import psycopg

from aether_runtime import network_errors
from aether_services.clients import servers
from aether_services.clients.servers import ServerUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aether_services.clients.servers import Server

CONNECT_TIMEOUT: Final = 5
_CONNECT_CAUSES: Final = (
    (re.compile("authentication failed|FATAL: *role |no password"), servers.AUTHENTICATION_FAILED),
    (re.compile('FATAL: *database ".*" does not exist'), "the database does not exist: create it"),
    (
        re.compile("the database system is|not yet accepting|terminating connection"),
        "the server is starting or shutting down: wait, or check its pod",
    ),
    (re.compile("too many|remaining connection"), "the server has no free connection: raise max_connections"),
    (re.compile("pg_hba.conf"), "the server rejects this client: allow it in pg_hba.conf"),
    (re.compile("permission denied for database"), "the login may not connect: grant CONNECT on the database"),
)
_NO_SCHEMA: Final = "the schema is not there yet: the operator creates it, see the condition SchemaReady"
_BY_SQLSTATE: Final = {
    "28P01": servers.AUTHENTICATION_FAILED,
    "28000": servers.AUTHENTICATION_FAILED,
    "3F000": _NO_SCHEMA,
    "42P01": _NO_SCHEMA,
    "42501": "the login lacks a permission on a table: the operator grants it, see the condition SchemaReady",
    "57014": "a statement timed out: check the load and the locks of the server",
    "57P01": "the server is shutting down: wait, or check its pod",
    "57P02": "the server is shutting down: wait, or check its pod",
    "57P03": "the server is starting or shutting down: wait, or check its pod",
    "53100": "the disk of the server is full: enlarge its volume",
    "53300": "the server has no free connection: raise max_connections",
}


@contextlib.asynccontextmanager
async def connected(server: Server, database: str, *, name: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """A connection as a context, with the credentials of now; times are in UTC.

    Args:
        server: The server.
        database: The name of the database.
        name: The application's name, as the server shows it.

    Raises:
        ServerUnavailable: The connection fails, or an error of the server's ends the context.
    """
    login = server.login()
    protected = server.ssl_context() is not None
    ca_file = server.ca_file
    try:
        connection = await psycopg.AsyncConnection.connect(
            host=server.host,
            port=server.port,
            dbname=database,
            user=login.username,
            password=login.password,
            connect_timeout=CONNECT_TIMEOUT,
            application_name=name,
            sslmode="verify-full" if protected else "disable",
            sslrootcert=str(ca_file) if ca_file else "system" if protected else "",
            options="-c timezone=UTC",
        )
    except psycopg.Error as fault:
        raise ServerUnavailable(server.cause(fault, login, _known(fault))) from fault
    try:
        yield connection
    except psycopg.Error as fault:
        raise ServerUnavailable(server.cause(fault, login, _known(fault))) from fault
    finally:
        with contextlib.suppress(psycopg.Error):
            await connection.close()


def _known(fault: psycopg.Error) -> str:
    """The cause of an error and what to do; empty for one that only the server's text explains."""
    if fault.sqlstate is not None:
        return _BY_SQLSTATE.get(fault.sqlstate, "")
    text = str(fault)  # libpq has no codes for a connection that cannot be opened
    return next((words for pattern, words in _CONNECT_CAUSES if pattern.search(text)), "") or (
        network_errors.describe_text(text)
    )
