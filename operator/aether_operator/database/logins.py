"""Plans the logins of the database beside our own: their creation and repair. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aether_operator.catalog import owners
from aether_operator.database.steps import Write, literal, quoted, record_setting
from aether_operator.observed.reports import Drift

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aether_operator.catalog.schemas import Privileges
    from aether_operator.database.pg_catalog import DatabaseState, Role
    from aether_operator.database.steps import PlanBuilder

ATTRIBUTES: Final = "LOGIN NOINHERIT NOCREATEROLE NOCREATEDB"


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredLogin:
    """A login that a schema needs."""

    user: str
    name: str
    rights: Privileges
    """Its privileges and settings."""
    owner: str
    database: str
    schema: str
    secret: str
    """The name of the Secret with its password."""

    @property
    def comment_for_owner(self) -> str:
        """The role's comment, which names its owner: a role of another owner on the same server is left unchanged."""
        return owners.ROLE_COMMENT.format(description=self.rights.description, owner=self.owner)


def password_step(name: str) -> str:
    """The name of the step that sets the password."""
    return f"set the password of {name}"


def plan(
    observed: DatabaseState,
    desired: DesiredLogin,
    verifier: Callable[[], str],
    builder: PlanBuilder,
    *,
    password_rejected: bool,
) -> None:
    """Add the steps that create or repair a login, or report what only a person can do.

    Args:
        observed: The database as it is.
        desired: The login.
        verifier: Computes the SCRAM verifier of the desired password.
        builder: Collects the steps and findings.
        password_rejected: Whether the server rejected the login right after this password was set.
    """
    name, live, optional = desired.name, observed.roles.get(desired.user), not desired.rights.needed
    if live is None:
        if observed.server.creates_roles:
            builder.steps.append(
                Write(
                    f"create the login {name}",
                    tuple(_create_statements(observed, desired, verifier)),
                    optional=optional,
                )
            )
        else:
            problem = f"the login may not create roles: there is no login {name}"
            _report(desired, builder, problem, _create_by_hand(desired))
        return
    if live.comment != desired.comment_for_owner:
        _report(
            desired,
            builder,
            f"the login {name} belongs to somebody else and is left unchanged",
            _assign_by_hand(desired),
        )
        return
    if live.excess_attributes:
        builder.warnings.append(f"the login {name} has {', '.join(live.excess_attributes)}, which it should not")
        return
    for statement, what in _setting_repairs(live, desired):
        if observed.server.creates_roles:
            builder.steps.append(_repair_step(desired, statement, what, optional=True))
        else:  # the platform works without them
            builder.warnings.append(f"the login {name} {what}: {statement}")
    for statement, what in _grant_repairs(live, desired):
        builder.steps.append(_repair_step(desired, statement, what, optional=optional))
    missing = [
        what
        for what, may in (("connect", live.can_connect), ("create temporary tables", _temporary(live, desired)))
        if not may
    ]
    if missing and not live.grantable:
        remedy = f"only the owner of database {desired.database} can grant that"
        _report(desired, builder, f"the login {name} may not {' and may not '.join(missing)}", remedy)
    elif live.password_works is False and live.can_connect:
        _plan_password(observed, desired, verifier, builder, password_rejected=password_rejected)


def _plan_password(
    observed: DatabaseState,
    desired: DesiredLogin,
    verifier: Callable[[], str],
    builder: PlanBuilder,
    *,
    password_rejected: bool,
) -> None:
    name = desired.name
    if password_rejected:
        _report(desired, builder, f"the server rejects the login {name} although its password was set")
    elif not observed.server.creates_roles:
        _report(
            desired,
            builder,
            f"the server rejects the login {name}",
            f"ALTER ROLE {quoted(name)} {_login_clause(desired)}",
        )
    else:
        statement = f"ALTER ROLE {quoted(name)} LOGIN PASSWORD {literal(verifier())}"
        step = Write(password_step(name), (statement,), once=True, optional=not desired.rights.needed)
        builder.steps.append(step)


def _report(desired: DesiredLogin, builder: PlanBuilder, problem: str, remedy: str = "") -> None:
    """Report what only a person can repair: a blocker where the platform needs the login, else a warning."""
    if desired.rights.needed:
        builder.blockers.append(f"{problem}{remedy and ': '}{remedy}")
    else:
        builder.warnings.append(problem)


def _create_by_hand(desired: DesiredLogin) -> str:
    create = f"CREATE ROLE {quoted(desired.name)} NOINHERIT {_login_clause(desired)}"
    return f"create it by {create}, and {_assign_by_hand(desired)}"


def _assign_by_hand(desired: DesiredLogin) -> str:
    return (
        f"assign it to this platform by COMMENT ON ROLE {quoted(desired.name)} IS {literal(desired.comment_for_owner)}"
    )


def _login_clause(desired: DesiredLogin) -> str:
    return f"LOGIN PASSWORD with the password of Secret {desired.secret}"


def _create_statements(observed: DatabaseState, desired: DesiredLogin, verifier: Callable[[], str]) -> Iterator[str]:
    role, schema = quoted(desired.name), desired.schema
    yield f"CREATE ROLE {role} {ATTRIBUTES} PASSWORD {literal(verifier())}"
    yield f"COMMENT ON ROLE {role} IS {literal(desired.comment_for_owner)}"
    for setting, value in desired.rights.settings.items():
        yield f"ALTER ROLE {role} SET {setting} = {literal(value)}"
    yield f"GRANT USAGE ON SCHEMA {schema} TO {role}"
    yield f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}"
    yield f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {role}"
    for table, privileges in desired.rights.writes.items():
        if table in observed.relations:
            yield f"GRANT {', '.join(sorted(privileges))} ON {schema}.{table} TO {role}"
    yield record_setting(schema, desired.user, desired.name)


def _repair_step(desired: DesiredLogin, statement: str, what: str, *, optional: bool) -> Write:
    drift = Drift(name=f"role {desired.name}", what=what, repaired=True)
    return Write(f"repair the login {desired.name}, which {what}", (statement,), (drift,), optional=optional)


def _setting_repairs(live: Role, desired: DesiredLogin) -> Iterator[tuple[str, str]]:
    for setting, value in desired.rights.settings.items():
        if live.settings.get(setting) != value:
            statement = f"ALTER ROLE {quoted(desired.name)} SET {setting} = {literal(value)}"
            yield statement, f"does not set {setting} = {value}"


def _temporary(live: Role, desired: DesiredLogin) -> bool:
    return live.can_create_temporary or not desired.rights.temporary


def _grant_repairs(live: Role, desired: DesiredLogin) -> Iterator[tuple[str, str]]:
    role, database, writes = quoted(desired.name), quoted(desired.database), desired.rights.writes
    schema = desired.schema
    if not live.can_connect and live.grantable:
        yield f"GRANT CONNECT ON DATABASE {database} TO {role}", "could not connect"
    if not _temporary(live, desired) and live.grantable:
        yield f"GRANT TEMPORARY ON DATABASE {database} TO {role}", "could not create temporary tables"
    if not live.can_use_schema:
        yield f"GRANT USAGE ON SCHEMA {schema} TO {role}", "could not use the schema"
    if live.can_create_tables:
        yield f"REVOKE CREATE ON SCHEMA {schema} FROM {role}", "could create tables"
    if live.unreadable_tables:
        tables = ", ".join(f"{schema}.{quoted(table)}" for table in live.unreadable_tables)
        yield f"GRANT SELECT ON {tables} TO {role}", f"could not read {', '.join(live.unreadable_tables)}"
    for table in sorted({*live.granted, *writes} & live.tables):
        has, should = live.granted.get(table, frozenset()) - {"SELECT"}, writes.get(table, frozenset())
        for privileges, verb, preposition, what in (
            (has - should, "REVOKE", "FROM", "could"),
            (should - has, "GRANT", "TO", "could not"),
        ):
            if privileges:
                listed = ", ".join(sorted(privileges))
                yield f"{verb} {listed} ON {schema}.{quoted(table)} {preposition} {role}", f"{what} {listed} on {table}"
    if not live.reads_future_tables:
        yield (
            f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {role}",
            "could not read future tables",
        )
