"""The plan for logins and their rights, with values only: no server."""

from __future__ import annotations

import dataclasses

import pytest

from aether_operator.catalog.logins import PRIVILEGES, DatabaseUser
from aether_operator.database import logins
from aether_operator.database.pg_catalog import (
    Role,
)
from aether_operator.database.steps import PlanBuilder
from aether_testing.servers import database_states


def planned_login(
    user: DatabaseUser, role: Role | None, *, creates_roles: bool = True, password_rejected: bool = False
) -> PlanBuilder:
    builder = PlanBuilder()
    kept_in = "paper-postgres-them"
    desired = logins.DesiredLogin(
        user=user,
        name="them",
        rights=PRIVILEGES[user],
        owner="desk/paper",
        database="desk",
        schema="aether",
        secret=kept_in,
    )
    state = database_states.a_state(
        server=database_states.facts(creates_roles=creates_roles), roles={} if role is None else {user: role}
    )
    logins.plan(state, desired, lambda: "verifier", builder, password_rejected=password_rejected)
    return builder


MARK = {user: f"aether: {PRIVILEGES[user].description} for desk/paper" for user in DatabaseUser}


@pytest.mark.parametrize("user", DatabaseUser)
def test_privileged_login_is_left_alone_and_reported(user: DatabaseUser) -> None:
    builder = planned_login(user, Role(comment=MARK[user], excess_attributes=("SUPERUSER",), password_works=True))
    assert (builder.steps, builder.warnings) == ([], ["the login them has SUPERUSER, which it should not"])


PROBLEMS = {
    "not there": (None, {"creates_roles": False}, "the login may not create roles: there is no login them"),
    "of another owner": (
        Role(comment="somebody's"),
        {},
        "the login them belongs to somebody else and is left unchanged",
    ),
    "may not connect": (
        Role(comment="", can_connect=False, grantable=False),
        {},
        "the login them may not connect: only the owner of database desk can grant that",
    ),
    "password rejected": (
        Role(comment="", password_works=False),
        {"password_rejected": True},
        "the server rejects the login them although its password was set",
    ),
    "another password": (
        Role(comment="", password_works=False),
        {"creates_roles": False},
        "the server rejects the login them",
    ),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_missing_reader_login_only_warns_missing_service_login_is_unready(case: str) -> None:
    role, state, message = PROBLEMS[case]
    for user in DatabaseUser:
        settings = PRIVILEGES[user].settings
        live = role and dataclasses.replace(role, comment=role.comment or MARK[user], settings=settings)
        builder = planned_login(user, live, **state)
        recorded = builder.blockers if PRIVILEGES[user].needed else builder.warnings
        assert [line[: len(message)] for line in recorded] == [
            message.split(": only")[0] if user is DatabaseUser.READER else message
        ]
        assert not (builder.warnings if PRIVILEGES[user].needed else builder.blockers)


def test_manual_login_is_described_with_its_complete_statements() -> None:
    (line,) = planned_login(DatabaseUser.INGEST, None, creates_roles=False).blockers
    assert line.endswith(
        'create it by CREATE ROLE "them" NOINHERIT LOGIN PASSWORD with the password of Secret paper-postgres-them, and '
        "assign it to this platform by COMMENT ON ROLE \"them\" IS 'aether: ingests for desk/paper'"
    )


def test_no_login_may_delete_rows_or_alter_tables() -> None:
    for rights in PRIVILEGES.values():
        assert rights.writes.keys() <= database_states.TABLES.keys()
        assert {one for privileges in rights.writes.values() for one in privileges} <= {"INSERT", "UPDATE"}
