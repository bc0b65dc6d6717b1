"""What the three checks share: the first connection and its TLS, the deadline, and the report."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from aether_operator.api.reasons import Reason
from aether_operator.catalog import names
from aether_operator.observed import server_owners
from aether_operator.observed.reports import ServerReport
from aether_operator.observed.server_owners import Ownership
from aether_runtime import network_errors, secrecy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aether_operator.api.platforms import Server
    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.server_owners import ServerOwner

log = logging.getLogger(__name__)
Result = TypeVar("Result")


@dataclass
class BrokerError(Exception):
    """A check or a write failed: the reason for the status, and a message without secrets."""

    reason: Reason
    message: str


class GuardRaised(Exception):
    """The guard raised before a write. Its exception is the cause, and is raised again to the caller."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A server's version, and the owner recorded on it (None where none is)."""

    version: str
    record: str | None


async def run_check(
    server: Server, endpoint: Endpoint, owner: ServerOwner, operation: Awaitable[CheckResult], *, deadline: float
) -> ServerReport:
    """Await a check and make its report; it is cancelled after `deadline` seconds.

    Raises:
        Exception: What the guard raised.
    """
    try:
        found = await attempt(server, endpoint, operation, deadline=deadline)
    except GuardRaised as raised:
        raise raised.__cause__ or raised from None
    if isinstance(found, BrokerError):
        return ServerReport(server=server, reason=found.reason, message=found.message)
    if found.record is None:
        return ServerReport(server=server, reason=Reason.READY, version=found.version, ownership=Ownership.UNCLAIMED)
    problem = server_owners.ownership_problem(found.record, owner)
    if problem is None:
        return ServerReport(server=server, reason=Reason.READY, version=found.version, ownership=Ownership.OURS)
    quoted = secrecy.quotes(server_owners.foreign_words(found.record, owner.record), endpoint.secret_values)
    message = f"it belongs to another owner {secrecy.WITHHELD}" if quoted else problem.message
    return ServerReport(
        server=server,
        reason=problem.reason,
        message=f"{address(endpoint)}: {message}",
        version=found.version,
        ownership=Ownership.OWNED_BY_ANOTHER,
    )


def check_guard(guard: Callable[[], object]) -> None:
    """Call the guard before a write.

    Raises:
        GuardRaised: The guard raised.
    """
    try:
        guard()
    except Exception as lost:
        raise GuardRaised from lost


CA_FILE: Final = "a FILE of ca.crt of the Secret"
"""The file that a command run by hand needs, where the server's certificate is of a private CA."""


def owner_not_recorded(why: str, needs: str, command: str, files: str = "") -> BrokerError:
    """The error when the login may not read or record the owner: the missing rights, or a command for a person to run.

    `files` names the files that the command reads, and what they contain.
    """
    how = f" with {files}" if files else ""
    return BrokerError(
        Reason.OWNER_NOT_RECORDED,
        f"{why}: allow the login to {needs}, or, while no owner is recorded, run{how}: {command}",
    )


async def attempt(
    server: Server, endpoint: Endpoint, operation: Awaitable[Result], *, deadline: float
) -> Result | BrokerError:
    """Await an operation for at most `deadline` seconds; a failure is returned as a BrokerError with the address.

    Raises:
        GuardRaised: As raised by the operation.
    """
    try:
        async with asyncio.timeout(deadline):
            return await operation
    except BrokerError as error:
        return BrokerError(error.reason, f"{address(endpoint)}: {error.message}")
    except TimeoutError:
        return BrokerError(Reason.UNREACHABLE, f"{address(endpoint)}: no response within {deadline:g} s")
    except GuardRaised:
        raise
    except Exception as fault:  # noqa: BLE001 - one server's bad response must not hide the reports of the others
        name = type(fault).__name__  # without its text, which may quote a secret that was sent
        log.info("check_failed", extra={"server": server.value, "cause": name})
        return BrokerError(Reason.FAILED, f"{address(endpoint)}: the response is not understood ({name})")


def address(endpoint: Endpoint) -> str:
    """`host:port` for a message."""
    return names.address(endpoint.host, endpoint.port)


@contextlib.asynccontextmanager
async def connect(endpoint: Endpoint) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a plain TCP connection; it is aborted at the end of the block.

    Raises:
        BrokerError: It cannot be opened.
    """
    try:
        reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    except TimeoutError:
        raise  # of our deadline or of the system: the same report
    except (OSError, UnicodeError) as fault:
        raise BrokerError(Reason.UNREACHABLE, describe(fault, endpoint)) from fault
    try:
        yield reader, writer
    finally:
        await abort(writer.transport)


async def abort(transport: asyncio.WriteTransport) -> None:
    """Close a connection without TLS's closing handshake, which a busy server may delay for long."""
    transport.abort()
    await asyncio.sleep(0)  # the event loop closes it in its next iteration


async def start_tls(endpoint: Endpoint, writer: asyncio.StreamWriter, *, handshake_timeout: float) -> None:
    """Start TLS on a connection, where the endpoint asks for it.

    `handshake_timeout` is in seconds and shorter than the check's deadline: a server without TLS may take the handshake
    for the first bytes of a request and wait for the rest.

    Raises:
        BrokerError: The handshake fails, or the certificate is not trusted.
    """
    context = ssl_context(endpoint)
    if context is None:
        return
    try:
        await writer.start_tls(context, server_hostname=endpoint.host, ssl_handshake_timeout=handshake_timeout)
    except ssl.SSLError as fault:
        raise BrokerError(Reason.TLS_FAILED, describe(fault, endpoint)) from fault
    except (OSError, EOFError) as fault:
        raise BrokerError(Reason.TLS_FAILED, network_errors.TLS_FAILED) from fault


async def check_reachable(endpoint: Endpoint, *, handshake_timeout: float) -> None:
    """Connect once, with TLS where the endpoint asks for it: the libraries report both failures alike.

    Raises:
        BrokerError: No connection, or no TLS.
    """
    async with connect(endpoint) as (_, writer):
        await start_tls(endpoint, writer, handshake_timeout=handshake_timeout)


def ssl_context(endpoint: Endpoint) -> ssl.SSLContext | None:
    """How the server's certificate is verified; None where the connection is not encrypted.

    Raises:
        BrokerError: `ca.crt` is not a certificate.
    """
    if not endpoint.tls:
        return None
    try:
        return _cached_ssl_context(ca_pem(endpoint))
    except (ssl.SSLError, ValueError) as fault:
        raise BrokerError(Reason.TLS_FAILED, "ca.crt of the Secret is not a certificate in PEM") from fault


@functools.lru_cache(maxsize=64)  # reading the system's CAs takes longer than a check
def _cached_ssl_context(given: str | None) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=given)


def ca_pem(endpoint: Endpoint) -> str | None:
    """The trusted CAs in PEM; None for the system's.

    Text between certificates may have characters outside of ASCII, which `ssl` rejects: each becomes a question mark.
    """
    return endpoint.ca.encode("ascii", "replace").decode() if endpoint.ca else None


def describe(fault: BaseException, endpoint: Endpoint) -> str:
    """Why a connection failed, in words of ours; of another error its own text in one short line, without secrets."""
    if words := network_errors.describe(fault) or network_errors.describe_text(str(fault)):
        return words
    if isinstance(fault, OSError) and fault.errno and fault.errno > 0:
        return os.strerror(fault.errno)
    return endpoint.excerpt(str(fault)) if str(fault) else type(fault).__name__
