"""The connection checks of NATS and Redis, on servers that each test starts, or that play a script."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import nats as nats_client
import pytest
import redis

from aether_operator.api.platforms import Server
from aether_operator.api.reasons import Reason
from aether_operator.observed.endpoints import Endpoint, SecretText
from aether_operator.observed.server_owners import Ownership
from aether_testing.servers import brokers as servers
from aether_testing.servers import checks
from aether_testing.servers import tls as tls_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Failures are in the report, and no library logs them."""
    caplog.set_level(logging.INFO)
    yield
    assert caplog.records == []


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
async def test_denied_redis_command_or_key_is_named(tmp_path: Path, rights: str, lacking: str | None) -> None:
    acl = ("user default off", f"user aether on >{checks.PASSWORD} {rights}")
    with servers.redis_server(tmp_path, acl=acl) as one:
        report = await checks.check(Server.REDIS, one.endpoint(password=checks.PASSWORD))
    if lacking is None:
        assert report.ok
    else:
        assert report.reason is Reason.PERMISSION_DENIED
        assert report.message.endswith(f"the login may not use {lacking}")


async def test_read_only_redis_replica_is_reported(tmp_path: Path) -> None:
    with servers.redis_server(tmp_path) as one:
        with redis.Redis(host=one.endpoint().host, port=one.port) as client:
            client.replicaof("127.0.0.1", 1)
        report = await checks.check(Server.REDIS, one.endpoint("default", checks.PASSWORD))
    assert report.reason is Reason.PERMISSION_DENIED
    assert "replica" in report.message


async def test_redis_check_writes_and_changes_no_key(tmp_path: Path) -> None:
    with servers.redis_server(tmp_path) as one, redis.Redis(host=one.endpoint().host, port=one.port) as client:
        assert (await checks.check(Server.REDIS, one.endpoint("default", checks.PASSWORD))).ok
        assert client.dbsize() == 0


@pytest.mark.parametrize(
    ("permissions", "lacking"),
    [
        ('publish: "md.>"', "publish to $JS.API.>"),
        ('publish: "$JS.API.>", subscribe: "md.>"', "subscribe to _INBOX.>"),
        ('publish: ["$JS.API.>", "md.>"], subscribe: ["_INBOX.>", "md.>"]', None),
    ],
)
async def test_denied_nats_subject_is_named(tmp_path: Path, permissions: str, lacking: str | None) -> None:
    user = f'{{ user: aether, password: "{checks.PASSWORD}", permissions: {{ {permissions} }} }}'
    with servers.nats_server(tmp_path, authorization=f"users: [ {user} ]") as one:
        report = await checks.check(Server.NATS, one.endpoint(password=checks.PASSWORD))
    if lacking is None:
        assert report.ok
    else:
        assert report.reason is Reason.PERMISSION_DENIED
        assert report.message.endswith(f"the login may not {lacking}")


async def test_disabled_jetstream_is_named_and_nats_without_logins_accepts_any(tmp_path: Path) -> None:
    with servers.nats_server(tmp_path / "off", jetstream=False) as one:
        report = await checks.check(Server.NATS, one.endpoint(password=checks.PASSWORD))
        assert report.reason is Reason.JETSTREAM_DISABLED
        assert 'put `jetstream { store_dir: "/data" }` into the configuration' in report.message
    with servers.nats_server(tmp_path / "on") as one:
        assert (await checks.check(Server.NATS, one.endpoint(password=checks.PASSWORD))).ok


@pytest.mark.parametrize(
    "value", ["aether", checks.PASSWORD, "canary-of-another-key", "-----BEGIN X-----canary-ca-----END X-----"]
)
@pytest.mark.parametrize("server", [Server.NATS, Server.REDIS])
async def test_response_that_quotes_a_secret_value_is_not_quoted(server: Server, value: str) -> None:
    greeting, answer = b"", f"-ERR odd: {value}\r\n".encode()
    if server is Server.NATS:
        greeting = b'INFO {"version": "2.10.0"}\r\n'
    with checks.scripted_server(greeting, *(answer,) * 8) as port:
        endpoint = Endpoint(
            host="127.0.0.1", port=port, username="aether", password=SecretText(checks.PASSWORD), ca=value,
            others=(SecretText("canary-of-another-key"),),
        )  # fmt: skip
        report = await checks.check(server, endpoint, deadline=5)
    assert "canary" not in report.message
    assert "odd" not in report.message


@pytest.mark.parametrize("tls", [None, tls_of.a_certificate("127.0.0.1")], ids=["plain", "tls"])
async def test_redis_error_gives_the_command_that_records_the_owner(tmp_path: Path, tls: tls_of.Tls | None) -> None:
    acl = (
        "user default on nopass ~* &* +@all",
        f"user blind on >{checks.PASSWORD} ~aether:check +ping +get +set",
        f"user reads on >{checks.PASSWORD} ~aether:check %R~aether:owner +ping +get +set",
    )
    with servers.redis_server(tmp_path, acl=acl, tls=tls) as one:
        report = await checks.check(Server.REDIS, one.endpoint("blind", checks.PASSWORD))
        assert report.reason is Reason.OWNER_NOT_RECORDED
        assert "ACL SETUSER … ~aether:owner +get +set" in report.message
        assert ("with a FILE of ca.crt of the Secret" in report.message) == bool(tls)
        reader = one.endpoint("reads", checks.PASSWORD)
        assert (await checks.check(Server.REDIS, reader)).ownership is Ownership.UNCLAIMED
        report = await checks.claim(Server.REDIS, reader, checks.PAPER)
        assert report.reason is Reason.OWNER_NOT_RECORDED
        (tmp_path / "ca.crt").write_text(one.ca)
        await checks.run_shell(checks.command_in(report.message).replace(" FILE", f" {tmp_path / 'ca.crt'}"))
        assert (await checks.check(Server.REDIS, reader)).ownership is Ownership.OURS


@pytest.mark.parametrize("tls", [None, tls_of.a_certificate("127.0.0.1")], ids=["plain", "tls"])
async def test_nats_error_gives_the_command_that_records_the_owner(tmp_path: Path, tls: tls_of.Tls | None) -> None:
    def user(name: str, *subjects: str) -> str:
        allowed = json.dumps([*subjects, "md.>"])
        return (
            f'{{ user: {name}, password: "{checks.PASSWORD}", permissions: '
            f'{{ publish: {allowed}, subscribe: ["_INBOX.>"] }} }}'
        )

    users = (
        user("blind", "$JS.API.INFO"),
        user("reads", "$JS.API.INFO", "$JS.API.STREAM.INFO.AETHER_OWNER"),
        user("aether", "$JS.API.>"),
    )
    scheme, ca_option = ("tls", " --tlsca FILE") if tls else ("nats", "")
    with servers.nats_server(tmp_path, authorization=f"users: [ {', '.join(users)} ]", tls=tls) as one:
        blind, reader, all_of_it = (one.endpoint(name, checks.PASSWORD) for name in ("blind", "reads", "aether"))
        report = await checks.check(Server.NATS, blind)
        assert report.reason is Reason.OWNER_NOT_RECORDED
        assert "$JS.API.STREAM.CREATE.AETHER_OWNER" in report.message
        assert (await checks.check(Server.NATS, reader)).ownership is Ownership.UNCLAIMED
        report = await checks.claim(Server.NATS, reader, checks.PAPER)
        assert report.reason is Reason.OWNER_NOT_RECORDED
        assert ("with a FILE of ca.crt of the Secret" in report.message) == bool(tls)
        assert checks.command_in(report.message) == (
            f"nats --server {scheme}://127.0.0.1:{one.port}{ca_option} stream add AETHER_OWNER --subjects aether.owner "
            f"--storage file --max-msgs 1 --defaults --description '{checks.PAPER.record}'"
        )
        assert (await checks.claim(Server.NATS, all_of_it, checks.PAPER)).ownership is Ownership.OURS
        assert (await checks.check(Server.NATS, reader)).ownership is Ownership.OURS


async def test_the_owner_of_nats_and_redis_outlives_their_process(tmp_path: Path) -> None:
    for _ in range(2):
        with servers.nats_server(tmp_path / "nats") as nats, servers.redis_server(tmp_path / "redis") as redis_:
            for server, endpoint in (
                (Server.NATS, nats.endpoint(password=checks.PASSWORD)),
                (Server.REDIS, redis_.endpoint("default", checks.PASSWORD)),
            ):
                assert (await checks.claim(server, endpoint, checks.PAPER)).ownership is Ownership.OURS
                assert (
                    await checks.claim(server, endpoint, checks.another_owner(name="live"))
                ).ownership is Ownership.OWNED_BY_ANOTHER


CLUSTERED = b'INFO {"version": "2.10.0", "cluster": "three"}\r\n'


def reply(**body: object) -> bytes:
    """A message of JetStream's."""
    text = json.dumps(body).encode()
    return b"MSG any 1 %d\r\n%s\r\n" % (len(text), text)


def error_reply(code: int, description: str = "as the cluster says") -> bytes:
    return reply(error={"code": 500, "err_code": code, "description": description})


OFFLINE = error_reply(10005, "no suitable peers for placement, peer offline")


@pytest.mark.parametrize(
    ("replies", "ownership", "reason"),
    [
        ((reply(config={}),), Ownership.OURS, Reason.READY),
        ((error_reply(10074), reply(config={})), Ownership.OURS, Reason.READY),  # fewer servers than replicas
        ((error_reply(10058),), Ownership.OURS, Reason.READY),  # another operator of ours was faster
        ((error_reply(10005), reply(config={})), Ownership.OURS, Reason.READY),
        ((error_reply(10005), error_reply(10008)), None, Reason.UNREACHABLE),  # while it has no leader
        (
            (error_reply(10008), reply(config={})),
            None,
            Reason.UNREACHABLE,
        ),  # JetStream is unavailable: fewer replicas do not help
        ((OFFLINE, reply(config={})), None, Reason.UNREACHABLE),  # a server that comes back has the third copy
        (
            (error_reply(10074), error_reply(10027)),
            None,
            Reason.OWNER_NOT_RECORDED,
        ),  # the account may have no more streams
        ((error_reply(10065), reply(config={})), None, Reason.OWNER_NOT_RECORDED),
    ],
)
async def test_nats_cluster_gets_as_many_replicas_as_it_can(
    replies: tuple[bytes, ...], ownership: Ownership | None, reason: Reason
) -> None:
    ours = reply(config={"description": checks.PAPER.record})
    with checks.scripted_server(CLUSTERED, b"PONG\r\n", reply(), error_reply(10059), *replies, ours) as port:
        endpoint = Endpoint(host="127.0.0.1", port=port, username="aether-login", password=SecretText(checks.PASSWORD))
        report = await checks.claim(Server.NATS, endpoint, checks.PAPER)
    assert (report.ownership, report.reason) == (ownership, reason), report


async def test_foreign_stream_on_our_subject_is_no_missing_permission(tmp_path: Path) -> None:
    with servers.nats_server(tmp_path) as one:
        client = await nats_client.connect(f"nats://{servers.HOST}:{one.port}")
        await client.jetstream().add_stream(name="theirs", subjects=["aether.>"])
        await client.close()
        report = await checks.claim(Server.NATS, one.endpoint("a-login", checks.PASSWORD), checks.PAPER)
    assert report.reason is Reason.OWNER_NOT_RECORDED
    assert report.message == (
        f"127.0.0.1:{one.port}: stream AETHER_OWNER records the owner, and JetStream does not create it: subjects "
        "overlap with an existing stream; let no other stream of the account listen to aether.owner: see nats stream "
        "ls --subject aether.owner"
    )


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (10027, "let the limits of the account and of the server allow one stream more, in a file, without max_bytes"),
        (10049, "it is retried"),
    ],
)
async def test_rejected_stream_quotes_jetstream_and_gives_no_command(code: int, remedy: str) -> None:
    with checks.scripted_server(CLUSTERED, b"PONG\r\n", reply(), error_reply(10059), error_reply(code)) as port:
        endpoint = Endpoint(host="127.0.0.1", port=port, username="aether-login", password=SecretText(checks.PASSWORD))
        report = await checks.claim(Server.NATS, endpoint, checks.PAPER)
    assert report.message.endswith(f"JetStream does not create it: as the cluster says; {remedy}"), report


@pytest.mark.parametrize(("code", "reason"), [(10039, Reason.JETSTREAM_DISABLED), (10008, Reason.UNREACHABLE)])
async def test_jetstream_that_is_briefly_unavailable_is_not_taken_for_disabled(code: int, reason: Reason) -> None:
    with checks.scripted_server(CLUSTERED, b"PONG\r\n", error_reply(code)) as port:
        endpoint = Endpoint(host="127.0.0.1", port=port, username="aether-login", password=SecretText(checks.PASSWORD))
        report = await checks.check(Server.NATS, endpoint)
    assert report.reason is reason, report


@pytest.mark.parametrize("version", ["2.8.4", "2.2.0"])
async def test_an_old_nats_is_named_with_its_version(version: str) -> None:
    info = {"server_id": "X", "version": version, "proto": 1, "jetstream": True, "max_payload": 1048576}
    with checks.scripted_server(f"INFO {json.dumps(info)} \r\n".encode(), b"PONG\r\n") as port:
        endpoint = Endpoint(host="127.0.0.1", port=port, username="aether", password=SecretText(checks.PASSWORD))
        report = await checks.check(Server.NATS, endpoint)
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
    with checks.scripted_server(b"", b"+OK\r\n", hello) as port:
        endpoint = Endpoint(host="127.0.0.1", port=port, username="aether", password=SecretText(checks.PASSWORD))
        report = await checks.check(Server.REDIS, endpoint)
    assert report.reason is Reason.VERSION_UNSUPPORTED, report
    assert named in report.message
