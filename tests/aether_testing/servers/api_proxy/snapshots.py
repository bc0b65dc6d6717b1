"""Older lists and objects: responses that were stored, and are served in place of the present ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from aiohttp import hdrs, web

from aether_testing.servers.api_proxy import upstream

if TYPE_CHECKING:
    import yarl

    from aether_testing.servers.api_proxy.targets import Target
    from aether_testing.servers.api_proxy.upstream import Headers, Upstream

Key: TypeAlias = tuple[str, ...]


@dataclass(slots=True, frozen=True)
class _Request:
    """How a list or an object was requested, so that the request can be repeated."""

    url: yarl.URL
    headers: Headers


@dataclass(slots=True)
class Snapshots:
    """The requests that can be repeated, and their stored responses; used on the loop's thread only."""

    serving: bool = False
    """Whether requests get the stored responses."""
    _lists: dict[Key, _Request] = field(default_factory=dict)
    _objects: dict[Key, _Request] = field(default_factory=dict)
    _stored: dict[Key, tuple[int, bytes, str]] = field(default_factory=dict)

    def response(self, request: web.BaseRequest, about: Target, url: yarl.URL, headers: Headers) -> web.Response | None:
        """Note a request for a list or an object; returns the stored response where it is to be served."""
        key, requests = _key(request), self._objects if about.name else self._lists
        requests[key] = _Request(url, upstream.without(headers, hdrs.ACCEPT_ENCODING))
        if not self.serving or key not in self._stored:
            return None
        code, body, content = self._stored[key]
        return web.Response(status=code, body=body, headers={hdrs.CONTENT_TYPE: content})

    async def take(self, server: Upstream, *, objects: bool) -> int:
        """Store the present responses to the requests that were noted; returns their number."""
        self._stored.clear()
        # 404 for an object is a result to store; an expired page of a list is not.
        kept: tuple[tuple[dict[Key, _Request], set[int]], ...] = ((self._lists, {200}),)
        if objects:
            kept = *kept, (self._objects, {200, 404})
        for requests, codes in kept:
            for key, one in tuple(requests.items()):
                code, headers, body = await server.forward("GET", one.url, one.headers, b"")
                if code in codes:
                    self._stored[key] = code, body, headers[hdrs.CONTENT_TYPE]
        return len(self._stored)


def _key(request: web.BaseRequest) -> Key:
    """The identity of a request: resource version and timeout do not matter."""
    aside = {"resourceVersion", "resourceVersionMatch", "timeoutSeconds"}
    asked = sorted(f"{name}={value}" for name, value in request.query.items() if name not in aside)
    return request.path, request.headers.get(hdrs.ACCEPT, ""), *asked
