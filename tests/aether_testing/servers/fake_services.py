"""One server that responds to the /status of every service pod of a cluster, as kwok simulates their node.

The responses follow the services' contract. A pod of ingest reports new settings only after the operator's config sync
(the annotation that makes a kubelet update files), so a forgotten one fails a test.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from kubernetes.aio import client, config

from aether_operator.api import labels, platforms
from aether_operator.catalog import components
from aether_operator.kube import api_client
from aether_operator.observed import kinds
from aether_services.contracts.statuses import BookState, Feed, IngestStatus, Output, OutputState, Status, VenueStatus
from aether_services.domain.times import Nanoseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aether_cli.local.startup import Cluster

    Change = Callable[[dict[str, Any]], dict[str, Any]]

TIMEOUT: Final = 30.0


@dataclass(slots=True, kw_only=True)
class FakeServices:
    """The services of every platform of a cluster.

    `overrides` change the status of some pods, by name.
    """

    cluster: Cluster
    overrides: dict[str, Change] = field(default_factory=dict)
    port: int = 0
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _api: api_client.Api | None = None

    @property
    def address(self) -> str:
        """The address template of a service's pod for an operator outside of the cluster."""
        return f"http://127.0.0.1:{self.port}/{{namespace}}/{{pod}}"

    async def _run(self, ready: Callable[[], object], stop: asyncio.Event) -> None:
        configuration = client.Configuration(retries=False)
        await config.load_kube_config(str(self.cluster.kubeconfig), client_configuration=configuration)
        self._api = api_client.Api(configuration=configuration)
        app = web.Application()
        app.router.add_get("/{namespace}/{pod}/status", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.port = runner.addresses[0][1]
            ready()
            await stop.wait()
        finally:
            await runner.cleanup()
            await self._api.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        namespace, pod = request.match_info["namespace"], request.match_info["pod"]
        name = pod.rpartition("-")[0]
        (component,) = [one for one, row in components.COMPONENTS.items() if name.endswith(f"-{row.name}")]
        if component is components.Component.INGEST:
            status = await self._ingest(namespace, name, pod)
        else:
            status = _OTHERS[component](pod) if component in _OTHERS else _plain(pod, component)
        reported, change = status.model_dump(mode="json"), self.overrides.get(pod)
        return web.json_response(reported if change is None else change(reported))

    async def _ingest(self, namespace: str, name: str, pod: str) -> Status:
        assert self._api is not None, "it responds only while it runs"
        settings = await self._api.get(kinds.CONFIG_MAPS, namespace, f"{name}-settings")
        live = await self._api.get(kinds.PODS, namespace, pod)
        text = (settings or {}).get("data", {}).get(components.SETTINGS_KEY, "{}")
        newest = hashlib.sha256(text.encode()).hexdigest()[:12]
        reported = ((live or {}).get("metadata", {}).get("annotations") or {}).get(labels.SETTINGS)
        books = {pair: _book(pair) for pair in json.loads(text).get("pairs", ())}
        return IngestStatus(
            **_common(pod),
            service="ingest",
            settings=newest if reported == newest else "",
            feed=Feed(connected=True, system="online", age_seconds=time.monotonic() % 1),
            books=books if reported == newest else {},
            outputs={output: OutputState(ok=True, lag_seconds=time.monotonic() % 1) for output in Output},
        )


def _common(pod: str) -> dict[str, Any]:
    return {"release": "test", "instance": pod, "started": Nanoseconds(time.time_ns()), "ready": True}


def _venue(pod: str) -> Status:
    return VenueStatus(**_common(pod), service="exchange_sim", system="online", clients=1, trades=time.time_ns())


def _plain(pod: str, component: components.Component) -> Status:
    """The status of a service without fields of its own."""
    return Status(**_common(pod), service=component.value)


_OTHERS: Final[dict[components.Component, Callable[[str], Status]]] = {components.Component.EXCHANGE_SIM: _venue}


def _book(pair: str) -> BookState:
    known = pair in platforms.DEFAULT_PAIRS
    return BookState(usable=known, reason="" if known else "UnknownPair", age_seconds=time.monotonic() % 1)


@contextlib.contextmanager
def running(cluster: Cluster) -> Iterator[FakeServices]:
    """Run the server for the length of a block, in a thread of its own."""
    services = FakeServices(cluster=cluster)
    ready, stop = threading.Event(), asyncio.Event()
    ended: list[BaseException] = []

    def live() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: services._loop) as runner:  # noqa: SLF001 - it is this module's own
                runner.run(services._run(ready.set, stop))  # noqa: SLF001
        except BaseException as broken:  # noqa: BLE001 - raised by the thread of the block
            ended.append(broken)
        finally:
            ready.set()

    thread = threading.Thread(target=live, name="fake-services")
    thread.start()
    try:
        assert ready.wait(TIMEOUT), "the fake services did not start"
        if not ended:
            yield services
    finally:
        if thread.is_alive():
            services._loop.call_soon_threadsafe(stop.set)  # noqa: SLF001
        thread.join(TIMEOUT)
    assert not thread.is_alive(), "the fake services did not end"
    if ended:
        raise ended[0]
