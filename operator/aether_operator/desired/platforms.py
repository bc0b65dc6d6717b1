"""All children of a platform."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aether_operator.api import labels
from aether_operator.api.platforms import Managed, Mode, Server
from aether_operator.catalog import components, servers
from aether_operator.catalog.logins import DatabaseUser
from aether_operator.desired import (
    configmaps,
    environments,
    logins,
    networkpolicies,
    persistentvolumeclaims,
    poddisruptionbudgets,
    secrets,
    services,
    statefulsets,
)
from aether_operator.observed import child_refs, kinds, live_objects
from aether_operator.observed.kinds import Ref
from aether_operator.observed.server_owners import Ownership

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aether_operator.api.platforms import Platform
    from aether_operator.catalog.components import Component
    from aether_operator.catalog.releases import Release
    from aether_operator.observed.kinds import Manifest
    from aether_operator.observed.platforms import ObservedPlatform


def children(
    platform: Platform, observed: ObservedPlatform, release: Release, random_token: Callable[[], str]
) -> tuple[Manifest, ...]:
    """All children of a platform.

    The observed state matters in three ways: valid credentials are kept, a pod that needs a user's Secret is not
    started before it exists, and no component gets the address of a server that is not confirmed to belong to this
    platform. `random_token` returns 32 random characters.
    """
    found = [
        child
        for server in child_refs.managed_servers(platform)
        for child in _server_children(server, platform, observed, release, random_token)
    ]
    external = platform.spec.data_plane.postgres.external
    named = (observed.secrets.get(external.secret_name) if external is not None else None) or {}
    ca = named.get("ca.crt", "")
    for user in DatabaseUser:
        live = observed.children.get(child_refs.login_secret(user, platform))
        login = secrets.for_database_user(user, platform, live, release, random_token, ca)
        if login is not None:
            found.append(login)
    found += [
        child
        for component in child_refs.components_of(platform)
        for child in _component_children(component, platform, observed, release)
    ]
    return tuple(found)


def _server_children(
    server: Server, platform: Platform, observed: ObservedPlatform, release: Release, random_token: Callable[[], str]
) -> Iterator[Manifest]:
    part = platform.spec.data_plane.of(server).managed or Managed()
    live = observed.children.get(child_refs.secret(server, platform))
    secret = secrets.for_server(server, platform, live, release, random_token)
    yield secret
    yield services.for_server(server, platform, release)
    yield persistentvolumeclaims.for_server(server, part, platform, release)
    yield networkpolicies.for_server(server, platform, release)
    credentials_id: str | None = secrets.credentials_id(secret)
    if live is not None and (not live_objects.belongs_to(live, platform.owner) or _is_lost(live)):
        # The Secret's name is taken, or the Secret is being deleted: running pods go on, and nothing is started with
        # somebody else's credentials or with some that will be lost.
        credentials_id = _credentials_in_use(observed.children.get(child_refs.stateful_set(server, platform)))
    if credentials_id is not None:
        yield statefulsets.for_server(server, part, platform, release, credentials_id)


def _component_children(
    component: Component, platform: Platform, observed: ObservedPlatform, release: Release
) -> Iterator[Manifest]:
    spec, definition = platform.spec.components, components.COMPONENTS[component]
    resources, storage = spec.of(component).resources, spec.storage(component)
    if definition.has_live_settings:
        yield configmaps.live_settings(component, platform, release)
    yield services.for_component(component, platform, release)
    if storage is not None:
        yield persistentvolumeclaims.for_component(component, storage, platform, release)
    yield networkpolicies.for_component(component, platform, release)
    if child_refs.replicas(component, platform) > 1:
        yield poddisruptionbudgets.for_component(component, platform, release)
    live = observed.children.get(child_refs.component_stateful_set(component, platform))
    unconfirmed = frozenset(
        server for server in definition.servers if observed.owners.get(server) is not Ownership.OURS
    )
    if live is not None and not live_objects.belongs_to(live, platform.owner):
        yield statefulsets.for_component(component, resources, platform, release)  # the plan reports NameTaken
    elif live is None:
        if not unconfirmed and not _missing_logins(component, platform, observed):
            yield statefulsets.for_component(component, resources, platform, release)
    elif unconfirmed and environments.is_for_other_venue(live, platform):
        pass  # it belongs to an earlier platform of this name: never combine our venue with that one's servers
    # A running component goes on, even if its Secret was lost (its pods have read it), or while the owner of a server
    # is unknown; but it must not write to a server of another platform.
    elif not any(
        observed.owners.get(server) is Ownership.OWNED_BY_ANOTHER and environments.points_at(live, server, platform)
        for server in definition.servers
    ):
        yield statefulsets.for_component(component, resources, platform, release, unconfirmed, live)


def _missing_logins(component: Component, platform: Platform, observed: ObservedPlatform) -> list[Server]:
    """The servers whose login is missing: a user's Secret or one of its keys, or the Secret's name is taken.

    Secrets of the operator that do not exist yet are created in the same reconcile.
    """
    found = []
    for server, secret in environments.secret_names(component, platform).items():
        live = observed.children.get(Ref(kinds.SECRETS.kind, secret))
        external = platform.spec.data_plane.of(server).mode is Mode.EXTERNAL
        missing = external and isinstance(logins.endpoint(server, platform, observed), logins.Missing)
        if missing or (live is not None and not live_objects.belongs_to(live, platform.owner)):
            found.append(server)
    return found


def _is_lost(live: Manifest) -> bool:
    return live_objects.is_deleting(live) and secrets.valid_credentials(live, servers.USERNAME) is None


def _credentials_in_use(live: Manifest | None) -> str | None:
    if live is None:
        return None
    template = live["spec"].get("template", {}).get("metadata", {})
    credentials_id: str | None = (template.get("annotations") or {}).get(labels.CREDENTIALS)
    return credentials_id
