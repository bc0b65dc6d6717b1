"""The watcher, with Kopf, against an API server that denies access to a namespace."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import prometheus_client
import pytest
from aiohttp import test_utils, web
from kubernetes.aio import client

from aether_operator.controllers import health
from aether_operator.controllers.index import Index
from aether_operator.controllers.workqueue import Key, Queue
from aether_operator.handlers import watcher
from aether_operator.kube import api_client, sessions
from aether_operator.observed import kinds
from aether_operator.observed.kinds import Kind
from aether_runtime import logs
from aether_testing import wait
from aether_testing.values import widgets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

OURS, THEIRS = "ours", "theirs"
PLATFORMS: Final = "tradingplatforms"
WIDGETS: Final = kinds.of_definition(widgets.WIDGET)
WATCHED: Final = watcher.watched((kinds.PLATFORMS,))
KNOWN: Final = (
    *WATCHED,
    WIDGETS,
    Kind("v1", "Namespace", "namespaces"),
    Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions"),
)
"""The kinds of the discovery API: Kopf waits for the last two, and requests neither."""
POLL: Final = 0.005


@dataclass
class ApiServer:
    """Serves discovery, lists and watches, and denies what is in `denied`."""

    denied: dict[tuple[str, str], int] = field(default_factory=dict)
    """The code by (namespace, plural): `watch secrets` denies only watching them, an empty plural denies everything."""
    requests: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    """How often, by (namespace, plural, code)."""
    objects: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """The names of the objects, by (namespace, plural)."""
    more: dict[str, dict[str, str]] = field(default_factory=dict)
    """Name → further metadata of a listed object."""
    watches: dict[str, list[web.StreamResponse]] = field(default_factory=lambda: defaultdict(list))

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/api", self._versions)
        app.router.add_get("/apis", self._groups)
        for base in {kind.base for kind in KNOWN}:
            app.router.add_get(base, self._resources)
            app.router.add_get(f"{base}/namespaces/{{namespace}}/{{plural}}", self._objects)
        return app

    async def _versions(self, _: web.Request) -> web.Response:
        return web.json_response({"versions": ["v1"]})

    async def _groups(self, _: web.Request) -> web.Response:
        names = sorted({kind.api_version for kind in KNOWN if "/" in kind.api_version})
        return web.json_response({"groups": [_group(*name.split("/")) for name in names]})

    async def _resources(self, request: web.Request) -> web.Response:
        served = [kind for kind in KNOWN if kind.base == request.path]
        return web.json_response({"resources": [_resource(kind) for kind in served]})

    async def _objects(self, request: web.Request) -> web.StreamResponse:
        namespace, plural = request.match_info["namespace"], request.match_info["plural"]
        watch = "watch" in request.query
        verb = f"watch {plural}" if watch else plural
        code = next((self.denied[namespace, one] for one in (verb, plural, "") if (namespace, one) in self.denied), 200)
        self.requests[namespace, plural, code] += 1
        if code != 200:
            status = {"kind": "Status", "code": code, "reason": "Forbidden", "message": "you may not"}
            return web.json_response(status, status=code)
        if not watch:
            names = self.objects.get((namespace, plural), [])
            items = [
                {"metadata": {"namespace": namespace, "name": name, "resourceVersion": "1", **self.more.get(name, {})}}
                for name in names
            ]
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": items})
        response = web.StreamResponse()
        await response.prepare(request)
        self.watches[request.path].append(response)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await asyncio.Event().wait()
        return response

    async def send_event(self, namespace: str, name: str) -> None:
        """Send an event of a platform to its watches."""
        meta = {"namespace": namespace, "name": name, "uid": name, "resourceVersion": "2"}
        event = {"type": "MODIFIED", "object": {"metadata": meta}}
        for response in self.watches[api_client.path(kinds.PLATFORMS, namespace)]:
            with contextlib.suppress(ConnectionError):  # one that has ended
                await response.write(json.dumps(event).encode() + b"\n")

    def requests_in(self, namespace: str) -> Counter[tuple[str, int]]:
        return Counter({(plural, code): n for (where, plural, code), n in self.requests.items() if where == namespace})


def _group(name: str, version: str) -> dict[str, Any]:
    return {"name": name, "versions": [{"version": version}], "preferredVersion": {"version": version}}


def _resource(kind: Kind) -> dict[str, Any]:
    verbs = ["list", "watch", "patch"]
    return {"name": kind.plural, "singularName": "", "kind": kind.kind, "namespaced": True, "verbs": verbs}


@dataclass
class Fixture:
    server: ApiServer
    watches: watcher.Watcher
    queue: Queue
    freshness: sessions.Freshness
    lines: list[logging.LogRecord]

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for what changes in Kopf, which tells nobody."""
        await wait.until_async(holds, "the watcher's state", seconds=30, interval=POLL, detail=self.logged)

    async def until_watched(self, *namespaces: str) -> None:
        await self.until(lambda: all(watched(one) == 1 for one in namespaces))

    async def receives(self, namespace: str, name: str) -> None:
        """Check that an event becomes a key."""
        await self.server.send_event(namespace, name)
        async with asyncio.timeout(30):
            assert await self.queue.get() == Key("TradingPlatform", namespace, name)

    def problems(self, *, silent_for: float) -> list[str]:
        """The liveness problems after so many seconds without data."""
        aged = {path: last_received - silent_for for path, last_received in self.freshness.last_received.items()}
        return health.Health(freshness=sessions.Freshness(aged), leading=lambda: True).problems()

    def logged(self) -> list[tuple[str, Any]]:
        return [(line.getMessage(), line.__dict__.get("namespace")) for line in self.lines]


def inaccessible(fixture: Fixture, namespace: str, kind: Kind = kinds.PLATFORMS) -> bool:
    return fixture.watches.inaccessible(namespace, kind.kind)


def watched(namespace: str) -> float | None:
    """The gauge, as Prometheus reads it."""
    return prometheus_client.REGISTRY.get_sample_value("aether_operator_namespace_watched", {"namespace": namespace})


@contextlib.asynccontextmanager
async def running(
    caplog: pytest.LogCaptureFixture,
    inactivity_timeout: float = 70,
    own: tuple[Kind, ...] = (kinds.PLATFORMS,),
    **denied: int,
) -> AsyncIterator[Fixture]:
    """A watcher of two namespaces; `theirs=403` denies access to one from the beginning."""
    api_server = ApiServer({(namespace, ""): code for namespace, code in denied.items()})
    for name, level in logs.LEVELS.items():
        caplog.set_level(level, logger=name)
    caplog.set_level(logging.INFO, logger="aether_operator")
    async with test_utils.TestServer(api_server.app()) as server:
        configuration = client.Configuration(host=f"http://127.0.0.1:{server.port}")
        api, queue, freshness = (
            api_client.Api(configuration=configuration),
            Queue(random=lambda: 0.5),
            sessions.Freshness(),
        )
        watches = watcher.Watcher(
            configuration=configuration, api=api, namespaces=(OURS, THEIRS), own=own, queue=queue, index=Index(),
            freshness=freshness,
            stop=asyncio.Event(), random=lambda: 0.5, inactivity_timeout=inactivity_timeout, first_backoff=0.01,
        )  # fmt: skip
        task = asyncio.create_task(watches.watch())
        await asyncio.sleep(0)
        try:
            yield Fixture(api_server, watches, queue, freshness, caplog.records)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await api.close()


@pytest.mark.parametrize("code", [403, 404])
async def test_forbidden_namespace_is_probed_alone_and_recovers(caplog: pytest.LogCaptureFixture, code: int) -> None:
    async with running(caplog) as fixture:
        await fixture.until_watched(OURS, THEIRS)
        assert len(fixture.problems(silent_for=100)) == 2 * len(WATCHED)

        fixture.server.denied[THEIRS, ""] = code
        assert not await fixture.watches.check_access(THEIRS)  # as a worker calls it after a 403
        fixture.server.requests.clear()
        await fixture.until(lambda: fixture.server.requests_in(THEIRS)[PLATFORMS, code] >= 3)
        assert fixture.server.requests_in(THEIRS).keys() == {(PLATFORMS, code)}, (
            "one list, and nothing else, is requested"
        )
        assert fixture.server.requests_in(OURS) == {}, "the other namespace's watches go on as they were"
        await fixture.receives(OURS, "paper")
        assert (watched(OURS), watched(THEIRS)) == (1, 0)
        assert (inaccessible(fixture, OURS), inaccessible(fixture, THEIRS)) == (False, True)
        silent = [line.split()[1].rstrip(":") for line in fixture.problems(silent_for=100)]
        assert [path for path in silent if f"/{THEIRS}/" in path] == [api_client.path(kinds.PLATFORMS, THEIRS)]

        fixture.server.denied.clear()
        await fixture.until_watched(THEIRS)
        assert not inaccessible(fixture, THEIRS)
        await fixture.receives(THEIRS, "paper")
        assert fixture.logged() == [("namespace_not_watched", THEIRS), ("namespace_watched", THEIRS)]


async def test_denied_request_counts_as_received_data(caplog: pytest.LogCaptureFixture) -> None:
    async with running(caplog, theirs=403) as fixture:
        await fixture.until_watched(OURS)
        polled = api_client.path(kinds.PLATFORMS, THEIRS)
        fixture.freshness.last_received[polled] -= 1000
        await fixture.until(lambda: fixture.freshness.ages()[polled] < 500)


async def test_watch_that_is_silent_for_too_long_is_restarted(caplog: pytest.LogCaptureFixture) -> None:
    async with running(caplog, inactivity_timeout=0.5) as fixture:
        await fixture.until_watched(OURS, THEIRS)
        ours = fixture.server.watches[api_client.path(kinds.PLATFORMS, OURS)]
        await fixture.until(lambda: len(ours) >= 3)
        await fixture.receives(OURS, "paper")
        assert fixture.logged() == []


async def test_one_forbidden_kind_stops_watches_but_not_reconciles(caplog: pytest.LogCaptureFixture) -> None:
    async with running(caplog) as fixture:
        await fixture.until_watched(OURS, THEIRS)
        fixture.server.denied[THEIRS, "secrets"] = 403
        assert not await fixture.watches.check_access(THEIRS)
        await fixture.until(lambda: fixture.server.requests_in(THEIRS)["secrets", 403] >= 3)
        assert (watched(THEIRS), inaccessible(fixture, THEIRS)) == (0, False)
        assert [line.__dict__["cause"] for line in fixture.lines] == ["403 for secrets"]
        fixture.server.objects[THEIRS, PLATFORMS] = ["new"]
        async with asyncio.timeout(30):
            key = await fixture.queue.get()
        assert key == Key("TradingPlatform", THEIRS, "new"), "its status can report what is denied"
        fixture.queue.failed(key, at_least=600)
        fixture.server.requests.clear()
        await fixture.until(lambda: fixture.server.requests_in(THEIRS)["secrets", 403] >= 3)
        assert fixture.queue.depth() == 0, "it keeps its backoff"
        fixture.server.more["new"] = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
        async with asyncio.timeout(30):
            assert await fixture.queue.get() == key, "a deletion does not wait: no watch reports it"
        fixture.queue.done(key, requeue_after=None)
        fixture.server.denied.clear()
        await fixture.until_watched(THEIRS)
        assert fixture.logged() == [("namespace_not_watched", THEIRS), ("namespace_watched", THEIRS)]


async def test_kind_that_may_still_be_listed_is_reconciled(caplog: pytest.LogCaptureFixture) -> None:
    """In a namespace that is being deleted the ClusterRole for kinds with a finalizer is all that is left."""
    async with running(caplog, own=(kinds.PLATFORMS, WIDGETS)) as fixture:
        await fixture.until_watched(OURS, THEIRS)
        fixture.server.objects = {(THEIRS, PLATFORMS): ["paper"], (THEIRS, WIDGETS.plural): ["small"]}
        fixture.server.denied = {(THEIRS, kind.plural): 403 for kind in WATCHED}
        fixture.server.denied[THEIRS, f"watch {WIDGETS.plural}"] = 403
        assert not await fixture.watches.check_access(THEIRS)
        async with asyncio.timeout(30):
            assert await fixture.queue.get() == Key("Widget", THEIRS, "small")
        assert (inaccessible(fixture, THEIRS), inaccessible(fixture, THEIRS, WIDGETS)) == (True, False)
        assert fixture.queue.keys() == {Key("Widget", THEIRS, "small")}


async def test_listable_platforms_make_a_namespace_accessible(caplog: pytest.LogCaptureFixture) -> None:
    async with running(caplog, theirs=403) as fixture:
        await fixture.until(lambda: inaccessible(fixture, THEIRS))
        fixture.server.denied = {(THEIRS, "secrets"): 403}
        await fixture.until(lambda: not inaccessible(fixture, THEIRS))
        assert watched(THEIRS) == 0


async def test_listable_kind_that_cannot_be_watched_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Kopf meets it: the list is allowed, and then each watch is denied."""
    async with running(caplog) as fixture:
        fixture.server.denied[THEIRS, "watch secrets"] = 403
        await fixture.until(lambda: fixture.server.requests_in(THEIRS)["secrets", 403] >= 3)
        assert watched(THEIRS) == 0
        await fixture.until_watched(OURS)
        fixture.server.denied.clear()
        await fixture.until_watched(THEIRS)
        assert fixture.logged() == [("namespace_not_watched", THEIRS), ("namespace_watched", THEIRS)]
