"""Requests to the API server: get, list, apply, patch, delete. Before every write the guard is called."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio import client

from aether_operator.api import labels
from aether_operator.kube import sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aether_operator.observed.kinds import Kind, Manifest

DEADLINE: Final = 10.0
"""Seconds for one request."""
APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"


class Unavailable(Exception):
    """The API server did not answer, or answered that it cannot now: retry later.

    `after` is the seconds of its Retry-After header, 0 without one.
    """

    def __init__(self, cause: str, *, after: float = 0) -> None:
        super().__init__(cause)
        self.after = after


class ApiError(Exception):
    """The API server rejected a request: the code, reason and message of its Status."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message


TRANSIENT: Final = frozenset({408, 429, 500, 502, 503, 504})
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
CONFLICT: Final = 409
FENCED: Final = "does not hold Lease"
"""In the message of the chart's admission policy for a replica that does not lead; a test compares the two."""


NAMESPACE_DELETING: Final = "is being deleted: only the finalizer may be removed"
"""In the message of the chart's admission policy for objects in a namespace that is being deleted; also compared."""


@dataclass(slots=True, kw_only=True)
class Api:
    """A client of the API server.

    Args:
        configuration: The server's address and the credentials.
        guard: Called before every write. Returns the seconds that the write may take; raises when this process must
            not write any more.
        on_write: Called after every successful write, with its verb and kind.
    """

    configuration: client.Configuration
    guard: Callable[[], float] = lambda: DEADLINE
    on_write: Callable[[str, str], None] = lambda _verb, _kind: None
    _client: client.ApiClient | None = None

    async def close(self) -> None:
        """Close the connections."""
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
        """Send a request; bodies are JSON values both ways.

        Raises:
            Unavailable: No response within `deadline` seconds, or one of `TRANSIENT`.
            ApiError: Any other response that is not 2xx.
        """
        if self._client is None:
            self._client = client.ApiClient(self.configuration)
        url = f"{self.configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {
            **await sessions.auth_headers(self.configuration),
            "Content-Type": content,
            "Accept": "application/json",
        }
        try:
            response = await self._client.rest_client.request(
                method, url, headers=headers, body=body, _request_timeout=aiohttp.ClientTimeout(total=deadline)
            )
            data = await response.read()
        except TimeoutError as error:
            raise Unavailable(f"{method} {path}: no response within {deadline:g} s") from error
        except aiohttp.ClientError as error:
            raise Unavailable(f"{method} {path}: {type(error).__name__}") from error
        try:
            value = json.loads(data) if data else {}
        except ValueError as error:
            raise Unavailable(f"{method} {path}: {response.status}, and not in JSON") from error
        if response.status < 300:  # noqa: PLR2004 - 2xx
            return value
        if response.status in TRANSIENT:
            after = _seconds(response.headers.get("Retry-After"))
            raise Unavailable(f"{method} {path}: {response.status}", after=after)
        raise ApiError(response.status, str(value.get("reason", "")), str(value.get("message", response.reason)))

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """One object, read live; None when it does not exist."""
        try:
            found: Manifest = await self.request("GET", path(kind, namespace, name))
        except ApiError as error:
            if error.code == NOT_FOUND:
                return None
            raise
        return found

    async def list(self, kind: Kind, namespace: str, selector: str = "", *, fields: str = "") -> list[Manifest]:
        """Objects by label and field selector, read live; each with its kind, which a list leaves out."""
        query = {"labelSelector": selector, "fieldSelector": fields}
        query = {name: value for name, value in query.items() if value}
        found = await self.request("GET", path(kind, namespace), query=query)
        return [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in found.get("items", [])]

    async def apply(self, kind: Kind, thing: Manifest, namespace: str, *, subresource: str = "") -> Manifest:
        """Server-side apply with force under the operator's field manager: fields that others changed are set back."""
        where = path(kind, namespace, thing["metadata"]["name"], subresource)
        query = {"fieldManager": labels.OPERATOR, "force": "true"}
        applied: Manifest = await self.write("PATCH", where, kind.kind, query=query, body=thing, content=APPLY)
        return applied

    async def merge_status(
        self, kind: Kind, namespace: str, name: str, *, meta: Mapping[str, str], fields: Mapping[str, Any]
    ) -> Manifest:
        """Merge fields into a status, of exactly the uid and resourceVersion in `meta`.

        Not an apply, which would remove the operator's other fields of the status.
        """
        where, query = path(kind, namespace, name, "status"), {"fieldManager": labels.OPERATOR}
        body = {"metadata": dict(meta), "status": dict(fields)}
        written: Manifest = await self.write("PATCH", where, kind.kind, query=query, body=body, content=MERGE)
        return written

    async def merge_metadata(self, kind: Kind, namespace: str, name: str, meta: Mapping[str, Any]) -> Manifest:
        """Merge metadata into exactly the object of the uid and resourceVersion in `meta`."""
        query = {"fieldManager": labels.OPERATOR}
        where = path(kind, namespace, name)
        body = {"metadata": dict(meta)}
        merged: Manifest = await self.write("PATCH", where, kind.kind, query=query, body=body, content=MERGE)
        return merged

    async def is_held_by_policy(self, kind: Kind, live: Manifest) -> bool:
        """Whether the chart's policy allows nothing but the removal of our finalizer: its namespace is being deleted.

        Asks by a dry run of another change, which a policy sees, and which is not stored.
        """
        meta = live["metadata"]
        body = {"metadata": {"uid": meta["uid"], "annotations": {f"{labels.FINALIZER}-probe": "dry-run"}}}
        where = path(kind, meta["namespace"], meta["name"])
        try:
            await self.request("PATCH", where, query={"dryRun": "All"}, body=body, content=MERGE)
        except ApiError as error:
            return NAMESPACE_DELETING in error.message
        return False

    async def annotate(
        self, kind: Kind, namespace: str, name: str, *, uid: str, annotations: Mapping[str, str]
    ) -> None:
        """Merge annotations into exactly the object of this uid; does nothing when it does not exist any more.

        Not an apply, which would create a deleted object anew, and so needs the right to create.
        """
        body = {"metadata": {"uid": uid, "annotations": dict(annotations)}}
        query = {"fieldManager": labels.OPERATOR}
        where = path(kind, namespace, name)
        try:
            await self.write("PATCH", where, kind.kind, query=query, body=body, content=MERGE)
        except ApiError as error:
            if error.code not in {NOT_FOUND, CONFLICT}:
                raise

    async def delete(self, kind: Kind, namespace: str, name: str, *, uid: str, version: str) -> None:
        """Delete exactly the object of this uid and resourceVersion.

        Raises:
            ApiError: It has changed since (409).
        """
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid, "resourceVersion": version},
            "propagationPolicy": "Background",
        }
        try:
            await self.write("DELETE", path(kind, namespace, name), kind.kind, body=body)
        except ApiError as error:
            if error.code != NOT_FOUND:
                raise

    async def write(self, method: str, where: str, what: str, **rest: Any) -> Any:
        """Send a request that writes: `where` is its path, `what` the kind for `on_write`, `rest` as for `request`.

        Raises:
            Unavailable: As `request`; or the admission policy of the chart takes another replica for the leader.
            ApiError: As `request`.
            Exception: Whatever the guard raises.
        """
        left = self.guard()
        try:
            written = await self.request(method, where, deadline=min(DEADLINE, left), **rest)
        except ApiError as error:
            if FENCED in error.message:
                # The policy may see a Lease older than our last renewal. If we lost it, the guard raises at the retry.
                raise Unavailable(f"{method} {where}: fenced") from error
            raise
        self.on_write(method, what)
        return written


def path(kind: Kind, namespace: str, name: str = "", subresource: str = "") -> str:
    """The URL path of a kind's objects in a namespace, or of one of them."""
    parts = [kind.base, "namespaces", quote(namespace), kind.plural]
    return "/".join([*parts, *([quote(name)] if name else []), *([subresource] if subresource else [])])


def _seconds(header: str | None) -> float:
    return float(header) if header and header.isdigit() else 0.0
