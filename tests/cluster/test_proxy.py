"""The counting proxy between real clients and a real API server: counting, and each fault."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest
from kubernetes.aio import client, config

from aether_operator.kube import api_client
from aether_operator.observed import kinds
from aether_testing.servers import counting_proxy
from aether_testing.servers.counting_proxy import AppliedThenSilent, Hang, KillAfter, KillBefore, Reset

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from aether_cli.local.startup import Cluster
    from aether_testing.cluster.namespaces import Namespace

DEADLINE: Final = 60.0
SHORT: Final = 2.0
"""Seconds within which an unwanted event would have arrived."""
POSTING: Final = """
import sys, urllib.request
url, body = sys.argv[1:]
request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"}, method="POST")
with urllib.request.urlopen(request, timeout=60) as answer:
    print(answer.status)
"""


@pytest.fixture
def proxy(control_plane: Cluster) -> Iterator[counting_proxy.Proxy]:
    with counting_proxy.between(control_plane) as one:
        yield one


@contextlib.asynccontextmanager
async def operator_client(kubeconfig: Path) -> AsyncIterator[api_client.Api]:
    """The operator's own client."""
    configuration = client.Configuration(retries=False)
    await config.load_kube_config(str(kubeconfig), client_configuration=configuration)
    one = api_client.Api(configuration=configuration)
    yield one
    await one.close()


@pytest.fixture
async def api(proxy: counting_proxy.Proxy, tmp_path: Path) -> AsyncIterator[api_client.Api]:
    """The operator's own client, through the proxy, as the admin."""
    async with operator_client(proxy.kubeconfig(tmp_path / "proxied")) as one:
        yield one


@pytest.fixture
async def http(proxy: counting_proxy.Proxy) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(proxy.url, timeout=aiohttp.ClientTimeout(total=DEADLINE)) as one:
        yield one


def a_secret(name: str, value: str = "x") -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"value": value}}


async def make(api: api_client.Api, namespace: Namespace, name: str, **rest: Any) -> Any:
    where = api_client.path(kinds.SECRETS, namespace.name)
    return await api.request("POST", where, body=a_secret(name), **rest)


def names(namespace: Namespace) -> set[str]:
    """The existing Secrets, read without the proxy."""
    return {one["metadata"]["name"] for one in namespace.get("secrets")["items"]}


def seen(proxy: counting_proxy.Proxy) -> list[tuple[int, str, str, int | None, str, bool]]:
    return [(one.number, one.verb, one.about.name, one.code, one.fault, one.forwarded) for one in proxy.writes]


# ---- counting


async def test_writes_are_numbered_in_order_and_reads_counted_separately(
    proxy: counting_proxy.Proxy, api: api_client.Api, namespace: Namespace
) -> None:
    where = api_client.path(kinds.SECRETS, namespace.name)
    await make(api, namespace, "a")
    await api.apply(kinds.SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}, namespace.name)
    with pytest.raises(api_client.ApiError) as rejected:
        await make(api, namespace, "a")
    found = await api.get(kinds.SECRETS, namespace.name, "a")
    assert found is not None
    meta = found["metadata"]
    await api.list(kinds.SECRETS, namespace.name)
    await api.delete(kinds.SECRETS, namespace.name, "a", uid=meta["uid"], version=meta["resourceVersion"])
    assert rejected.value.code == 409
    assert seen(proxy) == [
        (1, "POST", "", 201, "", True),
        (2, "PATCH", "a", 200, "", True),
        (3, "POST", "", 409, "", True),
        (4, "DELETE", "a", 200, "", True),
    ]
    assert proxy.writes[0].about == counting_proxy.Target(
        group="", version="v1", resource="secrets", namespace=namespace.name
    )
    assert proxy.reads == {where: 1, f"{where}/a": 1}
    assert names(namespace) == set()

    proxy.reset()
    assert (proxy.writes, proxy.reads) == ((), {})
    await make(api, namespace, "b")
    assert [one.number for one in proxy.writes] == [1]


async def test_recorded_write_has_the_hash_of_its_body(
    proxy: counting_proxy.Proxy, http: aiohttp.ClientSession, namespace: Namespace
) -> None:
    body = json.dumps(a_secret("a")).encode()
    where = api_client.path(kinds.SECRETS, namespace.name)
    async with http.post(where, data=body, headers={"Content-Type": "application/json"}) as answer:
        assert answer.status == 201
    assert proxy.writes[0].sha256 == hashlib.sha256(body).hexdigest()


async def test_dry_runs_leases_and_events_do_not_count_as_writes(
    proxy: counting_proxy.Proxy, api: api_client.Api, namespace: Namespace
) -> None:
    await make(api, namespace, "a", query={"dryRun": "All"})
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}}
    await api.request("POST", f"/apis/coordination.k8s.io/v1/namespaces/{namespace.name}/leases", body=lease)
    dry = {"apiVersion": "v1", "kind": "DeleteOptions", "dryRun": ["All"]}
    await api.request("DELETE", f"/apis/coordination.k8s.io/v1/namespaces/{namespace.name}/leases/a", body=dry)
    assert proxy.writes == ()
    assert namespace.get("lease", "a")["metadata"]["name"] == "a"
    assert names(namespace) == set()


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
    async with operator_client(proxy.kubeconfig(tmp_path / "someone", token)) as one:
        result = await one.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=review)
        assert result["status"]["userInfo"]["username"] == f"system:serviceaccount:{namespace.name}:someone"
        with pytest.raises(api_client.ApiError) as rejected:
            await make(one, namespace, "a")
    assert rejected.value.code == 403
    assert seen(proxy) == [(1, "POST", "", 403, "", True)]


async def test_concurrent_writes_get_unique_numbers(
    proxy: counting_proxy.Proxy, api: api_client.Api, namespace: Namespace
) -> None:
    wanted = {f"s-{n}" for n in range(60)}
    await asyncio.gather(*(make(api, namespace, name) for name in wanted))
    assert [one.number for one in proxy.writes] == list(range(1, 61))
    assert {one.code for one in proxy.writes} == {201}
    assert names(namespace) == wanted


# ---- faults of a write


def posting(proxy: counting_proxy.Proxy, namespace: Namespace, name: str) -> subprocess.Popen[bytes]:
    """A client in its own process, which creates a Secret."""
    url = proxy.url + api_client.path(kinds.SECRETS, namespace.name)
    return subprocess.Popen([sys.executable, "-c", POSTING, url, json.dumps(a_secret(name))], stdout=subprocess.PIPE)


@pytest.mark.parametrize(("fault", "applied"), [(KillBefore, False), (KillAfter, True)])
def test_client_can_be_killed_before_or_after_its_second_write(
    proxy: counting_proxy.Proxy,
    namespace: Namespace,
    fault: Callable[[Callable[[], object]], counting_proxy.Fault],
    *,
    applied: bool,
) -> None:
    started = threading.Event()
    clients: list[subprocess.Popen[bytes]] = []

    def kill() -> None:
        assert started.wait(DEADLINE)
        clients[-1].kill()
        clients[-1].wait(DEADLINE)

    proxy.at(2, fault(kill))
    with posting(proxy, namespace, "a") as first:
        assert first.communicate(timeout=DEADLINE)[0].strip() == b"201"
    with posting(proxy, namespace, "b") as second:
        clients.append(second)
        started.set()
        assert second.communicate(timeout=DEADLINE)[0] == b""
    assert second.returncode == -9
    assert names(namespace) == ({"a", "b"} if applied else {"a"})
    second_write = (2, "POST", "", 201 if applied else None, fault.__name__, applied)
    assert seen(proxy)[1:] == [second_write]
    with posting(proxy, namespace, "c") as third:  # a fault happens once
        assert third.communicate(timeout=DEADLINE)[0].strip() == b"201"
    assert proxy.planned == {}


@pytest.mark.parametrize("code", [409, 422])
async def test_injected_rejection_is_returned_and_nothing_is_applied(
    proxy: counting_proxy.Proxy, api: api_client.Api, namespace: Namespace, code: int
) -> None:
    proxy.at(1, counting_proxy.Answer(code))
    with pytest.raises(api_client.ApiError) as rejected:
        await make(api, namespace, "a")
    assert (rejected.value.code, rejected.value.reason) == (code, counting_proxy.REASONS[code])
    assert names(namespace) == set()
    await make(api, namespace, "a")
    assert seen(proxy) == [(1, "POST", "", code, "Answer", False), (2, "POST", "", 201, "", True)]


@pytest.mark.parametrize(("code", "after"), [(429, 7.0), (500, 0.0), (503, 7.0)])
async def test_injected_retry_after_is_returned_and_nothing_is_applied(
    proxy: counting_proxy.Proxy, api: api_client.Api, namespace: Namespace, code: int, after: float
) -> None:
    proxy.at(1, counting_proxy.Answer(code, retry_after=7))
    with pytest.raises(api_client.Unavailable) as rejected:
        await make(api, namespace, "a")
    assert rejected.value.after == after
    assert names(namespace) == set()


async def test_applied_write_can_be_left_without_a_response(
    proxy: counting_proxy.Proxy, api: api_client.Api, namespace: Namespace
) -> None:
    proxy.at(1, AppliedThenSilent())
    with pytest.raises(api_client.Unavailable, match="no response within"):
        await make(api, namespace, "a", deadline=SHORT)
    assert names(namespace) == {"a"}
    assert seen(proxy) == [(1, "POST", "", 201, "AppliedThenSilent", True)]


async def test_withheld_response_ends_the_connection_eventually(
    proxy: counting_proxy.Proxy, api: api_client.Api, namespace: Namespace
) -> None:
    proxy.at(1, AppliedThenSilent(longest=0.1))
    with pytest.raises(api_client.Unavailable, match=r"Disconnected|Reset|OSError"):
        await make(api, namespace, "a", deadline=DEADLINE)
    assert names(namespace) == {"a"}


async def test_hanging_write_is_neither_answered_nor_applied(
    proxy: counting_proxy.Proxy, api: api_client.Api, namespace: Namespace
) -> None:
    proxy.at(1, Hang())
    with pytest.raises(api_client.Unavailable, match="no response within"):
        await make(api, namespace, "a", deadline=SHORT)
    assert names(namespace) == set()
    assert seen(proxy) == [(1, "POST", "", None, "Hang", False)]
    await make(api, namespace, "a")
    assert names(namespace) == {"a"}


async def test_reset_connection_applies_nothing(
    proxy: counting_proxy.Proxy, api: api_client.Api, namespace: Namespace
) -> None:
    proxy.at(1, Reset())
    with pytest.raises(api_client.Unavailable, match=r"Disconnected|Reset|OSError"):
        await make(api, namespace, "a")
    assert names(namespace) == set()
    assert seen(proxy) == [(1, "POST", "", None, "Reset", False)]


async def test_write_is_recorded_though_its_client_disconnected(
    proxy: counting_proxy.Proxy, api: api_client.Api, namespace: Namespace
) -> None:
    making = asyncio.create_task(make(api, namespace, "a"))
    await asyncio.to_thread(proxy.until, lambda now: any(one.forwarded for one in now.writes), "it came by")
    making.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await making
    await asyncio.to_thread(proxy.until, lambda now: now.writes[0].code is not None, "its answer is known")
    assert proxy.writes[0].code == 201
    assert names(namespace) == {"a"}


def test_fault_cannot_be_planned_for_a_past_write(proxy: counting_proxy.Proxy, namespace: Namespace) -> None:
    with posting(proxy, namespace, "a") as one:
        one.communicate(timeout=DEADLINE)
    with pytest.raises(AssertionError, match="write 1 has passed already"):
        proxy.at(1, Reset())


# ---- watches


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


def create(namespace: Namespace, name: str) -> None:
    namespace.text("create", "secret", "generic", name)


async def test_watch_events_are_forwarded_immediately(
    proxy: counting_proxy.Proxy, http: aiohttp.ClientSession, namespace: Namespace
) -> None:
    async with watching(http, namespace) as watch:
        for name in ("a", "b"):
            create(namespace, name)
            assert await watch.event() == ("ADDED", name)
        assert proxy.watched == {api_client.path(kinds.SECRETS, namespace.name): 1}
        assert proxy.watching == 1
    await asyncio.to_thread(proxy.until, lambda now: now.watching == 0, "the client's going ended it")


async def test_watches_can_be_disconnected(
    proxy: counting_proxy.Proxy, http: aiohttp.ClientSession, namespace: Namespace
) -> None:
    async with watching(http, namespace) as watch:
        assert proxy.cut_watches() == 1
        with pytest.raises(aiohttp.ClientError):
            await watch.event()
    async with watching(http, namespace) as watch:  # the next one is whole
        create(namespace, "a")
        assert await watch.event() == ("ADDED", "a")


async def test_stalled_watch_stays_open_and_silent_until_resumed(
    proxy: counting_proxy.Proxy, http: aiohttp.ClientSession, namespace: Namespace
) -> None:
    async with watching(http, namespace) as watch:
        assert proxy.stall_watches() == 1
        create(namespace, "a")
        assert await watch.silent()
        query = {"watch": "true"}
        new = asyncio.create_task(http.get(api_client.path(kinds.SECRETS, namespace.name), params=query))
        await asyncio.wait({new}, timeout=SHORT)
        assert not new.done()
        proxy.resume()
        assert await watch.event() == ("ADDED", "a")
        async with await new as answer:
            assert await Watch(answer).event() == ("ADDED", "a")


async def test_only_open_watches_stall_when_requested(
    proxy: counting_proxy.Proxy, http: aiohttp.ClientSession, namespace: Namespace
) -> None:
    async with watching(http, namespace) as old:
        proxy.stall_watches(existing_only=True)
        async with watching(http, namespace) as new:
            create(namespace, "a")
            assert await new.event() == ("ADDED", "a")
            assert await old.silent()


async def test_swallowed_events_are_lost_and_the_watch_continues(
    proxy: counting_proxy.Proxy, http: aiohttp.ClientSession, namespace: Namespace
) -> None:
    create(namespace, "a")
    async with watching(http, namespace) as old:
        assert proxy.swallow_watches() == 1
        async with watching(http, namespace) as new:
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
    async with watching(http, namespace) as watch:
        create(namespace, "a")
        assert await watch.event() == ("ADDED", "a")
        assert proxy.fail_watches(code) == 1
        assert await watch.event() == ("ERROR", str(code))
        assert await watch.answer.content.read() == b""
    async with watching(http, namespace) as watch:
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


# ---- older lists


async def test_only_lists_are_served_from_the_snapshot(
    proxy: counting_proxy.Proxy, api: api_client.Api, http: aiohttp.ClientSession, namespace: Namespace
) -> None:
    async def listed(kind: kinds.Kind, selector: str = "") -> set[str]:
        return {one["metadata"]["name"] for one in await api.list(kind, namespace.name, selector)}

    await make(api, namespace, "a")
    assert await listed(kinds.SECRETS) == {"a"}
    await make(api, namespace, "b")
    assert proxy.snapshot() == 1
    await make(api, namespace, "c")
    assert await listed(kinds.SECRETS) == {"a", "b", "c"}

    proxy.serve_old_lists()
    assert await listed(kinds.SECRETS) == {"a", "b"}
    assert await listed(kinds.SECRETS, "!nobody") == {"a", "b", "c"}  # was not listed before the snapshot
    assert await listed(kinds.SERVICES) == set()
    assert await api.get(kinds.SECRETS, namespace.name, "c") is not None
    async with watching(http, namespace) as watch:
        await make(api, namespace, "d")
        assert await watch.event() == ("ADDED", "d")

    proxy.serve_fresh()
    assert await listed(kinds.SECRETS) == {"a", "b", "c", "d"}


async def test_objects_are_served_from_the_snapshot_where_requested(
    proxy: counting_proxy.Proxy, api: api_client.Api, namespace: Namespace
) -> None:
    async def there(name: str) -> bool:
        return await api.get(kinds.SECRETS, namespace.name, name) is not None

    await make(api, namespace, "a")
    assert (await there("a"), await there("b")) == (True, False)
    assert proxy.snapshot(objects=True) == 2
    await make(api, namespace, "b")
    await make(api, namespace, "c")
    namespace.text("delete", "secret", "a")

    proxy.serve_old_lists()
    assert (await there("a"), await there("b")) == (True, False)
    assert await there("c")  # was not requested before the snapshot

    proxy.serve_fresh()
    assert (await there("a"), await there("b")) == (False, True)


# ---- closing


async def test_proxy_closes_with_open_watches_and_a_withheld_response(
    control_plane: Cluster, namespace: Namespace
) -> None:
    running = contextlib.ExitStack()
    proxy = running.enter_context(counting_proxy.between(control_plane))
    async with aiohttp.ClientSession(proxy.url) as http, watching(http, namespace):
        proxy.at(1, AppliedThenSilent())
        made = asyncio.create_task(http.post(api_client.path(kinds.SECRETS, namespace.name), json=a_secret("a")))
        await asyncio.to_thread(proxy.until, lambda now: bool(now.writes and now.writes[0].code), "applied")
        assert proxy.watching == 1
        await asyncio.to_thread(running.close)
        with pytest.raises(aiohttp.ClientError):
            await made
    assert "proxy" not in {one.name for one in threading.enumerate()}
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientConnectorError):
            await http.get(proxy.url)
