"""The users of a platform's database beside the operator's own, and their privileges. Data only.

Each user has a Secret, a role and its grants. It may read everything and write what its row names, no more; none may
delete, truncate or alter anything.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from aether_operator.catalog.schemas import Privileges

if TYPE_CHECKING:
    from collections.abc import Mapping


class DatabaseUser(StrEnum):
    """A user of a platform's database; the value is the suffix of the role's and the Secret's name."""

    READER = "reader"
    """People."""
    INGEST = "ingest"
    """The ingest component."""


_ADD: Final = frozenset({"INSERT"})
_PUT: Final = frozenset({"INSERT", "UPDATE"})

PRIVILEGES: Final[Mapping[str, Privileges]] = {
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
            # A writer waits for another of its market; a stopped process must not hold the market's row lock for long.
            "lock_timeout": "5s",
            "statement_timeout": "30s",
            "idle_in_transaction_session_timeout": "10s",
        },
    ),
}
