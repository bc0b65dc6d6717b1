"""The connection check of NATS, and the stream whose description is its owner.

Spoken by hand, since it is a dozen lines of text: the library goes on in clear where TLS was wanted and is not offered,
tells a missing right to a callback while the caller waits in vain, and has tasks of its own.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aether_operator.api.reasons import Reason
from aether_operator.brokers import connections
from aether_operator.brokers.connections import Refused, Told
from aether_operator.catalog.owners import STREAM, SUBJECT
from aether_operator.catalog.topics import REPLICAS

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import Callable, Mapping

    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.owners import Owner

LEAST: Final = (2, 9)
ACCOUNT: Final = "$JS.API.INFO"
"""What JetStream answers on about the account of who asks."""
_NO_STREAM: Final = 10059
_THERE_ALREADY: Final = 10058
"""Another of that name, with another configuration."""
_NOT_NOW: Final = {10008, 10009, 10023}
"""Temporarily unavailable, without a leader, without room for now: error codes of a cluster that is on its way."""
_TOO_FEW: Final = {10005, 10074}
"""No suitable peers for so many copies, copies without a cluster: error codes of a cluster of fewer servers."""
_OVERLAP: Final = 10065
_LIMITS: Final = {10002, 10027, 10028, 10047, 10113, 10120, 10122}
"""Of the account or of the server: streams, memory, storage, bytes of a stream."""
_DENIED: Final = re.compile(r'permissions violation for (publish|subscription) to "([^"]*)"', re.IGNORECASE)


async def ask(endpoint: Endpoint, owner: Owner, guard: Callable[[], object] | None, deadline: float) -> Told:
    """Log in, see the version, ask JetStream about the account, and see whose it is.

    With a guard, the owner is written down where there is none.
    """
    async with connections.opened(endpoint) as (reader, writer):
        try:
            talk = await _logged_in(endpoint, reader, writer, patience=deadline / 2)
            return Told(talk.version, await _record(talk, owner, guard))
        except (ConnectionError, EOFError) as fault:
            raise Refused(Reason.UNREACHABLE, f"it ends the connection: {connections.said(fault, endpoint)}") from fault
        except ValueError as fault:
            raise Refused(Reason.UNREACHABLE, "what answers there is not NATS") from fault


@dataclass(frozen=True, slots=True)
class _Talk:
    """A connection that is logged in, to a server with JetStream."""

    endpoint: Endpoint
    reader: StreamReader
    writer: StreamWriter
    inbox: str
    version: str
    clustered: bool

    def words(self, error: Mapping[str, Any]) -> str:
        """What JetStream says is wrong."""
        return self.endpoint.words(str(error.get("description", "nobody answers for it")))

    async def answer(self, subject: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What JetStream answers; where nobody listens on the subject, an error without a code."""
        text = json.dumps(body).encode() if body is not None else b""
        self.writer.write(f"PUB {subject} {self.inbox} {len(text)}\r\n".encode() + text + b"\r\nPING\r\n")
        head = await _until(self.endpoint, self.reader, "MSG", "HMSG")
        # With headers it is the server's word that nobody listens there; else JetStream's, for or against.
        said = await self.reader.readexactly(int(head[-1]))
        found: dict[str, Any] = {"error": {}} if head[0] == "HMSG" else json.loads(said)
        return found


async def _logged_in(endpoint: Endpoint, reader: StreamReader, writer: StreamWriter, *, patience: float) -> _Talk:
    """What the server says of itself; TLS, where it is wanted, begins after that, and the login after TLS."""
    info = _info(await _line(reader))
    version = str(info["version"])
    if bool(info.get("tls_required")) != endpoint.tls:
        raise Refused(Reason.TLS_FAILED, "it does not offer TLS" if endpoint.tls else "it wants TLS")
    await connections.encrypt(endpoint, writer, patience=patience)
    inbox = f"_INBOX.{secrets.token_hex(8)}"
    login = {"user": endpoint.username, "pass": endpoint.password.text, "lang": "aether", "version": "1"}
    how = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True, "protocol": 1}
    writer.write(f"CONNECT {json.dumps(login | how)}\r\nPING\r\n".encode())
    await _until(endpoint, reader, "PONG")
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < LEAST:
        raise Refused(Reason.VERSION_UNSUPPORTED, f"NATS {version}; 2.9 is the oldest that is supported")
    writer.write(f"SUB {inbox} 1\r\n".encode())
    talk = _Talk(endpoint, reader, writer, inbox, version, clustered=bool(info.get("cluster")))
    error = (await talk.answer(ACCOUNT)).get("error")
    if error is not None:
        why = talk.words(error)
        if error.get("err_code") in _NOT_NOW:
            raise Refused(Reason.UNREACHABLE, f"JetStream does not answer: {why}")
        raise Refused(
            Reason.JETSTREAM_DISABLED,
            f"JetStream is off for the login ({why}): put `jetstream {{ store_dir: "
            '"/data" }` into the configuration of the server, and `jetstream: enabled` into that of the account where '
            "it has accounts, and run: nats-server --signal reload",
        )
    return talk


# Whose it is.


async def _record(talk: _Talk, owner: Owner, guard: Callable[[], object] | None) -> str | None:
    try:
        found = await _described(talk)
        if found is None and guard is not None:
            connections.permit(guard)
            await _make(talk, owner)
            found = await _described(talk)
    except Refused as refused:
        if refused.reason is not Reason.PERMISSION_DENIED:
            raise
        raise _by_hand(talk.endpoint, owner, "the login may not ask JetStream for it") from refused
    return found


async def _described(talk: _Talk) -> str | None:
    """The description of the stream, or nothing where it is not there."""
    told = await talk.answer(f"$JS.API.STREAM.INFO.{STREAM}")
    error = told.get("error")
    if error is None:
        return str(told["config"].get("description", ""))
    if error.get("err_code") == _NO_STREAM:
        return None
    why = talk.words(error)
    raise Refused(Reason.UNREACHABLE, f"JetStream does not tell of stream {STREAM}: {why}")


async def _make(talk: _Talk, owner: Owner) -> None:
    """Make the stream; where another was faster, that one stays."""
    config = {
        "name": STREAM, "subjects": [SUBJECT], "description": owner.record, "retention": "limits", "storage": "file",
        "discard": "old", "max_msgs": 1, "max_bytes": -1, "max_age": 0, "max_consumers": -1,
    }  # fmt: skip
    error: dict[str, Any] = {}
    for copies in (REPLICAS, 1) if talk.clustered else (1,):
        told = await talk.answer(f"$JS.API.STREAM.CREATE.{STREAM}", config | {"num_replicas": copies})
        if "error" not in told:
            return
        error = told["error"]
        if error.get("err_code") not in _TOO_FEW or _away(error):
            break
    code = error.get("err_code")
    if code == _THERE_ALREADY:
        return
    why = talk.words(error)
    if code in _NOT_NOW or _away(error):
        raise Refused(Reason.UNREACHABLE, f"JetStream does not make stream {STREAM} for now: {why}")
    if code is None:  # the account has no such subject
        raise _by_hand(talk.endpoint, owner, f"JetStream does not make it ({why})")
    raise Refused(
        Reason.OWNER_NOT_RECORDED,
        f"whose it is stands in stream {STREAM}, and JetStream does not make it: {why}; {_way_out(code)}",
    )


def _away(error: Mapping[str, Any]) -> bool:
    """Whether peers are lacking only since they are offline: there are as many servers, and they come back."""
    return error.get("err_code") in _TOO_FEW and "offline" in str(error.get("description"))


def _way_out(code: int) -> str:
    """What helps where JetStream refuses the stream, whoever asks for it."""
    if code == _OVERLAP:
        return f"let no other stream of the account listen to {SUBJECT}: see nats stream ls --subject {SUBJECT}"
    if code in _LIMITS:
        return "let the limits of the account and of the server allow one stream more, in a file, without max_bytes"
    return "it is tried again"


def _by_hand(endpoint: Endpoint, owner: Owner, why: str) -> Refused:
    server = f"{'tls' if endpoint.tls else 'nats'}://{connections.place(endpoint)}"
    ca = " --tlsca FILE" if endpoint.ca else ""
    command = (
        f"nats --server {server}{ca} stream add {STREAM} --subjects {SUBJECT} --storage file --max-msgs 1 "
        f"--defaults --description '{owner.record}'"
    )
    needs = f"publish to $JS.API.STREAM.INFO.{STREAM} and $JS.API.STREAM.CREATE.{STREAM}"
    files = connections.CA_FILE if endpoint.ca else ""
    return connections.by_hand(f"whose it is stands in stream {STREAM}, and {why}", needs, command, files)


def _info(line: str) -> dict[str, Any]:
    verb, _, facts = line.partition(" ")
    if verb.upper() != "INFO":
        raise ValueError(verb)
    info = json.loads(facts)
    if not isinstance(info, dict) or "version" not in info:
        raise ValueError(facts)
    return info


async def _line(reader: StreamReader) -> str:
    return (await reader.readuntil(b"\r\n")).decode().strip()


async def _until(endpoint: Endpoint, reader: StreamReader, *verbs: str) -> list[str]:
    """The words of the next line with one of these verbs; a server may say other things in between.

    Raises:
        Refused: It says that it does not want us.
    """
    while True:
        line = await _line(reader)
        words = line.split()
        if words and words[0].upper() in verbs:
            return [words[0].upper(), *words[1:]]
        if words and words[0].upper() == "-ERR":
            raise _refusal(endpoint, line)


def _refusal(endpoint: Endpoint, line: str) -> Refused:
    if denied := _DENIED.search(line):
        what = "publish to" if denied[1].lower() == "publish" else "subscribe to"
        subject = "_INBOX.>" if denied[2].startswith("_INBOX.") else "$JS.API.>"
        return Refused(Reason.PERMISSION_DENIED, f"the login may not {what} {subject}")
    if "authorization" in line.lower() or "authentication" in line.lower():
        return Refused(Reason.AUTHENTICATION_FAILED, "the login is refused")
    words = endpoint.words(line.removeprefix("-ERR").strip(" '"))
    return Refused(Reason.FAILED, f"it ends the connection: {words}")
