"""The WebSocket v2 at /v2."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from fastapi import WebSocket, WebSocketDisconnect, responses

if TYPE_CHECKING:
    import fastapi

    from aether_services.exchange_sim.connections import Connection
    from aether_services.exchange_sim.service import Venue

CLOSE_TIMEOUT: Final = 4.0
"""Seconds to send the close frame: fewer than the process has for draining."""


def add(app: fastapi.FastAPI, venue: Venue) -> None:
    """Add the WebSocket endpoint to an app."""

    @app.websocket("/v2")
    async def v2(websocket: WebSocket) -> None:
        address = websocket.client.host if websocket.client else ""
        if not venue.allows_connection(address):
            await websocket.send_denial_response(responses.PlainTextResponse("error code: 1015\n", status_code=429))
            return
        await websocket.accept()
        connection = venue.connect()
        try:
            await _serve(websocket, connection, venue)
        finally:
            venue.subscribers.remove(connection)


async def _serve(websocket: WebSocket, connection: Connection, venue: Venue) -> None:
    receiving = asyncio.create_task(_receive(websocket, connection, venue))
    sending = asyncio.create_task(_send(websocket, connection))
    try:
        ends: set[asyncio.Future[Any]] = {receiving, sending, connection.closing}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (receiving, sending):
            task.cancel()
        await asyncio.wait({receiving, sending})
    disconnected = receiving.done() and not receiving.cancelled()
    if connection.closing.done() and not disconnected:
        code, reason = connection.closing.result()
        # A client that does not read does not take the close frame either; it is abandoned after the timeout.
        with contextlib.suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await websocket.close(code, reason)
    for task in (receiving, sending):
        if not task.cancelled() and (fault := task.exception()) is not None:
            raise fault


async def _receive(websocket: WebSocket, connection: Connection, venue: Venue) -> None:
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
        venue.receive(connection, message.get("text") or message.get("bytes") or "")


async def _send(websocket: WebSocket, connection: Connection) -> None:
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await websocket.send_text(await connection.next())
