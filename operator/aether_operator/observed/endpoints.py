"""Where a server is and how to log in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from aether_operator.observed import secrecy

LONGEST: Final = 200
"""Letters of a server's own words that are passed on."""


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
    username: str = field(repr=False)
    password: Hidden
    tls: bool = False
    ca: str = field(default="", repr=False)
    database: str = ""
    others: tuple[Hidden, ...] = ()
    """Every other value of the Secret, whatever its key."""
    ours: bool = False
    """Whether the operator made the login: then its name is in the catalogue, and no secret."""

    @property
    def hidden(self) -> frozenset[str]:
        """What is never told: all that came from the Secret."""
        told = {self.password.text, self.ca, *(one.text for one in self.others)}
        return frozenset(told if self.ours else {*told, self.username})

    def words(self, text: str) -> str:
        """A server's own words in one short line; none of them where they quote the Secret."""
        return secrecy.WITHHELD if secrecy.quotes(text, self.hidden) else " ".join(text.split())[:LONGEST]
