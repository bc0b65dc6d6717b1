"""The children of a platform's components."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest

from aether_operator import desired
from aether_operator.api import labels
from aether_operator.api.platforms import Server
from aether_operator.catalog import call_graph, components, names, servers
from aether_operator.catalog.components import COMPONENTS, Component
from aether_operator.desired import configmaps, networkpolicies
from aether_operator.observed import child_refs, kinds
from aether_operator.observed.kinds import Ref
from aether_operator.observed.server_owners import Ownership
from aether_testing.values import observations, policies

if TYPE_CHECKING:
    from aether_operator.api.platforms import Platform
    from aether_operator.observed.kinds import Manifest
    from aether_operator.observed.platforms import ObservedPlatform

KRAKEN: dict[str, Any] = {"venue": {"name": "Kraken"}}
INGEST, EXCHANGE = Ref("StatefulSet", "paper-ingest"), Ref("StatefulSet", "paper-exchange")


def _children(platform: Platform, observed: ObservedPlatform | None = None, **release: Any) -> dict[Ref, Manifest]:
    observed = observations.created(platform) if observed is None else observed
    children = desired.children(platform, observed, observations.a_release(**release), observations.tokens("n"))
    return {kinds.ref(one): one for one in children}


def _pod(children: dict[Ref, Manifest], which: Ref = INGEST) -> dict[str, Any]:
    pod: dict[str, Any] = children[which]["spec"]["template"]["spec"]
    return pod


def _container(children: dict[Ref, Manifest], which: Ref = INGEST) -> dict[str, Any]:
    (container,) = _pod(children, which)["containers"]
    found: dict[str, Any] = container
    return found


def _env(children: dict[Ref, Manifest], which: Ref = INGEST) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in _container(children, which)["env"]}


def test_simulated_platform_has_its_own_venue_and_kraken_has_none() -> None:
    paper, real = _children(observations.a_platform()), _children(observations.a_platform(**KRAKEN))
    assert {INGEST, EXCHANGE} <= set(paper)
    assert INGEST in real
    assert {ref for ref in real if "exchange" in ref.name} == set()
    assert set(real) == set(desired.child_refs(observations.a_platform(**KRAKEN)))


@pytest.mark.parametrize(
    ("spec", "websocket", "rest"),
    [
        ({}, "ws://paper-exchange.desk.svc:8000/v2", "http://paper-exchange.desk.svc:8000"),
        (KRAKEN, "wss://ws.kraken.com/v2", "https://api.kraken.com"),
    ],
)
def test_ingest_gets_the_venue_and_its_address(spec: dict[str, Any], websocket: str, rest: str) -> None:
    env = _env(_children(observations.a_platform(**spec)))
    assert (env["AETHER_VENUE_WS_URL"], env["AETHER_VENUE_REST_URL"]) == (websocket, rest)
    assert env["AETHER_VENUE"] == spec.get("venue", {}).get("name", "Simulated")


def test_ingest_gets_server_addresses_and_how_to_connect() -> None:
    managed, external = (
        _env(_children(observations.a_platform())),
        _env(_children(observations.an_external_platform())),
    )
    assert {key: managed[f"AETHER_KAFKA_{key}"] for key in ("HOST", "PORT", "TLS", "CREDENTIALS")} == {
        "HOST": "paper-kafka.desk.svc", "PORT": "9092", "TLS": "Disabled", "CREDENTIALS": "/credentials/kafka",
    }  # fmt: skip
    assert {key: external[f"AETHER_POSTGRES_{key}"] for key in ("HOST", "PORT", "TLS", "DATABASE")} == {
        "HOST": "postgres.example.org", "PORT": "1000", "TLS": "Verify", "DATABASE": "desk",
    }  # fmt: skip
    assert managed["AETHER_POSTGRES_DATABASE"] == "aether"
    assert not [name for name in managed if "REDIS" in name]


def test_each_replica_knows_its_name_its_peers_and_release() -> None:
    children = _children(observations.a_platform())
    first = _container(children)["env"][0]
    assert first == {"name": "AETHER_INSTANCE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    env = _env(children)
    assert env["AETHER_PEER_URL"] == "http://paper-ingest-{replica}.paper-ingest.desk.svc:8000"
    assert env["AETHER_PEER_URL"].format(replica=1) == "http://paper-ingest-1.paper-ingest.desk.svc:8000"
    assert env["AETHER_RELEASE"] == "1"


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("images.example.org/service:1.2", "1.2"),
        ("localhost:5000/aether/service", "latest"),
        ("localhost/aether/service:0123456789ab", "0123456789ab"),
        ("a/service:1@sha256:0123456789abcdef", "0123456789ab"),
    ],
)
def test_release_version_is_the_image_tag(image: str, version: str) -> None:
    assert observations.a_release(service_image=image).version == version
    env = _env(_children(observations.a_platform(), service_image=image))
    assert env["AETHER_RELEASE"] == version


def test_simulated_venue_gets_its_feed_speed_and_journal_path() -> None:
    children = _children(observations.a_platform(components={"exchangeSim": {"speed": 4, "storage": "2048Mi"}}))
    env = _env(children, EXCHANGE)
    assert (env["AETHER_FEED"], env["AETHER_SPEED"], env["AETHER_JOURNAL"]) == (
        "Synthetic", "4", "/data/journal.sqlite",
    )  # fmt: skip
    claim = children[Ref("PersistentVolumeClaim", "paper-exchange-data")]
    assert claim["spec"]["resources"] == {"requests": {"storage": "2Gi"}}
    assert claim["metadata"].get("ownerReferences", []) == []
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "paper-exchange-data"}} in _pod(children, EXCHANGE)[
        "volumes"
    ]


@pytest.mark.parametrize(("part", "which"), [("ingest", INGEST), ("exchangeSim", EXCHANGE)])
def test_resources_of_the_spec_reach_the_pod(part: str, which: Ref) -> None:
    requested = {"requests": {"cpu": "0.25"}, "limits": {"memory": "2048Mi"}}
    container = _container(_children(observations.a_platform(components={part: {"resources": requested}})), which)
    assert container["resources"]["requests"]["cpu"] == "250m"
    assert container["resources"]["limits"] == {"memory": "2Gi"}


# Ownership of the servers.


def _moved_server(server: Server) -> dict[str, Any]:
    """An External data plane with one server at another address, with another login."""
    part = observations.EXTERNAL[server.value]
    place = {**part["external"], "host": "elsewhere.example.org", "secretName": "another-login"}
    return {**observations.EXTERNAL, server.value: {**part, "external": place}}


UNSURE = sorted(set(Ownership) - {Ownership.OURS})
USES = [(component, server) for component, row in COMPONENTS.items() for server in row.servers]
"""Each component with each server that it needs."""


def _with_ownership(observed: ObservedPlatform, ownership: Ownership | None, *which: Server) -> ObservedPlatform:
    """Observed state with this ownership of the servers; None if it is unknown."""
    kept = {server: one for server, one in observed.owners.items() if server not in which}
    return dataclasses.replace(observed, owners=kept | ({} if ownership is None else dict.fromkeys(which, ownership)))


@pytest.mark.parametrize("ownership", [None, *UNSURE])
@pytest.mark.parametrize(("component", "server"), USES)
def test_component_starts_only_once_we_own_each_server(
    component: Component, server: Server, ownership: Ownership | None
) -> None:
    platform = observations.a_platform()
    workload = child_refs.component_stateful_set(component, platform)
    observed = observations.without(observations.created(platform), workload)
    children = _children(platform, _with_ownership(observed, ownership, server))
    assert workload not in children
    assert EXCHANGE in children
    assert workload in _children(platform, observed)


def test_ingest_start_ignores_servers_it_does_not_use() -> None:
    platform = observations.a_platform()
    observed = _with_ownership(
        observations.without(observations.created(platform), INGEST), Ownership.OWNED_BY_ANOTHER, Server.REDIS
    )
    assert INGEST in _children(platform, observed)


@pytest.mark.parametrize("ownership", [None, Ownership.UNCLAIMED, Ownership.UNKNOWN])
def test_running_components_stay_while_server_ownership_is_unknown(ownership: Ownership | None) -> None:
    for platform in (observations.a_platform(), observations.an_external_platform()):
        observed = observations.created(platform)
        assert (
            _children(platform, _with_ownership(observed, ownership, *Server))[INGEST]
            == _children(platform, observed)[INGEST]
        )


@pytest.mark.parametrize(("component", "server"), USES)
def test_running_component_is_stopped_once_another_owns_a_server(component: Component, server: Server) -> None:
    platform = observations.an_external_platform()
    children = _children(platform, _with_ownership(observations.created(platform), Ownership.OWNED_BY_ANOTHER, server))
    workload = child_refs.component_stateful_set(component, platform)
    assert workload not in children
    assert {*child_refs.of_component(component, platform), EXCHANGE} - {workload} <= set(children)


@pytest.mark.parametrize("ownership", [None, *UNSURE])
@pytest.mark.parametrize("server", [Server.KAFKA, Server.NATS])
def test_edited_address_reaches_ingest_only_once_we_own_the_server(server: Server, ownership: Ownership | None) -> None:
    before = observations.an_external_platform()
    observed = observations.created(before)
    edited = observations.a_platform(dataPlane=_moved_server(server), components={"ingest": {"replicas": 2}})
    observed = dataclasses.replace(observed, secrets=observations.user_secrets(edited))
    unconfirmed = _children(edited, _with_ownership(observed, ownership, server))
    assert _env(unconfirmed) == _env(_children(before))
    assert _pod(unconfirmed)["volumes"] == _pod(_children(before))["volumes"]
    assert unconfirmed[INGEST]["spec"]["replicas"] == 2, "the rest of the edit takes effect"
    confirmed = _children(edited, observed)
    assert _env(confirmed)[f"AETHER_{server.upper()}_HOST"] == "elsewhere.example.org"
    assert "another-login" in json.dumps(_pod(confirmed)["volumes"])


@pytest.mark.parametrize(("component", "server"), USES)
def test_component_for_another_venue_waits_until_servers_are_ours(component: Component, server: Server) -> None:
    observed = observations.created(observations.an_external_platform())
    recreated = observations.an_external_platform(**KRAKEN)
    workload = child_refs.component_stateful_set(component, recreated)
    for ownership in (None, *UNSURE):
        assert workload not in _children(recreated, _with_ownership(observed, ownership, server))
    assert _env(_children(recreated, observed), workload)["AETHER_VENUE"] == "Kraken"
    assert workload in _children(observations.an_external_platform(), _with_ownership(observed, None, *Server))


def test_address_is_withheld_from_ingest_until_we_own_the_server() -> None:
    platform = observations.an_external_platform()
    observed = observations.created(platform)
    live = json.loads(json.dumps(observed.children[INGEST]))
    (container,) = live["spec"]["template"]["spec"]["containers"]
    container["env"] = [one for one in container["env"] if one["name"] != "AETHER_KAFKA_HOST"]
    observed = observations.with_objects(observed, live)
    assert "AETHER_KAFKA_HOST" not in _env(_children(platform, _with_ownership(observed, None, Server.KAFKA)))
    assert _env(_children(platform, observed))["AETHER_KAFKA_HOST"] == "kafka.example.org"


# Live settings.


def _settings(**spec: Any) -> Manifest:
    return _children(observations.a_platform(**spec))[Ref("ConfigMap", "paper-ingest-settings")]


def test_live_settings_are_one_json_line_in_a_fixed_order() -> None:
    config_map = _settings(pairs=["ETH/USD", "BTC/USD"], components={"ingest": {"replicas": 2}})
    text = '{"version":1,"pairs":["BTC/USD","ETH/USD"],"replicas":2}'
    assert config_map["data"] == {"live.json": text}
    assert config_map == _settings(pairs=["BTC/USD", "ETH/USD"], components={"ingest": {"replicas": 2}})
    assert config_map["metadata"]["annotations"] == {labels.SETTINGS: configmaps.digest(text)}
    assert configmaps.digest(text) == "c4ea61122bf5"


def test_default_pairs_are_those_of_the_simulated_venue() -> None:
    pairs = json.loads(_settings()["data"]["live.json"])["pairs"]
    assert len(pairs) == 10
    assert pairs == sorted(pairs)


@pytest.mark.parametrize("spec", [{"pairs": ["BTC/USD"]}, {"components": {"ingest": {"replicas": 5}}}])
def test_pod_template_contains_neither_pairs_nor_replicas(spec: dict[str, Any]) -> None:
    usual, other = _children(observations.a_platform()), _children(observations.a_platform(**spec))
    assert other[INGEST]["spec"]["template"] == usual[INGEST]["spec"]["template"]
    assert other[EXCHANGE] == usual[EXCHANGE]


def test_replicas_follow_the_spec_and_several_get_a_disruption_budget() -> None:
    one, three = (_children(observations.a_platform(components={"ingest": {"replicas": count}})) for count in (1, 3))
    budget = Ref("PodDisruptionBudget", "paper-ingest")
    assert (one[INGEST]["spec"]["replicas"], three[INGEST]["spec"]["replicas"]) == (1, 3)
    assert budget not in one
    assert three[budget]["spec"]["maxUnavailable"] == 1
    assert three[budget]["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert three[budget]["spec"]["selector"] == three[INGEST]["spec"]["selector"]
    assert three[INGEST]["spec"]["podManagementPolicy"] == "Parallel"


# Pods.


def test_service_pod_is_restricted_and_its_argument_names_the_service() -> None:
    children = _children(observations.a_platform(), service_image="images.example.org/service:7")
    for component, run in COMPONENTS.items():
        which = Ref("StatefulSet", f"paper-{run.name}")
        pod, container = _pod(children, which), _container(children, which)
        assert (container["image"], container["args"]) == ("images.example.org/service:7", [component.value])
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsUser"] == servers.USER
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert pod["terminationGracePeriodSeconds"] == 30
        assert container["ports"] == [{"name": "http", "containerPort": 8000, "protocol": "TCP"}]
        for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
            assert container[probe]["httpGet"] == {"path": path, "port": "http"}
            assert container[probe]["failureThreshold"] >= 3


def test_readiness_is_probed_each_second_and_lost_after_fifteen() -> None:
    children = _children(observations.a_platform())
    for run in COMPONENTS.values():
        container = _container(children, Ref("StatefulSet", f"paper-{run.name}"))
        probe = {key: value for key, value in container["readinessProbe"].items() if key != "httpGet"}
        assert probe == {"periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 15}
        alive = container["livenessProbe"]
        assert alive["periodSeconds"] * alive["failureThreshold"] == 60
        assert alive["timeoutSeconds"] == container["startupProbe"]["timeoutSeconds"] == 5


def test_credentials_are_files_per_server_and_nothing_else_is_mounted() -> None:
    for platform, kafka in (
        (observations.a_platform(), "paper-kafka"),
        (observations.an_external_platform(), "my-kafka"),
    ):
        children = _children(platform)
        (volume,) = [one for one in _pod(children)["volumes"] if one["name"] == "credentials"]
        found = {
            (source["secret"]["name"], item["key"], item["path"], source["secret"].get("optional", False))
            for source in volume["projected"]["sources"]
            for item in source["secret"]["items"]
        }
        assert {one for one in found if "kafka" in one[2]} == {
            (kafka, "username", "kafka/username", False),
            (kafka, "password", "kafka/password", False),
            (kafka, "ca.crt", "kafka/ca.crt", True),
        }
        assert {one[0] for one in found if one[2].startswith("postgres/")} == {"paper-postgres-ingest"}
        assert {"name": "credentials", "mountPath": "/credentials", "readOnly": True} in _container(children)[
            "volumeMounts"
        ]


def test_service_pod_has_scrape_annotations_without_credentials_or_settings() -> None:
    children = _children(observations.a_platform())
    for run in COMPONENTS.values():
        template = children[Ref("StatefulSet", f"paper-{run.name}")]["spec"]["template"]
        assert template["metadata"]["annotations"] == {
            "prometheus.io/scrape": "true", "prometheus.io/port": "8000", "prometheus.io/path": "/metrics",
        }  # fmt: skip


@pytest.mark.parametrize("secret", [None, {"username": "u"}])
def test_component_waits_for_a_user_secret_but_keeps_running(secret: dict[str, str] | None) -> None:
    platform = observations.an_external_platform()
    there = observations.created(platform)
    lacking = dataclasses.replace(there, secrets={**there.secrets, "my-kafka": secret})
    assert INGEST in _children(platform, lacking)
    assert INGEST not in _children(platform, observations.without(lacking, INGEST))
    assert EXCHANGE in _children(platform, observations.without(lacking, INGEST, EXCHANGE))


@pytest.mark.parametrize("secret", ["paper-nats", "paper-postgres-ingest"])
def test_component_is_not_started_with_foreign_credentials(secret: str) -> None:
    platform = observations.a_platform()
    foreign = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret, "labels": {}}, "data": {}}
    observed = observations.without(observations.with_objects(observations.created(platform), foreign), INGEST)
    assert INGEST not in _children(platform, observed)


def test_peers_have_unique_names_and_the_venue_an_address() -> None:
    children = _children(observations.a_platform())
    headless, before = children[Ref("Service", "paper-ingest")], children[Ref("Service", "paper-exchange")]
    assert (headless["spec"]["clusterIP"], headless["spec"]["publishNotReadyAddresses"]) == ("None", True)
    assert children[INGEST]["spec"]["serviceName"] == headless["metadata"]["name"]
    assert "clusterIP" not in before["spec"]


# Network policies.


def _cluster(*platforms: Platform) -> tuple[policies.Evaluator, list[policies.Pod]]:
    around = [
        child for platform in platforms for ref, child in _children(platform).items() if ref.kind == "NetworkPolicy"
    ]
    known = {name: {networkpolicies.NAMESPACE_NAME: name} for name in ("desk", "other", "aether-system")}
    pods = [
        policies.Pod(platform.namespace, f"{platform.name}-{component}-0", labels.for_child(platform.owner, component))
        for platform in platforms
        for component in call_graph.CALLERS
    ]
    return policies.Evaluator(tuple(around), known), pods


OPERATOR = policies.Pod("aether-system", "operator", dict(labels.OPERATOR_POD))
UNRELATED = policies.Pod("other", "unrelated", {"app": "browser"})
PORTS = sorted({components.PORT, *(row.port for row in servers.SERVERS.values())})


def test_components_of_two_platforms_reach_only_what_they_call() -> None:
    paper, live = observations.a_platform(), observations.a_platform(name="live", **KRAKEN)
    cluster, pods = _cluster(paper, live)
    found = {
        (source.partition("/")[2], target.partition("/")[2], port)
        for source, target, port in cluster.reachable([*pods, OPERATOR, UNRELATED], PORTS)
        if target.endswith("-0") and not target.endswith("live-exchange-0")
    }
    expected = set()
    for platform in (paper, live):
        pods_of = {one: names.component_pod(platform, one, 0) for one in child_refs.components_of(platform)}
        expected |= {
            ("operator", names.server_pod(platform, server), row.port) for server, row in servers.SERVERS.items()
        }
        for component, pod in pods_of.items():
            definition = COMPONENTS[component]
            expected.add(("operator", pod, 8000))
            expected |= {
                (pod, names.server_pod(platform, one), servers.SERVERS[one].port) for one in definition.servers
            }
            expected |= {
                (pod, pods_of[one], 8000) for one in definition.calls if one in pods_of and one is not component
            }
            expected |= {("unrelated", pod, 8000)} if definition.public else set()
    assert {("paper-ingest-0", "paper-exchange-0", 8000), ("unrelated", "live-ingest-0", 8000)} < expected
    # A pod without a policy here, of the other platform's venue, may call anybody.
    assert {one for one in found if one[0] != "live-exchange-0"} == expected


def test_replicas_of_ingest_reach_each_other() -> None:
    cluster, _ = _cluster(observations.a_platform())
    one, other = (
        policies.Pod("desk", f"paper-ingest-{n}", labels.for_child(observations.an_owner("paper"), "ingest"))
        for n in (0, 1)
    )
    assert cluster.allows(one, other, 8000)
    assert not cluster.allows(one, other, 8001)


def _egress(**spec: Any) -> list[dict[str, Any]]:
    policy = _children(observations.a_platform(**spec))[Ref("NetworkPolicy", "paper-ingest")]
    found: list[dict[str, Any]] = policy["spec"]["egress"]
    return found


def test_only_ingest_at_a_real_venue_reaches_the_public_internet() -> None:
    def blocks(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [peer["ipBlock"] for rule in rules for peer in rule.get("to", []) if "ipBlock" in peer]

    assert blocks(_egress()) == []
    observed = {one["cidr"]: one["except"] for one in blocks(_egress(**KRAKEN))}
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(observed["0.0.0.0/0"])
    assert "fc00::/7" in observed["::/0"]
    (rule,) = [rule for rule in _egress(**KRAKEN) if any("ipBlock" in peer for peer in rule.get("to", []))]
    assert rule["ports"] == [{"port": 443, "protocol": "TCP"}]
    exchange = _children(observations.a_platform())[Ref("NetworkPolicy", "paper-exchange")]
    assert "egress" not in exchange["spec"]


def test_external_server_is_reached_at_its_port_with_dns_allowed() -> None:
    open_ports = [rule["ports"] for rule in _egress(dataPlane=observations.EXTERNAL) if "to" not in rule]
    assert [{"port": 1001, "protocol": "TCP"}] in open_ports
    assert [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}] in open_ports
    assert [rule for rule in _egress() if "to" not in rule] == [
        {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    ]


def test_families_of_components_are_exactly_their_children() -> None:
    specs: list[dict[str, Any]] = [{}, KRAKEN, {"components": {"ingest": {"replicas": 2}}}]
    for spec in specs:
        platform = observations.a_platform(**spec)
        named = {run.name for run in COMPONENTS.values()}
        refs = {
            ref for ref, child in _children(platform).items() if child["metadata"]["labels"][labels.COMPONENT] in named
        }
        assert refs == {ref for component in Component for ref in child_refs.of_component(component, platform)}
        assert {names.component_child(platform, component) for component in child_refs.components_of(platform)} == {
            ref.name for ref in refs if ref.kind == "StatefulSet"
        }


def test_every_server_a_component_needs_admits_it() -> None:
    for run in COMPONENTS.values():
        for server in Server:
            assert (run.name in call_graph.CALLERS[server.value]) is (server in run.servers)
