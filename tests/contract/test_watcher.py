"""Kopf against an API server that refuses a namespace: what it watches, asks and says, and what it leaves alone."""

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

from aether_operator.controllers import health, logs
from aether_operator.controllers.platforms import Index
from aether_operator.controllers.workqueue import Key, Queue
from aether_operator.handlers import watcher
from aether_operator.kube import api_client, sessions
from aether_operator.observed import kinds
from aether_operator.observed.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

OURS, THEIRS = "ours", "theirs"
PLATFORMS: Final = "tradingplatforms"
KNOWN: Final = (
    *watcher.WATCHED,
    Kind("v1", "Namespace", "namespaces"),
    Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions"),
)
"""What discovery tells of: Kopf waits for the last two, and asks for neither."""
LOOK: Final = 0.005


@dataclass
class ApiServer:
    """Discovery, lists and watches, and a no for what it was told to refuse."""

    refused: dict[tuple[str, str], int] = field(default_factory=dict)
    """(namespace, plural) → the code; `watch secrets` is a watch of them alone, and an empty plural all there is."""
    asked: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    """(namespace, plural, code) → how often."""
    platforms: dict[str, list[str]] = field(default_factory=dict)
    """Namespace → the names of the platforms in it."""
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
        code = next(
            (self.refused[namespace, one] for one in (verb, plural, "") if (namespace, one) in self.refused), 200
        )
        self.asked[namespace, plural, code] += 1
        if code != 200:
            said = {"kind": "Status", "code": code, "reason": "Forbidden", "message": "you may not"}
            return web.json_response(said, status=code)
        if not watch:
            names = self.platforms.get(namespace, []) if plural == PLATFORMS else []
            items = [{"metadata": {"namespace": namespace, "name": name, "resourceVersion": "1"}} for name in names]
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": items})
        response = web.StreamResponse()
        await response.prepare(request)
        self.watches[request.path].append(response)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await asyncio.Event().wait()
        return response

    async def tell(self, namespace: str, name: str) -> None:
        """An event of a platform, to whoever watches it."""
        meta = {"namespace": namespace, "name": name, "uid": name, "resourceVersion": "2"}
        event = {"type": "MODIFIED", "object": {"metadata": meta}}
        for response in self.watches[api_client.path(kinds.PLATFORMS, namespace)]:
            with contextlib.suppress(ConnectionError):  # one that is over
                await response.write(json.dumps(event).encode() + b"\n")

    def asked_for(self, namespace: str) -> Counter[tuple[str, int]]:
        return Counter({(plural, code): n for (where, plural, code), n in self.asked.items() if where == namespace})


def _group(name: str, version: str) -> dict[str, Any]:
    return {"name": name, "versions": [{"version": version}], "preferredVersion": {"version": version}}


def _resource(kind: Kind) -> dict[str, Any]:
    verbs = ["list", "watch", "patch"]
    return {"name": kind.plural, "singularName": "", "kind": kind.kind, "namespaced": True, "verbs": verbs}


@dataclass
class Desk:
    server: ApiServer
    watches: watcher.Watcher
    queue: Queue
    freshness: sessions.Freshness
    lines: list[logging.LogRecord]

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not holds():  # noqa: ASYNC110 - what changes is in Kopf, which tells nobody
                await asyncio.sleep(LOOK)

    async def until_watched(self, *namespaces: str) -> None:
        await self.until(lambda: all(watched(one) == 1 for one in namespaces))

    async def hears(self, namespace: str, name: str) -> None:
        """An event there is noticed."""
        await self.server.tell(namespace, name)
        async with asyncio.timeout(30):
            assert await self.queue.get() == Key("TradingPlatform", namespace, name)

    def problems(self, *, silent_for: float) -> list[str]:
        """What liveness says when nothing is heard for so long."""
        aged = {path: last_received - silent_for for path, last_received in self.freshness.last_received.items()}
        return health.Health(freshness=sessions.Freshness(aged), leading=lambda: True).problems()

    def said(self) -> list[tuple[str, Any]]:
        return [(line.getMessage(), line.__dict__.get("namespace")) for line in self.lines]


def watched(namespace: str) -> float | None:
    """The gauge, as Prometheus reads it."""
    return prometheus_client.REGISTRY.get_sample_value("aether_operator_namespace_watched", {"namespace": namespace})


@contextlib.asynccontextmanager
async def a_desk(
    caplog: pytest.LogCaptureFixture, inactivity_timeout: float = 70, **refused: int
) -> AsyncIterator[Desk]:
    """Two namespaces, watched as soon as they may be; `theirs=403` refuses one from the beginning."""
    api_server = ApiServer({(namespace, ""): code for namespace, code in refused.items()})
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
            configuration=configuration, api=api, namespaces=(OURS, THEIRS), queue=queue, index=Index(),
            freshness=freshness,
            stop=asyncio.Event(), random=lambda: 0.5, inactivity_timeout=inactivity_timeout, first_backoff=0.01,
        )  # fmt: skip
        task = asyncio.create_task(watches.watch())
        await asyncio.sleep(0)
        try:
            yield Desk(api_server, watches, queue, freshness, caplog.records)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await api.close()


@pytest.mark.parametrize("code", [403, 404])
async def test_forbidden_namespace_is_probed_alone_and_recovers(caplog: pytest.LogCaptureFixture, code: int) -> None:
    async with a_desk(caplog) as desk:
        await desk.until_watched(OURS, THEIRS)
        assert len(desk.problems(silent_for=100)) == 2 * len(watcher.WATCHED)

        desk.server.refused[THEIRS, ""] = code
        assert not await desk.watches.check_access(THEIRS)  # as a visit asks that was refused
        desk.server.asked.clear()
        await desk.until(lambda: desk.server.asked_for(THEIRS)[PLATFORMS, code] >= 3)
        assert desk.server.asked_for(THEIRS).keys() == {(PLATFORMS, code)}, "one question, of one list"
        assert desk.server.asked_for(OURS) == {}, "the other namespace's watches go on as they were"
        await desk.hears(OURS, "paper")
        assert (watched(OURS), watched(THEIRS)) == (1, 0)
        assert (desk.watches.inaccessible(OURS), desk.watches.inaccessible(THEIRS)) == (False, True)
        silent = [line.split()[1].rstrip(":") for line in desk.problems(silent_for=100)]
        assert [path for path in silent if f"/{THEIRS}/" in path] == [api_client.path(kinds.PLATFORMS, THEIRS)]

        desk.server.refused.clear()
        await desk.until_watched(THEIRS)
        assert not desk.watches.inaccessible(THEIRS)
        await desk.hears(THEIRS, "paper")
        assert desk.said() == [("namespace_not_watched", THEIRS), ("namespace_watched", THEIRS)]


async def test_an_answer_of_no_is_no_silence(caplog: pytest.LogCaptureFixture) -> None:
    async with a_desk(caplog, theirs=403) as desk:
        await desk.until_watched(OURS)
        asked = api_client.path(kinds.PLATFORMS, THEIRS)
        desk.freshness.last_received[asked] -= 1000
        await desk.until(lambda: desk.freshness.ages()[asked] < 500)


async def test_watch_that_is_silent_for_too_long_is_restarted(caplog: pytest.LogCaptureFixture) -> None:
    async with a_desk(caplog, inactivity_timeout=0.5) as desk:
        await desk.until_watched(OURS, THEIRS)
        ours = desk.server.watches[api_client.path(kinds.PLATFORMS, OURS)]
        await desk.until(lambda: len(ours) >= 3)
        await desk.hears(OURS, "paper")
        assert desk.said() == []


async def test_one_forbidden_kind_stops_watches_but_not_reconciles(caplog: pytest.LogCaptureFixture) -> None:
    async with a_desk(caplog) as desk:
        await desk.until_watched(OURS, THEIRS)
        desk.server.refused[THEIRS, "secrets"] = 403
        assert not await desk.watches.check_access(THEIRS)
        await desk.until(lambda: desk.server.asked_for(THEIRS)["secrets", 403] >= 3)
        assert (watched(THEIRS), desk.watches.inaccessible(THEIRS)) == (0, False)
        assert [line.__dict__["cause"] for line in desk.lines] == ["403 for secrets"]
        desk.server.platforms[THEIRS] = ["new"]
        async with asyncio.timeout(30):
            key = await desk.queue.get()
        assert key == Key("TradingPlatform", THEIRS, "new"), "its status can say what is refused"
        desk.queue.failed(key, at_least=600)
        desk.server.asked.clear()
        await desk.until(lambda: desk.server.asked_for(THEIRS)["secrets", 403] >= 3)
        assert desk.queue.depth() == 0, "it is tried again at its own pace"
        desk.server.refused.clear()
        await desk.until_watched(THEIRS)
        assert desk.said() == [("namespace_not_watched", THEIRS), ("namespace_watched", THEIRS)]


async def test_a_namespace_opens_with_its_platforms_alone(caplog: pytest.LogCaptureFixture) -> None:
    async with a_desk(caplog, theirs=403) as desk:
        await desk.until(lambda: desk.watches.inaccessible(THEIRS))
        desk.server.refused = {(THEIRS, "secrets"): 403}
        await desk.until(lambda: not desk.watches.inaccessible(THEIRS))
        assert watched(THEIRS) == 0


async def test_listable_kind_that_cannot_be_watched_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Kopf finds it out: the list is allowed, and then the watch is refused, again and again."""
    async with a_desk(caplog) as desk:
        desk.server.refused[THEIRS, "watch secrets"] = 403
        await desk.until(lambda: desk.server.asked_for(THEIRS)["secrets", 403] >= 3)
        assert watched(THEIRS) == 0
        await desk.until_watched(OURS)
        desk.server.refused.clear()
        await desk.until_watched(THEIRS)
        assert desk.said() == [("namespace_not_watched", THEIRS), ("namespace_watched", THEIRS)]
