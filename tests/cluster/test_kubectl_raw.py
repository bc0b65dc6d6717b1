"""The real kubectl with a path of the pod proxy: its error for a path that the pod does not serve."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from aiohttp import test_utils, web

from aether_cli import kubectl_client, market_data, problems

if TYPE_CHECKING:
    from pathlib import Path

    from aether_cli.local.startup import Cluster


async def _answer(request: web.Request) -> web.StreamResponse:
    match request.match_info["what"]:
        case "served":
            return web.json_response({"usable": True})
        case "unserved":
            return web.json_response({"detail": "this replica does not serve it"}, status=404)
        case _:
            return web.json_response({"detail": "a fault"}, status=500)


async def test_unknown_path_is_distinguished_from_a_failing_pod(control_plane: Cluster, tmp_path: Path) -> None:
    app = web.Application()
    app.router.add_get("/api/v1/namespaces/trading/pods/one:8000/proxy/{what}", _answer)
    async with test_utils.TestServer(app) as server:
        config = tmp_path / "config"
        config.write_text(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
            "contexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\n"
            f"clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{server.port}'}}}}]\n"
        )
        kubectl = kubectl_client.Kubectl(program=control_plane.programs["kubectl"], kubeconfig=config)

        async def raw(what: str) -> object:
            return await asyncio.to_thread(kubectl.raw, market_data.proxy_path("trading", "one", what), deadline=10)

        assert await raw("served") == {"usable": True}
        with pytest.raises(kubectl_client.NotFound):
            await raw("unserved")
        with pytest.raises(problems.ProgramFailed) as broken:
            await raw("broken")
        assert not isinstance(broken.value, kubectl_client.NotFound)


def test_deleted_pod_is_not_found(control_plane: Cluster) -> None:
    with pytest.raises(kubectl_client.NotFound):
        control_plane.kubectl.raw(market_data.proxy_path("default", "gone", "status"), deadline=10)
