"""The counting proxy between real clients and a real API server: what it counts and records, and how it closes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import threading
from typing import TYPE_CHECKING

import aiohttp
import pytest

from aether_operator.kube import api_client
from aether_operator.observed import kinds
from aether_testing.cluster import proxy_clients
from aether_testing.servers import counting_proxy
from aether_testing.servers.api_proxy import faults, targets

if TYPE_CHECKING:
    from pathlib import Path

    from aether_cli.local.startup import Cluster
    from aether_testing.cluster.namespaces import Namespace


async def test_writes_are_numbered_in_order_and_reads_counted_separately(
    proxy: counting_proxy.Proxy, api: api_client.Api, namespace: Namespace
) -> None:
    where = api_client.path(kinds.SECRETS, namespace.name)
    await proxy_clients.make(api, namespace, "a")
    await api.apply(kinds.SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}, namespace.name)
    with pytest.raises(api_client.ApiError) as rejected:
        await proxy_clients.make(api, namespace, "a")
    found = await api.get(kinds.SECRETS, namespace.name, "a")
    assert found is not None
    meta = found["metadata"]
    await api.list(kinds.SECRETS, namespace.name)
    await api.delete(kinds.SECRETS, namespace.name, "a", uid=meta["uid"], version=meta["resourceVersion"])
    assert rejected.value.code == 409
    assert proxy_clients.seen(proxy) == [
        (1, "POST", "", 201, "", True),
        (2, "PATCH", "a", 200, "", True),
        (3, "POST", "", 409, "", True),
        (4, "DELETE", "a", 200, "", True),
    ]
    assert proxy.writes[0].about == targets.Target(group="", version="v1", resource="secrets", namespace=namespace.name)
    assert proxy.reads == {where: 1, f"{where}/a": 1}
    assert proxy_clients.names(namespace) == set()

    proxy.reset()
    assert (proxy.writes, proxy.reads) == ((), {})
    await proxy_clients.make(api, namespace, "b")
    assert [one.number for one in proxy.writes] == [1]


async def test_recorded_write_has_the_hash_of_its_body(
    proxy: counting_proxy.Proxy, http: aiohttp.ClientSession, namespace: Namespace
) -> None:
    body = json.dumps(proxy_clients.a_secret("a")).encode()
    where = api_client.path(kinds.SECRETS, namespace.name)
    async with http.post(where, data=body, headers={"Content-Type": "application/json"}) as answer:
        assert answer.status == 201
    assert proxy.writes[0].sha256 == hashlib.sha256(body).hexdigest()


async def test_dry_runs_leases_and_events_do_not_count_as_writes(
    proxy: counting_proxy.Proxy, api: api_client.Api, namespace: Namespace
) -> None:
    await proxy_clients.make(api, namespace, "a", query={"dryRun": "All"})
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}}
    await api.request("POST", f"/apis/coordination.k8s.io/v1/namespaces/{namespace.name}/leases", body=lease)
    dry = {"apiVersion": "v1", "kind": "DeleteOptions", "dryRun": ["All"]}
    await api.request("DELETE", f"/apis/coordination.k8s.io/v1/namespaces/{namespace.name}/leases/a", body=dry)
    assert proxy.writes == ()
    assert namespace.get("lease", "a")["metadata"]["name"] == "a"
    assert proxy_clients.names(namespace) == set()


async def test_counted_requests_can_be_selected(control_plane: Cluster, namespace: Namespace, tmp_path: Path) -> None:
    with counting_proxy.between(control_plane, counts=lambda about: about.resource == "leases") as proxy:
        kubectl = dataclasses.replace(namespace.kubectl, kubeconfig=proxy.kubeconfig(tmp_path / "proxied"))
        lease = {
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "a", "namespace": namespace.name},
        }  # fmt: skip
        await asyncio.to_thread(kubectl.apply, lease)
        await asyncio.to_thread(kubectl.text, "create", "secret", "generic", "b", f"--namespace={namespace.name}")
        assert [(one.verb, one.about.resource) for one in proxy.writes] == [("PATCH", "leases")]


async def test_client_is_identified_by_its_token(
    proxy: counting_proxy.Proxy, namespace: Namespace, tmp_path: Path
) -> None:
    namespace.text("create", "serviceaccount", "someone")
    token = namespace.text("create", "token", "someone").strip()
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    async with proxy_clients.operator_client(proxy.kubeconfig(tmp_path / "someone", token)) as one:
        result = await one.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=review)
        assert result["status"]["userInfo"]["username"] == f"system:serviceaccount:{namespace.name}:someone"
        with pytest.raises(api_client.ApiError) as rejected:
            await proxy_clients.make(one, namespace, "a")
    assert rejected.value.code == 403
    assert proxy_clients.seen(proxy) == [(1, "POST", "", 403, "", True)]


async def test_concurrent_writes_get_unique_numbers(
    proxy: counting_proxy.Proxy, api: api_client.Api, namespace: Namespace
) -> None:
    wanted = {f"s-{n}" for n in range(60)}
    await asyncio.gather(*(proxy_clients.make(api, namespace, name) for name in wanted))
    assert [one.number for one in proxy.writes] == list(range(1, 61))
    assert {one.code for one in proxy.writes} == {201}
    assert proxy_clients.names(namespace) == wanted


async def test_proxy_closes_with_open_watches_and_a_withheld_response(
    control_plane: Cluster, namespace: Namespace
) -> None:
    running = contextlib.ExitStack()
    proxy = running.enter_context(counting_proxy.between(control_plane))
    async with aiohttp.ClientSession(proxy.url) as http, proxy_clients.watching(http, namespace):
        proxy.at(1, faults.AppliedThenSilent())
        made = asyncio.create_task(
            http.post(api_client.path(kinds.SECRETS, namespace.name), json=proxy_clients.a_secret("a"))
        )
        await asyncio.to_thread(proxy.until, lambda now: bool(now.writes and now.writes[0].code), "applied")
        assert proxy.watching == 1
        await asyncio.to_thread(running.close)
        with pytest.raises(aiohttp.ClientError):
            await made
    assert "proxy" not in {one.name for one in threading.enumerate()}
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientConnectorError):
            await http.get(proxy.url)
