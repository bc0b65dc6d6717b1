"""All children of a platform."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aether_operator.api import labels
from aether_operator.api.platforms import ExchangeSim, Managed, Mode, Server
from aether_operator.catalog import components, servers
from aether_operator.catalog.components import Component
from aether_operator.catalog.logins import Who
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
from aether_operator.observed import families, kinds, ownership
from aether_operator.observed.kinds import Ref
from aether_operator.observed.owners import Ownership

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aether_operator.api.platforms import Platform
    from aether_operator.catalog.releases import Release
    from aether_operator.observed.kinds import Manifest
    from aether_operator.observed.observation import Observed


def wanted(platform: Platform, observed: Observed, release: Release, fresh: Callable[[], str]) -> tuple[Manifest, ...]:
    """What a platform becomes, server by server and room by room, in the order in which it is applied.

    The world is looked at for three things: credentials that are intact stay, what waits for a user's Secret is not
    started before it is there, and no room learns where a server is before that is known to be this platform's.
    `fresh` makes a random word of 32 letters.
    """
    made = [
        child for server in families.managed(platform) for child in _running(server, platform, observed, release, fresh)
    ]
    external = platform.spec.data_plane.postgres.external
    named = (observed.secrets.get(external.secret_name) if external is not None else None) or {}
    authority = named.get("ca.crt", "")
    for who in Who:
        live = observed.children.get(families.login(who, platform))
        login = secrets.login(who, platform, live, release, fresh, authority)
        if login is not None:
            made.append(login)
    made += [
        child
        for component in families.present(platform)
        for child in _of_component(component, platform, observed, release)
    ]
    order = {kind.kind: place for place, kind in enumerate(kinds.CHILDREN)}
    return tuple(sorted(made, key=lambda child: order[child["kind"]]))


def _running(
    server: Server, platform: Platform, observed: Observed, release: Release, fresh: Callable[[], str]
) -> Iterator[Manifest]:
    part = platform.spec.data_plane.of(server).managed or Managed()
    live = observed.children.get(families.secret(server, platform))
    secret = secrets.credentials(server, platform, live, release, fresh)
    yield secret
    yield services.before(server, platform, release)
    yield persistentvolumeclaims.under(server, part, platform, release)
    yield networkpolicies.around(server, platform, release)
    word: str | None = secrets.word(secret)
    if live is not None and (not ownership.ours(live, platform.name) or _going(live)):
        # The Secret's name is taken, or its end is near: what runs goes on as it is, and nothing is started with
        # credentials of others, or with some that will never be there.
        word = _word_in_force(observed.children.get(families.stateful_set(server, platform)))
    if word is not None:
        yield statefulsets.running(server, part, platform, release, word)


def _of_component(component: Component, platform: Platform, observed: Observed, release: Release) -> Iterator[Manifest]:
    wanted, run = platform.spec.components, components.COMPONENTS[component]
    simulated = wanted.exchange_sim or ExchangeSim()
    resources = wanted.ingest.resources if component is Component.INGEST else simulated.resources
    if run.live:
        yield configmaps.live_settings(component, platform, release)
    yield services.before_component(component, platform, release)
    if run.journal:
        yield persistentvolumeclaims.under_component(component, simulated.storage, platform, release)
    yield networkpolicies.around_component(component, platform, release)
    if families.replicas(component, platform) > 1:
        yield poddisruptionbudgets.one_at_a_time(component, platform, release)
    live = observed.children.get(families.component_stateful_set(component, platform))
    unsure = frozenset(server for server in run.servers if observed.owners.get(server) is not Ownership.OURS)
    if live is not None and not ownership.ours(live, platform.name):
        yield statefulsets.of_component(component, resources, platform, release)  # it is left alone, and told
    elif live is None:
        if not unsure and not _lacking(component, platform, observed):
            yield statefulsets.of_component(component, resources, platform, release)
    elif unsure and environments.of_another_venue(live, platform):
        pass  # it is of a platform that had this name: it is never turned to our venue with that one's servers
    # What runs already goes on, whatever became of a Secret, which its pods have read, and while nobody knows whose a
    # server is; but it does not write to what is another's.
    elif not any(
        observed.owners.get(server) is Ownership.OWNED_BY_ANOTHER and environments.reaches(live, server, platform)
        for server in run.servers
    ):
        yield statefulsets.of_component(component, resources, platform, release, unsure, live)


def _lacking(component: Component, platform: Platform, observed: Observed) -> list[Server]:
    """The servers for whose login a user still has to bring the Secret, or a key of it, or give back its name.

    A Secret of ours that is not made yet comes in this very pass.
    """
    found = []
    for server, secret in environments.credentials(component, platform).items():
        live = observed.children.get(Ref(kinds.SECRETS.kind, secret))
        external = platform.spec.data_plane.of(server).mode is Mode.EXTERNAL
        unbrought = external and isinstance(logins.endpoint(server, platform, observed), logins.Missing)
        if unbrought or (live is not None and not ownership.ours(live, platform.name)):
            found.append(server)
    return found


def _going(live: Manifest) -> bool:
    return ownership.deleting(live) and secrets.intact(live, servers.USERNAME) is None


def _word_in_force(live: Manifest | None) -> str | None:
    if live is None:
        return None
    template = live["spec"].get("template", {}).get("metadata", {})
    word: str | None = (template.get("annotations") or {}).get(labels.CREDENTIALS)
    return word
