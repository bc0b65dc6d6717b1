"""The parts of a status that are plain values: endpoints, versions, the schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aether_operator.api.platforms import Mode, Server
from aether_operator.catalog import names, servers
from aether_operator.catalog.logins import DatabaseUser
from aether_operator.observed import child_refs
from aether_operator.status import conditions

if TYPE_CHECKING:
    from aether_operator.api.platforms import Platform
    from aether_operator.observed.platforms import ObservedPlatform
    from aether_operator.observed.reports import SchemaReport

MAX_LINES: Final = 32
"""The most lines of a list."""
MAX_VERSION_LENGTH: Final = 128


def endpoints(platform: Platform, observed: ObservedPlatform) -> dict[str, Any]:
    """Each server's address, and the Secret with a login: for PostgreSQL the read-only one, if it exists."""
    found: dict[str, Any] = {}
    for server in Server:
        part = platform.spec.data_plane.of(server)
        if part.mode is Mode.MANAGED:
            address = {"host": names.server_host(platform, server), "port": servers.SERVERS[server].port}
            secret = names.server_child(platform, server)
            database = servers.DATABASE if server is Server.POSTGRES else ""
        elif part.external is not None:
            address = {"host": part.external.host, "port": part.external.port}
            secret, database = part.external.secret_name, getattr(part.external, "database", "")
        else:
            continue
        if server is Server.POSTGRES and child_refs.login_secret(DatabaseUser.READER, platform) in observed.children:
            secret = names.login_secret(platform, DatabaseUser.READER)
        found[server.value] = {**address, **({"database": database} if database else {}), "secretName": secret}
    return found


def versions(observed: ObservedPlatform) -> dict[str, Any]:
    """The version of each server that answered."""
    return {
        server.value: {"version": one.version[:MAX_VERSION_LENGTH]}
        for server, one in sorted(observed.servers.items())
        if one.version
    }


def schema(report: SchemaReport) -> dict[str, Any]:
    """The state of the schema."""
    drift = [f"{one.name}: {one.what}{' (repaired)' if one.repaired else ''}" for one in report.drift]
    parts: dict[str, Any] = {
        "revision": report.revision,
        "engine": report.engine.value if report.engine else "",
        **{f"{table}Days": days for table, days in report.days.items()},
        "held": [conditions.truncated(line) for line in sorted(report.held)[:MAX_LINES]],
        "drift": [conditions.truncated(line) for line in sorted(drift)[:MAX_LINES]],
    }
    return {key: value for key, value in parts.items() if value}
