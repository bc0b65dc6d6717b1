"""The fence: of the processes that ever led, only the newest writes to a database.

A row holds an epoch and who holds it. A process that leads takes the next epoch when it first touches a database; each
of its later writes looks at the row in its own transaction and locks it against a change, so that a leader that was
stopped and wakes finds the row taken and writes nothing.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import sqlalchemy

from aether_operator.catalog import names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection

    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.reports import Login

Where = tuple[str, int, str]
BELIEVED: Final = 600.0
"""Seconds for which a server that could not install TimescaleDB is not asked again: somebody may mend it."""


class FencedOff(Exception):
    """Another process took the fence after us, and nothing is written. Who holds the Lease all the same claims anew."""


@dataclass(slots=True, kw_only=True)
class Fences:
    """What one process remembers of the databases that it writes to.

    Args:
        holder: Tells this process from every other, the next of the same pod included.
        guard: Raises when this process does not lead any more; asked before every statement that writes.
    """

    holder: str
    guard: Callable[[], object]
    _epochs: dict[Where, int] = field(default_factory=dict)
    _unusable: dict[Where, tuple[str, float]] = field(default_factory=dict)
    _broke: set[Where] = field(default_factory=set)
    _useless: dict[tuple[Where, str], str] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def epoch(self, endpoint: Endpoint) -> int | None:
        """The epoch that we took there, or None before we did."""
        with self._lock:
            return self._epochs.get(where(endpoint))

    def took(self, endpoint: Endpoint, epoch: int) -> None:
        """Remember the epoch that we took."""
        with self._lock:
            self._epochs[where(endpoint)] = epoch

    def forget(self, endpoint: Endpoint) -> None:
        """We were fenced off: whoever finds that it leads all the same takes the next epoch."""
        with self._lock:
            self._epochs.pop(where(endpoint), None)

    def timescale_refused(self, endpoint: Endpoint) -> str:
        """Why TimescaleDB could not be installed there lately, empty where nobody tried or it went well."""
        with self._lock:
            why, until = self._unusable.get(where(endpoint), ("", 0.0))
            return why if time.monotonic() < until else ""

    def refuse_timescale(self, endpoint: Endpoint, why: str) -> None:
        """Remember it: trying may end the connection."""
        with self._lock:
            self._unusable[where(endpoint)] = (why, time.monotonic() + BELIEVED)

    def broke_at_timescale(self, endpoint: Endpoint) -> bool:
        """Whether installing it was cut short there before; from now on it was."""
        with self._lock:
            before = where(endpoint) in self._broke
            self._broke.add(where(endpoint))
            return before

    def useless(self, endpoint: Endpoint, login: Login) -> bool:
        """Whether the server refused a login with this password just after we had set it."""
        with self._lock:
            return self._useless.get((where(endpoint), login.username)) == login.password.text

    def tried(self, endpoint: Endpoint, login: Login, *, works: bool) -> None:
        """Remember whether it is any use to set a login's password."""
        with self._lock:
            if works:
                self._useless.pop((where(endpoint), login.username), None)
            else:
                self._useless[where(endpoint), login.username] = login.password.text


def where(endpoint: Endpoint) -> Where:
    """Which database."""
    return endpoint.host, endpoint.port, endpoint.database


def mine(fences: Fences, endpoint: Endpoint, *, epoch: int | None, holder: str) -> bool:
    """Whether the row is ours; False when it has yet to be taken.

    Raises:
        FencedOff: Another process took it after us.
    """
    if holder == fences.holder:
        return True
    taken = fences.epoch(endpoint)
    if taken is None:
        return False
    if epoch is not None and epoch > taken:
        fences.forget(endpoint)
        address = names.address(endpoint.host, endpoint.port)
        raise FencedOff(f"database {endpoint.database} at {address} is led by {holder}")
    return False  # an older epoch than ours, or none: the database was made anew or restored


def claim(connection: Connection, fences: Fences, endpoint: Endpoint) -> None:
    """Take the next epoch."""
    fences.guard()
    with connection.begin():
        epoch = connection.execute(
            sqlalchemy.text(
                "INSERT INTO aether.fence AS f (id, epoch, holder, since) VALUES (1, 1, :holder, now()) "
                "ON CONFLICT (id) DO UPDATE SET epoch = f.epoch + 1, holder = excluded.holder, since = excluded.since "
                "RETURNING epoch"
            ),
            {"holder": fences.holder},
        ).scalar_one()
    fences.took(endpoint, epoch)


def write(connection: Connection, fences: Fences, endpoint: Endpoint, statements: Sequence[str]) -> None:
    """Carry statements out in one transaction, behind the fence.

    Raises:
        FencedOff: Another process took it after us.
    """
    with connection.begin():
        row = connection.execute(sqlalchemy.text("SELECT epoch, holder FROM aether.fence WHERE id = 1 FOR SHARE")).one()
        if not mine(fences, endpoint, epoch=row.epoch, holder=row.holder):
            raise FencedOff(f"the fence of database {endpoint.database} is not ours")
        for statement in statements:
            fences.guard()
            # Not through SQLAlchemy's text(), which would read `::` and `:name` in it.
            connection.exec_driver_sql(statement.replace("%", "%%"))


def prepare(connection: Connection, fences: Fences, statement: str) -> None:
    """Carry out a statement that makes what the fence stands on; it says IF NOT EXISTS: anybody may repeat it."""
    fences.guard()
    with connection.begin():
        connection.exec_driver_sql(statement)
