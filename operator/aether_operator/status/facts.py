"""The parts of a status that are plain values: the applied spec, endpoints, versions, the schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aether_operator.api.platforms import ExchangeSim, Managed, Mode, Server, VenueName
from aether_operator.catalog import names, servers
from aether_operator.catalog.logins import DatabaseUser
from aether_operator.observed import child_refs
from aether_operator.status import conditions

if TYPE_CHECKING:
    from aether_operator.api.platforms import Platform, PlatformSpec
    from aether_operator.observed.observation import Observed
    from aether_operator.observed.reports import SchemaReport

MAX_LINES: Final = 32
"""The most lines of a list."""
MAX_VERSION_LENGTH: Final = 128


def resolved(spec: PlatformSpec) -> PlatformSpec:
    """A spec with its implied defaults filled in."""
    plane = spec.data_plane
    filled = {}
    for server in Server:
        part = plane.of(server)
        if part.mode is Mode.MANAGED and part.managed is None:
            filled[server.value] = part.model_copy(update={"managed": Managed()})
    components = spec.components
    if spec.venue.name is VenueName.SIMULATED and components.exchange_sim is None:
        components = components.model_copy(update={"exchange_sim": ExchangeSim()})
    venue = spec.venue.model_copy(update={"feed": spec.venue.effective_feed})
    return spec.model_copy(
        update={"data_plane": plane.model_copy(update=filled), "components": components, "venue": venue}
    )


def same_platform(one: PlatformSpec, other: PlatformSpec) -> bool:
    """Whether two specs describe the same platform, regardless of `paused` and the progress deadline."""
    manner = {"paused": False, "progress_deadline_seconds": 0}
    return resolved(one).model_copy(update=manner) == resolved(other).model_copy(update=manner)


def applied(spec: PlatformSpec) -> dict[str, Any]:
    """A resolved spec as JSON with all defaults, without empty fields."""
    written: dict[str, Any] = resolved(spec).model_dump(mode="json", by_alias=True, exclude_none=True)
    return written


def endpoints(platform: Platform, observed: Observed) -> dict[str, Any]:
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


def versions(observed: Observed) -> dict[str, Any]:
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
