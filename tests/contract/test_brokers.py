"""The connection checks against the real servers that they are about: every reason is brought about for real."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import signal
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nats as nats_client
import pytest
import redis
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from aether_operator import brokers
from aether_operator.api.platforms import Server
from aether_operator.api.reasons import Reason
from aether_operator.brokers import kafka as of_kafka
from aether_operator.catalog.owners import TOPIC
from aether_operator.observed.endpoints import Endpoint, Hidden
from aether_operator.observed.owners import Owner, Standing
from aether_testing import brokers as servers
from aether_testing import tls as tls_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from aether_operator.observed.reports import ServerReport

PASSWORD = "t0p-Secret-word"  # noqa: S105 - of servers that this test starts
WRONG = "an0ther-Secret-word"
THREE = (Server.KAFKA, Server.NATS, Server.REDIS)
PAPER = Owner(namespace="desk", uid="5d8f", name="paper", venue="Simulated")


async def asked(server: Server, endpoint: Endpoint, *, deadline: float = 20) -> ServerReport:
    """Ask; whatever the answer is, it keeps the password to itself and leaves no task and no connection behind."""
    return await kept_to_itself(server, endpoint, brokers.check(server, endpoint, PAPER, deadline=deadline))


async def claimed(server: Server, endpoint: Endpoint, owner: Owner, guard: Callable[[], object] = str) -> ServerReport:
    """The same, and take it where it is nobody's."""
    return await kept_to_itself(server, endpoint, brokers.claim(server, endpoint, owner, guard, deadline=20))


async def kept_to_itself(server: Server, endpoint: Endpoint, asking: Awaitable[ServerReport]) -> ServerReport:
    report = await asking
    assert report.server is server
    assert report.ok == (report.message == "")
    assert not [one for one in endpoint.hidden if one and one in repr(report)], report
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert endpoint.port not in set(_connected()), report
    return report


def _connected() -> Iterator[int]:
    """The ports that this process is connected to."""
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # it is closed by now, or listens
            if file.is_socket():
                with socket.socket(fileno=os.dup(int(file.name))) as one:
                    if one.family == socket.AF_INET:
                        yield one.getpeername()[1]


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What goes wrong is in the report; no library logs it."""
    caplog.set_level(logging.INFO)
    yield
    assert caplog.records == []


# ---- servers: one of each, and one that speaks TLS


@dataclass
class Two:
    """A server without TLS, and one with it; both know `aether` with `PASSWORD`."""

    plain: Endpoint
    tls: Endpoint

    def at(self, name: str) -> Endpoint:
        endpoint: Endpoint = getattr(self, name)
        return endpoint


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Kafka]:
    users = dict.fromkeys(("aether", "nothing", "makes", "sees", "writes", "trades"), PASSWORD)
    tls = tls_of.a_certificate("127.0.0.1")
    with servers.kafka_server(tmp_path_factory.mktemp("kafka"), users=users, tls=tls) as one:
        yield one


@pytest.fixture(scope="module")
def all_three(tmp_path_factory: pytest.TempPathFactory, kafka: servers.Kafka) -> Iterator[dict[Server, Two]]:
    folder, tls = tmp_path_factory.mktemp("brokers"), tls_of.a_certificate("127.0.0.1")
    acl = ("user default off", f"user aether on >{PASSWORD} ~* &* +@all")
    login = f'user: aether, password: "{PASSWORD}"'
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
            Server.REDIS: Two(*(one.endpoint(password=PASSWORD) for one in redises)),
            Server.NATS: Two(*(one.endpoint(password=PASSWORD) for one in natses)),
            Server.KAFKA: Two(*(kafka.at(port, "aether", PASSWORD) for port in (kafka.login, kafka.tls_login))),
        }


VERSIONS = {Server.KAFKA: "4.1", Server.NATS: "2.", Server.REDIS: "7."}


@pytest.mark.parametrize("way", ["plain", "tls"])
@pytest.mark.parametrize("server", THREE)
async def test_a_server_as_it_should_be_is_ready_with_its_version(
    all_three: dict[Server, Two], server: Server, way: str
) -> None:
    report = await asked(server, all_three[server].at(way))
    assert report.reason is Reason.READY, report
    assert report.version.startswith(VERSIONS[server])


@pytest.mark.parametrize("way", ["plain", "tls"])
@pytest.mark.parametrize("server", THREE)
async def test_a_wrong_password_and_an_unknown_user_are_refused(
    all_three: dict[Server, Two], server: Server, way: str
) -> None:
    endpoint = all_three[server].at(way)
    wrong = dataclasses.replace(endpoint, password=Hidden(WRONG))
    swapped = dataclasses.replace(endpoint, username=PASSWORD, password=Hidden(endpoint.username))
    for login in (wrong, swapped, dataclasses.replace(endpoint, username="stranger")):
        report = await asked(server, login)
        assert report.reason is Reason.LOGIN_REFUSED, report
        assert report.message.endswith("the login is refused")


# ---- out of reach


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("server", THREE)
async def test_where_nobody_listens_nobody_is_reached(server: Server, *, tls: bool) -> None:
    endpoint = Endpoint(
        host="127.0.0.1", port=servers.free_port(), username="aether", password=Hidden(PASSWORD), tls=tls
    )
    report = await asked(server, endpoint)
    assert report.reason is Reason.UNREACHABLE
    assert report.message == f"127.0.0.1:{endpoint.port}: Connection refused"


@pytest.mark.parametrize("server", THREE)
async def test_a_name_that_is_nobody_s_is_not_reached(server: Server) -> None:
    endpoint = Endpoint(host="nobody.invalid", port=9092, username="aether", password=Hidden(PASSWORD))
    report = await asked(server, endpoint)
    assert report.reason is Reason.UNREACHABLE
    assert report.message.startswith("nobody.invalid:9092: ")


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("server", THREE)
async def test_who_does_not_answer_is_waited_for_until_the_deadline_and_no_longer(server: Server, *, tls: bool) -> None:
    with somebody(b"") as port:
        endpoint = Endpoint(host="127.0.0.1", port=port, username="aether", password=Hidden(PASSWORD), tls=tls)
        report = await asked(server, endpoint, deadline=1)
    if tls and server is not Server.NATS:  # there TLS begins after a greeting
        assert report.reason is Reason.TLS_FAILED
    else:
        assert report.reason is Reason.UNREACHABLE
        assert "no answer within 1 s" in report.message


@pytest.mark.parametrize("server", THREE)
async def test_somebody_else_who_answers_there_is_not_taken_for_the_server(server: Server) -> None:
    with somebody(b"HTTP/1.0 400 Bad Request\r\n\r\n", ends=True) as port:
        endpoint = Endpoint(host="127.0.0.1", port=port, username="aether", password=Hidden(PASSWORD))
        report = await asked(server, endpoint, deadline=5)
    assert report.reason in {Reason.UNREACHABLE, Reason.FAILED}, report


async def test_a_server_that_was_stopped_while_it_served_is_out_of_reach(tmp_path: Path) -> None:
    with servers.redis_server(tmp_path) as one:
        os.kill(one.pid, signal.SIGSTOP)
        try:
            report = await asked(Server.REDIS, one.endpoint("default", PASSWORD), deadline=0.5)
        finally:
            os.kill(one.pid, signal.SIGCONT)
        assert report.reason is Reason.UNREACHABLE
        assert (await asked(Server.REDIS, one.endpoint("default", PASSWORD))).ok


# ---- TLS


@pytest.mark.parametrize("server", THREE)
async def test_a_certificate_of_another_authority_is_not_trusted(all_three: dict[Server, Two], server: Server) -> None:
    report = await asked(server, dataclasses.replace(all_three[server].tls, ca=tls_of.a_certificate().ca))
    assert report.reason is Reason.TLS_FAILED
    assert "its certificate is not trusted" in report.message


@pytest.mark.parametrize("server", THREE)
async def test_without_an_authority_of_its_own_the_system_s_are_asked(
    all_three: dict[Server, Two], server: Server
) -> None:
    report = await asked(server, dataclasses.replace(all_three[server].tls, ca=""))
    assert report.reason is Reason.TLS_FAILED


@pytest.mark.parametrize("server", THREE)
async def test_a_certificate_for_another_name_is_not_trusted(all_three: dict[Server, Two], server: Server) -> None:
    report = await asked(server, dataclasses.replace(all_three[server].tls, host="localhost"))
    assert report.reason is Reason.TLS_FAILED
    assert "localhost" in report.message


@pytest.mark.parametrize("server", THREE)
async def test_a_server_without_tls_does_not_get_the_password_in_clear(
    all_three: dict[Server, Two], server: Server
) -> None:
    endpoint = all_three[server]
    report = await asked(server, dataclasses.replace(endpoint.plain, tls=True, ca=endpoint.tls.ca), deadline=2)
    assert report.reason is Reason.TLS_FAILED


@pytest.mark.parametrize("server", THREE)
async def test_a_server_that_wants_tls_is_named_as_such(all_three: dict[Server, Two], server: Server) -> None:
    report = await asked(server, dataclasses.replace(all_three[server].tls, tls=False, ca=""))
    assert report.reason in {Reason.TLS_FAILED, Reason.UNREACHABLE}
    assert "TLS" in report.message


@pytest.mark.parametrize("server", THREE)
async def test_an_authority_may_have_words_beside_it_in_any_letters(
    all_three: dict[Server, Two], server: Server
) -> None:
    endpoint = all_three[server].tls
    assert (await asked(server, dataclasses.replace(endpoint, ca=f"# Főtanúsítvány\n{endpoint.ca}"))).ok


@pytest.mark.parametrize("ca", ["canary-no-pem", "é"])
@pytest.mark.parametrize("server", THREE)
async def test_an_authority_that_is_none_is_named(all_three: dict[Server, Two], server: Server, ca: str) -> None:
    report = await asked(server, dataclasses.replace(all_three[server].tls, ca=ca))
    assert report.reason is Reason.TLS_FAILED
    assert "ca.crt" in report.message


# ---- rights


@pytest.mark.parametrize(
    ("username", "lacking"),
    [("nothing", "create"), ("makes", "describe"), ("sees", "write to"), ("writes", "read"), ("trades", None)],
)
async def test_a_right_over_topics_that_is_missing_is_named(
    kafka: servers.Kafka, username: str, lacking: str | None
) -> None:
    await kafka.grant("makes", "create")
    await kafka.grant("sees", "create", "describe")
    await kafka.grant("writes", "create", "write")
    await kafka.grant("trades", "create", "write", "read")
    await kafka.grant("trades", "read", topics="aether.")
    while (await asked(Server.KAFKA, kafka.at(kafka.login, "trades", PASSWORD))).reason is not Reason.READY:
        pass  # the broker takes rights over in their order, these last
    report = await asked(Server.KAFKA, kafka.at(kafka.login, username, PASSWORD))
    if lacking is None:
        assert report.ok
    else:
        assert report.reason is Reason.RIGHT_MISSING
        assert f"the login may not {lacking} topics md.*" in report.message


async def test_kafka_without_logins_is_asked_without_one(kafka: servers.Kafka) -> None:
    assert (await asked(Server.KAFKA, kafka.at(kafka.port))).ok
    report = await asked(Server.KAFKA, kafka.at(kafka.port, "aether", PASSWORD))
    assert report.reason is Reason.LOGIN_REFUSED
    assert (await asked(Server.KAFKA, kafka.at(kafka.login))).reason is Reason.UNREACHABLE


@pytest.mark.parametrize(
    ("rights", "lacking"),
    [
        ("~* +get +set", "PING"),
        ("~* +ping +set", "GET"),
        ("~* +ping +get", "SET"),
        ("~other:* +ping +get +set", "the keys that Aether uses"),
        ("~* +ping +get +set", None),
    ],
)
async def test_a_command_or_key_that_is_not_allowed_is_named(tmp_path: Path, rights: str, lacking: str | None) -> None:
    acl = ("user default off", f"user aether on >{PASSWORD} {rights}")
    with servers.redis_server(tmp_path, acl=acl) as one:
        report = await asked(Server.REDIS, one.endpoint(password=PASSWORD))
    if lacking is None:
        assert report.ok
    else:
        assert report.reason is Reason.RIGHT_MISSING
        assert report.message.endswith(f"the login may not use {lacking}")


async def test_a_replica_of_redis_cannot_be_written_to(tmp_path: Path) -> None:
    with servers.redis_server(tmp_path) as one:
        with redis.Redis(host=one.endpoint().host, port=one.port) as client:
            client.replicaof("127.0.0.1", 1)
        report = await asked(Server.REDIS, one.endpoint("default", PASSWORD))
    assert report.reason is Reason.RIGHT_MISSING
    assert "replica" in report.message


async def test_the_check_of_redis_leaves_no_key_and_touches_none(tmp_path: Path) -> None:
    with servers.redis_server(tmp_path) as one, redis.Redis(host=one.endpoint().host, port=one.port) as client:
        assert (await asked(Server.REDIS, one.endpoint("default", PASSWORD))).ok
        assert client.dbsize() == 0


async def test_redis_with_a_login_lets_nobody_in_without_one(all_three: dict[Server, Two]) -> None:
    endpoint = dataclasses.replace(all_three[Server.REDIS].plain, username="", password=Hidden(""))
    report = await asked(Server.REDIS, endpoint)
    assert report.reason is Reason.LOGIN_REFUSED


@pytest.mark.parametrize(
    ("permissions", "lacking"),
    [
        ('publish: "md.>"', "publish to $JS.API.>"),
        ('publish: "$JS.API.>", subscribe: "md.>"', "subscribe to _INBOX.>"),
        ('publish: ["$JS.API.>", "md.>"], subscribe: ["_INBOX.>", "md.>"]', None),
    ],
)
async def test_a_subject_that_is_not_allowed_is_named(tmp_path: Path, permissions: str, lacking: str | None) -> None:
    user = f'{{ user: aether, password: "{PASSWORD}", permissions: {{ {permissions} }} }}'
    with servers.nats_server(tmp_path, authorization=f"users: [ {user} ]") as one:
        report = await asked(Server.NATS, one.endpoint(password=PASSWORD))
    if lacking is None:
        assert report.ok
    else:
        assert report.reason is Reason.RIGHT_MISSING
        assert report.message.endswith(f"the login may not {lacking}")


async def test_jetstream_that_is_off_is_named_and_a_nats_without_logins_takes_any(tmp_path: Path) -> None:
    with servers.nats_server(tmp_path / "off", jetstream=False) as one:
        report = await asked(Server.NATS, one.endpoint(password=PASSWORD))
        assert report.reason is Reason.JETSTREAM_OFF
        assert 'put `jetstream { store_dir: "/data" }` into the configuration' in report.message
    with servers.nats_server(tmp_path / "on") as one:
        assert (await asked(Server.NATS, one.endpoint(password=PASSWORD))).ok


# ---- secrets


@pytest.mark.parametrize(
    "value", ["aether", PASSWORD, "canary-of-another-key", "-----BEGIN X-----canary-ca-----END X-----"]
)
@pytest.mark.parametrize("server", [Server.NATS, Server.REDIS])
async def test_a_server_that_quotes_a_value_of_the_secret_is_not_quoted(server: Server, value: str) -> None:
    greeting, answer = b"", f"-ERR odd: {value}\r\n".encode()
    if server is Server.NATS:
        greeting = b'INFO {"version": "2.10.0"}\r\n'
    with somebody(greeting, *(answer,) * 8) as port:
        endpoint = Endpoint(
            host="127.0.0.1", port=port, username="aether", password=Hidden(PASSWORD), ca=value,
            others=(Hidden("canary-of-another-key"),),
        )  # fmt: skip
        report = await asked(server, endpoint, deadline=5)
    assert "canary" not in report.message
    assert "odd" not in report.message


# ---- whose it is


@pytest.fixture
def lone(tmp_path: Path, kafka: servers.Kafka) -> Iterator[dict[Server, Endpoint]]:
    """A server of each that is nobody's."""
    asyncio.run(_forget_owner(kafka))
    with servers.nats_server(tmp_path / "nats") as nats, servers.redis_server(tmp_path / "redis") as redis_:
        yield {
            Server.KAFKA: kafka.at(kafka.login, "aether", PASSWORD),
            Server.NATS: nats.endpoint(password=PASSWORD),
            Server.REDIS: redis_.endpoint("default", PASSWORD),
        }


async def _forget_owner(kafka: servers.Kafka) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=f"{servers.HOST}:{kafka.port}")
    await admin.start()
    try:
        if TOPIC.name in await admin.list_topics():
            await admin.delete_topics([TOPIC.name])
        while TOPIC.name in await admin.list_topics():
            pass  # it says when it has begun, and not when it is done
    finally:
        await admin.close()


def another(**other: str) -> Owner:
    return dataclasses.replace(PAPER, **other)


@pytest.mark.parametrize("server", THREE)
async def test_a_server_is_nobodys_until_it_is_claimed(lone: dict[Server, Endpoint], server: Server) -> None:
    endpoint, asked_for_leave = lone[server], []
    for _ in range(2):
        report = await asked(server, endpoint)
        assert (report.reason, report.standing) == (Reason.READY, Standing.NOBODYS)
    report = await claimed(server, endpoint, PAPER, lambda: asked_for_leave.append(1))
    assert (report.reason, report.standing, asked_for_leave) == (Reason.READY, Standing.OURS, [1])
    for _ in range(2):
        assert (await asked(server, endpoint)).standing is Standing.OURS
        assert (await claimed(server, endpoint, PAPER, lambda: asked_for_leave.append(1))).standing is Standing.OURS
    assert asked_for_leave == [1], "nothing is written where nothing is to be written"


@pytest.mark.parametrize("server", THREE)
async def test_another_platform_and_another_venue_are_refused_by_name(
    lone: dict[Server, Endpoint], server: Server
) -> None:
    endpoint = lone[server]
    await claimed(server, endpoint, PAPER)
    for stranger in (another(namespace="risk"), another(uid="77aa"), another(name="live", venue="Kraken")):
        report = await claimed(server, endpoint, stranger)
        assert (report.reason, report.standing) == (Reason.SERVER_OWNED_BY_ANOTHER, Standing.ANOTHERS)
        assert report.message.endswith(
            ": it belongs to desk/paper of namespace 5d8f, venue Simulated; name another in the spec"
        )
    report = await claimed(server, endpoint, another(venue="Kraken"))
    assert (report.reason, report.standing) == (Reason.VENUE_MISMATCH, Standing.ANOTHERS)
    assert "data of venue Simulated, and the platform says Kraken" in report.message
    assert (await asked(server, endpoint)).standing is Standing.OURS


@pytest.mark.parametrize("server", THREE)
async def test_one_of_several_that_claim_at_once_has_it(lone: dict[Server, Endpoint], server: Server) -> None:
    names = [f"p{nth}" for nth in range(6)]
    claims = (brokers.claim(server, lone[server], another(name=name), str, deadline=20) for name in names)
    reports = await asyncio.gather(*claims)
    (winner,) = [name for name, one in zip(names, reports, strict=True) if one.standing is Standing.OURS]
    lost = [one for one in reports if one.standing is Standing.ANOTHERS]
    assert len(lost) == len(names) - 1, reports
    assert all(f"belongs to desk/{winner} of" in one.message for one in lost)
    for _ in range(2):
        assert (await brokers.check(server, lone[server], another(name=winner), deadline=20)).standing is Standing.OURS


@pytest.mark.parametrize("server", [Server.NATS, Server.REDIS])
async def test_an_owner_whose_name_is_in_the_secret_is_not_named(lone: dict[Server, Endpoint], server: Server) -> None:
    await claimed(server, lone[server], another(name="canary-name"))
    endpoint = dataclasses.replace(lone[server], others=(Hidden("canary-name"),))
    report = await asked(server, endpoint)
    assert (report.reason, report.standing) == (Reason.SERVER_OWNED_BY_ANOTHER, Standing.ANOTHERS)
    assert report.message.endswith("withheld)")


@pytest.mark.parametrize("server", THREE)
async def test_who_does_not_lead_claims_nothing(lone: dict[Server, Endpoint], server: Server) -> None:
    class Lost(Exception):
        pass

    def guard() -> None:
        raise Lost

    with pytest.raises(Lost):
        await claimed(server, lone[server], PAPER, guard)
    assert (await asked(server, lone[server])).standing is Standing.NOBODYS


async def test_what_became_of_the_first_record_counts_and_not_its_number(
    kafka: servers.Kafka, lone: dict[Server, Endpoint]
) -> None:
    endpoint = lone[Server.KAFKA]
    await claimed(Server.KAFKA, endpoint, PAPER)
    producer = AIOKafkaProducer(bootstrap_servers=f"{servers.HOST}:{kafka.port}")
    await producer.start()
    await producer.send_and_wait(TOPIC.name, another(name="late").record.encode(), partition=0)
    await producer.stop()
    assert (await asked(Server.KAFKA, endpoint)).standing is Standing.OURS
    admin = AIOKafkaAdminClient(bootstrap_servers=f"{servers.HOST}:{kafka.port}")
    await admin.start()
    await admin.delete_records({TopicPartition(TOPIC.name, 0): RecordsToDelete(before_offset=1)})
    await admin.close()
    report = await asked(Server.KAFKA, endpoint)
    assert (report.reason, "desk/late of" in report.message) == (Reason.SERVER_OWNED_BY_ANOTHER, True)


async def test_the_owners_topic_is_kept_for_good(kafka: servers.Kafka, lone: dict[Server, Endpoint]) -> None:
    endpoint = lone[Server.KAFKA]
    await claimed(Server.KAFKA, endpoint, PAPER)
    admin = AIOKafkaAdminClient(bootstrap_servers=f"{servers.HOST}:{kafka.port}")
    await admin.start()
    try:
        (described,) = await admin.describe_topics([TOPIC.name])
        assert len(described["partitions"]) == 1
        assert await _settings(admin) == dict(TOPIC.configs(1))
        theirs = {"retention.ms": "1000"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, TOPIC.name, configs=theirs)])
        while (await _settings(admin))["retention.ms"] != "1000":
            pass  # a broker hears of it a little later
        report = await brokers.set_topics_up(endpoint, str, deadline=20)
        assert (report.ok, report.changed, TOPIC.name in report.topics) == (True, (TOPIC.name,), False)
        assert await _settings(admin) == dict(TOPIC.configs(1))
    finally:
        await admin.close()


async def test_a_compacted_topic_takes_the_owner_and_is_kept_for_good(
    kafka: servers.Kafka, lone: dict[Server, Endpoint]
) -> None:
    endpoint = lone[Server.KAFKA]
    async with _an_admin(kafka) as admin:
        await admin.create_topics([NewTopic(TOPIC.name, 1, 1, topic_configs={"cleanup.policy": "compact"})])
    report = await claimed(Server.KAFKA, endpoint, PAPER)
    assert (report.reason, report.standing) == (Reason.READY, Standing.OURS), report
    assert (await claimed(Server.KAFKA, endpoint, another(name="live"))).standing is Standing.ANOTHERS
    assert (await brokers.set_topics_up(endpoint, str, deadline=20)).ok
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


@pytest.mark.parametrize(
    ("settings", "file"),
    [
        ({}, ""),
        ({"tls": True}, "security.protocol=SSL"),
        (
            {"tls": True, "ca": "PEM"},
            "security.protocol=SSL, ssl.truststore.type=PEM, ssl.truststore.location (ca.crt of the Secret)",
        ),
        (
            {"tls": True, "username": "aether-login"},
            "security.protocol=SASL_SSL, sasl.mechanism=SCRAM-SHA-512, sasl.jaas.config (of a login that may)",
        ),
    ],
)
def test_a_file_of_settings_has_what_kafkas_commands_need(settings: dict[str, Any], file: str) -> None:
    plain: dict[str, Any] = {"host": "kafka.example.org", "port": 9092, "username": "", "password": Hidden("")}
    assert of_kafka.settings(Endpoint(**plain | settings)) == file


async def _settings(admin: AIOKafkaAdminClient) -> dict[str, str]:
    (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, TOPIC.name)])
    return {entry[0]: entry[1] for entry in answer.resources[0][4] if entry[0] in TOPIC.configs(1)}


def _runs(command: str) -> str:
    """The command that a refusal ends with, run as a person does; what it is told where nothing is written down yet."""
    return command.partition("where nothing is written down yet: ")[2]


async def test_kafka_says_which_commands_write_the_owner_down(
    kafka: servers.Kafka, lone: dict[Server, Endpoint]
) -> None:
    del lone
    await kafka.grant("writes", "create", "describe", "write", "read")
    reader = kafka.at(kafka.login, "writes", PASSWORD)
    while (await asked(Server.KAFKA, reader)).reason is Reason.RIGHT_MISSING:
        pass  # a broker takes rights over a little later
    report = await asked(Server.KAFKA, reader)
    assert report.reason is Reason.OWNER_NOT_RECORDED
    assert report.message.endswith(
        ": the login may not read topic aether.owner: let the login Describe and Read aether.owner"
    )
    await kafka.grant("writes", "read", topics="aether.")
    while (await asked(Server.KAFKA, reader)).standing is not Standing.NOBODYS:
        pass
    report = await claimed(Server.KAFKA, reader, PAPER)
    assert report.reason is Reason.OWNER_NOT_RECORDED
    place = f"--bootstrap-server 127.0.0.1:{kafka.login}"
    assert _runs(report.message) == (
        f"kafka-topics.sh {place} --command-config FILE --create --topic aether.owner --partitions 1 "
        f"--config retention.ms=-1 && echo '{PAPER.record}' | "
        f"kafka-console-producer.sh {place} --producer.config FILE --topic aether.owner"
    )
    assert (
        "or run, with a FILE of security.protocol=SASL_PLAINTEXT, sasl.mechanism=SCRAM-SHA-512, "
        "sasl.jaas.config (of a login that may), where nothing"
    ) in report.message
    # What these commands do, by hand: the login itself need only read.
    admin = AIOKafkaAdminClient(bootstrap_servers=f"{servers.HOST}:{kafka.port}")
    await admin.start()
    await admin.create_topics([NewTopic(TOPIC.name, 1, 1, topic_configs={"retention.ms": "-1"})])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=f"{servers.HOST}:{kafka.port}")
    await producer.start()
    await producer.send_and_wait(TOPIC.name, PAPER.record.encode())
    await producer.stop()
    assert (await asked(Server.KAFKA, reader)).standing is Standing.OURS
    report_of_topics = await brokers.set_topics_up(reader, str, deadline=20)
    assert "aether.owner" not in report_of_topics.message, "its settings are whose it is"


@pytest.mark.parametrize("tls", [None, tls_of.a_certificate("127.0.0.1")], ids=["plain", "tls"])
async def test_redis_says_which_command_writes_the_owner_down(tmp_path: Path, tls: tls_of.Tls | None) -> None:
    acl = (
        "user default on nopass ~* &* +@all",
        f"user blind on >{PASSWORD} ~aether:check +ping +get +set",
        f"user reads on >{PASSWORD} ~aether:check %R~aether:owner +ping +get +set",
    )
    with servers.redis_server(tmp_path, acl=acl, tls=tls) as one:
        report = await asked(Server.REDIS, one.endpoint("blind", PASSWORD))
        assert report.reason is Reason.OWNER_NOT_RECORDED
        assert "ACL SETUSER … ~aether:owner +get +set" in report.message
        assert ("with a FILE of ca.crt of the Secret" in report.message) == bool(tls)
        reader = one.endpoint("reads", PASSWORD)
        assert (await asked(Server.REDIS, reader)).standing is Standing.NOBODYS
        report = await claimed(Server.REDIS, reader, PAPER)
        assert report.reason is Reason.OWNER_NOT_RECORDED
        (tmp_path / "authority").write_text(one.ca)
        await _shell(_runs(report.message).replace(" FILE", f" {tmp_path / 'authority'}"))
        assert (await asked(Server.REDIS, reader)).standing is Standing.OURS


async def _shell(command: str) -> None:
    done = await asyncio.create_subprocess_shell(command, stdout=asyncio.subprocess.DEVNULL)
    assert await done.wait() == 0


@pytest.mark.parametrize("tls", [None, tls_of.a_certificate("127.0.0.1")], ids=["plain", "tls"])
async def test_nats_says_which_command_writes_the_owner_down(tmp_path: Path, tls: tls_of.Tls | None) -> None:
    def user(name: str, *subjects: str) -> str:
        allowed = json.dumps([*subjects, "md.>"])
        return (
            f'{{ user: {name}, password: "{PASSWORD}", permissions: '
            f'{{ publish: {allowed}, subscribe: ["_INBOX.>"] }} }}'
        )

    users = (
        user("blind", "$JS.API.INFO"),
        user("reads", "$JS.API.INFO", "$JS.API.STREAM.INFO.AETHER_OWNER"),
        user("aether", "$JS.API.>"),
    )
    scheme, authority = ("tls", " --tlsca FILE") if tls else ("nats", "")
    with servers.nats_server(tmp_path, authorization=f"users: [ {', '.join(users)} ]", tls=tls) as one:
        blind, reader, all_of_it = (one.endpoint(name, PASSWORD) for name in ("blind", "reads", "aether"))
        report = await asked(Server.NATS, blind)
        assert report.reason is Reason.OWNER_NOT_RECORDED
        assert "$JS.API.STREAM.CREATE.AETHER_OWNER" in report.message
        assert (await asked(Server.NATS, reader)).standing is Standing.NOBODYS
        report = await claimed(Server.NATS, reader, PAPER)
        assert report.reason is Reason.OWNER_NOT_RECORDED
        assert ("with a FILE of ca.crt of the Secret" in report.message) == bool(tls)
        assert _runs(report.message) == (
            f"nats --server {scheme}://127.0.0.1:{one.port}{authority} stream add AETHER_OWNER --subjects aether.owner "
            f"--storage file --max-msgs 1 --defaults --description '{PAPER.record}'"
        )
        assert (await claimed(Server.NATS, all_of_it, PAPER)).standing is Standing.OURS
        assert (await asked(Server.NATS, reader)).standing is Standing.OURS


async def test_the_owner_of_nats_and_redis_outlives_their_process(tmp_path: Path) -> None:
    for _ in range(2):
        with servers.nats_server(tmp_path / "nats") as nats, servers.redis_server(tmp_path / "redis") as redis_:
            for server, endpoint in (
                (Server.NATS, nats.endpoint(password=PASSWORD)),
                (Server.REDIS, redis_.endpoint("default", PASSWORD)),
            ):
                assert (await claimed(server, endpoint, PAPER)).standing is Standing.OURS
                assert (await claimed(server, endpoint, another(name="live"))).standing is Standing.ANOTHERS


# ---- versions: of old servers there are only the words, which these say


@contextlib.contextmanager
def somebody(greeting: bytes, *answers: bytes, ends: bool = False) -> Iterator[int]:
    """Listens, says the greeting, then an answer to each thing it is told; then it is mute, or ends the connection."""
    taken: list[socket.socket] = []

    def talk(one: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the other side need not hear it out
            for answer in (greeting, *answers):
                one.sendall(answer)
                if not ends and not one.recv(4096):
                    return
            if ends:
                one.shutdown(socket.SHUT_WR)

    def listen() -> None:
        with contextlib.suppress(OSError):  # the end of the block
            while True:
                one, _ = listener.accept()
                taken.append(one)
                talkers.append(threading.Thread(target=talk, args=(one,)))
                talkers[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        talkers = [threading.Thread(target=listen)]
        talkers[0].start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            talkers[0].join()
            for one in taken:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            for talker in talkers:
                talker.join()
            for one in taken:
                one.close()


CLUSTERED = b'INFO {"version": "2.10.0", "cluster": "three"}\r\n'


def told(**body: object) -> bytes:
    """A message of JetStream's."""
    text = json.dumps(body).encode()
    return b"MSG any 1 %d\r\n%s\r\n" % (len(text), text)


def wrong(code: int, words: str = "as the cluster says") -> bytes:
    return told(error={"code": 500, "err_code": code, "description": words})


OFFLINE = wrong(10005, "no suitable peers for placement, peer offline")


@pytest.mark.parametrize(
    ("made", "standing", "reason"),
    [
        ((told(config={}),), Standing.OURS, Reason.READY),
        ((wrong(10074), told(config={})), Standing.OURS, Reason.READY),  # not as many servers as copies
        ((wrong(10058),), Standing.OURS, Reason.READY),  # another operator of ours was faster
        ((wrong(10005), told(config={})), Standing.OURS, Reason.READY),
        ((wrong(10005), wrong(10008)), None, Reason.UNREACHABLE),  # it has no leader for now
        ((wrong(10008), told(config={})), None, Reason.UNREACHABLE),  # one copy is none the wiser
        ((OFFLINE, told(config={})), None, Reason.UNREACHABLE),  # a server that comes back has the third copy
        ((wrong(10074), wrong(10027)), None, Reason.OWNER_NOT_RECORDED),  # the account may have no more streams
        ((wrong(10065), told(config={})), None, Reason.OWNER_NOT_RECORDED),
    ],
)
async def test_a_cluster_of_nats_makes_as_many_copies_as_it_can(
    made: tuple[bytes, ...], standing: Standing | None, reason: Reason
) -> None:
    ours = told(config={"description": PAPER.record})
    with somebody(CLUSTERED, b"PONG\r\n", told(), wrong(10059), *made, ours) as port:
        endpoint = Endpoint(host="127.0.0.1", port=port, username="aether-login", password=Hidden(PASSWORD))
        report = await claimed(Server.NATS, endpoint, PAPER)
    assert (report.standing, report.reason) == (standing, reason), report


async def test_a_stream_on_our_subject_is_no_missing_right(tmp_path: Path) -> None:
    with servers.nats_server(tmp_path) as one:
        client = await nats_client.connect(f"nats://{servers.HOST}:{one.port}")
        await client.jetstream().add_stream(name="theirs", subjects=["aether.>"])
        await client.close()
        report = await claimed(Server.NATS, one.endpoint("a-login", PASSWORD), PAPER)
    assert report.reason is Reason.OWNER_NOT_RECORDED
    assert report.message == (
        f"127.0.0.1:{one.port}: whose it is stands in stream AETHER_OWNER, and JetStream does not make it: subjects "
        "overlap with an existing stream; let no other stream of the account listen to aether.owner: see nats stream "
        "ls --subject aether.owner"
    )


@pytest.mark.parametrize(
    ("code", "way_out"),
    [
        (10027, "let the limits of the account and of the server allow one stream more, in a file, without max_bytes"),
        (10049, "it is tried again"),
    ],
)
async def test_a_refused_stream_has_jetstreams_words_and_no_command(code: int, way_out: str) -> None:
    with somebody(CLUSTERED, b"PONG\r\n", told(), wrong(10059), wrong(code)) as port:
        endpoint = Endpoint(host="127.0.0.1", port=port, username="aether-login", password=Hidden(PASSWORD))
        report = await claimed(Server.NATS, endpoint, PAPER)
    assert report.message.endswith(f"JetStream does not make it: as the cluster says; {way_out}"), report


@pytest.mark.parametrize(("code", "reason"), [(10039, Reason.JETSTREAM_OFF), (10008, Reason.UNREACHABLE)])
async def test_jetstream_that_is_away_for_now_is_not_taken_for_off(code: int, reason: Reason) -> None:
    with somebody(CLUSTERED, b"PONG\r\n", wrong(code)) as port:
        endpoint = Endpoint(host="127.0.0.1", port=port, username="aether-login", password=Hidden(PASSWORD))
        report = await asked(Server.NATS, endpoint)
    assert report.reason is reason, report


@pytest.mark.parametrize("version", ["2.8.4", "2.2.0"])
async def test_an_old_nats_is_named_with_its_version(version: str) -> None:
    info = {"server_id": "X", "version": version, "proto": 1, "jetstream": True, "max_payload": 1048576}
    with somebody(f"INFO {json.dumps(info)} \r\n".encode(), b"PONG\r\n") as port:
        endpoint = Endpoint(host="127.0.0.1", port=port, username="aether", password=Hidden(PASSWORD))
        report = await asked(Server.NATS, endpoint)
    assert report.reason is Reason.VERSION_UNSUPPORTED
    assert version in report.message


@pytest.mark.parametrize(
    ("hello", "named"),
    [
        (b"-ERR unknown command `HELLO`, with args beginning with: \r\n", "6.2"),
        (b"-ERR wrong number of arguments for 'hello' command\r\n", "6.2"),
        (b"*4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n6.0.9\r\n", "6.0.9"),
    ],
)
async def test_an_old_redis_is_named(hello: bytes, named: str) -> None:
    with somebody(b"", b"+OK\r\n", hello) as port:
        endpoint = Endpoint(host="127.0.0.1", port=port, username="aether", password=Hidden(PASSWORD))
        report = await asked(Server.REDIS, endpoint)
    assert report.reason is Reason.VERSION_UNSUPPORTED, report
    assert named in report.message
