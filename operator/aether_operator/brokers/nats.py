"""The connection check of NATS.

Spoken by hand, since it is a dozen lines of text: the library goes on in clear where TLS was wanted and is not offered,
tells a missing right to a callback while the caller waits in vain, and has tasks of its own.
"""

from __future__ import annotations

import json
import re
import secrets
from typing import TYPE_CHECKING, Any, Final

from aether_operator.api.platforms import Server
from aether_operator.api.reasons import Reason
from aether_operator.brokers import connecting
from aether_operator.brokers.connecting import Refused

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.reports import ServerReport

LEAST: Final = (2, 9)
ACCOUNT: Final = "$JS.API.INFO"
"""What JetStream answers on about the account of who asks."""
_DENIED: Final = re.compile(r'permissions violation for (publish|subscription) to "([^"]*)"', re.IGNORECASE)


async def check(endpoint: Endpoint, *, deadline: float) -> ServerReport:
    """Log in, see the version, and ask JetStream about the account."""
    return await connecting.reported(Server.NATS, endpoint, _ask(endpoint, deadline), deadline=deadline)


async def _ask(endpoint: Endpoint, deadline: float) -> str:
    async with connecting.opened(endpoint) as (reader, writer):
        try:
            return await _asked(endpoint, reader, writer, patience=deadline / 2)
        except (ConnectionError, EOFError) as fault:
            raise Refused(Reason.UNREACHABLE, f"it ends the connection: {connecting.said(fault, endpoint)}") from fault
        except ValueError as fault:
            raise Refused(Reason.UNREACHABLE, "what answers there is not NATS") from fault


async def _asked(endpoint: Endpoint, reader: StreamReader, writer: StreamWriter, *, patience: float) -> str:
    """What the server says of itself; TLS, where it is wanted, begins after that, and the login after TLS."""
    info = _info(await _line(reader))
    version = str(info["version"])
    if bool(info.get("tls_required")) != endpoint.tls:
        raise Refused(Reason.TLS_FAILED, "it does not offer TLS" if endpoint.tls else "it wants TLS")
    await connecting.encrypt(endpoint, writer, patience=patience)
    inbox = f"_INBOX.{secrets.token_hex(8)}"
    login = {"user": endpoint.username, "pass": endpoint.password.text, "lang": "aether", "version": "1"}
    how = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True, "protocol": 1}
    writer.write(f"CONNECT {json.dumps(login | how)}\r\nPING\r\n".encode())
    await _until(endpoint, reader, "PONG")
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < LEAST:
        raise Refused(Reason.VERSION_UNSUPPORTED, f"NATS {version}; 2.9 is the oldest that is supported")
    writer.write(f"SUB {inbox} 1\r\nPUB {ACCOUNT} {inbox} 0\r\n\r\nPING\r\n".encode())
    answer = await _until(endpoint, reader, "MSG", "HMSG")
    # With headers it is the server's word that nobody listens there; else JetStream's, for or against.
    account = {"error": {}} if answer[0] == "HMSG" else json.loads(await reader.readexactly(int(answer[-1])))
    if "error" in account:
        why = endpoint.words(str(account["error"].get("description", "nobody answers for it")))
        raise Refused(Reason.JETSTREAM_OFF, f"JetStream is off for the login: {why}")
    return version


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
        return Refused(Reason.RIGHT_MISSING, f"the login may not {what} {subject}")
    if "authorization" in line.lower() or "authentication" in line.lower():
        return Refused(Reason.LOGIN_REFUSED, "the login is refused")
    words = endpoint.words(line.removeprefix("-ERR").strip(" '"))
    return Refused(Reason.FAILED, f"it ends the connection: {words}")
