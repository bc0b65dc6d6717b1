"""The counting proxy's faults of a write: a killed client, injected responses, silence and resets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Final

import pytest

from aether_operator.kube import api_client
from aether_operator.observed import kinds
from aether_testing.cluster import proxy_clients
from aether_testing.servers.api_proxy import faults

if TYPE_CHECKING:
    from collections.abc import Callable

    from aether_testing.cluster.namespaces import Namespace
    from aether_testing.servers import counting_proxy

POSTING: Final = """
import sys, urllib.request
url, body = sys.argv[1:]
request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"}, method="POST")
with urllib.request.urlopen(request, timeout=60) as answer:
    print(answer.status)
"""


def posting(proxy: counting_proxy.Proxy, namespace: Namespace, name: str) -> subprocess.Popen[bytes]:
    """A client in its own process, which creates a Secret."""
    url = proxy.url + api_client.path(kinds.SECRETS, namespace.name)
    body = json.dumps(proxy_clients.a_secret(name))
    return subprocess.Popen([sys.executable, "-c", POSTING, url, body], stdout=subprocess.PIPE)


@pytest.mark.parametrize(("fault", "applied"), [(faults.KillBefore, False), (faults.KillAfter, True)])
def test_client_can_be_killed_before_or_after_its_second_write(
    proxy: counting_proxy.Proxy,
    namespace: Namespace,
    fault: Callable[[Callable[[], object]], faults.Fault],
    *,
    applied: bool,
) -> None:
    started = threading.Event()
    clients: list[subprocess.Popen[bytes]] = []

    def kill() -> None:
        assert started.wait(proxy_clients.DEADLINE)
        clients[-1].kill()
        clients[-1].wait(proxy_clients.DEADLINE)

    proxy.at(2, fault(kill))
    with posting(proxy, namespace, "a") as first:
        assert first.communicate(timeout=proxy_clients.DEADLINE)[0].strip() == b"201"
    with posting(proxy, namespace, "b") as second:
        clients.append(second)
        started.set()
        assert second.communicate(timeout=proxy_clients.DEADLINE)[0] == b""
    assert second.returncode == -9
    assert proxy_clients.names(namespace) == ({"a", "b"} if applied else {"a"})
    second_write = (2, "POST", "", 201 if applied else None, fault.__name__, applied)
    assert proxy_clients.seen(proxy)[1:] == [second_write]
    with posting(proxy, namespace, "c") as third:  # a fault happens once
        assert third.communicate(timeout=proxy_clients.DEADLINE)[0].strip() == b"201"
    assert proxy.planned == {}


@pytest.mark.parametrize("code", [409, 422])
async def test_injected_rejection_is_returned_and_nothing_is_applied(
    proxy: counting_proxy.Proxy, api: api_client.Api, namespace: Namespace, code: int
) -> None:
    proxy.at(1, faults.Answer(code))
    with pytest.raises(api_client.ApiError) as rejected:
        await proxy_clients.make(api, namespace, "a")
    assert (rejected.value.code, rejected.value.reason) == (code, faults.REASONS[code])
    assert proxy_clients.names(namespace) == set()
    await proxy_clients.make(api, namespace, "a")
    assert proxy_clients.seen(proxy) == [(1, "POST", "", code, "Answer", False), (2, "POST", "", 201, "", True)]


@pytest.mark.parametrize(("code", "after"), [(429, 7.0), (500, 0.0), (503, 7.0)])
async def test_injected_retry_after_is_returned_and_nothing_is_applied(
    proxy: counting_proxy.Proxy, api: api_client.Api, namespace: Namespace, code: int, after: float
) -> None:
    proxy.at(1, faults.Answer(code, retry_after=7))
    with pytest.raises(api_client.Unavailable) as rejected:
        await proxy_clients.make(api, namespace, "a")
    assert rejected.value.after == after
    assert proxy_clients.names(namespace) == set()


async def test_applied_write_can_be_left_without_a_response(
    proxy: counting_proxy.Proxy, api: api_client.Api, namespace: Namespace
) -> None:
    proxy.at(1, faults.AppliedThenSilent())
    with pytest.raises(api_client.Unavailable, match="no response within"):
        await proxy_clients.make(api, namespace, "a", deadline=proxy_clients.SHORT)
    assert proxy_clients.names(namespace) == {"a"}
    assert proxy_clients.seen(proxy) == [(1, "POST", "", 201, "AppliedThenSilent", True)]


async def test_withheld_response_ends_the_connection_eventually(
    proxy: counting_proxy.Proxy, api: api_client.Api, namespace: Namespace
) -> None:
    proxy.at(1, faults.AppliedThenSilent(longest=0.1))
    with pytest.raises(api_client.Unavailable, match=r"Disconnected|Reset|OSError"):
        await proxy_clients.make(api, namespace, "a", deadline=proxy_clients.DEADLINE)
    assert proxy_clients.names(namespace) == {"a"}


async def test_hanging_write_is_neither_answered_nor_applied(
    proxy: counting_proxy.Proxy, api: api_client.Api, namespace: Namespace
) -> None:
    proxy.at(1, faults.Hang())
    with pytest.raises(api_client.Unavailable, match="no response within"):
        await proxy_clients.make(api, namespace, "a", deadline=proxy_clients.SHORT)
    assert proxy_clients.names(namespace) == set()
    assert proxy_clients.seen(proxy) == [(1, "POST", "", None, "Hang", False)]
    await proxy_clients.make(api, namespace, "a")
    assert proxy_clients.names(namespace) == {"a"}


async def test_reset_connection_applies_nothing(
    proxy: counting_proxy.Proxy, api: api_client.Api, namespace: Namespace
) -> None:
    proxy.at(1, faults.Reset())
    with pytest.raises(api_client.Unavailable, match=r"Disconnected|Reset|OSError"):
        await proxy_clients.make(api, namespace, "a")
    assert proxy_clients.names(namespace) == set()
    assert proxy_clients.seen(proxy) == [(1, "POST", "", None, "Reset", False)]


async def test_write_is_recorded_though_its_client_disconnected(
    proxy: counting_proxy.Proxy, api: api_client.Api, namespace: Namespace
) -> None:
    making = asyncio.create_task(proxy_clients.make(api, namespace, "a"))
    await asyncio.to_thread(proxy.until, lambda now: any(one.forwarded for one in now.writes), "it came by")
    making.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await making
    await asyncio.to_thread(proxy.until, lambda now: now.writes[0].code is not None, "its answer is known")
    assert proxy.writes[0].code == 201
    assert proxy_clients.names(namespace) == {"a"}


def test_fault_cannot_be_planned_for_a_past_write(proxy: counting_proxy.Proxy, namespace: Namespace) -> None:
    with posting(proxy, namespace, "a") as one:
        one.communicate(timeout=proxy_clients.DEADLINE)
    with pytest.raises(AssertionError, match="write 1 has passed already"):
        proxy.at(1, faults.Reset())
