"""The read-only login for people: what makes it, and what puts it right. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aether_operator.database.steps import Write, literal, quoted, remember
from aether_operator.observed.reports import Drift

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aether_operator.database.catalogues import Reader, Seen

ATTRIBUTES: Final = "LOGIN NOINHERIT NOCREATEROLE NOCREATEDB"


def mark(owner: str) -> str:
    """The role's comment: roles are the whole server's, and another platform's is left alone."""
    return f"aether: reads for {owner}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which login, for which platform, of which database."""

    name: str
    owner: str
    database: str


def password_step(name: str) -> str:
    """What the step is called that sets the password."""
    return f"set the password of {name}"


def plan(seen: Seen, wanted: Wanted, verifier: Callable[[], str], *, useless: bool) -> tuple[list[Write], list[str]]:
    """Steps, and what a person should know.

    Args:
        seen: The database as it is.
        wanted: The login.
        verifier: Makes what the server keeps of the wanted password.
        useless: Whether the server refused the login just after that password was set.
    """
    name, owner = wanted.name, wanted.owner
    role, live = quoted(name), seen.reader
    if live is None:
        if not seen.server.creates_roles:
            return [], [f"the login may not create roles: there is no read-only login {name}"]
        statements = (
            f"CREATE ROLE {role} {ATTRIBUTES} PASSWORD {literal(verifier())}",
            f"COMMENT ON ROLE {role} IS {literal(mark(owner))}",
            f"ALTER ROLE {role} SET default_transaction_read_only = on",
            f"GRANT USAGE ON SCHEMA aether TO {role}",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA aether TO {role}",
            f"ALTER DEFAULT PRIVILEGES IN SCHEMA aether GRANT SELECT ON TABLES TO {role}",
            remember("reader", name),
        )
        return [Write(f"make the login {name}", statements, optional=True)], []
    if live.comment != mark(owner):
        return [], [f"the login {name} is somebody else's, and is left alone"]
    if live.powers:
        return [], [f"the login {name} has {', '.join(live.powers)}, which a reader should not"]
    steps = [
        Write(
            f"mend the login {name}",
            (statement,),
            (Drift(name=f"role {name}", what=what, repaired=True),),
            optional=True,
        )
        for statement, what in _mending(live, role, wanted.database)
    ]
    warnings: list[str] = []
    if not live.connects and not live.connectable:
        warnings.append(f"the login {name} may not connect: only the owner of database {wanted.database} can let it")
    elif live.works is False:
        if useless:
            return steps, [f"the server refuses the login {name} although its password was set"]
        statement = f"ALTER ROLE {role} LOGIN PASSWORD {literal(verifier())}"
        steps.append(Write(password_step(name), (statement,), once=True, optional=True))
    return steps, warnings


def _mending(live: Reader, role: str, database: str) -> Iterator[tuple[str, str]]:
    if not live.read_only:
        yield f"ALTER ROLE {role} SET default_transaction_read_only = on", "was not read-only"
    if not live.connects and live.connectable:
        yield f"GRANT CONNECT ON DATABASE {quoted(database)} TO {role}", "could not connect"
    if not live.uses:
        yield f"GRANT USAGE ON SCHEMA aether TO {role}", "could not use the schema"
    if live.unread:
        tables = ", ".join(f"aether.{quoted(table)}" for table in live.unread)
        yield f"GRANT SELECT ON {tables} TO {role}", f"could not read {', '.join(live.unread)}"
    if live.written:
        tables = ", ".join(f"aether.{quoted(table)}" for table in live.written)
        yield (
            f"REVOKE INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER ON {tables} FROM {role}",
            f"could write {', '.join(live.written)}",
        )
    if not live.future:
        yield (
            f"ALTER DEFAULT PRIVILEGES IN SCHEMA aether GRANT SELECT ON TABLES TO {role}",
            "could not read tables to come",
        )
