"""The names of a platform's children, of database roles, and the host names that clients use."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from aether_operator.api.platforms import Server
from aether_operator.catalog import components, servers

if TYPE_CHECKING:
    from aether_operator.api.platforms import Platform
    from aether_operator.catalog.components import Component, ComponentDefinition
    from aether_operator.catalog.logins import DatabaseUser

MAX_ROLE_LENGTH: Final = 63
"""The bytes of a name in PostgreSQL. The names of databases and users are ASCII."""
_DIGITS: Final = 10


def server_child(platform: Platform, server: Server) -> str:
    """The name of a server's Secret, Service, NetworkPolicy and StatefulSet."""
    return f"{platform.name}-{server.value}"


def server_claim(platform: Platform, server: Server) -> str:
    """The name of a server's PersistentVolumeClaim."""
    return f"{server_child(platform, server)}-data"


def server_pod(platform: Platform, server: Server) -> str:
    """The name of a server's only pod."""
    return f"{server_child(platform, server)}-0"


def login_secret(platform: Platform, user: DatabaseUser) -> str:
    """The name of the Secret with a database user's login."""
    return f"{server_child(platform, Server.POSTGRES)}-{user.value}"


def database(platform: Platform) -> str:
    """The name of the database: fixed on a managed server, else the one in the spec."""
    external = platform.spec.data_plane.postgres.external
    return servers.DATABASE if external is None else external.database


def login(platform: Platform, user: DatabaseUser) -> str:
    """The name of a database user's role."""
    return role(database(platform), user)


def role(in_database: str, user: str) -> str:
    """The name of the role of a database's user. Roles belong to the whole server, so it contains the database's name.

    PostgreSQL would truncate a longer name, which two databases might then share: it ends with a hash instead.
    """
    name = f"{in_database}_{user}"
    if len(name) <= MAX_ROLE_LENGTH:
        return name
    end = "_" + hashlib.sha256(f"{in_database}/{user}".encode()).hexdigest()[:_DIGITS]
    return name[: MAX_ROLE_LENGTH - len(end)] + end


def server_host(platform: Platform, server: Server) -> str:
    """The host name of a managed server."""
    return f"{server_child(platform, server)}.{platform.namespace}.svc"


def component_child(platform: Platform, component: Component) -> str:
    """The name of a component's Service, NetworkPolicy, StatefulSet and PodDisruptionBudget."""
    return f"{platform.name}-{components.COMPONENTS[component].name}"


def component_claim(platform: Platform, component: Component) -> str:
    """The name of a component's PersistentVolumeClaim."""
    return f"{component_child(platform, component)}-data"


def component_settings(platform: Platform, component: Component) -> str:
    """The name of the ConfigMap with a component's live settings."""
    return f"{component_child(platform, component)}-settings"


def component_host(platform: Platform, component: Component) -> str:
    """The host name of a component's Service."""
    return f"{component_child(platform, component)}.{platform.namespace}.svc"


def component_pod(platform: Platform, component: Component, replica: int | str) -> str:
    """The name of one of a component's pods."""
    return f"{component_child(platform, component)}-{replica}"


def component_login(platform: Platform, component: ComponentDefinition, server: Server) -> str | None:
    """The Secret with the login that a component uses at a server; None where it has none.

    On PostgreSQL it is that of the component's database user; on other Managed servers the operator's, on External ones
    the user's.
    """
    if server is Server.POSTGRES:
        return None if component.database_user is None else login_secret(platform, component.database_user)
    external = platform.spec.data_plane.of(server).external
    return server_child(platform, server) if external is None else external.secret_name


def address(host: str, port: int | str) -> str:
    """`host:port` as in URLs and messages: an IPv6 address is in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
