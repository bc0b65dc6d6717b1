"""All children of a platform."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aether_operator.api import labels
from aether_operator.api.platforms import Managed
from aether_operator.catalog import servers
from aether_operator.desired import claims, networkpolicies, secrets, services, statefulsets
from aether_operator.observed import families, kinds, ownership

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aether_operator.api.platforms import Platform, Server
    from aether_operator.catalog.releases import Release
    from aether_operator.observed.kinds import Manifest
    from aether_operator.observed.worlds import World


def wanted(platform: Platform, world: World, release: Release, fresh: Callable[[], str]) -> tuple[Manifest, ...]:
    """What a platform becomes, server by server, in the order in which it is applied.

    The world is looked at for one thing: credentials that are intact stay. `fresh` makes a random word of 32 letters.
    """
    made = [
        child for server in families.managed(platform) for child in _running(server, platform, world, release, fresh)
    ]
    live = world.children.get(families.reader(platform))
    external = platform.spec.data_plane.postgres.external
    named = (world.secrets.get(external.secret_name) if external is not None else None) or {}
    reader = secrets.reader(platform, live, release, fresh, named.get("ca.crt", ""))
    if reader is not None:
        made.append(reader)
    order = {kind.kind: place for place, kind in enumerate(kinds.CHILDREN)}
    return tuple(sorted(made, key=lambda child: order[child["kind"]]))


def _running(
    server: Server, platform: Platform, world: World, release: Release, fresh: Callable[[], str]
) -> Iterator[Manifest]:
    part = platform.spec.data_plane.of(server).managed or Managed()
    live = world.children.get(families.secret(server, platform))
    secret = secrets.credentials(server, platform, live, release, fresh)
    yield secret
    yield services.before(server, platform, release)
    yield claims.under(server, part, platform, release)
    yield networkpolicies.around(server, platform, release)
    word: str | None = secrets.word(secret)
    if live is not None and (not ownership.ours(live, platform.name) or _going(live)):
        # The Secret's name is taken, or its end is near: what runs goes on as it is, and nothing is started with
        # credentials of others, or with some that will never be there.
        word = _word_in_force(world.children.get(families.stateful_set(server, platform)))
    if word is not None:
        yield statefulsets.running(server, part, platform, release, word)


def _going(live: Manifest) -> bool:
    return ownership.deleting(live) and secrets.intact(live, servers.USERNAME) is None


def _word_in_force(live: Manifest | None) -> str | None:
    if live is None:
        return None
    template = live["spec"].get("template", {}).get("metadata", {})
    word: str | None = (template.get("annotations") or {}).get(labels.CREDENTIALS)
    return word
