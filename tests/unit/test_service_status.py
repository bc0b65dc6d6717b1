"""/status of services, queried over real HTTP, and the reports made of the responses."""

from __future__ import annotations

import asyncio
import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import test_utils, web

from aether_operator import service_status
from aether_operator.api.reasons import Reason
from aether_operator.catalog.components import Component
from aether_operator.observed import components
from aether_operator.observed.components import Target
from aether_operator.observed.kinds import Ref
from aether_operator.status.components.ingest import IngestReport
from aether_runtime import network_errors
from aether_testing.values import observations

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aether_operator.observed.components import ComponentReport

STATUS: dict[str, Any] = {
    "version": 2, "service": "ingest", "release": "1", "instance": "paper-ingest-0", "ready": True, "settings": "abc",
    "feed": {"connected": True, "system": "online", "age_seconds": 0.3},
    "books": {"BTC/USD": {"usable": True}, "ETH/USD": {"usable": False, "reason": "Resyncing"}},
    "outputs": {"kafka": {"ok": True, "lag_seconds": 3}, "nats": {"ok": False}},
    "checks": {"feed": {"ok": True}, "nats": {"ok": False, "detail": "no\n server"}},
}  # fmt: skip


async def _query(handler: Callable[[web.Request], Awaitable[web.StreamResponse]], **options: Any) -> ComponentReport:
    app = web.Application()
    app.router.add_get("/desk/one/status", handler)
    async with test_utils.TestServer(app) as server:
        address_template = f"http://127.0.0.1:{server.port}/{{namespace}}/{{pod}}"
        target = Target(component=Component.INGEST, pod="one", address="")
        found = await service_status.query(
            [target], namespace="desk", address_template=address_template, **{"deadline": 5, **options}
        )
    return found["one"]


async def _report_of(status: Any) -> ComponentReport:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(text=status if isinstance(status, str) else json.dumps(status))

    return await _query(handler)


async def test_report_leaves_out_what_changes_all_the_time() -> None:
    report = await _report_of(STATUS)
    assert report == IngestReport(
        reason=Reason.READY,
        ready=True,
        failing={"nats": "no server"},
        settings="abc",
        system="online",
        received=True,
        books={"BTC/USD": "", "ETH/USD": "Resyncing"},
        outputs={"kafka": "", "nats": "no reason given"},
    )
    later = copy.deepcopy(STATUS)
    later["feed"]["age_seconds"], later["outputs"]["kafka"]["lag_seconds"] = 0.1, 0
    later["of a newer release"] = 1
    assert await _report_of(later) == report


async def test_feed_that_never_connected_is_distinguished() -> None:
    report = await _report_of({**STATUS, "feed": {"connected": False, "detail": "name not known", "age_seconds": None}})
    assert isinstance(report, IngestReport)
    assert (report.disconnected, report.received) == ("name not known", False)


@pytest.mark.parametrize(
    ("status", "reason", "part"),
    [
        ({**STATUS, "version": 3}, Reason.VERSION_UNSUPPORTED, "version 3, and this operator reads 2"),
        ({"version": 9}, Reason.VERSION_UNSUPPORTED, "version 9"),
        ({**STATUS, "service": "exchange_sim"}, Reason.FAILED, "it is the service exchange_sim"),
        ({"service": "ingest"}, Reason.FAILED, "cannot be parsed"),
        ({**STATUS, "books": []}, Reason.FAILED, "cannot be parsed"),
        ([1], Reason.FAILED, "cannot be parsed"),
        ("<html>", Reason.FAILED, "cannot be parsed"),
        ("", Reason.FAILED, "cannot be parsed"),
        ("x" * (2 << 20), Reason.FAILED, "cannot be parsed"),
    ],
)
async def test_unreadable_status_is_reported(status: Any, reason: Reason, part: str) -> None:
    report = await _report_of(status)
    assert report.reason is reason
    assert part in report.message


async def test_invalid_response_is_reported() -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        raise web.HTTPServiceUnavailable

    assert await _query(handler) == components.ComponentReport(reason=Reason.FAILED, message="its /status answers 503")


async def test_pod_that_does_not_answer_is_unreachable_after_the_deadline() -> None:
    requested = asyncio.Event()

    async def handler(_: web.Request) -> web.StreamResponse:
        requested.set()
        await asyncio.Event().wait()
        return web.Response()

    report = await _query(handler, deadline=0.1)
    assert requested.is_set()
    assert report == components.ComponentReport(reason=Reason.UNREACHABLE, message="no response within 0.1 s")


async def test_interrupted_connection_is_reported() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    assert (await _query(handler)).reason is Reason.UNREACHABLE


async def test_closed_port_reports_the_system_error_and_delays_no_other() -> None:
    port = test_utils.unused_port()
    targets = [Target(component=Component.INGEST, pod=name, address="") for name in ("one", "two")]
    found = await service_status.query(
        targets, namespace="desk", deadline=5, address_template=f"http://127.0.0.1:{port}/{{pod}}"
    )
    assert set(found) == {"one", "two"}
    assert found["one"] == components.ComponentReport(reason=Reason.UNREACHABLE, message=network_errors.REFUSED)


async def test_no_pods_means_no_queries() -> None:
    assert await service_status.query([], namespace="desk", deadline=1) == {}


# Which pods are queried.


def test_running_service_pods_with_an_address_are_queried() -> None:
    platform = observations.a_platform(components={"ingest": {"replicas": 2}})
    assert [
        (target.component, target.pod, target.address)
        for target in components.targets(platform, observations.created(platform))
        if target.component in {Component.EXCHANGE_SIM, Component.INGEST}
    ] == [
        (Component.EXCHANGE_SIM, "paper-exchange-0", "10.1.0.7"),
        (Component.INGEST, "paper-ingest-0", "10.1.0.7"),
        (Component.INGEST, "paper-ingest-1", "10.1.0.8"),
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"status": {"phase": "Pending", "podIP": "10.1.0.7"}},
        {"status": {"phase": "Running"}},
        {"metadata": {"name": "paper-ingest-0", "ownerReferences": []}},
        {"metadata": {"name": "paper-ingest-1"}},
    ],
)
def test_pod_not_running_or_not_ours_is_not_queried(change: dict[str, Any]) -> None:
    platform = observations.a_platform()
    observed = observations.created(platform)
    live = observed.children[Ref("StatefulSet", "paper-ingest")]
    pod = observations.a_pod_of(live, phase="Running", podIP="10.1.0.7")
    pod |= {key: {**(pod[key] if key == "metadata" else {}), **part} for key, part in change.items()}
    changed = observations.with_pods(observed, pod)
    assert components.targets(platform, changed) == ()
