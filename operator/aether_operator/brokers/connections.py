"""What the three checks share: the first connection, which tells why there is none; one deadline; one report."""

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
from aether_operator.observed import owners, secrecy
from aether_operator.observed.owners import Ownership
from aether_operator.observed.reports import ServerReport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aether_operator.api.platforms import Server
    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.owners import Owner

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")
# What goes wrong is in the report, once. The library would tell it again, in its own words and out of place.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)


@dataclass
class Refused(Exception):
    """A server that is not as it should be."""

    reason: Reason
    message: str


class Withheld(Exception):
    """Nothing was sent: its cause is not of the server, and whoever asked hears it."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a server told of itself: its version, and what is written down as its owner; None where nothing is."""

    version: str
    record: str | None


async def reported(
    server: Server, endpoint: Endpoint, owner: Owner, asking: Awaitable[Told], *, deadline: float
) -> ServerReport:
    """What a check found: version and standing, or why it was refused; after `deadline` seconds it is ended.

    Raises:
        Exception: Whatever a guard raised.
    """
    try:
        found = await answered(server, endpoint, asking, deadline=deadline)
    except Withheld as withheld:
        raise withheld.__cause__ or withheld from None
    if isinstance(found, Refused):
        return ServerReport(server=server, reason=found.reason, message=found.message)
    if found.record is None:
        return ServerReport(server=server, reason=Reason.READY, version=found.version, ownership=Ownership.UNCLAIMED)
    refusal = owners.ownership_problem(found.record, owner)
    if refusal is None:
        return ServerReport(server=server, reason=Reason.READY, version=found.version, ownership=Ownership.OURS)
    quoted = secrecy.quotes(owners.foreign_words(found.record, owner.record), endpoint.hidden)
    return ServerReport(
        server=server,
        reason=refusal.reason,
        message=f"{place(endpoint)}: {f'it is not ours {secrecy.WITHHELD}' if quoted else refusal.message}",
        version=found.version,
        ownership=Ownership.OWNED_BY_ANOTHER,
    )


def permit(guard: Callable[[], object]) -> None:
    """Ask the guard before something is written.

    Raises:
        Withheld: It does not let us.
    """
    try:
        guard()
    except Exception as lost:
        raise Withheld from lost


CA_FILE: Final = "a FILE of ca.crt of the Secret"
"""What a command by hand reads, where the server's certificate is not one of the system's authorities."""


def by_hand(why: str, needs: str, command: str, files: str = "") -> Refused:
    """The refusal of an owner that we may not write down or read: the right that is missing, or the command instead.

    `files` are what the command reads, and what has to be in them.
    """
    how = f" with {files}," if files else ""
    return Refused(
        Reason.OWNER_NOT_RECORDED,
        f"{why}: let the login {needs}, or run,{how} where nothing is written down yet: {command}",
    )


async def answered(
    server: Server, endpoint: Endpoint, asking: Awaitable[Answer], *, deadline: float
) -> Answer | Refused:
    """An answer, or why there is none, with where; after `deadline` seconds it is ended.

    Raises:
        Withheld: As raised by what was asked.
    """
    try:
        async with asyncio.timeout(deadline):
            return await asking
    except Refused as refused:
        return Refused(refused.reason, f"{place(endpoint)}: {refused.message}")
    except TimeoutError:
        return Refused(Reason.UNREACHABLE, f"{place(endpoint)}: no answer within {deadline:g} s")
    except Withheld:
        raise
    except Exception as fault:  # noqa: BLE001 - whatever answers there, the other servers are told of all the same
        name = type(fault).__name__  # not its text, which may quote what was sent
        log.warning("check_failed", extra={"server": server.value, "cause": name})
        return Refused(Reason.FAILED, f"{place(endpoint)}: what answers there is not understood ({name})")


def place(endpoint: Endpoint) -> str:
    """Where a server is, for a message."""
    return names.address(endpoint.host, endpoint.port)


@contextlib.asynccontextmanager
async def opened(endpoint: Endpoint) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A plain connection, which is cut afterwards.

    Raises:
        Refused: There is none to be had.
    """
    try:
        reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    except TimeoutError:
        raise  # ours, or the system's own patience: the same report
    except (OSError, UnicodeError) as fault:
        raise Refused(Reason.UNREACHABLE, said(fault, endpoint)) from fault
    try:
        yield reader, writer
    finally:
        await cut(writer.transport)


async def cut(transport: asyncio.WriteTransport) -> None:
    """End a connection at once: nobody waits for a farewell, which with TLS a busy server may owe for long."""
    transport.abort()
    await asyncio.sleep(0)  # the loop closes it in its next turn


async def encrypt(endpoint: Endpoint, writer: asyncio.StreamWriter, *, patience: float) -> None:
    """Begin TLS on a connection, where the endpoint wants it.

    `patience` is in seconds, less than the check has: a server without TLS may wait for the rest of what it takes for
    a request.

    Raises:
        Refused: The server does not speak it, or is not who it should be.
    """
    context = trust(endpoint)
    if context is None:
        return
    try:
        await writer.start_tls(context, server_hostname=endpoint.host, ssl_handshake_timeout=patience)
    except ssl.SSLCertVerificationError as fault:
        raise Refused(Reason.TLS_FAILED, f"its certificate is not trusted: {fault.verify_message}") from fault
    except (OSError, EOFError) as fault:
        raise Refused(Reason.TLS_FAILED, f"it does not speak TLS as it should: {said(fault, endpoint)}") from fault


async def reach(endpoint: Endpoint, *, patience: float) -> None:
    """See whether the server can be reached, with TLS where that is wanted: libraries mix these up.

    Raises:
        Refused: It cannot.
    """
    async with opened(endpoint) as (_, writer):
        await encrypt(endpoint, writer, patience=patience)


def trust(endpoint: Endpoint) -> ssl.SSLContext | None:
    """How the server's certificate is checked; nothing where the connection is not encrypted.

    Raises:
        Refused: `ca.crt` is not a certificate.
    """
    if not endpoint.tls:
        return None
    try:
        return _trusting(authorities(endpoint))
    except (ssl.SSLError, ValueError) as fault:
        raise Refused(Reason.TLS_FAILED, "ca.crt of the Secret is not a certificate in PEM") from fault


@functools.lru_cache(maxsize=64)  # reading the system's authorities takes longer than a check
def _trusting(given: str | None) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=given)


def authorities(endpoint: Endpoint) -> str | None:
    """Whom to trust, in PEM; None for the system's.

    Between certificates there may be words in any letters, which `ssl` refuses: each becomes a question mark.
    """
    return endpoint.ca.encode("ascii", "replace").decode() if endpoint.ca else None


def said(fault: BaseException, endpoint: Endpoint) -> str:
    """A fault in one short line: its own words, without where in a library they were said, and without any secret."""
    if isinstance(fault, ssl.SSLError) and fault.reason:
        return fault.reason.replace("_", " ").lower()  # of OpenSSL's own list
    if isinstance(fault, OSError) and fault.errno:
        # The system's word, where asyncio says "Connect call failed ('10.1.2.3', 4222)"; below 0 are not its errors.
        return os.strerror(fault.errno) if fault.errno > 0 else endpoint.words(fault.strerror or str(fault))
    return endpoint.words(str(fault)) if str(fault) else type(fault).__name__
