"""Which children a platform has by its spec: references by kind and name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aether_operator.api.platforms import Mode, Server
from aether_operator.catalog import components, names
from aether_operator.catalog.logins import DatabaseUser
from aether_operator.observed import kinds
from aether_operator.observed.kinds import Ref

if TYPE_CHECKING:
    from aether_operator.api.platforms import Platform
    from aether_operator.catalog.components import Component


def managed_servers(platform: Platform) -> tuple[Server, ...]:
    """The servers that the operator runs."""
    return tuple(server for server in Server if platform.spec.data_plane.of(server).mode is Mode.MANAGED)


def of_server(server: Server, platform: Platform) -> tuple[Ref, ...]:
    """The children of one server, in the order in which they are applied."""
    login_secrets = tuple(login_secret(user, platform) for user in DatabaseUser) if server is Server.POSTGRES else ()
    if server not in managed_servers(platform):
        return login_secrets
    return (
        secret(server, platform),
        *login_secrets,
        Ref(kinds.SERVICES.kind, names.server_child(platform, server)),
        claim(server, platform),
        Ref(kinds.POLICIES.kind, names.server_child(platform, server)),
        stateful_set(server, platform),
    )


def components_of(platform: Platform) -> tuple[Component, ...]:
    """The components that the platform has."""
    return tuple(
        component
        for component, definition in components.COMPONENTS.items()
        if definition.runs_at(platform.spec.venue.name)
    )


def replicas(component: Component, platform: Platform) -> int:
    """How many pods a component has."""
    return platform.spec.components.replicas(component)


def of_component(component: Component, platform: Platform) -> tuple[Ref, ...]:
    """The children of one component, in the order in which they are applied."""
    if component not in components_of(platform):
        return ()
    definition, name = components.COMPONENTS[component], names.component_child(platform, component)
    return (
        *((settings_config_map(component, platform),) if definition.has_live_settings else ()),
        Ref(kinds.SERVICES.kind, name),
        *((component_claim(component, platform),) if definition.has_volume else ()),
        Ref(kinds.POLICIES.kind, name),
        *((Ref(kinds.BUDGETS.kind, name),) if replicas(component, platform) > 1 else ()),
        component_stateful_set(component, platform),
    )


def all_of(platform: Platform) -> tuple[Ref, ...]:
    """All children of a platform."""
    found = [ref for server in Server for ref in of_server(server, platform)]
    return (*found, *(ref for component in components.Component for ref in of_component(component, platform)))


def secret(server: Server, platform: Platform) -> Ref:
    """The Secret with a managed server's credentials."""
    return Ref(kinds.SECRETS.kind, names.server_child(platform, server))


def claim(server: Server, platform: Platform) -> Ref:
    """The PersistentVolumeClaim of a managed server."""
    return Ref(kinds.CLAIMS.kind, names.server_claim(platform, server))


def stateful_set(server: Server, platform: Platform) -> Ref:
    """The StatefulSet of a managed server."""
    return Ref(kinds.STATEFUL_SETS.kind, names.server_child(platform, server))


def login_secret(user: DatabaseUser, platform: Platform) -> Ref:
    """The Secret of a database user."""
    return Ref(kinds.SECRETS.kind, names.login_secret(platform, user))


def settings_config_map(component: Component, platform: Platform) -> Ref:
    """The ConfigMap with a component's live settings."""
    return Ref(kinds.CONFIG_MAPS.kind, names.component_settings(platform, component))


def component_claim(component: Component, platform: Platform) -> Ref:
    """The PersistentVolumeClaim of a component."""
    return Ref(kinds.CLAIMS.kind, names.component_claim(platform, component))


def component_stateful_set(component: Component, platform: Platform) -> Ref:
    """The StatefulSet of a component."""
    return Ref(kinds.STATEFUL_SETS.kind, names.component_child(platform, component))
