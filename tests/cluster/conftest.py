"""A counting proxy for a test, and clients through it; an operator for a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest

from aether_testing.cluster import proxy_clients
from aether_testing.processes import operator_environments
from aether_testing.servers import counting_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from aether_cli.local.startup import Cluster
    from aether_operator.kube import api_client
    from aether_testing.processes.planes import Plane
    from aether_testing.servers.fake_services import FakeServices


@pytest.fixture(scope="module")
def env(
    control_plane: Cluster, plane: Plane, fakes: FakeServices, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[operator_environments.Environment]:
    """A namespace with an operator, and real servers; each test creates its own platforms."""
    folder = tmp_path_factory.mktemp("operator")
    with operator_environments.running(control_plane, plane, fakes, folder) as one:
        yield one


@pytest.fixture
def proxy(control_plane: Cluster) -> Iterator[counting_proxy.Proxy]:
    """A proxy between this test and the API server."""
    with counting_proxy.between(control_plane) as one:
        yield one


@pytest.fixture
async def api(proxy: counting_proxy.Proxy, tmp_path: Path) -> AsyncIterator[api_client.Api]:
    """The operator's own client, through the proxy, as the admin."""
    async with proxy_clients.operator_client(proxy.kubeconfig(tmp_path / "proxied")) as one:
        yield one


@pytest.fixture
async def http(proxy: counting_proxy.Proxy) -> AsyncIterator[aiohttp.ClientSession]:
    """A plain HTTP client of the proxy, as the admin."""
    timeout = aiohttp.ClientTimeout(total=proxy_clients.DEADLINE)
    async with aiohttp.ClientSession(proxy.url, timeout=timeout) as one:
        yield one
