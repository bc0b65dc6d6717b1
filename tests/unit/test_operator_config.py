"""The operator's configuration, its log lines and its health."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import aiohttp
import prometheus_client
import pytest
from aiohttp import test_utils, web

from aether_operator.api.platforms import Server
from aether_operator.controllers import health, operator_config
from aether_operator.kube.sessions import Freshness
from aether_runtime import logs
from aether_testing.servers import address_families

if TYPE_CHECKING:
    from pathlib import Path

IMAGES = {server.value: f"images/{server.value}:1" for server in Server}


def a_config(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "namespaces": ["aether"],
        "lease": {"namespace": "aether-system"},
        "release": {"images": IMAGES, "serviceImage": "images/service:1", "imagePullSecrets": ["pull"]},
    }
    return {**fields, **changes}


def written(folder: Path, config: Any) -> str:
    path = folder / "operator.yaml"
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    return str(path)


def test_config_of_the_chart_is_loaded(tmp_path: Path) -> None:
    outside_the_cluster = {
        "managedAddresses": {"postgres": "127.0.0.1:5433", "redis": "[::1]:6380"},
        "componentAddress": "http://127.0.0.1:1/{namespace}/{pod}",
    }
    config = operator_config.load(written(tmp_path, a_config(**outside_the_cluster)))
    assert config.namespaces == ("aether",)
    assert config.lease.name == "aether-operator"
    assert config.release.images[Server.KAFKA] == "images/kafka:1"
    assert config.managed_addresses == {Server.POSTGRES: "127.0.0.1:5433", Server.REDIS: "[::1]:6380"}
    assert config.component_address.format(namespace="a", pod="b") == "http://127.0.0.1:1/a/b"
    assert config.resync_seconds == 600
    assert config.watch_silence_seconds == 70


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"namespaces": []}, "namespaces"),
        ({"namespaces": ["Not A Name"]}, "namespaces.0"),
        ({"lease": {}}, "lease.namespace"),
        ({"release": {}}, "release.images"),
        ({"release": {"images": IMAGES}}, "release.serviceImage"),
        ({"release": {"images": {"mysql": "x"}}}, "release.images.mysql"),
        ({"port": 70000}, "port"),
        ({"resyncSeconds": 0}, "resyncSeconds"),
        ({"maxConcurrentReconciles": 0}, "maxConcurrentReconciles"),
        ({"watchSilenceSeconds": 71}, "watchSilenceSeconds"),
        ({"managedAddresses": {"postgres": "no-port"}}, "managedAddresses.postgres"),
        ({"managedAddresses": {"postgres": "::1:5432"}}, "managedAddresses.postgres"),
        ({"componentAddress": "http://127.0.0.1:1/all-the-same"}, "componentAddress"),
        ({"componentAddress": "http://127.0.0.1:1/{ip}"}, "componentAddress"),
        ({"typo": 1}, "typo"),
    ],
)
def test_unusable_value_is_rejected_by_name(tmp_path: Path, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(operator_config.InvalidConfig, match=field.replace(".", r"\.")):
        operator_config.load(written(tmp_path, a_config(**changes)))


def test_missing_or_invalid_yaml_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(operator_config.InvalidConfig, match=r"none\.yaml: No such file"):
        operator_config.load(str(tmp_path / "none.yaml"))
    with pytest.raises(operator_config.InvalidConfig, match="not YAML"):
        operator_config.load(written(tmp_path, "a: [b"))
    with pytest.raises(operator_config.InvalidConfig, match="--config"):
        operator_config.load("")


def test_identity_comes_from_the_environment_or_is_an_error() -> None:
    assert operator_config.identity({"POD_NAME": "a", "POD_NAMESPACE": "b"}) == ("a", "b")
    with pytest.raises(operator_config.InvalidConfig, match="POD_NAMESPACE"):
        operator_config.identity({"POD_NAME": "a"})


def line(**extra: Any) -> dict[str, Any]:
    record = logging.LogRecord("aether", logging.INFO, "", 0, "applied", None, None)
    record.__dict__.update(extra)
    parsed: dict[str, Any] = json.loads(logs.JsonFormatter().format(record))
    return parsed


def test_log_line_is_an_event_with_keys_and_its_reconcile() -> None:
    token = logs.CONTEXT.set({"key": "TradingPlatform/aether/paper", "reconcile_id": "abc"})
    try:
        logged = line(child="Secret x")
    finally:
        logs.CONTEXT.reset(token)
    assert (logged["event"], logged["level"], logged["child"]) == ("applied", "info", "Secret x")
    assert (logged["key"], logged["reconcile_id"]) == ("TradingPlatform/aether/paper", "abc")
    assert "key" not in line()


def a_health(*, leading: bool, silent_for: float = 0.0, lag: float = 0.0) -> health.Health:
    freshness = Freshness()
    freshness.expect("/api/v1/namespaces/aether/secrets")
    freshness.last_received = {
        path: last_received - silent_for for path, last_received in freshness.last_received.items()
    }
    return health.Health(freshness=freshness, leading=lambda: leading, worst_lag=lag)


def test_leader_with_a_silent_watch_is_not_alive() -> None:
    assert a_health(leading=True, silent_for=74).problems() == []
    (problem,) = a_health(leading=True, silent_for=76).problems()
    assert problem.startswith("watch /api/v1/namespaces/aether/secrets: silent for 76")


def test_metrics_have_no_age_for_kinds_no_longer_watched() -> None:
    def age() -> float | None:
        path = {"path": "/api/v1/namespaces/aether/secrets"}
        return prometheus_client.REGISTRY.get_sample_value("aether_operator_watch_age_seconds", path)

    one = a_health(leading=True, silent_for=50)
    one.update_watch_ages()
    reported = age()
    assert reported is not None
    assert reported > 49
    one.freshness.forget("/api/v1/namespaces/aether/secrets")
    one.update_watch_ages()
    assert age() is None


def test_standby_watches_nothing_and_is_alive() -> None:
    assert a_health(leading=False, silent_for=1000).problems() == []


def test_late_event_loop_is_not_alive_leader_or_not() -> None:
    (problem,) = a_health(leading=False, lag=11).problems()
    assert problem == "loop: 11.0 s late"


def test_only_watched_paths_have_an_age() -> None:
    freshness = Freshness()
    freshness.record("/version")
    assert freshness.ages() == {}


async def test_watch_is_alive_with_every_chunk_received() -> None:
    """The chunks of a response that does not end, as Kopf reads them."""
    freshness, path, ages = Freshness(), "/watched", []
    send = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(2):
            await send.wait()
            send.clear()
            await response.write(b"{}\n")
        return response

    app = web.Application()
    app.router.add_get(path, stream)
    async with (
        test_utils.TestServer(app) as server,
        aiohttp.ClientSession(trace_configs=[freshness.trace_config()]) as client,
        client.get(server.make_url(path)) as response,
    ):
        freshness.last_received[path] = -1000.0  # long ago
        send.set()
        async for _ in response.content.iter_chunked(1024):
            ages.append(freshness.ages()[path])
            freshness.last_received[path] = -1000.0
            send.set()
    assert len(ages) == 2
    assert max(ages) < 60


async def test_probes_and_metrics_are_served() -> None:
    one = a_health(leading=True, silent_for=100)
    async with one.serve(0) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
        live, ready, metrics = [await client.get(path) for path in ("/livez", "/readyz", "/metrics")]
        assert (live.status, ready.status, metrics.status) == (503, 200, 200)
        assert "silent for 100 s" in await live.text()
        assert await ready.text() == "leading\n"
        assert "aether_operator_workqueue_depth" in await metrics.text()


async def test_health_is_served_on_each_family_of_the_machine() -> None:
    async with a_health(leading=False).serve(0) as port, aiohttp.ClientSession() as client:
        for address in address_families.LOOPBACKS:
            async with client.get(f"http://{address}:{port}/readyz") as response:
                assert response.status == 200
