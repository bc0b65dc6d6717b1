"""The names of a platform's children, and of what clients call them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aether_operator.api.platforms import Server
from aether_operator.catalog import servers

if TYPE_CHECKING:
    from aether_operator.api.platforms import Platform


def child(platform: Platform, server: Server) -> str:
    """A server's Secret, Service, NetworkPolicy and StatefulSet."""
    return f"{platform.name}-{server.value}"


def claim(platform: Platform, server: Server) -> str:
    """A server's volume."""
    return f"{child(platform, server)}-data"


def pod(platform: Platform, server: Server) -> str:
    """A server's one pod."""
    return f"{child(platform, server)}-0"


def reader(platform: Platform) -> str:
    """The Secret with the login that people read the database with."""
    return f"{child(platform, Server.POSTGRES)}-reader"


def database(platform: Platform) -> str:
    """The database: ours on a managed server, else the one that the spec names."""
    external = platform.spec.data_plane.postgres.external
    return servers.DATABASE if external is None else external.database


def reader_login(platform: Platform) -> str:
    """The login that people read with. Logins are the whole server's, so it bears the name of its database."""
    return f"{database(platform)}_reader"


def host(platform: Platform, server: Server) -> str:
    """The name that clients call a server by which the operator runs."""
    return f"{child(platform, server)}.{platform.namespace}.svc"
