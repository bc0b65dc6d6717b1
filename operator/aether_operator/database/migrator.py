"""Brings a database to what a platform wants: looks, decides, does one step after the other, looks again."""

from __future__ import annotations

import dataclasses
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import psycopg
import sqlalchemy
from sqlalchemy.exc import DBAPIError

from aether_operator.api.reasons import Reason
from aether_operator.database import catalog_reader, connections, fence, logins, plans
from aether_operator.database.fence import FencedOff, Fences
from aether_operator.database.revisions import Revisions
from aether_operator.database.steps import Claim, Prepare, Write
from aether_operator.observed import owners, secrecy
from aether_operator.observed.reports import SchemaReport

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from aether_operator.catalog.logins import DatabaseUser
    from aether_operator.database.pg_catalog import Seen
    from aether_operator.database.plans import Plan
    from aether_operator.database.revisions import Migration
    from aether_operator.database.steps import Step
    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.reports import DesiredSchema, Drift, Engine, Login

__all__ = ["FencedOff", "Fences", "ensure_schema"]

log = logging.getLogger(__name__)

ADVISORY: Final = 0x41657468_6572
"""The advisory lock of whoever changes this database (the letters `Aether`)."""
ROUNDS: Final = 12
"""How often we look again: each phase of a plan needs one."""
LOGIN_DEADLINE: Final = 5.0
"""Seconds to see whether a login's password works."""
MARGIN: Final = 2.0
"""Seconds before the deadline in which no step is begun any more."""
SHIPPED: Final = Revisions()
"""The migrations of this release."""


@dataclasses.dataclass(slots=True, kw_only=True)
class _Work:
    """One bringing-up."""

    connection: Connection
    endpoint: Endpoint
    wanted: DesiredSchema
    fences: Fences
    revisions: Revisions
    mended: list[Drift] = dataclasses.field(default_factory=list)
    done: dict[str, str] = dataclasses.field(default_factory=dict)
    """Steps that are not tried twice, and what is said when they are wanted again."""
    opened: set[str] = dataclasses.field(default_factory=set)
    """Logins that were let in: to log in takes longer than to look."""

    def look(self) -> Seen:
        wanted = self.wanted.logins
        names = {user: login.username for user, login in wanted.items()}
        seen = catalog_reader.look(self.connection, days=self.wanted.days, logins=names)
        return replace(
            seen, roles={user: replace(role, works=self._opens(wanted[user])) for user, role in seen.roles.items()}
        )

    def _opens(self, login: Login) -> bool | None:
        if login.username in self.opened:
            return True
        as_it = replace(self.endpoint, username=login.username, password=login.password)
        works = connections.opens(as_it, deadline=LOGIN_DEADLINE)
        if works:
            self.opened.add(login.username)
        return works

    def decide(self, seen: Seen) -> Plan:
        def pending(engine: Engine) -> tuple[Migration, ...]:
            return self.revisions.after(seen.revision, engine)

        if seen.revision is not None and not self.revisions.knows(seen.revision):
            return plans.refusal(seen, self.wanted) or plans.newer(seen)
        memory = plans.Memory(
            database=self.endpoint.database,
            leads=fence.mine(self.fences, self.endpoint, epoch=seen.epoch, holder=seen.holder),
            timescale_refused=self.fences.timescale_refused(self.endpoint),
            verifier=self._verifier,
            useless=frozenset(
                user for user, login in self.wanted.logins.items() if self.fences.useless(self.endpoint, login)
            ),
        )
        plan = plans.plan(seen, self.wanted, memory, pending)
        tried = {step.what for step in plan.steps if isinstance(step, Write)} & self.done.keys()
        left = tuple(step for step in plan.steps if not (isinstance(step, Write) and step.what in tried))
        return replace(plan, steps=left, warnings=(*plan.warnings, *(self.done[what] for what in sorted(tried))))

    def _verifier(self, user: DatabaseUser) -> str:
        """What the server keeps of a login's password; the password itself would stand in its log."""
        login = self.wanted.logins[user]
        raw = self.connection.connection.driver_connection
        if not isinstance(raw, psycopg.Connection):
            raise TypeError(type(raw).__name__)
        return raw.pgconn.encrypt_password(
            login.password.text.encode(), login.username.encode(), b"scram-sha-256"
        ).decode()

    def do(self, step: Step) -> None:
        match step:
            case Prepare():
                fence.prepare(self.connection, self.fences, step.statement)
            case Claim():
                fence.claim(self.connection, self.fences, self.endpoint)
            case Write():
                fence.write(self.connection, self.fences, self.endpoint, step.statements)
                self.mended += step.mends
                if step.once:
                    self.done[step.what] = f"{step.what}: done, and needed again"
                log.info("schema_step", extra={"database": self.endpoint.database, "step": step.what})

    def report(self, seen: Seen, plan: Plan) -> SchemaReport:
        days = {name: int(one.in_force) for name, one in seen.keeping.items() if one.in_force is not None}
        engine = next((one.engine for one in seen.keeping.values() if one.engine is not None), plan.engine)
        ownership = plans.ownership(seen, self.wanted)
        if plan.reason in plans.REFUSALS:  # what is there is not this platform's
            quoted = secrecy.quotes(
                owners.foreign_words(f"{seen.owner} {seen.venue}", self.wanted.owner), self.endpoint.secret_values
            )
            said = f"the database is not ours {secrecy.WITHHELD}" if quoted else plan.message
            message = f"{connections.place(self.endpoint)}: {said}"
            return SchemaReport(reason=plan.reason, message=message, ownership=ownership)
        refused = plan.reason not in {Reason.READY, Reason.SCHEMA_DRIFTED}
        return SchemaReport(
            reason=plan.reason,
            message=f"{connections.place(self.endpoint)}: {plan.message}" if refused else plan.message,
            ownership=ownership,
            revision=seen.revision or "",
            engine=engine,
            days=days,
            held=plan.held,
            drift=(*self.mended, *plan.drift),
            warnings=plan.warnings,
        )

    def judge_passwords(self, seen: Seen) -> None:
        """Remember whether setting a login's password helped, so that it is not set at every visit."""
        for user, role in seen.roles.items():
            login = self.wanted.logins[user]
            if role.works:
                self.fences.tried(self.endpoint, login, works=True)
            elif role.works is False and logins.password_step(login.username) in self.done:
                self.fences.tried(self.endpoint, login, works=False)


def ensure_schema(
    endpoint: Endpoint,
    wanted: DesiredSchema,
    fences: Fences,
    *,
    deadline: float,
    revisions: Revisions = SHIPPED,
) -> SchemaReport:
    """Bring a database to what a platform wants; blocks for at most `deadline` seconds.

    Whatever interrupts it, the next call goes on where this one ended. Where nothing is to be done, nothing is written
    and no lock is taken.

    Raises:
        FencedOff: Another process leads; and whatever the guard of `fences` raises.
    """
    until = time.monotonic() + deadline
    try:
        with connections.session(endpoint, deadline=deadline) as connection:
            work = _Work(connection=connection, endpoint=endpoint, wanted=wanted, fences=fences, revisions=revisions)
            return _converge(work, until)
    except connections.ConnectionFailed as refused:
        return SchemaReport(reason=refused.reason, message=refused.message)
    except catalog_reader.Unreadable as unreadable:
        return SchemaReport(reason=Reason.PERMISSION_DENIED, message=f"{connections.place(endpoint)}: {unreadable}")


def _converge(work: _Work, until: float) -> SchemaReport:
    seen = work.look()
    plan = work.decide(seen)
    if not plan.steps:
        return work.report(seen, plan)
    before: tuple[Step, ...] = ()
    work.fences.guard()
    with work.connection.begin():
        had = work.connection.execute(sqlalchemy.select(sqlalchemy.func.pg_try_advisory_lock(ADVISORY))).scalar_one()
    if not had:
        return replace(
            work.report(seen, plan),
            reason=Reason.WAITING_FOR_LOCK,
            message="another session is changing this database's schema",
        )
    for _ in range(ROUNDS):
        # What was seen before the lock was had may not be so any more.
        seen = work.look()
        plan = work.decide(seen)
        if not plan.steps:
            work.judge_passwords(seen)
            return work.report(seen, work.decide(seen))
        if plan.steps == before:
            break
        before = plan.steps
        for step in plan.steps:
            if time.monotonic() > until - MARGIN:
                return _stopped(work, seen, plan, Reason.MIGRATING, "more is to be done than one visit has time for")
            try:
                work.do(step)
            except DBAPIError as fault:
                failed = _failed(work, step, fault)
                if failed is not None:
                    return _stopped(work, seen, plan, *failed)
                break
    names = ", ".join(_name(step) for step in plan.steps)
    return _stopped(work, seen, plan, Reason.FAILED, f"done, and needed again: {names}")


def _name(step: Step) -> str:
    return step.what if isinstance(step, Write) else "prepare the schema"


def _failed(work: _Work, step: Step, fault: DBAPIError) -> tuple[Reason, str] | None:
    """Why a step failed, or None where there is another way."""
    what = _name(step)
    reason, why = connections.told(fault, work.endpoint)
    if isinstance(step, Write) and step.optional and reason is Reason.PERMISSION_DENIED:
        work.done[what] = f"{what}: {why}"
        return None
    if what == plans.INSTALL_TIMESCALE and reason is not Reason.WAITING_FOR_LOCK:
        if connections.passing(fault) and not work.fences.broke_at_timescale(work.endpoint):
            return (
                Reason.FAILED,
                f"{connections.place(work.endpoint)}: {what}: {why}",
            )  # it says nothing of the extension
        # Where the library is not preloaded, trying ends the connection: the next visit knows it.
        work.fences.refuse_timescale(work.endpoint, f"TimescaleDB could not be installed: {why}")
        return None if reason is not Reason.UNREACHABLE else (Reason.FAILED, f"{what}: {why}")
    return reason, f"{connections.place(work.endpoint)}: {what}: {why}"


def _stopped(work: _Work, seen: Seen, plan: Plan, reason: Reason, message: str) -> SchemaReport:
    return replace(work.report(seen, plan), reason=reason, message=message)
