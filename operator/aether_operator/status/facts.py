"""The parts of a status that are read as values: what is applied, where things are, and what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aether_operator.api.platforms import Managed, Mode, Server
from aether_operator.catalog import names, servers
from aether_operator.observed import families

if TYPE_CHECKING:
    from aether_operator.api.platforms import Platform, PlatformSpec
    from aether_operator.observed.reports import SchemaReport
    from aether_operator.observed.worlds import World

MOST: Final = 32
"""Lines of a list."""


def resolved(spec: PlatformSpec) -> PlatformSpec:
    """A spec with what its defaults stand for."""
    plane = spec.data_plane
    filled = {}
    for server in Server:
        part = plane.of(server)
        if part.mode is Mode.MANAGED and part.managed is None:
            filled[server.value] = part.model_copy(update={"managed": Managed()})
    return spec.model_copy(update={"data_plane": plane.model_copy(update=filled)})


def alike(one: PlatformSpec, other: PlatformSpec) -> bool:
    """Whether two specs ask for the same platform: what they say of the operator's own manner does not count."""
    manner = {"paused": False, "progress_deadline_seconds": 0}
    return resolved(one).model_copy(update=manner) == resolved(other).model_copy(update=manner)


def applied(spec: PlatformSpec) -> dict[str, Any]:
    """A resolved spec as a person would write it."""
    written: dict[str, Any] = _without_empty(resolved(spec).model_dump(mode="json", by_alias=True, exclude_none=True))
    return written


def _without_empty(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    parts = {key: _without_empty(part) for key, part in value.items()}
    return {key: part for key, part in parts.items() if part != {}}


def endpoints(platform: Platform, world: World) -> dict[str, Any]:
    """Where each server is, and the Secret with a login: for PostgreSQL the one that people read with."""
    found: dict[str, Any] = {}
    for server in Server:
        part = platform.spec.data_plane.of(server)
        if part.mode is Mode.MANAGED:
            place = {"host": names.host(platform, server), "port": servers.SERVERS[server].port}
            secret = names.child(platform, server)
            database = servers.DATABASE if server is Server.POSTGRES else ""
        elif part.external is not None:
            place = {"host": part.external.host, "port": part.external.port}
            secret, database = part.external.secret_name, getattr(part.external, "database", "")
        else:
            continue
        if server is Server.POSTGRES and families.reader(platform) in world.children:
            secret = names.reader(platform)
        found[server.value] = {**place, **({"database": database} if database else {}), "secretName": secret}
    return found


def versions(world: World) -> dict[str, Any]:
    """What each server that answered is."""
    return {server.value: {"version": one.version} for server, one in sorted(world.servers.items()) if one.version}


def schema(report: SchemaReport) -> dict[str, Any]:
    """What became of the schema."""
    drift = [f"{one.name}: {one.what}{' (repaired)' if one.repaired else ''}" for one in report.drift]
    parts: dict[str, Any] = {
        "revision": report.revision,
        "engine": report.engine.value if report.engine else "",
        "tradesDays": report.trades_days,
        "held": sorted(report.held)[:MOST],
        "drift": sorted(drift)[:MOST],
    }
    return {key: value for key, value in parts.items() if value}
