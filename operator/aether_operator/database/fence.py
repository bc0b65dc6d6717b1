"""The fence: of all processes that have ever led, only the newest writes to a database, whichever schema it changes.

A row has an epoch (a fencing token) and its holder. A leader takes the next epoch when it first writes to a database.
Each later write reads the row in its own transaction and locks it against changes, so that a leader that was stopped
and resumes finds a newer holder and writes nothing.
"""

# ruff: noqa: S608 - statements are made of constants

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import sqlalchemy

from aether_operator.catalog import names
from aether_operator.database import pg_catalog
from aether_operator.database.steps import LOCK_DATABASE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection

    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.reports import Login

DatabaseKey = tuple[str, int, str]
"""Host, port and database."""
TIMESCALE_RETRY_AFTER: Final = 600.0
"""Seconds after which installing TimescaleDB is tried again: somebody may have repaired the server."""


class FencedOff(Exception):
    """Another process took the fence after this one; nothing was written. The holder of the Lease claims it again."""


@dataclass(slots=True, kw_only=True)
class Fences:
    """What this process remembers of the databases that it writes to. Safe for several threads.

    Args:
        holder: Identifies this process, also among later ones of the same pod.
        guard: Raises when this process no longer leads; called before every statement that writes.
    """

    holder: str
    guard: Callable[[], object]
    _epochs: dict[DatabaseKey, int] = field(default_factory=dict)
    _timescale_errors: dict[DatabaseKey, tuple[str, float]] = field(default_factory=dict)
    _timescale_breaks: set[DatabaseKey] = field(default_factory=set)
    _rejected_passwords: dict[tuple[DatabaseKey, str], str] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def epoch(self, endpoint: Endpoint) -> int | None:
        """The epoch that this process took there; None before it took one."""
        with self._lock:
            return self._epochs.get(database_key(endpoint))

    def record_epoch(self, endpoint: Endpoint, epoch: int) -> None:
        """Remember the epoch that this process took."""
        with self._lock:
            self._epochs[database_key(endpoint)] = epoch

    def forget_epoch(self, endpoint: Endpoint) -> None:
        """Forget the epoch after being fenced off: a process that still leads takes the next one."""
        with self._lock:
            self._epochs.pop(database_key(endpoint), None)

    def timescale_error(self, endpoint: Endpoint) -> str:
        """Why TimescaleDB could not be installed there lately; empty where it was not tried or succeeded."""
        with self._lock:
            why, until = self._timescale_errors.get(database_key(endpoint), ("", 0.0))
            return why if time.monotonic() < until else ""

    def record_timescale_error(self, endpoint: Endpoint, why: str) -> None:
        """Remember why installing TimescaleDB failed: a further try may end the connection again."""
        with self._lock:
            self._timescale_errors[database_key(endpoint)] = (why, time.monotonic() + TIMESCALE_RETRY_AFTER)

    def timescale_install_broke(self, endpoint: Endpoint) -> bool:
        """Whether an earlier installation broke the connection there; records that one has now."""
        with self._lock:
            before = database_key(endpoint) in self._timescale_breaks
            self._timescale_breaks.add(database_key(endpoint))
            return before

    def password_rejected(self, endpoint: Endpoint, login: Login) -> bool:
        """Whether the server rejected this password right after it was set."""
        with self._lock:
            return self._rejected_passwords.get((database_key(endpoint), login.username)) == login.password.text

    def record_password(self, endpoint: Endpoint, login: Login, *, accepted: bool) -> None:
        """Remember whether a login works with the password that was set."""
        with self._lock:
            if accepted:
                self._rejected_passwords.pop((database_key(endpoint), login.username), None)
            else:
                self._rejected_passwords[database_key(endpoint), login.username] = login.password.text


def database_key(endpoint: Endpoint) -> DatabaseKey:
    """The key of an endpoint's database."""
    return endpoint.host, endpoint.port, endpoint.database


def is_ours(fences: Fences, endpoint: Endpoint, *, epoch: int | None, holder: str) -> bool:
    """Whether this process holds the row; False where it has yet to take it.

    Raises:
        FencedOff: Another process took it later.
    """
    if holder == fences.holder:
        return True
    ours = fences.epoch(endpoint)
    if ours is None:
        return False
    if epoch is not None and epoch > ours:
        fences.forget_epoch(endpoint)
        address = names.address(endpoint.host, endpoint.port)
        raise FencedOff(f"database {endpoint.database} at {address} is led by {holder}")
    return False  # an older epoch than ours, or none: the database was recreated or restored


def claim(connection: Connection, fences: Fences, endpoint: Endpoint) -> None:
    """Take the next epoch: from now on other processes are fenced off."""
    fences.guard()
    with connection.begin():
        epoch = connection.execute(
            sqlalchemy.text(
                f"INSERT INTO {pg_catalog.FENCE} AS f (id, epoch, holder, since) VALUES (1, 1, :holder, now()) "
                "ON CONFLICT (id) DO UPDATE SET epoch = f.epoch + 1, holder = excluded.holder, since = excluded.since "
                "RETURNING epoch"
            ),
            {"holder": fences.holder},
        ).scalar_one()
    fences.record_epoch(endpoint, epoch)


def write(connection: Connection, fences: Fences, endpoint: Endpoint, statements: Sequence[str]) -> None:
    """Execute statements in one transaction that also checks the fence.

    Raises:
        FencedOff: Another process took it later.
    """
    with connection.begin():
        row = connection.execute(
            sqlalchemy.text(f"SELECT epoch, holder FROM {pg_catalog.FENCE} WHERE id = 1 FOR SHARE")
        ).one()
        if not is_ours(fences, endpoint, epoch=row.epoch, holder=row.holder):
            raise FencedOff(f"another process holds the fence of database {endpoint.database}")
        for statement in statements:
            fences.guard()
            # Not with SQLAlchemy's text(), which would interpret `::` and `:name`.
            connection.exec_driver_sql(statement.replace("%", "%%"))


def prepare(connection: Connection, fences: Fences, statement: str) -> None:
    """Execute a statement that the fence itself needs, without the fence; it has IF NOT EXISTS and may be repeated."""
    fences.guard()
    with connection.begin():
        connection.exec_driver_sql(LOCK_DATABASE)
        connection.exec_driver_sql(statement)
