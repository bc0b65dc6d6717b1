"""The logins of the database beside our own: what makes them, and what puts them right. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aether_operator.catalog import logins
from aether_operator.database.steps import Write, literal, quoted, remember
from aether_operator.observed.reports import Drift

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aether_operator.catalog.logins import DatabaseUser, Privileges
    from aether_operator.database.pg_catalog import Role, Seen
    from aether_operator.database.steps import Notes

ATTRIBUTES: Final = "LOGIN NOINHERIT NOCREATEROLE NOCREATEDB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which login, for which platform, of which database."""

    user: DatabaseUser
    name: str
    owner: str
    database: str
    secret: str
    """Where a person finds its password."""

    @property
    def rights(self) -> Privileges:
        """What it may."""
        return logins.PRIVILEGES[self.user]

    @property
    def mark(self) -> str:
        """The role's comment: roles are the whole server's, and another platform's is left alone."""
        return f"aether: {self.rights.description} for {self.owner}"


def password_step(name: str) -> str:
    """What the step is called that sets the password."""
    return f"set the password of {name}"


def plan(seen: Seen, wanted: Wanted, verifier: Callable[[], str], notes: Notes, *, useless: bool) -> None:
    """What is to be done, or what only a person can do.

    Args:
        seen: The database as it is.
        wanted: The login.
        verifier: Makes what the server keeps of the wanted password.
        notes: Are added to.
        useless: Whether the server refused the login just after that password was set.
    """
    name, live, optional = wanted.name, seen.roles.get(wanted.user), not wanted.rights.needed
    if live is None:
        if seen.server.creates_roles:
            notes.steps.append(
                Write(f"make the login {name}", tuple(_making(seen, wanted, verifier)), optional=optional)
            )
        else:
            _lacking(wanted, notes, f"the login may not create roles: there is no login {name}", _by_hand(wanted))
        return
    if live.comment != wanted.mark:
        _lacking(wanted, notes, f"the login {name} is somebody else's, and is left alone", _given(wanted))
        return
    if live.powers:
        notes.warnings.append(f"the login {name} has {', '.join(live.powers)}, which it should not")
        return
    for statement, what in _settings(live, wanted):
        if seen.server.creates_roles:
            notes.steps.append(_mending(wanted, statement, what, optional=True))
        else:  # it works without
            notes.warnings.append(f"the login {name} {what}: {statement}")
    for statement, what in _rights(live, wanted):
        notes.steps.append(_mending(wanted, statement, what, optional=optional))
    may_not = [
        what
        for what, may in (("connect", live.connects), ("make temporary tables", _temporary(live, wanted)))
        if not may
    ]
    if may_not and not live.grantable:
        told = f"only the owner of database {wanted.database} can let it"
        _lacking(wanted, notes, f"the login {name} may not {' and may not '.join(may_not)}", told)
    elif live.works is False and live.connects:
        _password(seen, wanted, verifier, notes, useless=useless)


def _password(seen: Seen, wanted: Wanted, verifier: Callable[[], str], notes: Notes, *, useless: bool) -> None:
    name = wanted.name
    if useless:
        _lacking(wanted, notes, f"the server refuses the login {name} although its password was set")
    elif not seen.server.creates_roles:
        _lacking(wanted, notes, f"the server refuses the login {name}", f"ALTER ROLE {quoted(name)} {_word(wanted)}")
    else:
        statement = f"ALTER ROLE {quoted(name)} LOGIN PASSWORD {literal(verifier())}"
        step = Write(password_step(name), (statement,), once=True, optional=not wanted.rights.needed)
        notes.steps.append(step)


def _lacking(wanted: Wanted, notes: Notes, what: str, act: str = "") -> None:
    """What only a person can mend: a Warning where the platform does without, and else what stands in its way."""
    if wanted.rights.needed:
        notes.lacking.append(f"{what}{act and ': '}{act}")
    else:
        notes.warnings.append(what)


def _by_hand(wanted: Wanted) -> str:
    return f"have it made by CREATE ROLE {quoted(wanted.name)} NOINHERIT {_word(wanted)}, and {_given(wanted)}"


def _given(wanted: Wanted) -> str:
    return f"give it to this platform by COMMENT ON ROLE {quoted(wanted.name)} IS {literal(wanted.mark)}"


def _word(wanted: Wanted) -> str:
    return f"LOGIN PASSWORD, the one in Secret {wanted.secret}"


def _making(seen: Seen, wanted: Wanted, verifier: Callable[[], str]) -> Iterator[str]:
    role = quoted(wanted.name)
    yield f"CREATE ROLE {role} {ATTRIBUTES} PASSWORD {literal(verifier())}"
    yield f"COMMENT ON ROLE {role} IS {literal(wanted.mark)}"
    for setting, value in wanted.rights.settings.items():
        yield f"ALTER ROLE {role} SET {setting} = {literal(value)}"
    yield f"GRANT USAGE ON SCHEMA aether TO {role}"
    yield f"GRANT SELECT ON ALL TABLES IN SCHEMA aether TO {role}"
    yield f"ALTER DEFAULT PRIVILEGES IN SCHEMA aether GRANT SELECT ON TABLES TO {role}"
    for table, privileges in wanted.rights.writes.items():
        if table in seen.relations:
            yield f"GRANT {', '.join(sorted(privileges))} ON aether.{table} TO {role}"
    yield remember(wanted.user.value, wanted.name)


def _mending(wanted: Wanted, statement: str, what: str, *, optional: bool) -> Write:
    drift = Drift(name=f"role {wanted.name}", what=what, repaired=True)
    return Write(f"mend the login {wanted.name}, which {what}", (statement,), (drift,), optional=optional)


def _settings(live: Role, wanted: Wanted) -> Iterator[tuple[str, str]]:
    for setting, value in wanted.rights.settings.items():
        if live.settings.get(setting) != value:
            statement = f"ALTER ROLE {quoted(wanted.name)} SET {setting} = {literal(value)}"
            yield statement, f"does not begin with {setting} = {value}"


def _temporary(live: Role, wanted: Wanted) -> bool:
    return live.temporary or not wanted.rights.temporary


def _rights(live: Role, wanted: Wanted) -> Iterator[tuple[str, str]]:
    role, database, writes = quoted(wanted.name), quoted(wanted.database), wanted.rights.writes
    if not live.connects and live.grantable:
        yield f"GRANT CONNECT ON DATABASE {database} TO {role}", "could not connect"
    if not _temporary(live, wanted) and live.grantable:
        yield f"GRANT TEMPORARY ON DATABASE {database} TO {role}", "could not make temporary tables"
    if not live.uses:
        yield f"GRANT USAGE ON SCHEMA aether TO {role}", "could not use the schema"
    if live.creates:
        yield f"REVOKE CREATE ON SCHEMA aether FROM {role}", "could make tables"
    if live.unread:
        tables = ", ".join(f"aether.{quoted(table)}" for table in live.unread)
        yield f"GRANT SELECT ON {tables} TO {role}", f"could not read {', '.join(live.unread)}"
    for table in sorted({*live.granted, *writes} & live.tables):
        has, should = live.granted.get(table, frozenset()) - {"SELECT"}, writes.get(table, frozenset())
        for privileges, verb, preposition, what in (
            (has - should, "REVOKE", "FROM", "could"),
            (should - has, "GRANT", "TO", "could not"),
        ):
            if privileges:
                listed = ", ".join(sorted(privileges))
                yield f"{verb} {listed} ON aether.{quoted(table)} {preposition} {role}", f"{what} {listed} on {table}"
    if not live.future:
        yield (
            f"ALTER DEFAULT PRIVILEGES IN SCHEMA aether GRANT SELECT ON TABLES TO {role}",
            "could not read tables to come",
        )
