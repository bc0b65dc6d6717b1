"""The environment variables of components: those that follow from a component's row, and those of its own module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aether_operator.api.platforms import Server, Tls
from aether_operator.catalog import components, names, servers
from aether_operator.desired import components as component_modules

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from aether_operator.api.platforms import Platform
    from aether_operator.catalog.components import Component, ComponentDefinition
    from aether_operator.catalog.releases import Release
    from aether_operator.observed.kinds import Manifest

INSTANCE: Final = "AETHER_INSTANCE"
VENUE: Final = "AETHER_VENUE"
"""The venue for which a component with servers was started: its data must not get to another venue's servers."""
_LIVE_SETTINGS: Final = f"{components.SETTINGS_PATH}/{components.SETTINGS_KEY}"


def for_component(
    component: Component,
    platform: Platform,
    release: Release,
    unconfirmed: AbstractSet[Server] = frozenset(),
    live: Manifest | None = None,
) -> list[dict[str, Any]]:
    """The variables of a component's container, in the order of their names.

    For the servers in `unconfirmed`, whose ownership is not confirmed, the variables of the live StatefulSet are kept.
    """
    definition = components.COMPONENTS[component]
    values = {**_common(definition, platform, release), **component_modules.module_of(component).environment(platform)}
    for server in definition.servers:
        values |= dict(zip(components.server_variables(server), _of_server(server, platform), strict=True))
    live_values = _live(live)
    for name in (name for server in unconfirmed for name in components.server_variables(server)):
        values.pop(name)
        values |= {name: live_values[name]} if name in live_values else {}
    instance = {"name": INSTANCE, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    return [instance, *({"name": name, "value": values[name]} for name in sorted(values))]


def _live(stateful_set: Manifest | None) -> dict[str, str]:
    """The variables of a live component's container."""
    if stateful_set is None:
        return {}
    (container, *_) = stateful_set["spec"]["template"]["spec"]["containers"]
    return {one["name"]: one["value"] for one in container.get("env") or () if "value" in one}


def points_at(stateful_set: Manifest, server: Server, platform: Platform) -> bool:
    """Whether a live component has the address of a server that is in the spec."""
    values, variables = _live(stateful_set), components.address_variables(server)
    desired = dict(zip(components.server_variables(server), _of_server(server, platform), strict=True))
    return all(values.get(name) == desired[name] for name in variables)


def is_for_other_venue(stateful_set: Manifest, platform: Platform) -> bool:
    """Whether a live component was started for another venue than the platform's, which never changes."""
    venue = platform.spec.venue.name
    return _live(stateful_set).get(VENUE, venue) != venue


def _common(definition: ComponentDefinition, platform: Platform, release: Release) -> dict[str, str]:
    """What follows from the component's row, without the addresses of its servers."""
    return {
        "AETHER_RELEASE": release.version,
        **({VENUE: platform.spec.venue.name.value} if definition.servers else {}),
        **({"AETHER_LIVE_SETTINGS": _LIVE_SETTINGS} if definition.has_live_settings else {}),
    }


def _of_server(server: Server, platform: Platform) -> tuple[str, ...]:
    """Host, port, TLS mode, database (PostgreSQL) and credentials folder, in the order of `server_variables`."""
    external = platform.spec.data_plane.of(server).external
    if external is None:
        host, port, tls = names.server_host(platform, server), servers.SERVERS[server].port, Tls.OFF
    else:
        host, port, tls = external.host, external.port, external.tls
    database = (names.database(platform),) if server is Server.POSTGRES else ()
    return (host, str(port), tls.value, *database, f"{components.CREDENTIALS_PATH}/{server.value}")


def secret_names(component: Component, platform: Platform) -> Mapping[Server, str]:
    """The Secrets with the logins of a component."""
    definition = components.COMPONENTS[component]
    found = {server: names.component_login(platform, definition, server) for server in definition.servers}
    return {server: secret for server, secret in found.items() if secret is not None}
