"""A data plane for operators that run beside a control plane: real servers on loopback, and platforms that use them."""

from __future__ import annotations

import contextlib
import json
import secrets
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aether_operator.api import models, platforms
from aether_operator.catalog.logins import DatabaseUser
from aether_testing import brokers, shared_servers
from aether_testing import postgres as servers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aether_testing.namespaces import Namespace
    from aether_testing.postgres import Postgres

Object = dict[str, Any]
CANARIES: Final = {"host": "canary-5b1e-host", "ca.crt": "canary-5b1e-authority", "note": "canary-5b1e-note"}
"""What else may stand in a user's Secret, and be told nowhere."""
LOGIN: Final = "desk"
MANAGED: Final = "the managed one"
"""Who has the managed servers: no database is called so."""
PASSWORD: Final = "canary-5b1e-desk"  # noqa: S105 - of servers that live as long as a test run
SECRET: Final = "desk-login"  # noqa: S105 - the name of one
PARTMAN: Final = (
    "create schema partman",
    "create extension pg_partman schema partman",
    f"grant all on schema partman to {LOGIN}",
    f"grant all on all tables in schema partman to {LOGIN}",
    f"grant execute on all functions in schema partman to {LOGIN}",
    f"grant execute on all procedures in schema partman to {LOGIN}",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """The servers. Redis, NATS and `managed`, a second PostgreSQL, let in whom they know, with any password."""

    postgres: Postgres
    managed: Postgres
    kafka: brokers.Kafka
    nats: brokers.RunningServer
    redis: brokers.RunningServer
    ways: shared_servers.Ways
    _ways: dict[str, dict[str, shared_servers.Way]] = field(default_factory=dict)

    def to(self, whose: str) -> dict[str, shared_servers.Way]:
        """Kafka, NATS and Redis as if they were this one's alone."""
        if whose not in self._ways:
            ports = {"kafka": self.kafka.login, "nats": self.nats.port, "redis": self.redis.port}
            self._ways[whose] = {name: self.ways.to(port, frames=name == "kafka") for name, port in ports.items()}
        return self._ways[whose]

    def external(self, database: str) -> Object:
        """A spec with everything External, of a platform that has this database; the Secret is `SECRET`."""
        ports = {name: way.port for name, way in self.to(database).items()}
        where = {"host": brokers.HOST, "tls": "Disabled", "secretName": SECRET}
        placed = {name: {"mode": "External", "external": {**where, "port": port}} for name, port in ports.items()}
        tables = {"mode": "External", "external": {**where, "port": self.postgres.port, "database": database}}
        return {"dataPlane": {"postgres": tables, **placed}}

    def mixed(self) -> Object:
        """A spec with Kafka External and the others Managed, which an operator finds at `addresses`."""
        return {"dataPlane": {"kafka": self.external(MANAGED)["dataPlane"]["kafka"]}}

    def addresses(self) -> dict[str, str]:
        """Where an operator outside of the cluster finds the managed servers."""
        ways = self.to(MANAGED)
        ports = {"postgres": self.managed.port, "nats": ways["nats"].port, "redis": ways["redis"].port}
        return {name: f"{brokers.HOST}:{port}" for name, port in ports.items()}

    def database(self) -> str:
        """A new one, with pg_partman, which belongs to the login."""
        name = f"d_{secrets.token_hex(4)}"
        self.postgres.run("postgres", f"create database {name} owner {LOGIN} template desk_template")
        return name

    def forget_managed(self) -> None:
        """The managed servers as new volumes have them, and the Kafka beside them."""
        for way in self.to(MANAGED).values():
            way.number = self.ways.number()
        self.managed.run(
            "postgres",
            "drop database if exists aether with (force)",
            *(f"drop role if exists aether_{user.value}" for user in DatabaseUser),
            "create database aether owner aether template desk_template",
        )


@contextlib.contextmanager
def running() -> Iterator[Plane]:
    """The servers, for the length of a block; in a folder that PostgreSQL's own user may enter, as pytest's are not."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aether-plane-")))
        folder.chmod(0o755)
        folders = [folder / name for name in ("postgres", "managed")]
        for one in folders:
            one.mkdir(mode=0o755)
        tables = stack.enter_context(servers.running(folders[0]))
        managed = stack.enter_context(servers.running(folders[1], trust_all=True))
        for server, login in ((tables, f"password '{PASSWORD}'"), (managed, "")):
            server.run("postgres", f"create role {LOGIN} login createrole {login}", "create database desk_template")
            server.run("desk_template", *PARTMAN)
        managed.run("postgres", "create role aether login createrole in role desk")
        plane = Plane(
            postgres=tables,
            managed=managed,
            kafka=stack.enter_context(brokers.kafka_server(folder / "kafka", users={LOGIN: PASSWORD})),
            nats=stack.enter_context(brokers.nats_server(folder / "nats")),
            ways=stack.enter_context(shared_servers.running()),
            redis=stack.enter_context(
                brokers.redis_server(
                    folder / "redis",
                    acl=[f"user {name} on nopass ~* &* +@all" for name in ("default", LOGIN, "aether")],
                )
            ),
        )
        plane.forget_managed()
        yield plane


def login_secret(name: str = SECRET, **keys: str) -> Object:
    """The user's Secret that a spec names; a whole one has keys that nobody asked for, too."""
    data = keys or {"username": LOGIN, "password": PASSWORD, **CANARIES}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def a_platform(spec: Object, name: str = "paper") -> Object:
    """A TradingPlatform."""
    return {"apiVersion": models.API_VERSION, "kind": platforms.KIND, "metadata": {"name": name}, "spec": spec}


def apply(namespace: Namespace, *things: Object) -> None:
    """Create or change objects as a person does, by server-side apply of their own manager."""
    for thing in things:
        body = json.dumps({**thing, "metadata": {**thing["metadata"], "namespace": namespace.name}})
        namespace.text(
            "apply", "--server-side", "--force-conflicts", "--field-manager=desk", "--filename=-", stdin=body
        )


def until(namespace: Namespace, kind: str, status: str, *, name: str = "paper", reason: str = "") -> Object:
    """Watch until a condition of a platform is so, for its newest generation; gives the platform."""

    def holds(seen: dict[str, Object]) -> bool:
        return any(_is(one, kind, status, reason) for one in seen.values())

    expected = f"{name} is {kind}={status}" + (f" for {reason}" if reason else "")
    found = namespace.until(holds, platforms.PLURAL, f"--field-selector=metadata.name={name}", expected=expected)
    return next(iter(found.values()))


def _is(platform: Object, kind: str, status: str, reason: str) -> bool:
    told = platform.get("status", {})
    if told.get("observedGeneration") != platform["metadata"]["generation"]:
        return False
    return any(
        one["type"] == kind and one["status"] == status and reason in {"", one["reason"]}
        for one in told.get("conditions", [])
    )
