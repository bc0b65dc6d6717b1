"""The connection checks against real servers: every reason is provoked."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from aether_operator import brokers
from aether_operator.api.platforms import Server
from aether_operator.api.reasons import Reason
from aether_operator.catalog.owners import TOPIC
from aether_operator.observed.endpoints import Endpoint, SecretText
from aether_operator.observed.server_owners import Ownership
from aether_runtime import network_errors
from aether_testing.servers import brokers as servers
from aether_testing.servers import checks, free_ports
from aether_testing.servers import tls as tls_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


WRONG = "an0ther-Secret-word"
THREE = (Server.KAFKA, Server.NATS, Server.REDIS)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Failures are in the report, and no library logs them."""
    caplog.set_level(logging.INFO)
    yield
    assert caplog.records == []


# ---- servers: one of each without TLS, and one with it


@dataclass
class Endpoints:
    """A server without TLS, and one with it; both accept `aether` with `checks.PASSWORD`."""

    plain: Endpoint
    tls: Endpoint

    def at(self, name: str) -> Endpoint:
        endpoint: Endpoint = getattr(self, name)
        return endpoint


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Kafka]:
    users = dict.fromkeys(("aether", "nothing", "makes", "sees", "writes", "trades"), checks.PASSWORD)
    tls = tls_of.a_certificate("127.0.0.1")
    with servers.kafka_server(tmp_path_factory.mktemp("kafka"), users=users, tls=tls) as one:
        yield one


@pytest.fixture(scope="module")
def all_three(tmp_path_factory: pytest.TempPathFactory, kafka: servers.Kafka) -> Iterator[dict[Server, Endpoints]]:
    folder, tls = tmp_path_factory.mktemp("brokers"), tls_of.a_certificate("127.0.0.1")
    acl = ("user default off", f"user aether on >{checks.PASSWORD} ~* &* +@all")
    login = f'user: aether, password: "{checks.PASSWORD}"'
    with contextlib.ExitStack() as stack:
        redises = [
            stack.enter_context(servers.redis_server(folder / name, acl=acl, tls=given))
            for name, given in (("redis", None), ("redis-tls", tls))
        ]
        natses = [
            stack.enter_context(servers.nats_server(folder / name, authorization=login, tls=given))
            for name, given in (("nats", None), ("nats-tls", tls))
        ]
        yield {
            Server.REDIS: Endpoints(*(one.endpoint(password=checks.PASSWORD) for one in redises)),
            Server.NATS: Endpoints(*(one.endpoint(password=checks.PASSWORD) for one in natses)),
            Server.KAFKA: Endpoints(
                *(kafka.at(port, "aether", checks.PASSWORD) for port in (kafka.login, kafka.tls_login))
            ),
        }


VERSIONS = {Server.KAFKA: "4.1", Server.NATS: "2.", Server.REDIS: "7."}


@pytest.mark.parametrize("way", ["plain", "tls"])
@pytest.mark.parametrize("server", THREE)
async def test_healthy_server_is_ready_with_its_version(
    all_three: dict[Server, Endpoints], server: Server, way: str
) -> None:
    report = await checks.check(server, all_three[server].at(way))
    assert report.reason is Reason.READY, report
    assert report.version.startswith(VERSIONS[server])


@pytest.mark.parametrize("way", ["plain", "tls"])
@pytest.mark.parametrize("server", THREE)
async def test_wrong_password_and_unknown_user_are_rejected(
    all_three: dict[Server, Endpoints], server: Server, way: str
) -> None:
    endpoint = all_three[server].at(way)
    wrong = dataclasses.replace(endpoint, password=SecretText(WRONG))
    swapped = dataclasses.replace(endpoint, username=checks.PASSWORD, password=SecretText(endpoint.username))
    for login in (wrong, swapped, dataclasses.replace(endpoint, username="stranger")):
        report = await checks.check(server, login)
        assert report.reason is Reason.AUTHENTICATION_FAILED, report
        assert report.message.endswith(network_errors.AUTHENTICATION_FAILED)


# ---- out of reach


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("server", THREE)
async def test_port_without_a_listener_is_unreachable(server: Server, *, tls: bool) -> None:
    endpoint = Endpoint(
        host="127.0.0.1", port=free_ports.one(), username="aether", password=SecretText(checks.PASSWORD), tls=tls
    )
    report = await checks.check(server, endpoint)
    assert report.reason is Reason.UNREACHABLE
    assert report.message == f"127.0.0.1:{endpoint.port}: {network_errors.REFUSED}"


@pytest.mark.parametrize("server", THREE)
async def test_unresolvable_name_is_unreachable(server: Server) -> None:
    endpoint = Endpoint(host="nobody.invalid", port=9092, username="aether", password=SecretText(checks.PASSWORD))
    report = await checks.check(server, endpoint)
    assert report.reason is Reason.UNREACHABLE
    assert report.message.startswith("nobody.invalid:9092: ")


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("server", THREE)
async def test_silent_server_is_awaited_until_the_deadline_and_no_longer(server: Server, *, tls: bool) -> None:
    with checks.scripted_server(b"") as port:
        endpoint = Endpoint(
            host="127.0.0.1", port=port, username="aether", password=SecretText(checks.PASSWORD), tls=tls
        )
        report = await checks.check(server, endpoint, deadline=1)
    if tls and server is not Server.NATS:  # NATS starts TLS after a greeting
        assert report.reason is Reason.TLS_FAILED
    else:
        assert report.reason is Reason.UNREACHABLE
        assert "no response within 1 s" in report.message


@pytest.mark.parametrize("server", THREE)
async def test_another_program_at_the_address_is_not_the_server(server: Server) -> None:
    with checks.scripted_server(b"HTTP/1.0 400 Bad Request\r\n\r\n", ends=True) as port:
        endpoint = Endpoint(host="127.0.0.1", port=port, username="aether", password=SecretText(checks.PASSWORD))
        report = await checks.check(server, endpoint, deadline=5)
    assert report.reason in {Reason.UNREACHABLE, Reason.FAILED}, report


async def test_server_stopped_while_serving_is_unreachable(tmp_path: Path) -> None:
    with servers.redis_server(tmp_path) as one:
        os.kill(one.pid, signal.SIGSTOP)
        try:
            report = await checks.check(Server.REDIS, one.endpoint("default", checks.PASSWORD), deadline=0.5)
        finally:
            os.kill(one.pid, signal.SIGCONT)
        assert report.reason is Reason.UNREACHABLE
        assert (await checks.check(Server.REDIS, one.endpoint("default", checks.PASSWORD))).ok


# ---- TLS


@pytest.mark.parametrize("server", THREE)
async def test_certificate_of_another_ca_is_not_trusted(all_three: dict[Server, Endpoints], server: Server) -> None:
    report = await checks.check(server, dataclasses.replace(all_three[server].tls, ca=tls_of.a_certificate().ca))
    assert report.reason is Reason.TLS_FAILED
    assert "its certificate is not trusted" in report.message


@pytest.mark.parametrize("server", THREE)
async def test_system_certificates_are_used_when_no_ca_is_given(
    all_three: dict[Server, Endpoints], server: Server
) -> None:
    report = await checks.check(server, dataclasses.replace(all_three[server].tls, ca=""))
    assert report.reason is Reason.TLS_FAILED


@pytest.mark.parametrize("server", THREE)
async def test_a_certificate_for_another_name_is_not_trusted(
    all_three: dict[Server, Endpoints], server: Server
) -> None:
    report = await checks.check(server, dataclasses.replace(all_three[server].tls, host="localhost"))
    assert report.reason is Reason.TLS_FAILED
    assert "localhost" in report.message


@pytest.mark.parametrize("server", THREE)
async def test_server_without_tls_does_not_get_the_password_in_clear(
    all_three: dict[Server, Endpoints], server: Server
) -> None:
    endpoint = all_three[server]
    report = await checks.check(server, dataclasses.replace(endpoint.plain, tls=True, ca=endpoint.tls.ca), deadline=2)
    assert report.reason is Reason.TLS_FAILED


@pytest.mark.parametrize("server", THREE)
async def test_server_that_requires_tls_is_reported_as_such(all_three: dict[Server, Endpoints], server: Server) -> None:
    report = await checks.check(server, dataclasses.replace(all_three[server].tls, tls=False, ca=""))
    assert report.reason in {Reason.TLS_FAILED, Reason.UNREACHABLE}
    assert "TLS" in report.message


@pytest.mark.parametrize("server", THREE)
async def test_ca_may_have_comments_in_any_encoding(all_three: dict[Server, Endpoints], server: Server) -> None:
    endpoint = all_three[server].tls
    assert (await checks.check(server, dataclasses.replace(endpoint, ca=f"# Főtanúsítvány\n{endpoint.ca}"))).ok


@pytest.mark.parametrize("ca", ["canary-no-pem", "é"])
@pytest.mark.parametrize("server", THREE)
async def test_invalid_ca_is_reported(all_three: dict[Server, Endpoints], server: Server, ca: str) -> None:
    report = await checks.check(server, dataclasses.replace(all_three[server].tls, ca=ca))
    assert report.reason is Reason.TLS_FAILED
    assert "ca.crt" in report.message


# ---- rights


@pytest.mark.parametrize(
    ("username", "lacking"),
    [("nothing", "create"), ("makes", "describe"), ("sees", "write to"), ("writes", "read"), ("trades", None)],
)
async def test_missing_permission_on_topics_is_named(kafka: servers.Kafka, username: str, lacking: str | None) -> None:
    await kafka.grant("makes", "create")
    await kafka.grant("sees", "create", "describe")
    await kafka.grant("writes", "create", "write")
    await kafka.grant("trades", "create", "write", "read")
    await kafka.grant("trades", "read", topics="aether.")
    while (
        await checks.check(Server.KAFKA, kafka.at(kafka.login, "trades", checks.PASSWORD))
    ).reason is not Reason.READY:
        pass  # ACLs take effect in their order, these last
    report = await checks.check(Server.KAFKA, kafka.at(kafka.login, username, checks.PASSWORD))
    if lacking is None:
        assert report.ok
    else:
        assert report.reason is Reason.PERMISSION_DENIED
        assert f"the login may not {lacking} topics md.*" in report.message


async def test_kafka_without_logins_is_contacted_without_credentials(kafka: servers.Kafka) -> None:
    assert (await checks.check(Server.KAFKA, kafka.at(kafka.port))).ok
    report = await checks.check(Server.KAFKA, kafka.at(kafka.port, "aether", checks.PASSWORD))
    assert report.reason is Reason.AUTHENTICATION_FAILED
    assert (await checks.check(Server.KAFKA, kafka.at(kafka.login))).reason is Reason.UNREACHABLE


async def test_redis_with_a_login_admits_nobody_without_one(all_three: dict[Server, Endpoints]) -> None:
    endpoint = dataclasses.replace(all_three[Server.REDIS].plain, username="", password=SecretText(""))
    report = await checks.check(Server.REDIS, endpoint)
    assert report.reason is Reason.AUTHENTICATION_FAILED


# ---- the owner


@pytest.fixture
def unclaimed(tmp_path: Path, kafka: servers.Kafka) -> Iterator[dict[Server, Endpoint]]:
    """One server of each kind that nobody owns."""
    asyncio.run(_forget_owner(kafka))
    with servers.nats_server(tmp_path / "nats") as nats, servers.redis_server(tmp_path / "redis") as redis_:
        yield {
            Server.KAFKA: kafka.at(kafka.login, "aether", checks.PASSWORD),
            Server.NATS: nats.endpoint(password=checks.PASSWORD),
            Server.REDIS: redis_.endpoint("default", checks.PASSWORD),
        }


async def _forget_owner(kafka: servers.Kafka) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=f"{servers.HOST}:{kafka.port}")
    await admin.start()
    try:
        if TOPIC.name in await admin.list_topics():
            await admin.delete_topics([TOPIC.name])
        while TOPIC.name in await admin.list_topics():
            pass  # the response comes when the deletion begins, not when it is done
    finally:
        await admin.close()


@pytest.mark.parametrize("server", THREE)
async def test_server_is_unclaimed_until_a_platform_claims_it(
    unclaimed: dict[Server, Endpoint], server: Server
) -> None:
    endpoint, guard_calls = unclaimed[server], []
    for _ in range(2):
        report = await checks.check(server, endpoint)
        assert (report.reason, report.ownership) == (Reason.READY, Ownership.UNCLAIMED)
    report = await checks.claim(server, endpoint, checks.PAPER, lambda: guard_calls.append(1))
    assert (report.reason, report.ownership, guard_calls) == (Reason.READY, Ownership.OURS, [1])
    for _ in range(2):
        assert (await checks.check(server, endpoint)).ownership is Ownership.OURS
        assert (
            await checks.claim(server, endpoint, checks.PAPER, lambda: guard_calls.append(1))
        ).ownership is Ownership.OURS
    assert guard_calls == [1], "nothing is written where nothing is to be written"


@pytest.mark.parametrize("server", THREE)
async def test_another_platform_and_another_venue_are_rejected_by_name(
    unclaimed: dict[Server, Endpoint], server: Server
) -> None:
    endpoint = unclaimed[server]
    await checks.claim(server, endpoint, checks.PAPER)
    for stranger in (
        checks.another_owner(namespace="risk"),
        checks.another_owner(uid="77aa"),
        checks.another_owner(name="live", venue="Kraken"),
    ):
        report = await checks.claim(server, endpoint, stranger)
        assert (report.reason, report.ownership) == (Reason.SERVER_OWNED_BY_ANOTHER, Ownership.OWNED_BY_ANOTHER)
        assert report.message.endswith(
            ": it belongs to desk/paper of namespace 5d8f, venue Simulated; name another server in the spec"
        )
    report = await checks.claim(server, endpoint, checks.another_owner(venue="Kraken"))
    assert (report.reason, report.ownership) == (Reason.VENUE_MISMATCH, Ownership.OWNED_BY_ANOTHER)
    assert "data of venue Simulated, and the platform says Kraken" in report.message
    assert (await checks.check(server, endpoint)).ownership is Ownership.OURS


@pytest.mark.parametrize("server", THREE)
async def test_one_of_several_concurrent_claims_succeeds(unclaimed: dict[Server, Endpoint], server: Server) -> None:
    names = [f"p{nth}" for nth in range(6)]
    claims = (
        brokers.claim(server, unclaimed[server], checks.another_owner(name=name), str, deadline=20) for name in names
    )
    reports = await asyncio.gather(*claims)
    (winner,) = [name for name, one in zip(names, reports, strict=True) if one.ownership is Ownership.OURS]
    lost = [one for one in reports if one.ownership is Ownership.OWNED_BY_ANOTHER]
    assert len(lost) == len(names) - 1, reports
    assert all(f"belongs to desk/{winner} of" in one.message for one in lost)
    for _ in range(2):
        assert (
            await brokers.check(server, unclaimed[server], checks.another_owner(name=winner), deadline=20)
        ).ownership is Ownership.OURS


@pytest.mark.parametrize("server", [Server.NATS, Server.REDIS])
async def test_owner_whose_name_is_in_the_secret_is_not_named(
    unclaimed: dict[Server, Endpoint], server: Server
) -> None:
    await checks.claim(server, unclaimed[server], checks.another_owner(name="canary-name"))
    endpoint = dataclasses.replace(unclaimed[server], others=(SecretText("canary-name"),))
    report = await checks.check(server, endpoint)
    assert (report.reason, report.ownership) == (Reason.SERVER_OWNED_BY_ANOTHER, Ownership.OWNED_BY_ANOTHER)
    assert report.message.endswith("withheld)")


@pytest.mark.parametrize("server", THREE)
async def test_process_that_does_not_lead_claims_nothing(unclaimed: dict[Server, Endpoint], server: Server) -> None:
    class Lost(Exception):
        pass

    def guard() -> None:
        raise Lost

    with pytest.raises(Lost):
        await checks.claim(server, unclaimed[server], checks.PAPER, guard)
    assert (await checks.check(server, unclaimed[server])).ownership is Ownership.UNCLAIMED


async def test_first_remaining_record_decides_whatever_its_offset(
    kafka: servers.Kafka, unclaimed: dict[Server, Endpoint]
) -> None:
    endpoint = unclaimed[Server.KAFKA]
    await checks.claim(Server.KAFKA, endpoint, checks.PAPER)
    producer = AIOKafkaProducer(bootstrap_servers=f"{servers.HOST}:{kafka.port}")
    await producer.start()
    await producer.send_and_wait(TOPIC.name, checks.another_owner(name="late").record.encode(), partition=0)
    await producer.stop()
    assert (await checks.check(Server.KAFKA, endpoint)).ownership is Ownership.OURS
    admin = AIOKafkaAdminClient(bootstrap_servers=f"{servers.HOST}:{kafka.port}")
    await admin.start()
    await admin.delete_records({TopicPartition(TOPIC.name, 0): RecordsToDelete(before_offset=1)})
    await admin.close()
    report = await checks.check(Server.KAFKA, endpoint)
    assert (report.reason, "desk/late of" in report.message) == (Reason.SERVER_OWNED_BY_ANOTHER, True)


async def test_owner_topic_has_unlimited_retention(kafka: servers.Kafka, unclaimed: dict[Server, Endpoint]) -> None:
    endpoint = unclaimed[Server.KAFKA]
    await checks.claim(Server.KAFKA, endpoint, checks.PAPER)
    admin = AIOKafkaAdminClient(bootstrap_servers=f"{servers.HOST}:{kafka.port}")
    await admin.start()
    try:
        (described,) = await admin.describe_topics([TOPIC.name])
        assert len(described["partitions"]) == 1
        assert await _settings(admin) == dict(TOPIC.configs(1))
        theirs = {"retention.ms": "1000"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, TOPIC.name, configs=theirs)])
        while (await _settings(admin))["retention.ms"] != "1000":
            pass  # the change reaches a broker a little later
        report = await brokers.ensure_topics(endpoint, str, deadline=20)
        assert (report.ok, report.changed, TOPIC.name in report.topics) == (True, (TOPIC.name,), False)
        assert await _settings(admin) == dict(TOPIC.configs(1))
    finally:
        await admin.close()


async def test_owner_record_in_a_compacted_topic_is_kept_for_good(
    kafka: servers.Kafka, unclaimed: dict[Server, Endpoint]
) -> None:
    endpoint = unclaimed[Server.KAFKA]
    async with _an_admin(kafka) as admin:
        await admin.create_topics([NewTopic(TOPIC.name, 1, 1, topic_configs={"cleanup.policy": "compact"})])
    report = await checks.claim(Server.KAFKA, endpoint, checks.PAPER)
    assert (report.reason, report.ownership) == (Reason.READY, Ownership.OURS), report
    report = await checks.claim(Server.KAFKA, endpoint, checks.another_owner(name="live"))
    assert report.ownership is Ownership.OWNED_BY_ANOTHER, report
    assert (await brokers.ensure_topics(endpoint, str, deadline=20)).ok
    async with _an_admin(kafka) as admin:
        assert await _settings(admin) == dict(TOPIC.configs(1))


@contextlib.asynccontextmanager
async def _an_admin(kafka: servers.Kafka) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=f"{servers.HOST}:{kafka.port}")
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def _settings(admin: AIOKafkaAdminClient) -> dict[str, str]:
    (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, TOPIC.name)])
    return {entry[0]: entry[1] for entry in answer.resources[0][4] if entry[0] in TOPIC.configs(1)}


async def test_kafka_error_gives_the_commands_that_record_the_owner(
    kafka: servers.Kafka, unclaimed: dict[Server, Endpoint]
) -> None:
    del unclaimed
    await kafka.grant("writes", "create", "describe", "write", "read")
    reader = kafka.at(kafka.login, "writes", checks.PASSWORD)
    while (await checks.check(Server.KAFKA, reader)).reason is Reason.PERMISSION_DENIED:
        pass  # an ACL takes effect a little later
    report = await checks.check(Server.KAFKA, reader)
    assert report.reason is Reason.OWNER_NOT_RECORDED
    assert report.message.endswith(
        ": the login may not read topic aether.owner: allow the login to Describe and Read aether.owner"
    )
    await kafka.grant("writes", "read", topics="aether.")
    while (await checks.check(Server.KAFKA, reader)).ownership is not Ownership.UNCLAIMED:
        pass
    report = await checks.claim(Server.KAFKA, reader, checks.PAPER)
    assert report.reason is Reason.OWNER_NOT_RECORDED
    bootstrap = f"--bootstrap-server 127.0.0.1:{kafka.login}"
    assert checks.command_in(report.message) == (
        f"kafka-topics.sh {bootstrap} --command-config FILE --create --topic aether.owner --partitions 1 "
        f"--config retention.ms=-1 && echo '{checks.PAPER.record}' | "
        f"kafka-console-producer.sh {bootstrap} --producer.config FILE --topic aether.owner"
    )
    assert (
        ", or, while no owner is recorded, run with a FILE of security.protocol=SASL_PLAINTEXT, "
        "sasl.mechanism=SCRAM-SHA-512, sasl.jaas.config (of an authorized login): kafka-topics.sh"
    ) in report.message
    # What these commands do, by hand: the login itself need only read.
    admin = AIOKafkaAdminClient(bootstrap_servers=f"{servers.HOST}:{kafka.port}")
    await admin.start()
    await admin.create_topics([NewTopic(TOPIC.name, 1, 1, topic_configs={"retention.ms": "-1"})])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=f"{servers.HOST}:{kafka.port}")
    await producer.start()
    await producer.send_and_wait(TOPIC.name, checks.PAPER.record.encode())
    await producer.stop()
    assert (await checks.check(Server.KAFKA, reader)).ownership is Ownership.OURS
    report_of_topics = await brokers.ensure_topics(reader, str, deadline=20)
    assert "aether.owner" not in report_of_topics.message, "its settings are for a person"
