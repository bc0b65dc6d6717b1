"""Requests to the API server: read, apply, delete. Every write first asks the guard whether we may still write."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio import client

from aether_operator.api import labels
from aether_operator.kube import sessions
from aether_operator.observed import kinds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aether_operator.observed.kinds import Kind, Manifest

DEADLINE: Final = 10.0
"""Seconds for one request."""
APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"


class Unavailable(Exception):
    """The API server did not answer, or asked us to come back: try again later.

    `after` is how many seconds it asked for, 0 where it did not say.
    """

    def __init__(self, cause: str, *, after: float = 0) -> None:
        super().__init__(cause)
        self.after = after


class ApiError(Exception):
    """The API server understood and said no: its code, its reason and its words."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message


TRANSIENT: Final = frozenset({408, 429, 500, 502, 503, 504})
NOT_FOUND: Final = frozenset({404})
FORBIDDEN: Final = 403
CONFLICT: Final = 409
FENCED: Final = "does not hold Lease"
"""What the chart's admission policy says to a pod that does not lead; a test holds the two against each other."""


@dataclass(slots=True, kw_only=True)
class Api:
    """The API server.

    Args:
        configuration: How to reach it.
        guard: Called before every write; returns the seconds that a write may still take, or raises when we must not
            write any more.
        wrote: Called after every write that was made, with its verb and its kind.
    """

    configuration: client.Configuration
    guard: Callable[[], float] = lambda: DEADLINE
    on_write: Callable[[str, str], None] = lambda _verb, _kind: None
    _client: client.ApiClient | None = None

    async def close(self) -> None:
        """Let go of its connections."""
        if self._client is not None:
            await self._client.close()

    async def request(  # noqa: PLR0913 - a request has as many parts
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content: str = "application/json",
        deadline: float = DEADLINE,
    ) -> Any:
        """One request, as JSON values both ways.

        Raises:
            Unavailable: No answer within `deadline` seconds, or one that says: later.
            Refused: Any other answer that is not a yes.
        """
        if self._client is None:
            self._client = client.ApiClient(self.configuration)
        url = f"{self.configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
        heads = {
            **await sessions.auth_headers(self.configuration),
            "Content-Type": content,
            "Accept": "application/json",
        }
        try:
            answer = await self._client.rest_client.request(
                method, url, headers=heads, body=body, _request_timeout=aiohttp.ClientTimeout(total=deadline)
            )
            data = await answer.read()
        except TimeoutError as late:
            raise Unavailable(f"{method} {path}: no answer within {deadline:g} s") from late
        except aiohttp.ClientError as broken:
            raise Unavailable(f"{method} {path}: {type(broken).__name__}") from broken
        try:
            said = json.loads(data) if data else {}
        except ValueError as garbled:
            raise Unavailable(f"{method} {path}: {answer.status}, and not in JSON") from garbled
        if answer.status < 300:  # noqa: PLR2004 - 2xx
            return said
        if answer.status in TRANSIENT:
            raise Unavailable(f"{method} {path}: {answer.status}", after=_seconds(answer.headers.get("Retry-After")))
        raise ApiError(answer.status, str(said.get("reason", "")), str(said.get("message", answer.reason)))

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """One object as it is now: never from a cache."""
        try:
            found: Manifest = await self.request("GET", path(kind, namespace, name))
        except ApiError as refused:
            if refused.code in NOT_FOUND:
                return None
            raise
        return found

    async def list(self, kind: Kind, namespace: str, selector: str = "", *, fields: str = "") -> list[Manifest]:
        """Objects as they are now, by label and by field; each with its kind, which a list leaves out."""
        query = {"labelSelector": selector, "fieldSelector": fields}
        query = {name: value for name, value in query.items() if value}
        answer = await self.request("GET", path(kind, namespace), query=query)
        return [{"apiVersion": kind.api_version, "kind": kind.kind, **one} for one in answer.get("items", [])]

    async def apply(self, thing: Manifest, namespace: str, *, subresource: str = "") -> Manifest:
        """Server-side apply under our one field manager; fields that others took from us come back."""
        kind = kinds.of(thing)
        where = path(kind, namespace, thing["metadata"]["name"], subresource)
        query = {"fieldManager": labels.OPERATOR, "force": "true"}
        done: Manifest = await self.write("PATCH", where, kind.kind, query=query, body=thing, content=APPLY)
        return done

    async def merge_status(
        self, kind: Kind, namespace: str, name: str, *, meta: Mapping[str, str], told: Mapping[str, Any]
    ) -> Manifest:
        """Write parts of a status over what is there, of exactly the object and version in `meta`.

        Not an apply: that takes back whatever of ours it does not name.
        """
        where, query = path(kind, namespace, name, "status"), {"fieldManager": labels.OPERATOR}
        body = {"metadata": dict(meta), "status": dict(told)}
        done: Manifest = await self.write("PATCH", where, kind.kind, query=query, body=body, content=MERGE)
        return done

    async def annotate(self, kind: Kind, namespace: str, name: str, *, uid: str, notes: Mapping[str, str]) -> None:
        """Write annotations on exactly the object that was seen; one that is gone, or another by now, is left alone.

        Not an apply: that would make an object anew which went away a moment ago, and asks for the right to.
        """
        body = {"metadata": {"uid": uid, "annotations": dict(notes)}}
        query = {"fieldManager": labels.OPERATOR}
        where = path(kind, namespace, name)
        try:
            await self.write("PATCH", where, kind.kind, query=query, body=body, content=MERGE)
        except ApiError as refused:
            if refused.code not in {*NOT_FOUND, CONFLICT}:
                raise

    async def delete(self, kind: Kind, namespace: str, name: str, *, uid: str, version: str) -> None:
        """Delete exactly what was seen: a newer object or a newer version of it is left alone.

        Raises:
            Refused: It is not what was seen any more (409).
        """
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid, "resourceVersion": version},
            "propagationPolicy": "Background",
        }
        try:
            await self.write("DELETE", path(kind, namespace, name), kind.kind, body=body)
        except ApiError as refused:
            if refused.code not in NOT_FOUND:
                raise

    async def write(self, method: str, where: str, what: str, **rest: Any) -> Any:
        """Any other write.

        Raises:
            Exception: Whatever the guard raises when we may not write any more.
        """
        left = self.guard()
        try:
            answer = await self.request(method, where, deadline=min(DEADLINE, left), **rest)
        except ApiError as refused:
            if FENCED in refused.message:
                # The fence sees a Lease that is older than ours by a moment, or newer: the guard knows by the next try.
                raise Unavailable(f"{method} {where}: fenced") from refused
            raise
        self.on_write(method, what)
        return answer


def path(kind: Kind, namespace: str, name: str = "", subresource: str = "") -> str:
    """Where objects of a kind are."""
    parts = [kind.base, "namespaces", quote(namespace), kind.plural]
    return "/".join([*parts, *([quote(name)] if name else []), *([subresource] if subresource else [])])


def _seconds(said: str | None) -> float:
    return float(said) if said and said.isdigit() else 0.0
