"""Clients for tests of the counting proxy, which create and list Secrets: the operator's own, and one that watches."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

from kubernetes.aio import client, config

from aether_operator.kube import api_client
from aether_operator.observed import kinds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import aiohttp

    from aether_testing.cluster.namespaces import Namespace
    from aether_testing.servers.counting_proxy import Proxy

DEADLINE: Final = 60.0
SHORT: Final = 2.0
"""Seconds within which an unwanted event would have arrived."""


@contextlib.asynccontextmanager
async def operator_client(kubeconfig: Path) -> AsyncIterator[api_client.Api]:
    """The operator's own client."""
    configuration = client.Configuration(retries=False)
    await config.load_kube_config(str(kubeconfig), client_configuration=configuration)
    one = api_client.Api(configuration=configuration)
    yield one
    await one.close()


def a_secret(name: str, value: str = "x") -> dict[str, Any]:
    """The manifest of a Secret."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"value": value}}


async def make(api: api_client.Api, namespace: Namespace, name: str, **rest: Any) -> Any:
    """Create a Secret by the operator's client; `rest` is for its request."""
    where = api_client.path(kinds.SECRETS, namespace.name)
    return await api.request("POST", where, body=a_secret(name), **rest)


def names(namespace: Namespace) -> set[str]:
    """The existing Secrets, read without the proxy."""
    return {one["metadata"]["name"] for one in namespace.get("secrets")["items"]}


def seen(proxy: Proxy) -> list[tuple[int, str, str, int | None, str, bool]]:
    """The recorded writes: number, verb, name, status code, fault, and whether it was forwarded."""
    return [(one.number, one.verb, one.about.name, one.code, one.fault, one.forwarded) for one in proxy.writes]


class Watch:
    """A client's watch of Secrets: its events, and its end."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def event(self) -> tuple[str, str]:
        """The next event: its type, and the object's name or the error's code."""
        async with asyncio.timeout(DEADLINE):
            event = json.loads(await self.answer.content.readline())
        thing = event["object"]
        return event["type"], str(thing["code"]) if thing["kind"] == "Status" else thing["metadata"]["name"]

    async def silent(self) -> bool:
        """Whether no event arrives for a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SHORT):
                await self.answer.content.readline()
            return False
        return True


@contextlib.asynccontextmanager
async def watching(http: aiohttp.ClientSession, namespace: Namespace) -> AsyncIterator[Watch]:
    """Watch Secrets from now on."""
    where = api_client.path(kinds.SECRETS, namespace.name)
    listed = json.loads(namespace.text("get", "--raw", where))
    query = {"watch": "true", "resourceVersion": listed["metadata"]["resourceVersion"]}
    async with http.get(where, params=query) as answer:
        assert answer.status == 200
        yield Watch(answer)
