"""The names of a platform's children, and of what clients call them; how the address of a server is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aether_operator.api.platforms import Server
from aether_operator.catalog import components, servers
from aether_operator.catalog.logins import Who

if TYPE_CHECKING:
    from aether_operator.api.platforms import Platform
    from aether_operator.catalog.components import Component


def child(platform: Platform, server: Server) -> str:
    """A server's Secret, Service, NetworkPolicy and StatefulSet."""
    return f"{platform.name}-{server.value}"


def claim(platform: Platform, server: Server) -> str:
    """A server's volume."""
    return f"{child(platform, server)}-data"


def pod(platform: Platform, server: Server) -> str:
    """A server's one pod."""
    return f"{child(platform, server)}-0"


def login_secret(platform: Platform, who: Who) -> str:
    """The Secret with a login of the database."""
    return f"{child(platform, Server.POSTGRES)}-{who.value}"


def database(platform: Platform) -> str:
    """The database: ours on a managed server, else the one that the spec names."""
    external = platform.spec.data_plane.postgres.external
    return servers.DATABASE if external is None else external.database


def login(platform: Platform, who: Who) -> str:
    """A login of the database. Logins are the whole server's, so it bears the name of its database."""
    return f"{database(platform)}_{who.value}"


def host(platform: Platform, server: Server) -> str:
    """The name that clients call a server by which the operator runs."""
    return f"{child(platform, server)}.{platform.namespace}.svc"


def component(platform: Platform, component: Component) -> str:
    """A room's Service, NetworkPolicy, StatefulSet and PodDisruptionBudget."""
    return f"{platform.name}-{components.COMPONENTS[component].name}"


def component_claim(platform: Platform, which: Component) -> str:
    """A room's volume."""
    return f"{component(platform, which)}-data"


def component_settings(platform: Platform, which: Component) -> str:
    """The ConfigMap with what may change while a room runs."""
    return f"{component(platform, which)}-settings"


def component_host(platform: Platform, which: Component) -> str:
    """The name of a room's Service."""
    return f"{component(platform, which)}.{platform.namespace}.svc"


def component_pod(platform: Platform, which: Component, replica: int | str) -> str:
    """One of a room's pods."""
    return f"{component(platform, which)}-{replica}"


def component_login(platform: Platform, server: Server) -> str:
    """The Secret with the login that rooms use: on PostgreSQL one of their own, else the platform's.

    Of an External Kafka or NATS it is the user's own.
    """
    if server is Server.POSTGRES:
        return login_secret(platform, Who.INGEST)
    external = platform.spec.data_plane.of(server).external
    return child(platform, server) if external is None else external.secret_name


def address(host: str, port: int | str) -> str:
    """Where a server is, as URLs and messages have it: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
