"""Secrets with credentials: of managed servers and of database users. Valid credentials are kept, others replaced."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from aether_operator.api import labels
from aether_operator.api.platforms import Mode, Server, Tls
from aether_operator.catalog import names, servers
from aether_operator.desired import metadata
from aether_operator.observed import kinds, live_objects

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aether_operator.api.platforms import Platform
    from aether_operator.catalog.logins import DatabaseUser
    from aether_operator.catalog.releases import Release
    from aether_operator.observed.kinds import Manifest

PASSWORD: Final = re.compile(r"[A-Za-z0-9_-]{32}")
_ID: Final = re.compile(r"[A-Za-z0-9_-]{8,64}")
_ID_LENGTH: Final = 16


def for_server(
    server: Server, platform: Platform, live: Manifest | None, release: Release, random_token: Callable[[], str]
) -> Manifest:
    """The login with which a managed server is started, and which the operator uses."""
    name = names.server_child(platform, server)
    return _secret(name, platform, server, live, release, random_token, servers.USERNAME, {})


def for_database_user(  # noqa: PLR0913 - the parts of a Secret
    user: DatabaseUser,
    platform: Platform,
    live: Manifest | None,
    release: Release,
    random_token: Callable[[], str],
    ca: str,
) -> Manifest | None:
    """The login of a database user, with the database's address and CA certificate; None without an address."""
    postgres = platform.spec.data_plane.postgres
    if postgres.mode is Mode.MANAGED:
        host, port = names.server_host(platform, Server.POSTGRES), servers.SERVERS[Server.POSTGRES].port
        database, tls = servers.DATABASE, Tls.OFF
    elif postgres.external is None:
        return None
    else:
        host, port = postgres.external.host, postgres.external.port
        database, tls = postgres.external.database, postgres.external.tls
    address = {"host": host, "port": str(port), "database": database, "tls": tls.value, "ca.crt": ca}
    name, username = names.login_secret(platform, user), names.login(platform, user)
    return _secret(name, platform, Server.POSTGRES, live, release, random_token, username, address)


def _secret(  # noqa: PLR0913 - the parts of a Secret
    name: str,
    platform: Platform,
    server: Server,
    live: Manifest | None,
    release: Release,
    random_token: Callable[[], str],
    username: str,
    address: Mapping[str, str],
) -> Manifest:
    password, credentials_id = valid_credentials(live, username) or (random_token(), random_token()[:_ID_LENGTH])
    manifest = metadata.retained(kinds.SECRETS, name, platform.owner, server.value, release)
    manifest["metadata"]["annotations"] = {labels.CREDENTIALS: credentials_id}
    values = {"username": username, "password": password}
    if address:
        values |= {key: address[key] for key in ("host", "port", "database")}
        values["uri"] = _uri(username, password, address)
        values |= {"ca.crt": address["ca.crt"]} if address["ca.crt"] else {}
    manifest["type"] = "Opaque"
    manifest["data"] = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return manifest


def _uri(username: str, password: str, address: Mapping[str, str]) -> str:
    host = names.address(address["host"], address["port"])
    mode = "verify-full" if address["tls"] == Tls.VERIFY else "disable"
    database = quote(address["database"], safe="")
    return f"postgresql://{username}:{password}@{host}/{database}?sslmode={mode}"


def valid_credentials(live: Manifest | None, username: str) -> tuple[str, str] | None:
    """The password and the credentials id of a live Secret; None if they must be generated again.

    They are valid only while our own applies own the fields: whoever overwrote one may know the password, and a server
    must not be started with it.
    """
    if live is None:
        return None
    owned = live_objects.owned_fields(live)
    ours = all(live_objects.owns_field(owned, "data", key) for key in ("username", "password"))
    credentials_id = (live["metadata"].get("annotations") or {}).get(labels.CREDENTIALS, "")
    if not ours or not live_objects.owns_field(owned, "metadata", "annotations", labels.CREDENTIALS):
        return None
    values = decoded(live)
    valid = values.get("username") == username and PASSWORD.fullmatch(values.get("password", ""))
    return (values["password"], credentials_id) if valid and _ID.fullmatch(credentials_id) else None


def decoded(secret: Manifest) -> dict[str, str]:
    """The values of a Secret, without those that are not UTF-8 text."""
    values: dict[str, str] = {}
    for key, value in (secret.get("data") or {}).items():
        try:
            values[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue
    return values


def credentials_id(secret: Manifest) -> str:
    """The id of the credentials in a Secret."""
    result: str = secret["metadata"]["annotations"][labels.CREDENTIALS]
    return result
