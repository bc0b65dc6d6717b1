"""Addresses and logins of servers, or what is missing for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aether_operator.api.platforms import CA_KEY, LOGIN_KEYS, Mode, Server, Tls
from aether_operator.api.reasons import Reason
from aether_operator.catalog import names, servers
from aether_operator.catalog.logins import DatabaseUser
from aether_operator.desired import secrets
from aether_operator.observed import child_refs, live_objects, workloads
from aether_operator.observed.endpoints import Endpoint, SecretText
from aether_operator.observed.reports import Login

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_operator.api.platforms import Platform
    from aether_operator.observed.platforms import ObservedPlatform


@dataclass(frozen=True, slots=True)
class Missing:
    """What a user or the operator has yet to provide, by its exact name."""

    reason: Reason
    message: str


def endpoint(server: Server, platform: Platform, observed: ObservedPlatform) -> Endpoint | Missing:
    """A server's address and the operator's login.

    Managed: from the operator's Secret among the live children. External: from the user's Secret.
    """
    part = platform.spec.data_plane.of(server)
    if part.mode is Mode.MANAGED:
        return _managed(server, platform, observed)
    if part.external is None:
        return Missing(Reason.INVALID_SPEC, f"spec.dataPlane.{server.value}.external is missing")
    external = part.external
    values = observed.secrets.get(external.secret_name)
    if values is None:
        return Missing(Reason.SECRET_MISSING, f"Secret {external.secret_name} does not exist")
    missing = [key for key in LOGIN_KEYS if not values.get(key)]
    if missing:
        return Missing(
            Reason.SECRET_KEY_MISSING, f"Secret {external.secret_name} has no key {' and no key '.join(missing)}"
        )
    verified = external.tls is Tls.VERIFY
    return Endpoint(
        host=external.host,
        port=external.port,
        username=values["username"],
        password=SecretText(values["password"]),
        tls=verified,
        ca=values.get(CA_KEY, "") if verified else "",
        database=getattr(external, "database", ""),
        others=tuple(SecretText(value) for key, value in sorted(values.items()) if key not in LOGIN_KEYS),
    )


def _managed(server: Server, platform: Platform, observed: ObservedPlatform) -> Endpoint | Missing:
    name = names.server_child(platform, server)
    live = observed.children.get(child_refs.secret(server, platform))
    if live is None:
        return Missing(Reason.PROGRESSING, f"Secret {name} does not exist yet")
    login = secrets.valid_credentials(live, servers.USERNAME)
    if login is None:
        mine = live_objects.belongs_to(live, platform.owner)
        return Missing(
            Reason.PROGRESSING if mine else Reason.NAME_TAKEN,
            f"Secret {name} {'has no valid credentials' if mine else 'belongs to somebody else'}",
        )
    return Endpoint(
        host=names.server_host(platform, server),
        port=servers.SERVERS[server].port,
        username=servers.USERNAME,
        password=SecretText(login[0]),
        database=servers.DATABASE if server is Server.POSTGRES else "",
        ours=True,
    )


def database_logins(platform: Platform, observed: ObservedPlatform) -> Mapping[str, Login]:
    """The logins of the database users, from their live Secrets; without those whose Secret is not valid."""
    result: dict[str, Login] = {}
    for user in DatabaseUser:
        username = names.login(platform, user)
        valid = secrets.valid_credentials(observed.children.get(child_refs.login_secret(user, platform)), username)
        if valid is not None:
            kept_in = names.login_secret(platform, user)
            result[user] = Login(username=username, password=SecretText(valid[0]), kept_in=kept_in)
    return result


def secret_values(platform: Platform, observed: ObservedPlatform) -> frozenset[str]:
    """All values that no message may contain: those of the users' Secrets, and the passwords of the operator's."""
    given = {value for values in observed.secrets.values() for value in (values or {}).values()}
    ours = [child_refs.secret(server, platform) for server in child_refs.managed_servers(platform)]
    ours += [child_refs.login_secret(user, platform) for user in DatabaseUser]
    made = [secrets.decoded(observed.children[one]).get("password", "") for one in ours if one in observed.children]
    return frozenset({*given, *made})


def is_serving(server: Server, platform: Platform, observed: ObservedPlatform) -> bool:
    """Whether a managed server can be connected to: its pod of the newest revision is ready."""
    live = observed.children.get(child_refs.stateful_set(server, platform))
    return live is not None and live["spec"].get("replicas", 1) > 0 and not workloads.unfinished(live)
