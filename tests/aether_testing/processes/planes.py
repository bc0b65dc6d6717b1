"""A data plane for operators outside of a cluster: real servers on loopback, and platforms that use them."""

from __future__ import annotations

import contextlib
import json
import secrets
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aether_operator.api.platform_definition import DEFINITION
from aether_operator.catalog.logins import DatabaseUser
from aether_testing.servers import brokers, shared_servers
from aether_testing.servers import postgres as servers
from aether_testing.values import manifests

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aether_operator.api.definition import Definition
    from aether_testing.cluster.namespaces import Namespace
    from aether_testing.servers.postgres import Postgres

Object = dict[str, Any]
CANARIES: Final = {"host": "canary-5b1e-host", "ca.crt": "canary-5b1e-authority", "note": "canary-5b1e-note"}
"""Further values of a user's Secret, which may appear nowhere."""
LOGIN: Final = "desk"
MANAGED: Final = "the managed one"
"""The user of the managed servers; no database has this name."""
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
    """The servers. Redis, NATS and `managed`, a second PostgreSQL, accept known users with any password."""

    postgres: Postgres
    managed: Postgres
    kafka: brokers.Kafka
    nats: brokers.RunningServer
    redis: brokers.RunningServer
    proxies: shared_servers.Proxies
    _proxies_by_user: dict[str, dict[str, shared_servers.Proxy]] = field(default_factory=dict)

    def proxies_for(self, user: str) -> dict[str, shared_servers.Proxy]:
        """Kafka, NATS and Redis as if they were this user's alone."""
        if user not in self._proxies_by_user:
            ports = {"kafka": self.kafka.login, "nats": self.nats.port, "redis": self.redis.port}
            self._proxies_by_user[user] = {
                name: self.proxies.add(port, kafka=name == "kafka") for name, port in ports.items()
            }
        return self._proxies_by_user[user]

    def external(self, database: str) -> Object:
        """A spec with External servers only, for a platform with this database; the Secret is `SECRET`."""
        ports = {name: proxy.port for name, proxy in self.proxies_for(database).items()}
        where = {"host": brokers.HOST, "tls": "Disabled", "secretName": SECRET}
        placed = {name: {"mode": "External", "external": {**where, "port": port}} for name, port in ports.items()}
        tables = {"mode": "External", "external": {**where, "port": self.postgres.port, "database": database}}
        return {"dataPlane": {"postgres": tables, **placed}}

    def mixed(self) -> Object:
        """A spec with Kafka External and the others Managed: an operator reaches those at `addresses`."""
        return {"dataPlane": {"kafka": self.external(MANAGED)["dataPlane"]["kafka"]}}

    def addresses(self) -> dict[str, str]:
        """The addresses at which an operator outside of the cluster reaches the managed servers."""
        proxies = self.proxies_for(MANAGED)
        ports = {"postgres": self.managed.port, "nats": proxies["nats"].port, "redis": proxies["redis"].port}
        return {name: f"{brokers.HOST}:{port}" for name, port in ports.items()}

    def database(self) -> str:
        """Create a database with pg_partman, owned by the login."""
        name = f"d_{secrets.token_hex(4)}"
        self.postgres.run("postgres", f"create database {name} owner {LOGIN} template desk_template")
        return name

    def forget_managed(self) -> None:
        """Reset the managed servers, as if on new volumes, and forget who owns them and their Kafka."""
        for proxy in self.proxies_for(MANAGED).values():
            proxy.owner_number = self.proxies.new_owner_number()
        self.managed.run(
            "postgres",
            "drop database if exists aether with (force)",
            *(f"drop role if exists aether_{user.value}" for user in DatabaseUser),
            "create database aether owner aether template desk_template",
        )


@contextlib.contextmanager
def running() -> Iterator[Plane]:
    """The servers for the length of a block, in a folder that PostgreSQL's user may enter, unlike pytest's."""
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
            proxies=stack.enter_context(shared_servers.running()),
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
    """The user's Secret that a spec names; by default it is complete, with unused keys beside."""
    data = keys or {"username": LOGIN, "password": PASSWORD, **CANARIES}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def a_platform(spec: Object, name: str = "paper") -> Object:
    return manifests.a_manifest(spec, name)


def apply(namespace: Namespace, *objects: Object) -> None:
    """Server-side apply objects as a person, with a field manager of their own."""
    for one in objects:
        body = json.dumps({**one, "metadata": {**one["metadata"], "namespace": namespace.name}})
        namespace.text(
            "apply", "--server-side", "--force-conflicts", "--field-manager=desk", "--filename=-", stdin=body
        )


def until(  # noqa: PLR0913 - a test names what differs
    namespace: Namespace,
    kind: str,
    status: str,
    *,
    name: str = "paper",
    reason: str = "",
    definition: Definition = DEFINITION,
) -> Object:
    """Watch until a condition of an object has this status, for the newest generation; returns the object."""

    def holds(found: dict[str, Object]) -> bool:
        return any(_has_condition(one, kind, status, reason) for one in found.values())

    expected = f"{name} is {kind}={status}" + (f" for {reason}" if reason else "")
    found = namespace.until(holds, definition.resource, f"--field-selector=metadata.name={name}", expected=expected)
    return next(iter(found.values()))


def _has_condition(platform: Object, kind: str, status: str, reason: str) -> bool:
    found = platform.get("status", {})
    if found.get("observedGeneration") != platform["metadata"]["generation"]:
        return False
    return any(
        one["type"] == kind and one["status"] == status and reason in {"", one["reason"]}
        for one in found.get("conditions", [])
    )
