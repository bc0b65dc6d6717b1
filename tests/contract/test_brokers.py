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
from typing import TYPE_CHECKING

import pytest
import redis

from aether_operator import brokers
from aether_operator.api.platforms import Server
from aether_operator.api.reasons import Reason
from aether_operator.observed.endpoints import Endpoint, Hidden
from aether_testing import brokers as servers
from aether_testing import tls as tls_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aether_operator.observed.reports import ServerReport

PASSWORD = "t0p-Secret-word"  # noqa: S105 - of servers that this test starts
WRONG = "an0ther-Secret-word"
THREE = (Server.KAFKA, Server.NATS, Server.REDIS)


async def asked(server: Server, endpoint: Endpoint, *, deadline: float = 20) -> ServerReport:
    """Ask; whatever the answer is, it keeps the password to itself and leaves no task and no connection behind."""
    report = await brokers.check(server, endpoint, deadline=deadline)
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
    while (await asked(Server.KAFKA, kafka.at(kafka.login, "trades", PASSWORD))).reason is Reason.RIGHT_MISSING:
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
