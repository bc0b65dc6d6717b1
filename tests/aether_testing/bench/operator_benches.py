"""The environment of the operator's benchmarks: a control plane, real servers and a namespace for operators."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubernetes.aio import client, config

from aether_operator.kube import api_client
from aether_testing import wait
from aether_testing.cluster import clusters, namespaces
from aether_testing.processes import installations, planes
from aether_testing.servers import fake_services

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from aether_cli.local.startup import Cluster
    from aether_operator.observed import kinds
    from aether_testing.cluster.namespaces import Namespace
    from aether_testing.processes.installations import Installation
    from aether_testing.processes.planes import Plane

POLL_SECONDS = 0.002
"""Seconds between two reads of the measuring client."""
TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorBench:
    """The environment of one benchmark."""

    cluster: Cluster
    namespace: Namespace
    installation: Installation
    plane: Plane

    def run(self, what: Callable[[Client], Awaitable[Any]]) -> Any:
        """Run a measurement with a fast API client."""

        async def doing() -> Any:
            found = client.Configuration(retries=False)
            await config.load_kube_config(str(self.cluster.kubeconfig), client_configuration=found)
            user = Client(api=api_client.Api(configuration=found), namespace=self.namespace.name)
            try:
                return await what(user)
            finally:
                await user.api.close()

        return asyncio.run(doing())


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A client that edits and reads objects."""

    api: api_client.Api
    namespace: str

    async def edit(self, kind: kinds.Kind, name: str, patch: dict[str, Any]) -> None:
        """Merge-patch an object with a field manager of its own."""
        where = api_client.path(kind, self.namespace, name)
        query = {"fieldManager": "somebody"}
        await self.api.request("PATCH", where, query=query, body=patch, content=api_client.MERGE)

    async def until(self, kind: kinds.Kind, name: str, holds: Callable[[dict[str, Any]], bool]) -> float:
        """Poll until an object satisfies a condition; returns the seconds that took."""

        async def held() -> bool:
            found = await self.api.get(kind, self.namespace, name)
            return found is not None and holds(found)

        began = time.monotonic()
        await wait.until_async(held, f"{kind.kind} {name}", seconds=TIMEOUT_SECONDS, interval=POLL_SECONDS)
        return time.monotonic() - began


@contextlib.contextmanager
def set_up() -> Iterator[OperatorBench]:
    """Set it up for the length of a block."""
    with (
        tempfile.TemporaryDirectory(prefix="aether-bench-", dir=Path.home()) as folder,
        clusters.running(clusters.WITH_KWOK, clusters.unique_paths(Path(folder))) as cluster,
        planes.running() as plane,
        fake_services.running(cluster) as fakes,
    ):
        namespace = namespaces.create(cluster, "bench")
        installation = installations.prepare(cluster, namespace, Path(folder), fakes)
        planes.apply(namespace, planes.login_secret())
        yield OperatorBench(cluster=cluster, namespace=namespace, installation=installation, plane=plane)
