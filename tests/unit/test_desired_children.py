"""The children of a platform's servers."""

from __future__ import annotations

import base64
import copy
import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from aether_operator import desired
from aether_operator.api import labels
from aether_operator.api.platforms import MAX_DATABASE_LENGTH, Managed, Platform, Server
from aether_operator.api.reasons import Reason
from aether_operator.catalog import call_graph, components, names, servers
from aether_operator.catalog.logins import DatabaseUser
from aether_operator.desired import networkpolicies, quantities
from aether_operator.observed import child_refs, kinds
from aether_operator.observed.kinds import Manifest, Ref
from aether_testing.values import observations, policies

if TYPE_CHECKING:
    from aether_operator.observed.platforms import ObservedPlatform

NOTHING = observations.empty()


def _children(platform: Platform, observed: ObservedPlatform = NOTHING, **release: Any) -> dict[Ref, Manifest]:
    manifests = desired.children(platform, observed, observations.a_release(**release), observations.tokens("n"))
    return {kinds.ref(one): one for one in manifests}


def _stateful_set(children: dict[Ref, Manifest], name: str = "paper-postgres") -> Manifest:
    return children[Ref("StatefulSet", name)]


def _credentials_id(thing: Manifest) -> str:
    word: str = thing["metadata"]["annotations"][labels.CREDENTIALS]
    return word


def test_managed_platform_has_five_children_per_server_logins_and_services() -> None:
    platform = observations.a_platform()
    children = _children(platform)
    of_servers = {ref for server in Server for ref in child_refs.of_server(server, platform)}
    of_components = {ref for component in components.Component for ref in child_refs.of_component(component, platform)}
    assert set(children) == of_servers | of_components == set(desired.child_refs(platform))
    assert len([ref for ref in of_servers if "Secret" not in ref.kind]) == 4 * 4
    # Service, NetworkPolicy and StatefulSet; the venue has a claim, ingest has settings.
    assert len(of_components) == 3 * len(components.Component) + 1 + 1


def test_external_platform_has_only_logins_and_services() -> None:
    platform = observations.an_external_platform()
    children = _children(platform, observations.created(platform))
    rest = {ref for ref in children if ref.kind != "Secret"}
    assert rest == {ref for component in components.Component for ref in child_refs.of_component(component, platform)}
    assert all(ref.name.startswith("paper-postgres-") for ref in children if ref.kind == "Secret")


def test_same_observation_gives_the_same_children() -> None:
    platform = observations.a_platform()
    observed = observations.created(platform)
    assert _children(platform, observed) == _children(platform, observed)


def test_only_data_and_credentials_outlive_the_platform() -> None:
    for ref, child in _children(observations.a_platform()).items():
        owners = child["metadata"].get("ownerReferences", [])
        if ref.kind in {"Secret", "PersistentVolumeClaim"}:
            assert owners == []
        else:
            (owner,) = owners
            assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (
                "uid-of-desk-paper", True, False,
            )  # fmt: skip


def test_extra_labels_reach_children_and_pods_but_never_override_ours() -> None:
    extra = {"team": "desk", labels.PLATFORM: "stolen"}
    children = _children(observations.a_platform(), extra_labels=extra)
    pods = [one["spec"]["template"] for ref, one in children.items() if ref.kind == "StatefulSet"]
    for thing in [*children.values(), *pods]:
        assert thing["metadata"]["labels"]["team"] == "desk"
        assert thing["metadata"]["labels"][labels.PLATFORM] == "paper"


def test_every_service_is_dual_stack() -> None:
    found = [one for which, one in _children(observations.a_platform()).items() if which.kind == "Service"]
    assert len(found) == len(Server) + len(components.Component)
    assert {one["spec"]["ipFamilyPolicy"] for one in found} == {"PreferDualStack"}


def test_every_pod_is_restricted() -> None:
    for ref, child in _children(observations.a_platform()).items():
        if ref.kind != "StatefulSet":
            continue
        pod = child["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert {pod["securityContext"][key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {65532}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }


def test_recovering_server_has_a_day_and_postgres_is_never_killed() -> None:
    children = _children(observations.a_platform())
    for server in Server:
        (container,) = _stateful_set(children, f"paper-{server.value}")["spec"]["template"]["spec"]["containers"]
        startup = container["startupProbe"]
        assert startup["periodSeconds"] * startup["failureThreshold"] == 24 * 3600
        assert container["readinessProbe"]["exec"] == {"command": ["ready"]}
        assert ("livenessProbe" in container) is (server is not Server.POSTGRES)


def test_scheduling_settings_of_a_release_are_set_and_others_omitted() -> None:
    plain = _stateful_set(_children(observations.a_platform()))["spec"]["template"]["spec"]
    assert not {"imagePullSecrets", "nodeSelector", "tolerations", "priorityClassName"} & plain.keys()
    placed = _children(
        observations.a_platform(),
        image_pull_secrets=("pull",),
        node_selector={"pool": "data"},
        tolerations=({"key": "data", "operator": "Exists"},),
        priority_class_name="high",
    )
    pod = _stateful_set(placed)["spec"]["template"]["spec"]
    assert pod["imagePullSecrets"] == [{"name": "pull"}]
    assert pod["nodeSelector"] == {"pool": "data"}
    assert pod["tolerations"] == [{"key": "data", "operator": "Exists"}]
    assert pod["priorityClassName"] == "high"


def test_storage_and_resources_of_the_spec_reach_claim_and_pod() -> None:
    managed = {"storage": "2048Mi", "resources": {"requests": {"cpu": "0.5"}, "limits": {"memory": "2Gi"}}}
    children = _children(observations.a_platform(dataPlane={"postgres": {"managed": managed}}))
    claim = children[Ref("PersistentVolumeClaim", "paper-postgres-data")]
    assert claim["spec"]["resources"] == {"requests": {"storage": "2Gi"}}
    (container,) = _stateful_set(children)["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {"requests": {"cpu": "500m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}}


@pytest.mark.parametrize(
    ("requested", "expected"),
    [
        ({}, {"requests": "256Mi", "limits": "1Gi"}),
        ({"limits": {"memory": "128Mi"}}, {"requests": "128Mi", "limits": "128Mi"}),
        ({"requests": {"memory": "4Gi"}}, {"requests": "4Gi", "limits": "4Gi"}),
        ({"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}, {"requests": "2Gi", "limits": "1Gi"}),
    ],
)
def test_requested_resources_override_the_defaults(requested: Any, expected: dict[str, str]) -> None:
    merged = quantities.merged(Managed.model_validate({"resources": requested}).resources, _USUAL)
    assert {key: part["memory"] for key, part in merged.items()} == expected


_USUAL = servers.SERVERS[Server.POSTGRES].resources


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("1024Mi", "1Gi"), ("1.5Gi", "1536Mi"), ("0.5", "500m"), ("1000m", "1"), ("1500m", "1500m"), ("2000M", "2G"),
        ("1000", "1k"), ("0", "0"), ("0Gi", "0"), ("0.5Ki", "512"), ("0.1Gi", "107374182400m"), ("10Gi", "10Gi"),
        ("7Ei", "7Ei"), ("100Ei", str((1 << 63) - 1)), ("10000000001Ei", str((1 << 63) - 1)), ("100E", "100E"),
        ("9" * 20, "9" * 20), ("9" * 19 + "E", "9" * 19 + "E"), ("0." + "1" * 18, "112m"),
        ("9" * 19 + "m", "9" * 19 + "m"),
        ("1234567890.123456Gi", "1325607178192991230624m"), ("9999999999.5E", "9999999999500P"),
    ],
)  # fmt: skip
def test_quantities_are_sent_as_the_api_server_stores_them(written: str, stored: str) -> None:
    assert quantities.canonical(written) == stored
    assert quantities.canonical(stored) == stored


# Credentials.


def test_intact_credentials_are_kept_with_their_hash_on_the_pod() -> None:
    platform = observations.a_platform()
    first = observations.created(platform)
    again = _children(platform, first)
    for server in Server:
        secret = again[Ref("Secret", f"paper-{server.value}")]
        live = first.children[kinds.ref(secret)]
        assert (secret["data"], _credentials_id(secret)) == (live["data"], _credentials_id(live))
        assert _credentials_id(_stateful_set(again, f"paper-{server.value}")["spec"]["template"]) == _credentials_id(
            secret
        )


def _broken(live: Manifest, how: str) -> Manifest | None:
    encoded = base64.b64encode(b"chosen-by-somebody-0123456789abc").decode()
    match how:
        case "deleted":
            return None
        case "overwritten":
            return observations.overwritten(live, "data", "password", by=encoded)
        case "user overwritten":
            return observations.overwritten(live, "data", "username", by=encoded)
        case "id overwritten":
            return observations.overwritten(live, "metadata", "annotations", labels.CREDENTIALS, by="some-other-word")
        case "taken over with the same value":
            return observations.overwritten(live, "data", "password", by=live["data"]["password"])
        case "too short":
            data = {**live["data"], "password": base64.b64encode(b"short").decode()}
        case "not text":
            data = {**live["data"], "password": base64.b64encode(b"\xff" * 32).decode()}
        case "not base64":
            data = {**live["data"], "password": "%%%"}
        case _:
            data = {"username": live["data"]["username"]}
    return {**live, "data": data}


@pytest.mark.parametrize(
    "how",
    [
        "deleted", "overwritten", "user overwritten", "id overwritten", "taken over with the same value", "too short",
        "not text", "not base64", "no key",
    ],
)  # fmt: skip
def test_damaged_credentials_are_replaced_and_the_pod_changes_with_them(how: str) -> None:
    platform = observations.a_platform()
    first = observations.created(platform)
    ref = Ref("Secret", "paper-postgres")
    before = first.children[ref]
    broken = _broken(before, how)
    observed = observations.without(first, ref) if broken is None else observations.with_objects(first, broken)
    again = _children(platform, observed)
    assert again[ref]["data"]["username"] == before["data"]["username"]
    assert again[ref]["data"]["password"] != before["data"]["password"]
    assert _credentials_id(again[ref]) != _credentials_id(before)
    assert _credentials_id(_stateful_set(again)["spec"]["template"]) == _credentials_id(again[ref])
    others = [one for one in again if one.kind == "Secret" and one != ref]
    assert all(again[one]["data"] == first.children[one]["data"] for one in others)


def test_servers_are_not_started_with_foreign_credentials() -> None:
    foreign = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "paper-postgres", "labels": {}}, "data": {}}
    observed = observations.empty(children={Ref("Secret", "paper-postgres"): foreign})
    assert Ref("StatefulSet", "paper-postgres") not in _children(observations.a_platform(), observed)


def test_running_server_continues_while_its_secret_name_is_taken() -> None:
    platform = observations.a_platform()
    first = observations.created(platform)
    foreign = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "paper-postgres", "labels": {}}, "data": {}}
    again = _children(platform, observations.with_objects(first, foreign))
    assert _stateful_set(again)["spec"] == _stateful_set(_children(platform, first))["spec"]


def test_reader_login_has_the_address_of_the_database() -> None:
    managed = _children(observations.a_platform())[Ref("Secret", "paper-postgres-reader")]
    values = desired.decoded(managed)
    assert {key: values[key] for key in ("host", "port", "database", "username")} == {
        "host": "paper-postgres.desk.svc",
        "port": "5432",
        "database": "aether",
        "username": "aether_reader",
    }
    assert values["uri"] == (
        f"postgresql://aether_reader:{values['password']}@paper-postgres.desk.svc:5432/aether?sslmode=disable"
    )
    external = desired.decoded(_children(observations.an_external_platform())[Ref("Secret", "paper-postgres-reader")])
    assert external["username"] == "desk_reader"
    assert external["uri"].endswith("@postgres.example.org:1000/desk?sslmode=verify-full")


# Endpoints and logins.


def test_managed_server_is_reached_by_its_service_with_generated_login() -> None:
    platform = observations.a_platform()
    observed = observations.created(platform)
    found = desired.endpoint(Server.POSTGRES, platform, observed)
    assert not isinstance(found, desired.Missing)
    assert (found.host, found.port, found.username, found.database, found.tls) == (
        "paper-postgres.desk.svc", 5432, "aether", "aether", False,
    )  # fmt: skip
    assert found.password.text == desired.decoded(observed.children[Ref("Secret", "paper-postgres")])["password"]


def test_external_server_is_reached_with_the_address_and_login_given() -> None:
    platform = observations.an_external_platform()
    observed = observations.created(platform)
    found = desired.endpoint(Server.KAFKA, platform, observed)
    assert not isinstance(found, desired.Missing)
    assert (found.host, found.port, found.username, found.password.text, found.tls, found.ca) == (
        "kafka.example.org", 1001, "desk", "canary", True, "",
    )  # fmt: skip
    assert "canary" not in repr(found)


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        (None, desired.Missing(Reason.SECRET_MISSING, "Secret my-kafka does not exist")),
        (
            {"username": "u"},
            desired.Missing(Reason.SECRET_KEY_MISSING, "Secret my-kafka has no key password"),
        ),
        (
            {"username": "", "password": "p"},
            desired.Missing(Reason.SECRET_KEY_MISSING, "Secret my-kafka has no key username"),
        ),
        (
            {},
            desired.Missing(Reason.SECRET_KEY_MISSING, "Secret my-kafka has no key username and no key password"),
        ),
    ],
)
def test_missing_key_of_a_login_is_named(secret: dict[str, str] | None, expected: desired.Missing) -> None:
    platform = observations.an_external_platform()
    observed = dataclasses.replace(NOTHING, secrets={"my-kafka": secret})
    assert desired.endpoint(Server.KAFKA, platform, observed) == expected


def test_reader_login_has_the_ca_its_server_is_trusted_by() -> None:
    platform = observations.an_external_platform()
    secret = platform.spec.data_plane.postgres.external
    assert secret is not None
    keys = {"username": "desk", "password": "x", "ca.crt": "-----BEGIN CERTIFICATE-----"}
    observed = observations.empty(secrets={secret.secret_name: keys})
    values = desired.decoded(_children(platform, observed)[Ref("Secret", "paper-postgres-reader")])
    assert values["ca.crt"] == "-----BEGIN CERTIFICATE-----"
    assert "ca.crt" not in desired.decoded(_children(platform)[Ref("Secret", "paper-postgres-reader")])


def test_managed_server_without_its_secret_is_not_contacted() -> None:
    platform = observations.a_platform()
    assert desired.endpoint(Server.NATS, platform, NOTHING) == desired.Missing(
        Reason.PROGRESSING, "Secret paper-nats does not exist yet"
    )
    assert desired.database_logins(platform, NOTHING) == {}
    assert not desired.is_serving(Server.NATS, platform, NOTHING)
    observed = observations.created(platform)
    assert desired.is_serving(Server.NATS, platform, observed)
    found = desired.database_logins(platform, observed)
    assert {user: (login.username, login.kept_in) for user, login in found.items()} == {
        user: (f"aether_{user}", f"paper-postgres-{user}") for user in ("reader", "ingest", *DatabaseUser)
    }


def test_managed_server_without_a_pod_is_not_contacted() -> None:
    platform = observations.a_platform()
    observed = observations.healthy(platform)
    assert desired.is_serving(Server.NATS, platform, observed)
    live = copy.deepcopy(observed.children[Ref("StatefulSet", "paper-nats")])
    live["spec"]["replicas"] = 0
    assert not desired.is_serving(Server.NATS, platform, observations.with_objects(observed, live))


def test_role_that_fits_is_named_after_database_and_user() -> None:
    assert names.role("desk", "reader") == "desk_reader"
    assert names.role("d" * 56, "reader") == "d" * 56 + "_reader"


def test_longer_role_names_are_cut_stable_and_unique() -> None:
    databases = ["d" * (MAX_DATABASE_LENGTH - 1) + last for last in "ab"]
    roles = {names.role(database, user) for database in databases for user in DatabaseUser}
    assert len(roles) == len(databases) * len(DatabaseUser)
    assert {len(role.encode()) for role in roles} == {63}
    # It is in databases and Secrets: it never changes.
    assert names.role(databases[0], "reader") == "d" * 52 + "_d87964e18f"


def test_component_logs_in_to_postgresql_as_its_own_user() -> None:
    platform = observations.a_platform()
    for user, secret in ((DatabaseUser.READER, "paper-postgres-reader"), (None, None)):
        component = dataclasses.replace(components.COMPONENTS[components.Component.INGEST], database_user=user)
        assert names.component_login(platform, component, Server.POSTGRES) == secret
        assert names.component_login(platform, component, Server.KAFKA) == "paper-kafka"


# Network policies.


def _pods(platform: Platform) -> list[policies.Pod]:
    return [
        policies.Pod(
            platform.namespace, names.server_pod(platform, server), labels.for_child(platform.owner, server.value)
        )
        for server in Server
    ]


def test_only_call_graph_pairs_may_connect_across_two_namespaces() -> None:
    graph = {**call_graph.CALLERS, "redis": frozenset({call_graph.OPERATOR, "kafka"})}
    platforms = [
        observations.a_platform(),
        observations.a_platform(name="live"),
        observations.a_platform(namespace="other"),
    ]
    around = [
        networkpolicies.for_server(server, platform, observations.a_release(), graph)
        for platform, server in itertools.product(platforms, Server)
    ]
    operator = policies.Pod("aether-system", "operator", dict(labels.OPERATOR_POD))
    lookalike = policies.Pod("desk", "impostor", dict(labels.OPERATOR_POD))
    unrelated = policies.Pod("desk", "unrelated", {"app": "browser"})
    cluster = policies.Evaluator(
        tuple(around),
        {name: {networkpolicies.NAMESPACE_NAME: name} for name in ("desk", "other", "aether-system")},
    )
    pods = [operator, lookalike, unrelated, *(pod for platform in platforms for pod in _pods(platform))]
    ports = [row.port for row in servers.SERVERS.values()]
    into_platforms = {one for one in cluster.reachable(pods, ports) if one[1].count("/") and "-0" in one[1]}
    from_operator = {
        (
            "aether-system/operator",
            f"{platform.namespace}/{names.server_pod(platform, server)}",
            servers.SERVERS[server].port,
        )
        for platform, server in itertools.product(platforms, Server)
    }
    # Kafka may not call others even if they admit it: a caller needs egress too.
    assert into_platforms == from_operator
    outgoing = {one for one in cluster.reachable(pods, ports) if one[0].endswith("-0")}
    assert outgoing == set()


def test_server_without_permitted_callers_admits_nobody() -> None:
    graph = {**call_graph.CALLERS, "nats": frozenset()}
    policy = networkpolicies.for_server(Server.NATS, observations.a_platform(), observations.a_release(), graph)
    assert "ingress" not in policy["spec"]
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_call_graph_component_is_admitted_only_within_its_platform() -> None:
    graph = {**call_graph.CALLERS, "redis": frozenset({"oms"})}
    policy = networkpolicies.for_server(Server.REDIS, observations.a_platform(), observations.a_release(), graph)
    cluster = policies.Evaluator((policy,), {"desk": {}, "other": {}})
    (redis,) = [pod for pod in _pods(observations.a_platform()) if pod.name.endswith("redis-0")]
    mine = policies.Pod("desk", "oms", labels.for_child(observations.an_owner("paper"), "oms"))
    others = [
        policies.Pod("desk", "other-platform", labels.for_child(observations.an_owner("live"), "oms")),
        policies.Pod("other", "other-namespace", labels.for_child(observations.an_owner("paper"), "oms")),
    ]
    assert cluster.allows(mine, redis, 6379)
    assert not cluster.allows(mine, redis, 6380)
    assert not any(cluster.allows(one, redis, 6379) for one in others)


def test_names_of_children_do_not_depend_on_the_observation() -> None:
    for platform in (observations.a_platform(), observations.an_external_platform()):
        assert child_refs.all_of(platform) == desired.child_refs(platform)
