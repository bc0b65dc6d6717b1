"""The connection check of NATS, and the stream whose description records its owner.

The protocol is a dozen lines of text, and is written here: the library continues without TLS where TLS was asked for
and is not offered, reports a missing right to a callback while the caller waits in vain, and has background tasks.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aether_operator.api.reasons import Reason
from aether_operator.brokers import connections
from aether_operator.brokers.connections import BrokerError, CheckResult
from aether_operator.catalog.owners import STREAM, SUBJECT
from aether_operator.catalog.topics import REPLICAS
from aether_runtime import network_errors

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import Callable, Mapping

    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.server_owners import ServerOwner

MIN_VERSION: Final = (2, 9)
ACCOUNT_INFO: Final = "$JS.API.INFO"
"""The subject on which JetStream describes the client's account."""
_NO_STREAM: Final = 10059
_NAME_IN_USE: Final = 10058
"""A stream of that name exists with another configuration."""
_TEMPORARY: Final = {10008, 10009, 10023}
"""Temporarily unavailable, no leader, insufficient resources: codes of a cluster that is starting."""
_TOO_FEW_PEERS: Final = {10005, 10074}
"""No suitable peers for so many replicas, replicas without a cluster: codes of a cluster of fewer servers."""
_OVERLAP: Final = 10065
_LIMITS: Final = {10002, 10027, 10028, 10047, 10113, 10120, 10122}
"""Limits of the account or of the server: streams, memory, storage, bytes of a stream."""
_DENIED: Final = re.compile(r'permissions violation for (publish|subscription) to "([^"]*)"', re.IGNORECASE)


async def check(
    endpoint: Endpoint, owner: ServerOwner, guard: Callable[[], object] | None, deadline: float
) -> CheckResult:
    """Log in, check the version and JetStream, and read the owner.

    With a guard, `owner` is recorded where none is.
    """
    async with connections.connect(endpoint) as (reader, writer):
        try:
            session = await _log_in(endpoint, reader, writer, handshake_timeout=deadline / 2)
            return CheckResult(session.version, await _read_or_claim(session, owner, guard))
        except (ConnectionError, EOFError) as fault:
            raise BrokerError(Reason.UNREACHABLE, connections.describe(fault, endpoint)) from fault
        except ValueError as fault:
            raise BrokerError(Reason.UNREACHABLE, "the server is not NATS") from fault


@dataclass(frozen=True, slots=True)
class _Session:
    """An authenticated connection to a server with JetStream."""

    endpoint: Endpoint
    reader: StreamReader
    writer: StreamWriter
    inbox: str
    version: str
    clustered: bool

    def description(self, error: Mapping[str, Any]) -> str:
        """JetStream's description of an error."""
        return self.endpoint.excerpt(str(error.get("description", "no responders")))

    async def request(self, subject: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send a request and await JetStream's reply; without a responder on the subject, an error without a code."""
        text = json.dumps(body).encode() if body is not None else b""
        self.writer.write(f"PUB {subject} {self.inbox} {len(text)}\r\n".encode() + text + b"\r\nPING\r\n")
        head = await _read_until(self.endpoint, self.reader, "MSG", "HMSG")
        # A message with headers is the server's "no responders"; one without is JetStream's reply.
        payload = await self.reader.readexactly(int(head[-1]))
        reply: dict[str, Any] = {"error": {}} if head[0] == "HMSG" else json.loads(payload)
        return reply


async def _log_in(
    endpoint: Endpoint, reader: StreamReader, writer: StreamWriter, *, handshake_timeout: float
) -> _Session:
    """Read the server's INFO, start TLS where it is asked for, then log in."""
    info = _parse_info(await _read_line(reader))
    version = str(info["version"])
    if bool(info.get("tls_required")) != endpoint.tls:
        raise BrokerError(
            Reason.TLS_FAILED, "the server does not offer TLS" if endpoint.tls else "the server requires TLS"
        )
    await connections.start_tls(endpoint, writer, handshake_timeout=handshake_timeout)
    inbox = f"_INBOX.{secrets.token_hex(8)}"
    login = {"user": endpoint.username, "pass": endpoint.password.text, "lang": "aether", "version": "1"}
    options = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True, "protocol": 1}
    writer.write(f"CONNECT {json.dumps(login | options)}\r\nPING\r\n".encode())
    await _read_until(endpoint, reader, "PONG")
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < MIN_VERSION:
        raise BrokerError(Reason.VERSION_UNSUPPORTED, f"NATS {version}: 2.9 is the oldest supported version")
    writer.write(f"SUB {inbox} 1\r\n".encode())
    session = _Session(endpoint, reader, writer, inbox, version, clustered=bool(info.get("cluster")))
    error = (await session.request(ACCOUNT_INFO)).get("error")
    if error is not None:
        why = session.description(error)
        if error.get("err_code") in _TEMPORARY:
            raise BrokerError(Reason.UNREACHABLE, f"JetStream does not respond: {why}")
        raise BrokerError(
            Reason.JETSTREAM_DISABLED,
            f"JetStream is off for the login ({why}): put `jetstream {{ store_dir: "
            '"/data" }` into the configuration of the server, and `jetstream: enabled` into that of the account where '
            "it has accounts, and run: nats-server --signal reload",
        )
    return session


# The owner.


async def _read_or_claim(session: _Session, owner: ServerOwner, guard: Callable[[], object] | None) -> str | None:
    try:
        record = await _read_owner(session)
        if record is None and guard is not None:
            connections.check_guard(guard)
            await _create_stream(session, owner)
            record = await _read_owner(session)
    except BrokerError as error:
        if error.reason is not Reason.PERMISSION_DENIED:
            raise
        raise _owner_not_recorded(session.endpoint, owner, "the login may not query JetStream") from error
    return record


async def _read_owner(session: _Session) -> str | None:
    """The description of the stream; None where it does not exist."""
    response = await session.request(f"$JS.API.STREAM.INFO.{STREAM}")
    error = response.get("error")
    if error is None:
        return str(response["config"].get("description", ""))
    if error.get("err_code") == _NO_STREAM:
        return None
    why = session.description(error)
    raise BrokerError(Reason.UNREACHABLE, f"JetStream does not describe stream {STREAM}: {why}")


async def _create_stream(session: _Session, owner: ServerOwner) -> None:
    """Create the stream; where another client was faster, its stream stays."""
    config = {
        "name": STREAM, "subjects": [SUBJECT], "description": owner.record, "retention": "limits", "storage": "file",
        "discard": "old", "max_msgs": 1, "max_bytes": -1, "max_age": 0, "max_consumers": -1,
    }  # fmt: skip
    error: dict[str, Any] = {}
    for replicas in (REPLICAS, 1) if session.clustered else (1,):
        response = await session.request(f"$JS.API.STREAM.CREATE.{STREAM}", config | {"num_replicas": replicas})
        if "error" not in response:
            return
        error = response["error"]
        if error.get("err_code") not in _TOO_FEW_PEERS or _peers_offline(error):
            break
    code = error.get("err_code")
    if code == _NAME_IN_USE:
        return
    why = session.description(error)
    if code in _TEMPORARY or _peers_offline(error):
        raise BrokerError(Reason.UNREACHABLE, f"JetStream cannot create stream {STREAM} now: {why}")
    if code is None:  # no responders: the account may not use the subject
        raise _owner_not_recorded(session.endpoint, owner, f"JetStream does not create it ({why})")
    raise BrokerError(
        Reason.OWNER_NOT_RECORDED,
        f"stream {STREAM} records the owner, and JetStream does not create it: {why}; {_remedy(code)}",
    )


def _peers_offline(error: Mapping[str, Any]) -> bool:
    """Whether peers are missing only because they are offline: the cluster has enough servers."""
    return error.get("err_code") in _TOO_FEW_PEERS and "offline" in str(error.get("description"))


def _remedy(code: int) -> str:
    """What to change so that JetStream can create the stream, whatever the login."""
    if code == _OVERLAP:
        return f"let no other stream of the account listen to {SUBJECT}: see nats stream ls --subject {SUBJECT}"
    if code in _LIMITS:
        return "let the limits of the account and of the server allow one stream more, in a file, without max_bytes"
    return "it is retried"


def _owner_not_recorded(endpoint: Endpoint, owner: ServerOwner, why: str) -> BrokerError:
    server = f"{'tls' if endpoint.tls else 'nats'}://{connections.address(endpoint)}"
    ca = " --tlsca FILE" if endpoint.ca else ""
    command = (
        f"nats --server {server}{ca} stream add {STREAM} --subjects {SUBJECT} --storage file --max-msgs 1 "
        f"--defaults --description '{owner.record}'"
    )
    needs = f"publish to $JS.API.STREAM.INFO.{STREAM} and $JS.API.STREAM.CREATE.{STREAM}"
    files = connections.CA_FILE if endpoint.ca else ""
    return connections.owner_not_recorded(f"stream {STREAM} records the owner, and {why}", needs, command, files)


def _parse_info(line: str) -> dict[str, Any]:
    verb, _, text = line.partition(" ")
    if verb.upper() != "INFO":
        raise ValueError(verb)
    info = json.loads(text)
    if not isinstance(info, dict) or "version" not in info:
        raise ValueError(text)
    return info


async def _read_line(reader: StreamReader) -> str:
    return (await reader.readuntil(b"\r\n")).decode().strip()


async def _read_until(endpoint: Endpoint, reader: StreamReader, *verbs: str) -> list[str]:
    """The words of the next line with one of these verbs; other lines are skipped.

    Raises:
        BrokerError: The server sent an error.
    """
    while True:
        line = await _read_line(reader)
        words = line.split()
        if words and words[0].upper() in verbs:
            return [words[0].upper(), *words[1:]]
        if words and words[0].upper() == "-ERR":
            raise _error_of(endpoint, line)


def _error_of(endpoint: Endpoint, line: str) -> BrokerError:
    if denied := _DENIED.search(line):
        operation = "publish to" if denied[1].lower() == "publish" else "subscribe to"
        subject = "_INBOX.>" if denied[2].startswith("_INBOX.") else "$JS.API.>"
        return BrokerError(Reason.PERMISSION_DENIED, f"the login may not {operation} {subject}")
    if "authorization" in line.lower() or "authentication" in line.lower():
        return BrokerError(Reason.AUTHENTICATION_FAILED, network_errors.AUTHENTICATION_FAILED)
    words = endpoint.excerpt(line.removeprefix("-ERR").strip(" '"))
    return BrokerError(Reason.FAILED, f"the server closed the connection: {words}")
