"""The logins of a platform's database beside the operator's own: who has one, and what it may. Data only.

Who comes later adds a row here, and has a Secret, a role and its grants. Each may read everything and write what its
row names, no more; none may delete, empty, or change the form of anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class DatabaseUser(StrEnum):
    """Whom a login is for: the end of its name, and of its Secret's."""

    READER = "reader"
    """People."""
    INGEST = "ingest"
    """The room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Privileges:
    """What a login may beside reading."""

    description: str
    """What its comment in the database says that it does."""
    needed: bool = True
    """Whether a platform without it is not Ready; else it is a Warning."""
    writes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Table → its privileges there."""
    temporary: bool = False
    """Whether it makes temporary tables."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """How its sessions begin."""


_ADD: Final = frozenset({"INSERT"})
_PUT: Final = frozenset({"INSERT", "UPDATE"})

PRIVILEGES: Final[Mapping[DatabaseUser, Privileges]] = {
    DatabaseUser.READER: Privileges(
        description="reads", needed=False, settings={"default_transaction_read_only": "on"}
    ),
    DatabaseUser.INGEST: Privileges(
        description="ingests",
        writes={
            "instruments": _PUT,
            "ingest_progress": _PUT,
            "trades": _ADD,
            "books": _ADD,
            "tickers": _ADD,
            "candles": _PUT,
        },
        temporary=True,
        settings={
            "default_transaction_read_only": "off",
            # A writer waits for another of its market; one that was stopped must not hold the market's row for long.
            "lock_timeout": "5s",
            "statement_timeout": "30s",
            "idle_in_transaction_session_timeout": "10s",
        },
    ),
}
