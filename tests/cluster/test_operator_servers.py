"""External servers, with the real operator: logins, owners, retention, endpoints; and what services report of them."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import redis

from aether_operator.api import labels, platforms
from aether_operator.catalog import components, owners
from aether_runtime import network_errors
from aether_testing.processes import planes
from aether_testing.values import audits, kstatus

if TYPE_CHECKING:
    from aether_testing.processes.operator_environments import Environment
    from aether_testing.servers.postgres import Postgres

Object = dict[str, Any]


def test_login_error_is_named_and_fixed_by_the_secret_immediately(env: Environment) -> None:
    name, platform = env.external()
    secret = f"login-{name}"
    for server in platform["spec"]["dataPlane"].values():
        server["external"]["secretName"] = secret
    planes.apply(env.namespace, planes.login_secret(secret, username=planes.LOGIN), platform)
    waiting = planes.until(env.namespace, "Ready", "False", name=name, reason="SecretKeyMissing")
    assert f"{secret} has no key password" in waiting["status"]["message"]
    planes.apply(env.namespace, planes.login_secret(secret, username=planes.LOGIN, password="canary-wrong"))  # noqa: S106
    planes.until(env.namespace, "PostgresReady", "False", name=name, reason="AuthenticationFailed")
    swapped = {"username": "canary-swapped", "password": planes.LOGIN, **planes.CANARIES}
    planes.apply(env.namespace, planes.login_secret(secret, **swapped))
    cause = network_errors.AUTHENTICATION_FAILED
    env.until("tp", name, lambda one: cause in one["status"]["message"], "the swapped login is reported without it")
    planes.apply(env.namespace, planes.login_secret(secret, username=planes.LOGIN, password=planes.PASSWORD))
    planes.until(env.namespace, "Ready", "True", name=name)
    assert not any(f" {name}-" in one for one in env.repaired()), "it was another login"


def test_secret_event_reconciles_every_platform_that_names_it(env: Environment) -> None:
    """The second platform is idle when the Secret changes: only the event triggers its reconcile."""
    names = []
    for _ in range(2):
        name, platform = env.external()
        for server in platform["spec"]["dataPlane"].values():
            server["external"]["secretName"] = "shared"
        planes.apply(env.namespace, planes.login_secret("shared"), platform)
        names.append(name)
    for name in names:
        planes.until(env.namespace, "Ready", "True", name=name)
    planes.apply(env.namespace, planes.login_secret("shared", username=planes.LOGIN, password="canary-other"))  # noqa: S106
    for name in names:
        planes.until(env.namespace, "PostgresReady", "False", name=name, reason="AuthenticationFailed")
    for name in names:
        env.delete(name)


def test_a_platform_that_requires_timescale_is_not_ready_without_it(env: Environment) -> None:
    name, platform = env.external()
    platform["spec"]["dataPlane"]["postgres"]["timescale"] = "Required"
    planes.apply(env.namespace, platform)
    planes.until(env.namespace, "PostgresReady", "False", name=name, reason="TimescaleMissing")
    assert env.condition(name, "Ready")["status"] == "False"


def test_second_platform_on_the_same_servers_stalls_and_writes_nothing(env: Environment) -> None:
    owner, platform = env.ready_external()
    pod = env.child("pod", f"{owner}-ingest-0")["metadata"]["uid"]
    database = env.plane.database()
    second = json.loads(json.dumps(planes.a_platform(platform["spec"], f"{owner}-again")))
    second["spec"]["dataPlane"]["postgres"]["external"]["database"] = database
    planes.apply(env.namespace, second)
    stalled = planes.until(env.namespace, "Stalled", "True", name=f"{owner}-again", reason="ServerOwnedByAnother")
    for server in ("kafka", "nats", "redis"):
        port = platform["spec"]["dataPlane"][server]["external"]["port"]
        owned = f"{server}: 127.0.0.1:{port}: it belongs to {env.namespace.name}/{owner} of namespace "
        assert owned in stalled["status"]["message"]
    assert "venue Simulated" in stalled["status"]["message"]
    assert kstatus.compute(stalled) == "Failed"
    planes.until(env.namespace, "VenueReady", "True", name=f"{owner}-again")
    mine = f"--selector={labels.PLATFORM}={owner}-again"
    started = [one["metadata"]["name"] for one in env.namespace.get("statefulset", mine)["items"]]
    assert started == [f"{owner}-again-exchange"]
    schemas = env.plane.postgres.run(database, "SELECT to_regnamespace('aether') IS NULL")
    assert schemas == [(True,)], "its own database is not taken either"
    second["spec"]["dataPlane"] = platform["spec"]["dataPlane"]
    planes.apply(env.namespace, second)
    taken = planes.until(env.namespace, "SchemaReady", "False", name=f"{owner}-again", reason="DatabaseOwnedByAnother")
    assert f"the database belongs to {env.namespace.name}/{owner} of namespace " in taken["status"]["message"]
    assert env.condition(owner, "Ready")["status"] == "True"
    assert env.child("pod", f"{owner}-ingest-0")["metadata"]["uid"] == pod


def test_platform_recreated_at_another_venue_gets_none_of_its_data(env: Environment) -> None:
    name, platform = env.ready_external()
    env.delete(name)
    mine = f"--selector={labels.PLATFORM}={name}"
    env.namespace.until(lambda seen: not seen, "statefulset", mine, expected="the workloads are deleted")
    planes.apply(env.namespace, {**platform, "spec": platform["spec"] | {"venue": {"name": "Kraken"}}})
    stalled = planes.until(env.namespace, "Stalled", "True", name=name, reason="VenueMismatch")
    way_out = "data of venue Simulated, and the platform says Kraken: apply it with venue Simulated, or as another"
    assert stalled["status"]["message"].count(way_out) >= 3
    assert env.condition(name, "SchemaReady")["reason"] == "VenueMismatch"
    assert env.namespace.get("statefulset", mine)["items"] == []
    env.delete(name)
    planes.apply(env.namespace, platform)
    planes.until(env.namespace, "Ready", "True", name=name)


def test_retention_changes_at_once_where_no_data_would_be_dropped(env: Environment) -> None:
    name, platform = env.ready_external()
    database = platform["spec"]["dataPlane"]["postgres"]["external"]["database"]
    kept = platforms.Retention().by_table()
    platform["spec"]["retention"] = {}
    for table, usual in tuple(kept.items()):
        for days in (usual + 110, usual - 2):
            kept[table] = platform["spec"]["retention"][f"{table}Days"] = days
            planes.apply(env.namespace, platform)
            env.until("tp", name, partial(_keeps, kept), f"{table} for {days} days")
            assert _in_force(env.plane.postgres, database) == kept
    planes.until(env.namespace, "Ready", "True", name=name)


def _keeps(days: dict[str, int], platform: Object) -> bool:
    schema = platform["status"].get("schema", {})
    return {table: schema.get(f"{table}Days") for table in days} == days


def _in_force(server: Postgres, database: str) -> dict[str, int]:
    """Table → retention in days, from pg_partman's configuration."""
    rows = server.run(database, "SELECT parent_table, retention FROM partman.part_config")
    return {table.removeprefix("aether."): int(retention.removesuffix(" days")) for table, retention in rows}


def test_edited_external_endpoint_is_used_from_then_on(env: Environment) -> None:
    name, platform = env.ready_external()
    good = platform["spec"]["dataPlane"]["redis"]["external"]["port"]
    platform["spec"]["dataPlane"]["redis"]["external"]["port"] = 1
    planes.apply(env.namespace, platform)
    waiting = planes.until(env.namespace, "RedisReady", "False", name=name, reason="Unreachable")
    assert "127.0.0.1:1" in waiting["status"]["message"]
    platform["spec"]["dataPlane"]["redis"]["external"]["port"] = good
    planes.apply(env.namespace, platform)
    planes.until(env.namespace, "Ready", "True", name=name)


def test_servers_are_claimed_only_in_their_order(env: Environment) -> None:
    """While Kafka is unavailable, NATS and Redis stay unclaimed."""
    name, platform = env.external()
    kafka, cache = (platform["spec"]["dataPlane"][one]["external"] for one in ("kafka", "redis"))
    good, kafka["port"] = kafka["port"], 1
    planes.apply(env.namespace, platform)
    # A server is claimed before the status of that reconcile is written.
    planes.until(env.namespace, "SchemaReady", "True", name=name)
    planes.until(env.namespace, "RedisReady", "True", name=name)
    with redis.Redis(host=cache["host"], port=cache["port"], protocol=2) as client:
        assert client.get(owners.KEY) is None
        kafka["port"] = good
        planes.apply(env.namespace, platform)
        planes.until(env.namespace, "Ready", "True", name=name)
        assert f'"name":"{name}"' in str(client.get(owners.KEY))


def test_missing_server_stalls_after_the_deadline_and_recovers_by_itself(env: Environment) -> None:
    name, platform = env.external(progressDeadlineSeconds=10)
    for server in platform["spec"]["dataPlane"].values():
        server["external"]["secretName"] = f"late-{name}"
    planes.apply(env.namespace, platform)
    stalled = planes.until(env.namespace, "Stalled", "True", name=name, reason="ProgressDeadlineExceeded")
    assert f"late-{name}" in stalled["status"]["message"]
    planes.apply(env.namespace, planes.login_secret(f"late-{name}"))
    ready = planes.until(env.namespace, "Ready", "True", name=name)
    assert kstatus.compute(ready) == "Current"


def test_unknown_pair_is_named_and_its_removal_recovers(env: Environment) -> None:
    name, platform = env.ready_external()
    platform["spec"]["pairs"] = ["BTC/USD", "FOO/USD"]
    planes.apply(env.namespace, platform)
    stalled = planes.until(env.namespace, "Stalled", "True", name=name, reason="UnknownPair")
    assert stalled["status"]["message"] == "ingest: FOO/USD: UnknownPair"
    assert kstatus.compute(stalled) == "Failed"
    platform["spec"]["pairs"] = ["BTC/USD"]
    planes.apply(env.namespace, platform)
    planes.until(env.namespace, "Ready", "True", name=name)


def test_unavailable_output_or_venue_is_named_and_recovers_by_itself(env: Environment) -> None:
    name, _ = env.ready_external()
    ingest, exchange = f"{name}-ingest-0", f"{name}-exchange-0"
    broken = {"kafka": {"ok": False, "detail": "no broker answers"}}
    env.fakes.overrides[ingest] = lambda status: {**status, "outputs": broken}
    waiting = planes.until(env.namespace, "IngestReady", "False", name=name, reason="OutputFailed")
    assert waiting["status"]["message"] == "ingest: kafka: no broker answers"
    del env.fakes.overrides[ingest]
    planes.until(env.namespace, "Ready", "True", name=name)
    env.fakes.overrides[exchange] = lambda status: {**status, "version": components.STATUS_VERSION + 1}
    newer = planes.until(env.namespace, "VenueReady", "False", name=name, reason="VersionUnsupported")
    assert f"Pod {exchange}" in newer["status"]["message"]
    del env.fakes.overrides[exchange]
    planes.until(env.namespace, "Ready", "True", name=name)


def test_ingest_is_not_started_before_its_secrets_exist(env: Environment) -> None:
    name, platform = env.external()
    for server in platform["spec"]["dataPlane"].values():
        server["external"]["secretName"] = f"later-{name}"
    planes.apply(env.namespace, platform)
    planes.until(env.namespace, "VenueReady", "True", name=name)
    mine = f"--selector={labels.PLATFORM}={name}"
    assert [one["metadata"]["name"] for one in env.namespace.get("statefulset", mine)["items"]] == [f"{name}-exchange"]
    planes.apply(env.namespace, planes.login_secret(f"later-{name}"))
    planes.until(env.namespace, "Ready", "True", name=name)


def test_operator_is_never_denied_and_reveals_no_secret(env: Environment) -> None:
    """The last test of this module: it checks what all of them left."""
    assert audits.forbidden(env.requests()) == []
    assert env.revealed() == []
