"""Which objects belong to a platform, whatever the world is like: their references."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aether_operator.api.platforms import Mode, Server
from aether_operator.catalog import components, names
from aether_operator.catalog.logins import Who
from aether_operator.observed import kinds
from aether_operator.observed.kinds import Ref

if TYPE_CHECKING:
    from aether_operator.api.platforms import Platform
    from aether_operator.catalog.components import Component


def managed(platform: Platform) -> tuple[Server, ...]:
    """The servers that the operator runs."""
    return tuple(server for server in Server if platform.spec.data_plane.of(server).mode is Mode.MANAGED)


def of_server(server: Server, platform: Platform) -> tuple[Ref, ...]:
    """The children that are there for one server, in the order in which they are applied."""
    of_others = tuple(login(who, platform) for who in Who) if server is Server.POSTGRES else ()
    if server not in managed(platform):
        return of_others
    return (
        secret(server, platform),
        *of_others,
        Ref(kinds.SERVICES.kind, names.child(platform, server)),
        claim(server, platform),
        Ref(kinds.POLICIES.kind, names.child(platform, server)),
        stateful_set(server, platform),
    )


def present(platform: Platform) -> tuple[Component, ...]:
    """The rooms that the platform has."""
    return tuple(
        component for component, running in components.COMPONENTS.items() if running.has(platform.spec.venue.name)
    )


def replicas(component: Component, platform: Platform) -> int:
    """How many pods a room has."""
    return platform.spec.components.ingest.replicas if component is components.Component.INGEST else 1


def of_component(component: Component, platform: Platform) -> tuple[Ref, ...]:
    """The children that are there for one room, in the order in which they are applied."""
    if component not in present(platform):
        return ()
    running, name = components.COMPONENTS[component], names.component(platform, component)
    return (
        *((settings(component, platform),) if running.live else ()),
        Ref(kinds.SERVICES.kind, name),
        *((component_claim(component, platform),) if running.journal else ()),
        Ref(kinds.POLICIES.kind, name),
        *((Ref(kinds.BUDGETS.kind, name),) if replicas(component, platform) > 1 else ()),
        component_stateful_set(component, platform),
    )


def all_of(platform: Platform) -> tuple[Ref, ...]:
    """All children."""
    found = [ref for server in Server for ref in of_server(server, platform)]
    found += [ref for component in components.Component for ref in of_component(component, platform)]
    order = {kind.kind: place for place, kind in enumerate(kinds.CHILDREN)}
    return tuple(sorted(found, key=lambda ref: order[ref.kind]))


def secret(server: Server, platform: Platform) -> Ref:
    """A managed server's credentials."""
    return Ref(kinds.SECRETS.kind, names.child(platform, server))


def claim(server: Server, platform: Platform) -> Ref:
    """A managed server's volume."""
    return Ref(kinds.CLAIMS.kind, names.claim(platform, server))


def stateful_set(server: Server, platform: Platform) -> Ref:
    """A managed server's workload."""
    return Ref(kinds.STATEFUL_SETS.kind, names.child(platform, server))


def login(who: Who, platform: Platform) -> Ref:
    """A login of the database."""
    return Ref(kinds.SECRETS.kind, names.login_secret(platform, who))


def settings(component: Component, platform: Platform) -> Ref:
    """What may change while a room runs."""
    return Ref(kinds.CONFIG_MAPS.kind, names.component_settings(platform, component))


def component_claim(component: Component, platform: Platform) -> Ref:
    """A room's volume."""
    return Ref(kinds.CLAIMS.kind, names.component_claim(platform, component))


def component_stateful_set(component: Component, platform: Platform) -> Ref:
    """A room's workload."""
    return Ref(kinds.STATEFUL_SETS.kind, names.component(platform, component))
