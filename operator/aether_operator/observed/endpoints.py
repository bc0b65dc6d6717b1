"""Where a server is and how to log in."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Hidden:
    """A secret text: it does not show in a repr, a log or an error."""

    text: str = field(repr=False)

    def __str__(self) -> str:
        return "(hidden)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A server's address and a login. `ca` is PEM, empty for the system's authorities; `database` is PostgreSQL's."""

    host: str
    port: int
    username: str
    password: Hidden
    tls: bool = False
    ca: str = ""
    database: str = ""
