"""The address of a server and a login."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from aether_runtime import secrecy

MAX_LENGTH: Final = 200
"""The length at which a server's own text is cut."""


@dataclass(frozen=True, slots=True)
class SecretText:
    """A secret text: it does not appear in a repr, a log or an error."""

    text: str = field(repr=False)

    def __str__(self) -> str:
        return "(hidden)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A server's address and a login. `ca` is PEM, empty for the system's CAs; `database` is for PostgreSQL only."""

    host: str
    port: int
    username: str = field(repr=False)
    password: SecretText
    tls: bool = False
    ca: str = field(default="", repr=False)
    database: str = ""
    others: tuple[SecretText, ...] = ()
    """Every other value of the Secret, whatever its key."""
    ours: bool = False
    """Whether the operator created the login: then its username is public."""

    @property
    def secret_values(self) -> frozenset[str]:
        """What no message may quote: all values from the Secret."""
        values = {self.password.text, self.ca, *(one.text for one in self.others)}
        return frozenset(values if self.ours else {*values, self.username})

    def excerpt(self, text: str) -> str:
        """A server's own text in one short line; withheld if it quotes the Secret."""
        return secrecy.WITHHELD if secrecy.quotes(text, self.secret_values) else " ".join(text.split())[:MAX_LENGTH]
