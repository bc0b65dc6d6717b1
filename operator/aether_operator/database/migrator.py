"""Brings a schema of a database to its definition: observes, plans, executes the steps one by one, observes again."""

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
from aether_operator.observed import server_owners
from aether_operator.observed.reports import SchemaReport
from aether_runtime import secrecy

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from aether_operator.database.pg_catalog import DatabaseState
    from aether_operator.database.plans import SchemaPlan
    from aether_operator.database.revisions import Migration
    from aether_operator.database.steps import Step
    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.reports import DesiredSchema, Drift, Engine, Login

__all__ = ["FencedOff", "Fences", "ensure_schema"]

log = logging.getLogger(__name__)

MAX_ROUNDS: Final = 12
"""How often the database is observed and planned at most: each phase of a plan needs one round."""
LOGIN_DEADLINE: Final = 5.0
"""Seconds for checking whether a login's password works."""
DEADLINE_MARGIN: Final = 2.0
"""Seconds before the deadline in which no further step is started."""


@dataclasses.dataclass(slots=True, kw_only=True)
class _Run:
    """One call of `ensure_schema`."""

    connection: Connection
    endpoint: Endpoint
    desired: DesiredSchema
    fences: Fences
    repaired: list[Drift] = dataclasses.field(default_factory=list)
    done: dict[str, str] = dataclasses.field(default_factory=dict)
    """Steps that are not executed twice → the warning when they are planned again."""
    verified: set[str] = dataclasses.field(default_factory=set)
    """Logins whose password was accepted: logging in takes longer than observing."""

    def observe(self) -> DatabaseState:
        logins_by_who, days = self.desired.logins, self.desired.days
        names = {user: login.username for user, login in logins_by_who.items()}
        observed = catalog_reader.observe(self.connection, self.desired.definition, days=days, logins=names)
        return replace(
            observed,
            roles={
                user: replace(role, password_works=self._can_log_in(logins_by_who[user]))
                for user, role in observed.roles.items()
            },
        )

    def _can_log_in(self, login: Login) -> bool | None:
        if login.username in self.verified:
            return True
        endpoint = replace(self.endpoint, username=login.username, password=login.password)
        works = connections.can_log_in(endpoint, deadline=LOGIN_DEADLINE)
        if works:
            self.verified.add(login.username)
        return works

    def plan(self, observed: DatabaseState) -> SchemaPlan:
        revisions = Revisions(self.desired.definition)

        def pending(engine: Engine) -> tuple[Migration, ...]:
            return revisions.after(observed.revision, engine)

        if observed.revision is not None and not revisions.knows(observed.revision):
            return plans.ownership_problem(observed, self.desired) or plans.schema_newer(observed)
        context = plans.PlanContext(
            database=self.endpoint.database,
            leads=fence.is_ours(self.fences, self.endpoint, epoch=observed.epoch, holder=observed.holder),
            timescale_error=self.fences.timescale_error(self.endpoint),
            verifier=self._verifier,
            rejected_passwords=frozenset(
                user
                for user, login in self.desired.logins.items()
                if self.fences.password_rejected(self.endpoint, login)
            ),
        )
        plan = plans.plan(observed, self.desired, context, pending)
        tried = {step.what for step in plan.steps if isinstance(step, Write)} & self.done.keys()
        left = tuple(step for step in plan.steps if not (isinstance(step, Write) and step.what in tried))
        return replace(plan, steps=left, warnings=(*plan.warnings, *(self.done[what] for what in sorted(tried))))

    def _verifier(self, user: str) -> str:
        """The SCRAM verifier of a login's password: the password itself would appear in the server's log."""
        login = self.desired.logins[user]
        raw = self.connection.connection.driver_connection
        if not isinstance(raw, psycopg.Connection):
            raise TypeError(type(raw).__name__)
        return raw.pgconn.encrypt_password(
            login.password.text.encode(), login.username.encode(), b"scram-sha-256"
        ).decode()

    def execute(self, step: Step) -> None:
        match step:
            case Prepare():
                fence.prepare(self.connection, self.fences, step.statement)
            case Claim():
                fence.claim(self.connection, self.fences, self.endpoint)
            case Write():
                fence.write(self.connection, self.fences, self.endpoint, step.statements)
                self.repaired += step.repairs
                if step.once:
                    self.done[step.what] = f"{step.what}: executed, and needed again"
                extra = {"database": self.endpoint.database, "schema": self.desired.definition.name, "step": step.what}
                log.info("schema_step", extra=extra)

    def report(self, observed: DatabaseState, plan: SchemaPlan) -> SchemaReport:
        days = {
            name: int(one.effective_days)
            for name, one in observed.partitioning.items()
            if one.effective_days is not None
        }
        engine = next((one.engine for one in observed.partitioning.values() if one.engine is not None), plan.engine)
        ownership = plans.ownership(observed, self.desired)
        if plan.reason in plans.OWNERSHIP_BY_REASON:  # it belongs to another platform, or may
            quoted = secrecy.quotes(
                server_owners.foreign_words(f"{observed.owner} {observed.venue}", self.desired.owner),
                self.endpoint.secret_values,
            )
            message = f"the database belongs to another owner {secrecy.WITHHELD}" if quoted else plan.message
            return SchemaReport(
                reason=plan.reason, message=f"{connections.address(self.endpoint)}: {message}", ownership=ownership
            )
        failed = plan.reason not in {Reason.READY, Reason.SCHEMA_DRIFTED}
        return SchemaReport(
            reason=plan.reason,
            message=f"{connections.address(self.endpoint)}: {plan.message}" if failed else plan.message,
            ownership=ownership,
            revision=observed.revision or "",
            engine=engine,
            days=days,
            held=plan.held,
            drift=(*self.repaired, *plan.drift),
            warnings=plan.warnings,
        )

    def record_passwords(self, observed: DatabaseState) -> None:
        """Remember whether setting a login's password helped, so that it is not set in every reconcile."""
        for user, role in observed.roles.items():
            login = self.desired.logins[user]
            if role.password_works:
                self.fences.record_password(self.endpoint, login, accepted=True)
            elif role.password_works is False and logins.password_step(login.username) in self.done:
                self.fences.record_password(self.endpoint, login, accepted=False)


def ensure_schema(
    endpoint: Endpoint,
    desired: DesiredSchema,
    fences: Fences,
    *,
    deadline: float,
) -> SchemaReport:
    """Bring a schema of a database to its definition; blocks for at most `deadline` seconds.

    After an interruption the next call resumes where this one ended. Where nothing differs, nothing is written and no
    lock is taken.

    Raises:
        FencedOff: Another process leads.
        Exception: What the guard of `fences` raises.
    """
    deadline_at = time.monotonic() + deadline
    try:
        with connections.session(endpoint, deadline=deadline) as connection:
            run = _Run(connection=connection, endpoint=endpoint, desired=desired, fences=fences)
            return _converge(run, deadline_at)
    except connections.ConnectionFailed as failure:
        return SchemaReport(reason=failure.reason, message=failure.message)
    except catalog_reader.CatalogUnreadable as unreadable:
        return SchemaReport(reason=Reason.PERMISSION_DENIED, message=f"{connections.address(endpoint)}: {unreadable}")


def _converge(run: _Run, deadline_at: float) -> SchemaReport:
    observed = run.observe()
    plan = run.plan(observed)
    if not plan.steps:
        return run.report(observed, plan)
    previous: tuple[Step, ...] = ()
    run.fences.guard()
    with run.connection.begin():
        locked = run.connection.execute(
            sqlalchemy.select(sqlalchemy.func.pg_try_advisory_lock(run.desired.definition.advisory_lock))
        ).scalar_one()
    if not locked:
        return replace(
            run.report(observed, plan),
            reason=Reason.WAITING_FOR_LOCK,
            message="another session is changing this database's schema",
        )
    for _ in range(MAX_ROUNDS):
        # The database may have changed before the lock was acquired.
        observed = run.observe()
        plan = run.plan(observed)
        if not plan.steps:
            run.record_passwords(observed)
            return run.report(observed, run.plan(observed))
        if plan.steps == previous:
            break
        previous = plan.steps
        for step in plan.steps:
            if time.monotonic() > deadline_at - DEADLINE_MARGIN:
                message = "the remaining steps follow with the next reconcile"
                return _report_unfinished(run, observed, plan, Reason.MIGRATING, message)
            try:
                run.execute(step)
            except DBAPIError as fault:
                failure = _step_failure(run, step, fault)
                if failure is not None:
                    return _report_unfinished(run, observed, plan, *failure)
                break
    names = ", ".join(_step_name(step) for step in plan.steps)
    return _report_unfinished(run, observed, plan, Reason.FAILED, f"executed, and needed again: {names}")


def _step_name(step: Step) -> str:
    return step.what if isinstance(step, Write) else "prepare the schema"


def _step_failure(run: _Run, step: Step, fault: DBAPIError) -> tuple[Reason, str] | None:
    """The reason and message of a failed step; None where the next round can continue without it."""
    what = _step_name(step)
    reason, why = connections.statement_error(fault, run.endpoint)
    if isinstance(step, Write) and step.optional and reason is Reason.PERMISSION_DENIED:
        run.done[what] = f"{what}: {why}"
        return None
    if what == plans.INSTALL_TIMESCALE and reason is not Reason.WAITING_FOR_LOCK:
        if connections.is_transient(fault) and not run.fences.timescale_install_broke(run.endpoint):
            # A transient error tells nothing about the extension.
            return Reason.FAILED, f"{connections.address(run.endpoint)}: {what}: {why}"
        # Without the library in shared_preload_libraries the try ends the connection: the next reconcile knows.
        run.fences.record_timescale_error(run.endpoint, f"TimescaleDB could not be installed: {why}")
        return None if reason is not Reason.UNREACHABLE else (Reason.FAILED, f"{what}: {why}")
    return reason, f"{connections.address(run.endpoint)}: {what}: {why}"


def _report_unfinished(
    run: _Run, observed: DatabaseState, plan: SchemaPlan, reason: Reason, message: str
) -> SchemaReport:
    return replace(run.report(observed, plan), reason=reason, message=message)
