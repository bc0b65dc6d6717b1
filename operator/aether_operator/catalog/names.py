"""The names of a platform's children, and of what clients call them; how the address of a server is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aether_operator.api.platforms import Server
from aether_operator.catalog import components, servers
from aether_operator.catalog.logins import DatabaseUser

if TYPE_CHECKING:
    from aether_operator.api.platforms import Platform
    from aether_operator.catalog.components import Component


def server_child(platform: Platform, server: Server) -> str:
    """A server's Secret, Service, NetworkPolicy and StatefulSet."""
    return f"{platform.name}-{server.value}"


def server_claim(platform: Platform, server: Server) -> str:
    """A server's volume."""
    return f"{server_child(platform, server)}-data"


def server_pod(platform: Platform, server: Server) -> str:
    """A server's one pod."""
    return f"{server_child(platform, server)}-0"


def login_secret(platform: Platform, user: DatabaseUser) -> str:
    """The Secret with a login of the database."""
    return f"{server_child(platform, Server.POSTGRES)}-{user.value}"


def database(platform: Platform) -> str:
    """The database: ours on a managed server, else the one that the spec names."""
    external = platform.spec.data_plane.postgres.external
    return servers.DATABASE if external is None else external.database


def login(platform: Platform, user: DatabaseUser) -> str:
    """A login of the database. Logins are the whole server's, so it bears the name of its database."""
    return f"{database(platform)}_{user.value}"


def server_host(platform: Platform, server: Server) -> str:
    """The name that clients call a server by which the operator runs."""
    return f"{server_child(platform, server)}.{platform.namespace}.svc"


def component_child(platform: Platform, component: Component) -> str:
    """A room's Service, NetworkPolicy, StatefulSet and PodDisruptionBudget."""
    return f"{platform.name}-{components.COMPONENTS[component].name}"


def component_claim(platform: Platform, component: Component) -> str:
    """A room's volume."""
    return f"{component_child(platform, component)}-data"


def component_settings(platform: Platform, component: Component) -> str:
    """The ConfigMap with what may change while a room runs."""
    return f"{component_child(platform, component)}-settings"


def component_host(platform: Platform, component: Component) -> str:
    """The name of a room's Service."""
    return f"{component_child(platform, component)}.{platform.namespace}.svc"


def component_pod(platform: Platform, component: Component, replica: int | str) -> str:
    """One of a room's pods."""
    return f"{component_child(platform, component)}-{replica}"


def component_login(platform: Platform, server: Server) -> str:
    """The Secret with the login that rooms use: on PostgreSQL one of their own, else the platform's.

    Of an External Kafka or NATS it is the user's own.
    """
    if server is Server.POSTGRES:
        return login_secret(platform, DatabaseUser.INGEST)
    external = platform.spec.data_plane.of(server).external
    return server_child(platform, server) if external is None else external.secret_name


def address(host: str, port: int | str) -> str:
    """Where a server is, as URLs and messages have it: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
