"""Kafka, NATS and Redis for tests: real servers on loopback, each for the length of a block."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import secrets
import shutil
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol import types
from aiokafka.protocol.api import Request, RequestStruct, Response

from aether_cli import processes, progress
from aether_cli.local import paths
from aether_operator.observed.endpoints import Endpoint, SecretText
from aether_testing import wait
from aether_testing.servers import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from aether_testing.servers.tls import Tls

HOST: Final = "127.0.0.1"
KAFKA: Final = Path(__file__).parents[3] / "images" / "local" / "kafka"
JAVA: Final = Path("/usr/lib/jvm/java-17-openjdk-amd64/bin/java")
START: Final = 180.0
"""Seconds until a server must listen."""


@dataclass(kw_only=True)
class RunningServer:
    """A running server; `pid` is for a test that kills it."""

    port: int
    pid: int
    log: Path
    ca: str = field(default="", repr=False)

    def endpoint(self, username: str = "aether", password: str = "", **other: object) -> Endpoint:
        """Its endpoint for a user."""
        at = {"host": HOST, "port": self.port, "tls": bool(self.ca), "ca": self.ca} | other
        return Endpoint(username=username, password=SecretText(password), **at)  # type: ignore[arg-type]


@contextlib.contextmanager
def redis_server(
    folder: Path, *, acl: Sequence[str] = ("user default on nopass ~* &* +@all",), tls: Tls | None = None
) -> Iterator[RunningServer]:
    """Redis with these users; by default `default` is accepted with any password."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "users.acl").write_text("\n".join([*acl, ""]))
    port = free_ports.one()
    lines = [
        f"bind {HOST}",
        f"dir {folder}",
        f"aclfile {folder}/users.acl",
        "appendonly yes",
        'save ""',
        "protected-mode no",
    ]
    if tls:
        files = tls.written(folder)
        lines += [
            "port 0",
            f"tls-port {port}",
            f"tls-cert-file {files[0]}",
            f"tls-key-file {files[1]}",
            f"tls-ca-cert-file {files[2]}",
            "tls-auth-clients no",
        ]
    else:
        lines.append(f"port {port}")
    (folder / "redis.conf").write_text("\n".join([*lines, ""]))
    with _run_server(["redis-server", str(folder / "redis.conf")], folder / "redis.log", [port]) as pid:
        yield RunningServer(port=port, pid=pid, log=folder / "redis.log", ca=tls.ca if tls else "")


@contextlib.contextmanager
def nats_server(
    folder: Path, *, authorization: str = "", jetstream: bool = True, tls: Tls | None = None
) -> Iterator[RunningServer]:
    """NATS; `authorization` is the content of that block of its configuration. Without it every login is accepted."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_ports.one()
    lines = [f"listen: {HOST}:{port}"]
    if jetstream:
        lines.append(f'jetstream {{ store_dir: "{folder}", max_memory_store: 16MB, max_file_store: 256MB }}')
    if authorization:
        lines.append(f"authorization {{ {authorization} }}")
    if tls:
        files = tls.written(folder)
        lines.append(f'tls {{ cert_file: "{files[0]}", key_file: "{files[1]}" }}')
    (folder / "nats.conf").write_text("\n".join([*lines, ""]))
    with _run_server(["nats-server", "--config", str(folder / "nats.conf")], folder / "nats.log", [port]) as pid:
        yield RunningServer(port=port, pid=pid, log=folder / "nats.log", ca=tls.ca if tls else "")


@dataclass(kw_only=True)
class Kafka(RunningServer):
    """One broker with four listeners: `port` takes no logins, `login` does; `tls` and `tls_login` are encrypted."""

    login: int
    tls: int = 0
    tls_login: int = 0

    def at(self, port: int, username: str = "", password: str = "", **other: object) -> Endpoint:
        """The endpoint of one of its ports, for a user."""
        encrypted = port in {self.tls, self.tls_login}
        return self.endpoint(
            username, password, **{"port": port, "tls": encrypted, "ca": self.ca if encrypted else ""} | other
        )

    async def grant(self, username: str, *operations: str, topics: str = "md.") -> None:
        """Allow a user these operations on the topics with a prefix; it takes effect a little later."""
        connection = AIOKafkaConnection(HOST, self.port)
        await connection.connect()
        try:
            # Resource type topic (2), pattern prefixed (4), permission allow (3).
            acls = [(2, topics, 4, f"User:{username}", "*", OPERATIONS[one], 3) for one in operations]
            response = await connection.send(_CreateAcls(acls))
            if any(code for code, _ in response.results):
                raise RuntimeError(response)
        finally:
            await asyncio.wait([connection.close()])


OPERATIONS: Final = {
    "read": 3, "write": 4, "create": 5, "describe": 8, "describe the settings of": 10, "change the settings of": 11,
}  # fmt: skip


class _CreateAclsResponse(Response):  # type: ignore[misc]  # the library has neither types nor this request
    API_KEY = 30
    API_VERSION = 1
    SCHEMA = types.Schema(
        ("throttle_time_ms", types.Int32),
        ("results", types.Array(("error_code", types.Int16), ("error_message", types.String("utf-8")))),
    )


class _CreateAclsRequest(RequestStruct):  # type: ignore[misc]
    API_KEY = 30
    API_VERSION = 1
    RESPONSE_TYPE = _CreateAclsResponse
    SCHEMA = types.Schema(
        (
            "creations",
            types.Array(
                ("resource_type", types.Int8),
                ("resource_name", types.String("utf-8")),
                ("pattern_type", types.Int8),
                ("principal", types.String("utf-8")),
                ("host", types.String("utf-8")),
                ("operation", types.Int8),
                ("permission_type", types.Int8),
            ),
        )
    )


class _CreateAcls(Request[_CreateAclsRequest]):  # type: ignore[misc]
    API_KEY = 30

    def __init__(self, acls: Sequence[tuple[object, ...]]) -> None:
        self.acls = acls

    def build(self, request_struct_class: type[_CreateAclsRequest]) -> _CreateAclsRequest:
        return request_struct_class(self.acls)


@contextlib.contextmanager
def kafka_server(
    folder: Path,
    *,
    users: Mapping[str, str] | None = None,
    tls: Tls | None = None,
    reporter: progress.Reporter | None = None,
    heap: str = "256m",
) -> Iterator[Kafka]:
    """Kafka as in the image. Clients without a login may do everything, and so may the first of the users."""
    folder.mkdir(parents=True, exist_ok=True)
    users = users or {}
    ports = dict(
        zip(("controller", "plain", "login", "tls", "tls_login"), (free_ports.one() for _ in range(5)), strict=True)
    )
    first = next(iter(users), "nobody")
    kinds = {"CONTROLLER": "controller", "PLAIN": "plain", "LOGIN": "login"}
    kinds |= {"TLS": "tls", "TLSLOGIN": "tls_login"} if tls else {}
    listeners = {name: f"{name}://{HOST}:{ports[kind]}" for name, kind in kinds.items()}
    settings = (KAFKA / "kafka.properties").read_text() + "\n".join(
        [
            f"controller.quorum.voters=1@{HOST}:{ports['controller']}",
            f"listeners={','.join(listeners.values())}",
            f"advertised.listeners={','.join(at for name, at in listeners.items() if name != 'CONTROLLER')}",
            "inter.broker.listener.name=PLAIN",
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAIN:PLAINTEXT,LOGIN:SASL_PLAINTEXT,TLS:SSL,TLSLOGIN:SASL_SSL",
            *(
                f"listener.name.{name}.{what}"
                for name in ("login", "tlslogin")
                for what in (
                    "sasl.enabled.mechanisms=SCRAM-SHA-512",
                    "scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;",
                )
            ),
            f"super.users=User:{first};User:ANONYMOUS",
            f"log.dirs={folder / 'data'}",
            *(_keystore(folder, tls) if tls else ()),
            "",
        ]
    )
    (folder / "server.properties").write_text(settings)
    words = ["format", f"--config={folder}/server.properties", f"--cluster-id={_cluster_id()}"]
    words += [f"--add-scram=SCRAM-SHA-512=[name={name},password={password}]" for name, password in users.items()]
    (folder / "format").write_text("\n".join([*words, ""]))
    java = [
        str(JAVA),
        f"-Xmx{heap}",
        "-XX:TieredStopAtLevel=1",
        f"-Dlog4j2.configurationFile={KAFKA}/log4j2.properties",
        "-cp",
        f"{jars(reporter)}/*",
    ]
    processes.run([*java, "kafka.tools.StorageTool", f"@{folder}/format"], deadline=START)
    command = [*java, "kafka.Kafka", str(folder / "server.properties")]
    with _run_server(command, folder / "kafka.log", [ports[kind] for kind in kinds.values()]) as pid:
        yield Kafka(
            port=ports["plain"],
            login=ports["login"],
            tls=ports["tls"] if tls else 0,
            tls_login=ports["tls_login"] if tls else 0,
            pid=pid,
            log=folder / "kafka.log",
            ca=tls.ca if tls else "",
        )


def jars(reporter: progress.Reporter | None = None) -> Path:
    """The image's jars, verified against the same list of hashes; fetched once and then cached."""
    locked = (KAFKA / "jars.sha256").read_text()
    key = hashlib.sha256(((KAFKA / "pom.xml").read_text() + locked).encode()).hexdigest()[:12]
    cache = paths.for_cluster("aether", os.environ).cache / "jars"
    found = cache / f"kafka-{key}"
    if found.exists():
        return found
    half = cache / f".half-{secrets.token_hex(4)}"
    try:
        with (reporter or progress.TerminalReporter()).step("Kafka's jars") as step:
            command = ["mvn", "--batch-mode", "--quiet", f"-Djars={half}", f"-Dmaven.repo.local={half}.repository"]
            processes.run([*command, f"--file={KAFKA}/pom.xml", "dependency:copy-dependencies"], deadline=600)
            # Another test run may have been faster: its folder is as good.
            for line in locked.splitlines():
                digest, name = line.split()
                if hashlib.sha256((half / name).read_bytes()).hexdigest() != digest:
                    raise ValueError(f"{name} does not match its hash in jars.sha256")
            with contextlib.suppress(OSError):
                half.rename(found)
            step.result("fetched")
    finally:
        shutil.rmtree(half, ignore_errors=True)
        shutil.rmtree(f"{half}.repository", ignore_errors=True)
    return found


def _cluster_id() -> str:
    return f"A{base64.urlsafe_b64encode(secrets.token_bytes(15)).decode()}A"


def _keystore(folder: Path, tls: Tls) -> list[str]:
    store = folder / "keystore.pem"
    store.write_bytes(tls.leaf.key + tls.leaf.certificate)
    return ["ssl.keystore.type=PEM", f"ssl.keystore.location={store}"]


@contextlib.contextmanager
def _run_server(command: Sequence[str], log: Path, ports: Sequence[int]) -> Iterator[int]:
    """Run a server until the end of the block, which begins when it listens on all its ports."""
    with log.open("wb") as out, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out) as server:
        try:
            _wait_until_listening(ports, server, log)
            yield server.pid
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


def _wait_until_listening(ports: Sequence[int], server: subprocess.Popen[bytes], log: Path) -> None:
    def text() -> str:
        return log.read_text(errors="replace")[-4000:]

    def listens() -> bool:
        if all(map(_is_listening, ports)):
            return True
        assert server.poll() is None, f"{log.stem} ended by itself:\n{text()}"
        return False

    wait.until(listens, f"{log.stem} listens", seconds=START, interval=0.05, detail=text)


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0
