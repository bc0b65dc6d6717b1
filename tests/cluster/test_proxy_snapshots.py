"""The counting proxy serves older lists and objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aether_operator.observed import kinds
from aether_testing.cluster import proxy_clients

if TYPE_CHECKING:
    import aiohttp

    from aether_operator.kube import api_client
    from aether_testing.cluster.namespaces import Namespace
    from aether_testing.servers import counting_proxy


async def test_only_lists_are_served_from_the_snapshot(
    proxy: counting_proxy.Proxy, api: api_client.Api, http: aiohttp.ClientSession, namespace: Namespace
) -> None:
    async def listed(kind: kinds.Kind, selector: str = "") -> set[str]:
        return {one["metadata"]["name"] for one in await api.list(kind, namespace.name, selector)}

    await proxy_clients.make(api, namespace, "a")
    assert await listed(kinds.SECRETS) == {"a"}
    await proxy_clients.make(api, namespace, "b")
    assert proxy.snapshot() == 1
    await proxy_clients.make(api, namespace, "c")
    assert await listed(kinds.SECRETS) == {"a", "b", "c"}

    proxy.serve_old_lists()
    assert await listed(kinds.SECRETS) == {"a", "b"}
    assert await listed(kinds.SECRETS, "!nobody") == {"a", "b", "c"}  # was not listed before the snapshot
    assert await listed(kinds.SERVICES) == set()
    assert await api.get(kinds.SECRETS, namespace.name, "c") is not None
    async with proxy_clients.watching(http, namespace) as watch:
        await proxy_clients.make(api, namespace, "d")
        assert await watch.event() == ("ADDED", "d")

    proxy.serve_fresh()
    assert await listed(kinds.SECRETS) == {"a", "b", "c", "d"}


async def test_objects_are_served_from_the_snapshot_where_requested(
    proxy: counting_proxy.Proxy, api: api_client.Api, namespace: Namespace
) -> None:
    async def there(name: str) -> bool:
        return await api.get(kinds.SECRETS, namespace.name, name) is not None

    await proxy_clients.make(api, namespace, "a")
    assert (await there("a"), await there("b")) == (True, False)
    assert proxy.snapshot(objects=True) == 2
    await proxy_clients.make(api, namespace, "b")
    await proxy_clients.make(api, namespace, "c")
    namespace.text("delete", "secret", "a")

    proxy.serve_old_lists()
    assert (await there("a"), await there("b")) == (True, False)
    assert await there("c")  # was not requested before the snapshot

    proxy.serve_fresh()
    assert (await there("a"), await there("b")) == (False, True)
