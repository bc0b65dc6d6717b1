"""Services on a real node, in the operator's StatefulSets; and how new settings reach a pod's file."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from kubernetes.aio import client, config

from aether_cli import market_data
from aether_operator import desired
from aether_operator.api import labels
from aether_operator.api.platforms import Platform, Server
from aether_operator.api.reasons import Reason
from aether_operator.catalog import components, names
from aether_operator.catalog.components import Component
from aether_operator.catalog.releases import Release
from aether_operator.kube import api_client
from aether_operator.observed import kinds
from aether_operator.status import components as component_status
from aether_operator.status.components.exchange_sim import VenueReport
from aether_testing import wait
from aether_testing.values import builders, observations

if TYPE_CHECKING:
    from aether_cli.local.startup import Cluster
    from aether_testing.cluster.namespaces import Namespace

PROMPTLY: Final = 20.0
"""Seconds; without a config sync a kubelet updates the files of a pod every sixty to ninety."""
ROUNDS: Final = 5


def _children(component: Component, platform: Platform, cluster: Cluster) -> list[dict[str, Any]]:
    release = Release(
        images={one: cluster.images[one.value] for one in Server}, service_image=cluster.images["service"]
    )
    made = desired.children(platform, observations.empty(), release, observations.tokens())
    name = components.COMPONENTS[component].name
    mine = [one for one in made if one["metadata"]["labels"][labels.COMPONENT] == name]
    for child in mine:
        child["metadata"].pop("ownerReferences", None)  # no platform object exists here
    return mine


def _until_ready(namespace: Namespace, pod: str, other_than: str = "") -> str:
    def holds(seen: dict[str, dict[str, Any]]) -> bool:
        return any(
            one["metadata"]["uid"] != other_than
            and any((c["type"], c["status"]) == ("Ready", "True") for c in one["status"].get("conditions", []))
            for one in seen.values()
        )

    seen = namespace.until(
        holds, "pods", f"--field-selector=metadata.name={pod}", deadline=120, expected=f"{pod} is Ready"
    )
    return str(next(iter(seen.values()))["metadata"]["uid"])


def test_simulated_venue_reports_its_status_and_keeps_its_trades(node: Cluster, node_namespace: Namespace) -> None:
    platform = observations.a_platform("one", node_namespace.name, components={"exchangeSim": {"speed": 10}})
    node_namespace.apply(*_children(Component.EXCHANGE_SIM, platform, node))
    pod = names.component_pod(platform, Component.EXCHANGE_SIM, 0)
    first = _until_ready(node_namespace, pod)

    def status() -> dict[str, Any]:
        return node.kubectl.raw(market_data.proxy_path(node_namespace.name, pod, "status"), deadline=10)

    text = node.kubectl.text("get", "--raw", market_data.proxy_path(node_namespace.name, pod, "status"))
    report = component_status.read(text, Component.EXCHANGE_SIM)
    assert report == VenueReport(reason=Reason.READY, ready=True, system="online")
    assert status()["instance"] == pod
    assert status()["release"] == node.images["service"].rpartition(":")[2]
    before = wait.until(lambda: status()["trades"], "something is traded", seconds=60)
    node_namespace.text("delete", "pod", pod)
    _until_ready(node_namespace, pod, other_than=first)
    assert status()["trades"] >= before


def test_config_sync_updates_the_mounted_settings_at_once(node: Cluster, node_namespace: Namespace) -> None:
    pod = builders.a_pod("sleep", "1000", image=node.images["base"])
    pod["volumes"] = [{"name": "settings", "configMap": {"name": "some"}}]
    pod["containers"][0]["volumeMounts"] = [
        {"name": "settings", "mountPath": components.SETTINGS_PATH, "readOnly": True}
    ]
    node_namespace.apply(
        builders.a_config_map(**{components.SETTINGS_KEY: "0"}),
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": pod},
    )
    uid = _until_ready(node_namespace, "one")

    async def written(number: int) -> None:
        """The operator's two writes, in sequence."""
        found = client.Configuration(retries=False)
        await config.load_kube_config(str(node.kubeconfig), client_configuration=found)
        api = api_client.Api(configuration=found)
        thing = {"apiVersion": "v1", **builders.a_config_map(**{components.SETTINGS_KEY: str(number)})}
        await api.apply(kinds.CONFIG_MAPS, thing, node_namespace.name)
        notes = {labels.SETTINGS: str(number)}
        await api.annotate(kinds.PODS, node_namespace.name, "one", uid=uid, annotations=notes)
        await api.close()

    def mounted() -> str:
        path = f"{components.SETTINGS_PATH}/{components.SETTINGS_KEY}"
        return node_namespace.text("exec", "one", "--", "cat", path)

    for number in range(1, ROUNDS + 1):
        asyncio.run(written(number))
        began = time.monotonic()
        wait.until(lambda: mounted() == str(number), "the kubelet has updated the file", seconds=PROMPTLY)  # noqa: B023
        print(f"round {number}: {time.monotonic() - began:.2f} s")
