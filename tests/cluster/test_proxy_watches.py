"""The counting proxy's faults of watches: cut, stalled, failed, and events that get lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest

from aether_operator.kube import api_client
from aether_operator.observed import kinds
from aether_testing.cluster import proxy_clients

if TYPE_CHECKING:
    from aether_testing.cluster.namespaces import Namespace
    from aether_testing.servers import counting_proxy


def create(namespace: Namespace, name: str) -> None:
    namespace.text("create", "secret", "generic", name)


async def test_watch_events_are_forwarded_immediately(
    proxy: counting_proxy.Proxy, http: aiohttp.ClientSession, namespace: Namespace
) -> None:
    async with proxy_clients.watching(http, namespace) as watch:
        for name in ("a", "b"):
            create(namespace, name)
            assert await watch.event() == ("ADDED", name)
        assert proxy.watched == {api_client.path(kinds.SECRETS, namespace.name): 1}
        assert proxy.watching == 1
    await asyncio.to_thread(proxy.until, lambda now: now.watching == 0, "the client's going ended it")


async def test_watches_can_be_disconnected(
    proxy: counting_proxy.Proxy, http: aiohttp.ClientSession, namespace: Namespace
) -> None:
    async with proxy_clients.watching(http, namespace) as watch:
        assert proxy.cut_watches() == 1
        with pytest.raises(aiohttp.ClientError):
            await watch.event()
    async with proxy_clients.watching(http, namespace) as watch:  # the next one is whole
        create(namespace, "a")
        assert await watch.event() == ("ADDED", "a")


async def test_stalled_watch_stays_open_and_silent_until_resumed(
    proxy: counting_proxy.Proxy, http: aiohttp.ClientSession, namespace: Namespace
) -> None:
    async with proxy_clients.watching(http, namespace) as watch:
        assert proxy.stall_watches() == 1
        create(namespace, "a")
        assert await watch.silent()
        query = {"watch": "true"}
        new = asyncio.create_task(http.get(api_client.path(kinds.SECRETS, namespace.name), params=query))
        await asyncio.wait({new}, timeout=proxy_clients.SHORT)
        assert not new.done()
        proxy.resume()
        assert await watch.event() == ("ADDED", "a")
        async with await new as answer:
            assert await proxy_clients.Watch(answer).event() == ("ADDED", "a")


async def test_only_open_watches_stall_when_requested(
    proxy: counting_proxy.Proxy, http: aiohttp.ClientSession, namespace: Namespace
) -> None:
    async with proxy_clients.watching(http, namespace) as old:
        proxy.stall_watches(existing_only=True)
        async with proxy_clients.watching(http, namespace) as new:
            create(namespace, "a")
            assert await new.event() == ("ADDED", "a")
            assert await old.silent()


async def test_swallowed_events_are_lost_and_the_watch_continues(
    proxy: counting_proxy.Proxy, http: aiohttp.ClientSession, namespace: Namespace
) -> None:
    create(namespace, "a")
    async with proxy_clients.watching(http, namespace) as old:
        assert proxy.swallow_watches() == 1
        async with proxy_clients.watching(http, namespace) as new:
            namespace.text("delete", "secret", "a")
            await asyncio.to_thread(proxy.until, lambda now: now.swallowed == 2, "both watches lost the deletion")
            proxy.resume()
            create(namespace, "b")
            assert await old.event() == ("ADDED", "b")
            assert await new.event() == ("ADDED", "b")


@pytest.mark.parametrize("code", [410, 500])
async def test_watches_can_end_with_an_error_event(
    proxy: counting_proxy.Proxy, http: aiohttp.ClientSession, namespace: Namespace, code: int
) -> None:
    async with proxy_clients.watching(http, namespace) as watch:
        create(namespace, "a")
        assert await watch.event() == ("ADDED", "a")
        assert proxy.fail_watches(code) == 1
        assert await watch.event() == ("ERROR", str(code))
        assert await watch.answer.content.read() == b""
    async with proxy_clients.watching(http, namespace) as watch:
        create(namespace, "b")
        assert await watch.event() == ("ADDED", "b")


async def test_watch_ended_by_the_server_ends_for_the_client(
    proxy: counting_proxy.Proxy, http: aiohttp.ClientSession, namespace: Namespace
) -> None:
    query = {"watch": "true", "resourceVersion": "0", "timeoutSeconds": "1"}
    async with http.get(api_client.path(kinds.SECRETS, namespace.name), params=query) as answer:
        assert await answer.content.read() == b""
    assert proxy.watching == 0


async def test_watches_can_be_rejected(proxy: counting_proxy.Proxy, http: aiohttp.ClientSession) -> None:
    async with http.get("/api/v1/nonsense", params={"watch": "true"}) as answer:
        assert answer.status == 404
    assert proxy.watched == {"/api/v1/nonsense": 1}
