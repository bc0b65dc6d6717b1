"""Where a server is and how to log in, or what is missing for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aether_operator.api.platforms import Mode, Server, Tls
from aether_operator.api.reasons import Reason
from aether_operator.catalog import names, servers
from aether_operator.catalog.logins import Who
from aether_operator.desired import secrets
from aether_operator.observed import families, ownership, workloads
from aether_operator.observed.endpoints import Endpoint, Hidden
from aether_operator.observed.reports import Login

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_operator.api.platforms import Platform
    from aether_operator.observed.observation import Observed

_KEYS: Final = ("username", "password")


@dataclass(frozen=True, slots=True)
class Missing:
    """What somebody still has to bring, by its exact name."""

    reason: Reason
    message: str


def endpoint(server: Server, platform: Platform, observed: Observed) -> Endpoint | Missing:
    """A server's address and the operator's login.

    Managed: with the Secret of ours that is among the live children. External: with the user's Secret.
    """
    part = platform.spec.data_plane.of(server)
    if part.mode is Mode.MANAGED:
        return _managed(server, platform, observed)
    if part.external is None:
        return Missing(Reason.INVALID_SPEC, f"spec.dataPlane.{server.value}.external is missing")
    place = part.external
    values = observed.secrets.get(place.secret_name)
    if values is None:
        return Missing(Reason.SECRET_MISSING, f"Secret {place.secret_name} does not exist")
    missing = [key for key in _KEYS if not values.get(key)]
    if missing:
        return Missing(
            Reason.SECRET_KEY_MISSING, f"Secret {place.secret_name} has no key {' and no key '.join(missing)}"
        )
    verified = place.tls is Tls.VERIFY
    return Endpoint(
        host=place.host,
        port=place.port,
        username=values["username"],
        password=Hidden(values["password"]),
        tls=verified,
        ca=values.get("ca.crt", "") if verified else "",
        database=getattr(place, "database", ""),
        others=tuple(Hidden(value) for key, value in sorted(values.items()) if key not in _KEYS),
    )


def _managed(server: Server, platform: Platform, observed: Observed) -> Endpoint | Missing:
    name = names.child(platform, server)
    live = observed.children.get(families.secret(server, platform))
    if live is None:
        return Missing(Reason.PROGRESSING, f"Secret {name} is not made yet")
    login = secrets.intact(live, servers.USERNAME)
    if login is None:
        mine = ownership.ours(live, platform.name)
        return Missing(
            Reason.PROGRESSING if mine else Reason.NAME_TAKEN,
            f"Secret {name} {'holds no credentials of ours' if mine else 'is not ours'}",
        )
    return Endpoint(
        host=names.host(platform, server),
        port=servers.SERVERS[server].port,
        username=servers.USERNAME,
        password=Hidden(login[0]),
        database=servers.DATABASE if server is Server.POSTGRES else "",
        ours=True,
    )


def of_database(platform: Platform, observed: Observed) -> Mapping[Who, Login]:
    """The logins of the database beside the operator's, as their live Secrets have them; without those that are not."""
    found = {}
    for who in Who:
        username = names.login(platform, who)
        good = secrets.intact(observed.children.get(families.login(who, platform)), username)
        if good is not None:
            kept_in = names.login_secret(platform, who)
            found[who] = Login(username=username, password=Hidden(good[0]), kept_in=kept_in)
    return found


def hidden(platform: Platform, observed: Observed) -> frozenset[str]:
    """What is told nowhere: every value of the users' Secrets, and the passwords that the operator made."""
    given = {value for values in observed.secrets.values() for value in (values or {}).values()}
    ours = [families.secret(server, platform) for server in families.managed(platform)]
    ours += [families.login(who, platform) for who in Who]
    made = [secrets.decoded(observed.children[one]).get("password", "") for one in ours if one in observed.children]
    return frozenset({*given, *made})


def serving(server: Server, platform: Platform, observed: Observed) -> bool:
    """Whether a managed server is worth asking: its pod of the newest revision is ready."""
    live = observed.children.get(families.stateful_set(server, platform))
    return live is not None and live["spec"].get("replicas", 1) > 0 and not workloads.unfinished(live)
