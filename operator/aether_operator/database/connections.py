"""Connections to PostgreSQL: opened within a deadline, cut when it passes; a refusal is a value without secrets."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
import sqlalchemy
from sqlalchemy.pool import NullPool

from aether_operator.api.reasons import Reason
from aether_operator.catalog import names
from aether_operator.observed import secrecy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.exc import DBAPIError

    from aether_operator.observed.endpoints import Endpoint

LOCK_TIMEOUT: Final = 3.0
"""Seconds that a statement waits for somebody else's lock: behind it waits everybody who wants the table."""
IDLE_TIMEOUT: Final = 10.0
"""Seconds after which the server ends a session of ours that says nothing: a stopped process holds no lock for long."""
AUTHORITIES: Final = "/etc/ssl/certs/ca-certificates.crt"
_REFUSALS: Final = (
    (Reason.DATABASE_MISSING, re.compile(r'FATAL:\s+database ".*" (does not exist|is not currently accepting)')),
    (Reason.PERMISSION_DENIED, re.compile(r"FATAL:\s+permission denied for database")),
    (
        Reason.AUTHENTICATION_FAILED,
        re.compile(r"FATAL:\s+(.*authentication failed|role .* |no pg_hba.conf entry|pg_hba.conf rejects)|no password"),
    ),
    (Reason.TLS_FAILED, re.compile(r"SSL|TLS|certificate")),
)
_OWN_WORDS: Final = {
    Reason.DATABASE_MISSING: "the database cannot be entered",
    Reason.PERMISSION_DENIED: "the login lacks a right",
    Reason.AUTHENTICATION_FAILED: "the login is refused",
    Reason.TLS_FAILED: "the connection cannot be protected",
    Reason.UNREACHABLE: "there is no connection",
}
"""What is told of a server that does not let us in, where its own words quote the Secret."""
_STATES: Final = {
    "42501": Reason.PERMISSION_DENIED,
    "25006": Reason.PERMISSION_DENIED,
    "55P03": Reason.WAITING_FOR_LOCK,
    "40P01": Reason.WAITING_FOR_LOCK,
}


class ConnectionFailed(Exception):
    """There is no connection, or not any more."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def place(endpoint: Endpoint) -> str:
    """What a message says of where we went."""
    return f"{names.address(endpoint.host, endpoint.port)}/{endpoint.database}"


@contextlib.contextmanager
def session(endpoint: Endpoint, *, deadline: float, idle: float = IDLE_TIMEOUT) -> Iterator[sqlalchemy.Connection]:
    """One connection for a block; after `deadline` seconds it is cut, whatever it is doing.

    Raises:
        Refused: It cannot be had, or broke.
    """
    started = time.monotonic()
    opened = _open(endpoint, deadline)
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://",
        creator=lambda: opened,
        poolclass=NullPool,
        hide_parameters=True,
        use_native_hstore=False,
    )
    left = max(deadline - (time.monotonic() - started), 0.1)
    try:
        with _cut_after(opened, left), engine.connect() as connection:
            # A statement ends before the connection is cut: then the server can say so.
            _limit(connection, statement=max(left - 1, left / 2), idle=idle)
            yield connection
    except sqlalchemy.exc.DBAPIError as fault:
        if opened.closed or opened.broken:
            late = time.monotonic() - started >= deadline
            why = f"no answer within {deadline:g} s" if late else "the connection broke"
            raise ConnectionFailed(Reason.UNREACHABLE, f"{place(endpoint)}: {why}") from None
        reason, message = told(fault, endpoint)
        raise ConnectionFailed(reason, f"{place(endpoint)}: {message}") from None
    finally:
        engine.dispose()
        opened.close()


def _limit(connection: sqlalchemy.Connection, *, statement: float, idle: float) -> None:
    limits = {
        "TimeZone": "UTC",
        "DateStyle": "ISO, YMD",
        "search_path": "pg_catalog",
        "lock_timeout": f"{LOCK_TIMEOUT * 1000:.0f}",
        "statement_timeout": f"{statement * 1000:.0f}",
        "idle_in_transaction_session_timeout": f"{idle * 1000:.0f}",
        "idle_session_timeout": f"{idle * 1000:.0f}",
    }
    settings = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in limits.items())
    with connection.begin():
        connection.exec_driver_sql(f"SELECT {settings}")


def told(fault: DBAPIError, endpoint: Endpoint) -> tuple[Reason, str]:
    """What the server said of a statement: its first line, and nothing of the statement, which may hold a verifier."""
    cause = fault.orig
    state = cause.sqlstate if isinstance(cause, psycopg.Error) else None
    if not isinstance(cause, psycopg.Error) or state is None:
        return Reason.UNREACHABLE, "the connection broke"
    if state == "57014":
        return Reason.FAILED, "a statement took longer than the time it had"
    return _STATES.get(state, Reason.FAILED), f"{endpoint.excerpt(cause.diag.message_primary or '')} (SQLSTATE {state})"


def passing(fault: DBAPIError) -> bool:
    """Whether a fault is of the moment (a failover, a lack of something, a cut connection), not of the statement."""
    cause = fault.orig
    state = cause.sqlstate if isinstance(cause, psycopg.Error) else None
    return state is None or state[:2] in {"08", "53", "57"}


def opens(endpoint: Endpoint, *, deadline: float) -> bool | None:
    """Whether a login is let in; None where something else is in the way."""
    try:
        _open(endpoint, deadline).close()
    except ConnectionFailed as refused:
        return False if refused.reason is Reason.AUTHENTICATION_FAILED else None
    return True


def _open(endpoint: Endpoint, deadline: float) -> psycopg.Connection[tuple[Any, ...]]:
    where = place(endpoint)
    try:
        found = {one[4][0] for one in socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)}
    except (socket.gaierror, UnicodeError):
        raise ConnectionFailed(Reason.UNREACHABLE, f"{where}: no such host name") from None
    with _authorities(endpoint) as transport:
        try:
            return psycopg.connect(
                host=endpoint.host,
                port=endpoint.port,
                dbname=endpoint.database,
                user=endpoint.username,
                password=endpoint.password.text,
                connect_timeout=max(2, int(deadline / len(found))),  # psycopg gives it to each address
                gssencmode="disable",
                keepalives_idle=5,
                keepalives_interval=5,
                keepalives_count=3,
                tcp_user_timeout=max(2000, int(deadline * 1000)),
                application_name="aether-operator",
                prepare_threshold=None,
                **transport,
            )
        except psycopg.OperationalError as fault:
            reason, said = refusal(str(fault), asked_password=_asked_password(fault))
            words = endpoint.excerpt(said)
            why = f"{_OWN_WORDS[reason]} {words}" if words == secrecy.WITHHELD else words
            if endpoint.ca and "could not read root certificate file" in str(fault):
                why = "ca.crt of the Secret is not a certificate in PEM"  # the file that libpq names is nobody's
            if isinstance(fault, psycopg.errors.ConnectionTimeout):
                reason, why = Reason.UNREACHABLE, f"no answer within {deadline:g} s"
        except psycopg.Error:
            reason, why = Reason.UNREACHABLE, "this address and login cannot be used"
    raise ConnectionFailed(reason, f"{where}: {why}")


def _asked_password(fault: psycopg.OperationalError) -> bool:
    return fault.pgconn is not None and fault.pgconn.used_password


def refusal(text: str, *, asked_password: bool) -> tuple[Reason, str]:
    """Why a server did not let us in, from what libpq says: it gives no codes for that.

    A server that speaks another language than English is understood as far as that it wanted a password.
    """
    said = re.search(r"FATAL:\s+(.*)", text)
    words = said.group(1).strip() if said else ""
    for reason, pattern in _REFUSALS:
        if pattern.search(text):
            return reason, words or _first_cause(text)
    if asked_password and not words.startswith(("the database system", "sorry", "too many", "remaining connection")):
        return Reason.AUTHENTICATION_FAILED, words or "the login was refused"
    return Reason.UNREACHABLE, words or _first_cause(text)


def _first_cause(text: str) -> str:
    """The part of libpq's first line that is no address: `connection refused`, a certificate's fault."""
    line = next((one for one in text.splitlines() if "failed: " in one or "error" in one.lower()), "")
    cause = line.rpartition("failed: ")[2].strip()
    return cause or "it could not be reached"


@contextlib.contextmanager
def _authorities(endpoint: Endpoint) -> Iterator[dict[str, Any]]:
    """How libpq protects the connection. The authorities' file is memory: the operator's root is read-only."""
    if not endpoint.tls:
        yield {"sslmode": "disable"}
        return
    if not endpoint.ca:
        known = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile or AUTHORITIES
        yield {"sslmode": "verify-full", "sslrootcert": known if Path(known).is_file() else "system"}
        return
    file = os.memfd_create("authorities")
    try:
        os.write(file, endpoint.ca.encode())
        yield {"sslmode": "verify-full", "sslrootcert": f"/proc/{os.getpid()}/fd/{file}"}
    finally:
        os.close(file)


@contextlib.contextmanager
def _cut_after(opened: psycopg.Connection[Any], seconds: float) -> Iterator[None]:
    """End the connection's socket when the time is over: a server that was stopped answers no timeout of its own."""
    line = socket.socket(fileno=os.dup(opened.fileno()))

    def cut() -> None:
        with contextlib.suppress(OSError):  # it is closed already
            line.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        line.close()
