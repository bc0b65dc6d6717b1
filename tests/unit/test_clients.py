"""The clients of servers: credentials that cannot be used, before any connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from aether_services.clients import kafka, nats, postgres
from aether_services.clients.servers import Server, ServerUnavailable, Tls

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


async def _with_kafka(server: Server) -> None:
    kafka.Session(server, client_id="test", permissions="Read")


async def _with_nats(server: Server) -> None:
    async with nats.connected(server, name="test", permission="publish"):
        pass


async def _with_postgres(server: Server) -> None:
    async with postgres.connected(server, "desk", name="test"):
        pass


@pytest.mark.parametrize("connect", [_with_kafka, _with_nats, _with_postgres])
@pytest.mark.parametrize(
    ("files", "cause"),
    [
        ({"username": "desk", "password": "x", "ca.crt": "none"}, "ca.crt is not a certificate"),
        ({"username": "desk"}, "password cannot be read"),
    ],
)
async def test_credentials_that_cannot_be_used_are_named(
    tmp_path: Path, connect: Callable[[Server], Awaitable[None]], files: dict[str, str], cause: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    server = Server(host="127.0.0.1", port=1, tls=Tls.VERIFY, credentials=tmp_path)
    with pytest.raises(ServerUnavailable, match=f"^credentials: {cause}$"):
        await connect(server)


async def test_nats_without_tls_gets_no_password_where_tls_is_required(tmp_path: Path) -> None:
    received = asyncio.Queue[bytes]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.10.0","max_payload":1000,"auth_required":true}\r\n')
        received.put_nowait(await reader.read())
        writer.close()

    for name in ("username", "password"):
        (tmp_path / name).write_text(f"the-{name}")
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        server = Server(host="127.0.0.1", port=port, tls=Tls.VERIFY, credentials=tmp_path)
        with pytest.raises(ServerUnavailable, match=r"does not offer TLS: .* set tls to Disabled in the spec$"):
            await _with_nats(server)
        async with asyncio.timeout(5):
            assert b"the-password" not in await received.get()
