"""The open watches: forwarded, and on request cut, stalled, ended with an error, or their events discarded."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import hdrs, web

from aether_testing.servers.api_proxy import faults, upstream

if TYPE_CHECKING:
    import aiohttp

    from aether_testing.servers.api_proxy.upstream import Headers, Upstream


@dataclass(slots=True, eq=False)
class _Watch:
    """A client's request for a watch, and what faults do with it."""

    request: web.BaseRequest
    flowing: asyncio.Event
    failing: asyncio.Future[int]
    swallowing: bool


@dataclass(slots=True)
class Watches:
    """The watches of all clients; used on the loop's thread only."""

    swallowed: int = 0
    """The number of events that were discarded."""
    _open: set[_Watch] = field(default_factory=set)
    _stall_new: bool = False
    _swallow_new: bool = False

    def __len__(self) -> int:
        """The number of open watches."""
        return len(self._open)

    def cut(self) -> int:
        """Disconnect every open watch; returns their number."""
        watches = tuple(self._open)
        for one in watches:
            upstream.drop(one.request)
        return len(watches)

    def stall(self, *, existing_only: bool) -> int:
        """Send nothing on watches from now on, without ending them; returns the number of open ones."""
        self._stall_new = not existing_only
        for one in self._open:
            one.flowing.clear()
        return len(self._open)

    def swallow(self) -> int:
        """Discard the events of all watches from now on, without ending them; returns the number of open ones."""
        self._swallow_new = True
        for one in self._open:
            one.swallowing = True
        return len(self._open)

    def resume(self) -> None:
        """Let watches continue: stalled events are sent now, swallowed ones never."""
        self._stall_new = self._swallow_new = False
        for one in self._open:
            one.swallowing = False
            one.flowing.set()

    def fail(self, code: int) -> int:
        """End every open watch with an error event; returns their number."""
        for one in self._open:
            if not one.failing.done():
                one.failing.set_result(code)
        return len(self._open)

    async def forward(self, request: web.BaseRequest, server: Upstream, headers: Headers) -> web.StreamResponse:
        """Forward a watch until either side or a fault ends it."""
        one = _Watch(request, asyncio.Event(), asyncio.get_running_loop().create_future(), self._swallow_new)
        if not self._stall_new:
            one.flowing.set()
        self._open.add(one)
        try:
            await one.flowing.wait()
            async with server.session(headers).get(
                server.of(request), headers=headers, skip_auto_headers=upstream.DEFAULT_HEADERS
            ) as answer:
                if answer.status != web.HTTPOk.status_code:
                    return upstream.response(answer.status, upstream.end_to_end(answer.headers), await answer.read())
                response = web.StreamResponse(status=answer.status, headers=upstream.end_to_end(answer.headers))
                response.enable_chunked_encoding()
                await one.flowing.wait()
                await response.prepare(request)
                pumping = asyncio.create_task(self._pump(answer, response, one))
                either: tuple[asyncio.Future[Any], ...] = (pumping, one.failing)
                try:
                    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    pumping.cancel()
                    await asyncio.wait({pumping})
                if one.failing.done():
                    event = {"type": "ERROR", "object": faults.status(one.failing.result())}
                    await response.write(json.dumps(event).encode() + b"\n")
                else:
                    pumping.result()
                await response.write_eof()
                return response
        finally:
            self._open.discard(one)

    async def _pump(self, answer: aiohttp.ClientResponse, response: web.StreamResponse, one: _Watch) -> None:
        """Forward whole events, so that neither an injected event nor a gap splits one."""
        lines = "json" in answer.headers.get(hdrs.CONTENT_TYPE, "")
        rest = b""
        async for chunk in answer.content.iter_any():
            whole, end, rest = (rest + chunk).rpartition(b"\n") if lines else (chunk, b"", b"")
            if not whole and not end:
                continue
            await one.flowing.wait()
            if one.swallowing and lines:
                self.swallowed += (whole + end).count(b"\n")
                continue
            await response.write(whole + end)
