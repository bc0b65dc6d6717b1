"""Connections to PostgreSQL within a deadline; a failure has a reason and a message without secrets."""

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

from aether_operator.api import labels
from aether_operator.api.reasons import Reason
from aether_operator.catalog import names
from aether_runtime import network_errors, secrecy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.exc import DBAPIError

    from aether_operator.observed.endpoints import Endpoint

LOCK_TIMEOUT: Final = 3.0
"""Seconds that a statement waits for a lock: later statements on the table queue behind it."""
IDLE_TIMEOUT: Final = 10.0
"""Seconds after which the server ends an idle session of ours, so that a stopped process holds no lock for long."""
SYSTEM_CA_FILE: Final = "/etc/ssl/certs/ca-certificates.crt"
_CONNECT_ERRORS: Final = (
    (Reason.DATABASE_MISSING, re.compile(r'FATAL:\s+database ".*" (does not exist|is not currently accepting)')),
    (Reason.PERMISSION_DENIED, re.compile(r"FATAL:\s+permission denied for database")),
    (
        Reason.AUTHENTICATION_FAILED,
        re.compile(r"FATAL:\s+(.*authentication failed|role .* |no pg_hba.conf entry|pg_hba.conf rejects)|no password"),
    ),
    (Reason.TLS_FAILED, re.compile(r"SSL|TLS|certificate")),
)
_CAUSES: Final = (
    (re.compile("the database system is|not yet accepting"), "the server is starting or shutting down: wait"),
    (re.compile("too many|remaining connection"), "no free connection: raise max_connections or a limit"),
    (re.compile("pg_hba.conf"), "the server rejects this client: allow it in pg_hba.conf"),
)
_CAUSES_BY_REASON: Final = {
    Reason.DATABASE_MISSING: "the database does not exist, or accepts no connections",
    Reason.PERMISSION_DENIED: "the login may not connect: grant it CONNECT on the database",
    Reason.AUTHENTICATION_FAILED: network_errors.AUTHENTICATION_FAILED,
    Reason.TLS_FAILED: network_errors.TLS_FAILED,
    Reason.UNREACHABLE: "no connection: check host and port, and that the server runs",
}
_SAYS_NO_MORE: Final = re.compile("Connection refused|password authentication failed|no password|database system is")
"""What the server says in other words than ours."""
_REASONS_BY_SQLSTATE: Final = {
    "42501": Reason.PERMISSION_DENIED,
    "25006": Reason.PERMISSION_DENIED,
    "55P03": Reason.WAITING_FOR_LOCK,
    "40P01": Reason.WAITING_FOR_LOCK,
}


class ConnectionFailed(Exception):
    """The connection could not be opened, or broke."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def address(endpoint: Endpoint) -> str:
    """`host:port/database` for a message."""
    return f"{names.address(endpoint.host, endpoint.port)}/{endpoint.database}"


@contextlib.contextmanager
def session(endpoint: Endpoint, *, deadline: float, idle: float = IDLE_TIMEOUT) -> Iterator[sqlalchemy.Connection]:
    """One connection for a block; after `deadline` seconds its socket is shut down.

    Raises:
        ConnectionFailed: It cannot be opened, or broke.
    """
    started = time.monotonic()
    driver_connection = _open(endpoint, deadline)
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://",
        creator=lambda: driver_connection,
        poolclass=NullPool,
        hide_parameters=True,
        use_native_hstore=False,
    )
    left = max(deadline - (time.monotonic() - started), 0.1)
    try:
        with _abort_after(driver_connection, left), engine.connect() as connection:
            # Statements time out before the socket is shut down, so that the server can report it.
            _set_timeouts(connection, statement=max(left - 1, left / 2), idle=idle)
            yield connection
    except sqlalchemy.exc.DBAPIError as fault:
        if driver_connection.closed or driver_connection.broken:
            late = time.monotonic() - started >= deadline
            why = f"no response within {deadline:g} s" if late else "the connection broke"
            raise ConnectionFailed(Reason.UNREACHABLE, f"{address(endpoint)}: {why}") from None
        reason, message = statement_error(fault, endpoint)
        raise ConnectionFailed(reason, f"{address(endpoint)}: {message}") from None
    finally:
        engine.dispose()
        driver_connection.close()


def _set_timeouts(connection: sqlalchemy.Connection, *, statement: float, idle: float) -> None:
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


def statement_error(fault: DBAPIError, endpoint: Endpoint) -> tuple[Reason, str]:
    """The reason and the server's message; nothing of the statement, which may contain a password's verifier."""
    cause = fault.orig
    state = cause.sqlstate if isinstance(cause, psycopg.Error) else None
    if not isinstance(cause, psycopg.Error) or state is None:
        return Reason.UNREACHABLE, "the connection broke"
    if state == "57014":
        return Reason.FAILED, "a statement timed out"
    message = endpoint.excerpt(cause.diag.message_primary or "")
    return _REASONS_BY_SQLSTATE.get(state, Reason.FAILED), f"{message} (SQLSTATE {state})"


def is_transient(fault: DBAPIError) -> bool:
    """Whether an error is transient (a failover, no resources, a broken connection), and not of the statement."""
    cause = fault.orig
    state = cause.sqlstate if isinstance(cause, psycopg.Error) else None
    return state is None or state[:2] in {"08", "53", "57"}


def can_log_in(endpoint: Endpoint, *, deadline: float) -> bool | None:
    """Whether a login's password is accepted; None where another error hides it."""
    try:
        _open(endpoint, deadline).close()
    except ConnectionFailed as error:
        return False if error.reason is Reason.AUTHENTICATION_FAILED else None
    return True


def _open(endpoint: Endpoint, deadline: float) -> psycopg.Connection[tuple[Any, ...]]:
    prefix = address(endpoint)
    try:
        addresses = {one[4][0] for one in socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)}
    except (socket.gaierror, UnicodeError):
        raise ConnectionFailed(Reason.UNREACHABLE, f"{prefix}: {network_errors.NOT_RESOLVED}") from None
    with _tls_parameters(endpoint) as tls:
        try:
            return psycopg.connect(
                host=endpoint.host,
                port=endpoint.port,
                dbname=endpoint.database,
                user=endpoint.username,
                password=endpoint.password.text,
                connect_timeout=max(2, int(deadline / len(addresses))),  # psycopg applies it to each address
                gssencmode="disable",
                keepalives_idle=5,
                keepalives_interval=5,
                keepalives_count=3,
                tcp_user_timeout=max(2000, int(deadline * 1000)),
                application_name=labels.OPERATOR,
                prepare_threshold=None,
                **tls,
            )
        except psycopg.OperationalError as fault:
            reason, text = connect_error(str(fault), asked_for_password=_asked_for_password(fault))
            why = connect_message(reason, text, endpoint)
            if endpoint.ca and "could not read root certificate file" in str(fault):
                why = "ca.crt of the Secret is not a certificate in PEM"  # libpq names our memory file
            if isinstance(fault, psycopg.errors.ConnectionTimeout):
                reason, why = Reason.UNREACHABLE, f"no response within {deadline:g} s"
        except psycopg.Error:
            reason, why = Reason.UNREACHABLE, "the address or the login is invalid"
    raise ConnectionFailed(reason, f"{prefix}: {why}")


def connect_message(reason: Reason, text: str, endpoint: Endpoint) -> str:
    """The cause of a failed connection in words of ours, and the server's text where it says more and no secret."""
    cause = next((words for pattern, words in _CAUSES if pattern.search(text)), "")
    if not cause and reason in {Reason.UNREACHABLE, Reason.TLS_FAILED}:
        cause = network_errors.describe_text(text)
    cause = cause or _CAUSES_BY_REASON[reason]
    own = endpoint.excerpt(text)
    says_more = own and own != secrecy.WITHHELD and not _SAYS_NO_MORE.search(own)
    return f"{cause} ({own})" if says_more else cause


def _asked_for_password(fault: psycopg.OperationalError) -> bool:
    return fault.pgconn is not None and fault.pgconn.used_password


def connect_error(text: str, *, asked_for_password: bool) -> tuple[Reason, str]:
    """The reason and message of a failed connection, parsed from libpq's text: libpq gives no codes for it.

    Of a server with messages in another language, only a failed password is recognised.
    """
    fatal = re.search(r"FATAL:\s+(.*)", text)
    words = fatal.group(1).strip() if fatal else ""
    for reason, pattern in _CONNECT_ERRORS:
        if pattern.search(text):
            return reason, words or _first_cause(text)
    if asked_for_password and not words.startswith(
        ("the database system", "sorry", "too many", "remaining connection")
    ):
        return Reason.AUTHENTICATION_FAILED, words
    return Reason.UNREACHABLE, words or _first_cause(text)


def _first_cause(text: str) -> str:
    """The cause in libpq's first line, without the address: `Connection refused`, a certificate's error."""
    line = next((one for one in text.splitlines() if "failed: " in one or "error" in one.lower()), "")
    return line.rpartition("failed: ")[2].strip()


@contextlib.contextmanager
def _tls_parameters(endpoint: Endpoint) -> Iterator[dict[str, Any]]:
    """The TLS parameters for libpq. The CA file is in memory, since the operator's root file system is read-only."""
    if not endpoint.tls:
        yield {"sslmode": "disable"}
        return
    if not endpoint.ca:
        known = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile or SYSTEM_CA_FILE
        yield {"sslmode": "verify-full", "sslrootcert": known if Path(known).is_file() else "system"}
        return
    file = os.memfd_create("ca.crt")
    try:
        os.write(file, endpoint.ca.encode())
        yield {"sslmode": "verify-full", "sslrootcert": f"/proc/{os.getpid()}/fd/{file}"}
    finally:
        os.close(file)


@contextlib.contextmanager
def _abort_after(connection: psycopg.Connection[Any], seconds: float) -> Iterator[None]:
    """Shut the socket down after `seconds`: a server that was stopped does not enforce its own timeouts."""
    sock = socket.socket(fileno=os.dup(connection.fileno()))

    def abort() -> None:
        with contextlib.suppress(OSError):  # closed already
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, abort)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        sock.close()
