"""PostgreSQL from Debian packages for tests: on a loopback port, in its own folder, for the length of a block."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import itertools
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import psycopg
import sqlalchemy

from aether_operator.api.platforms import Retention, Timescale
from aether_operator.catalog.logins import DatabaseUser
from aether_operator.catalog.platform_schema import PLATFORM_SCHEMA
from aether_operator.database.migrator import Fences
from aether_operator.observed.endpoints import Endpoint, SecretText
from aether_operator.observed.reports import DesiredSchema, Login
from aether_testing import wait
from aether_testing.servers import free_ports, tls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

USER: Final = "postgres"
"""The system user of Debian's package: PostgreSQL does not run as root."""
TIMEOUT: Final = 60.0
PASSWORD: Final = "canary-7f3a-superuser"  # noqa: S105 - of a server that lives as long as a test run
CREATOR: Final = "creator"
CREATOR_PASSWORD: Final = "canary-7f3a-creator"  # noqa: S105 - the same
LOGIN_PASSWORD: Final = "canary-7f3a-login"  # noqa: S105 - the same
WITH_PARTMAN: Final = "with_partman"
SETTINGS: Final = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_wal_size": "256MB",  # the data folder is in memory
    "shared_buffers": "32MB",
    "max_connections": "40",
    "listen_addresses": "127.0.0.1",
    "password_encryption": "scram-sha-256",
    "log_statement": "all",
    "log_line_prefix": "%d %p ",
    "autovacuum": "off",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """A running server; connections are the superuser's by default."""

    release: Release
    folder: Path
    port: int
    process: int
    ca: str
    """The CA of its certificate, which is for 127.0.0.1. It accepts connections with TLS and without."""

    def endpoint(self, database: str = "postgres", username: str = USER, password: str = PASSWORD) -> Endpoint:
        """Its endpoint for a database and a login."""
        return Endpoint(
            host="127.0.0.1", port=self.port, username=username, password=SecretText(password), database=database
        )

    def run(self, database: str, *statements: str) -> list[tuple[Any, ...]]:
        """Execute statements as the superuser, each in its own transaction; returns the rows of the last."""
        with connected(self.endpoint(database)) as connection:
            found: list[tuple[Any, ...]] = []
            for statement in statements:
                cursor = connection.execute(statement.encode())
                found = cursor.fetchall() if cursor.description else []
            return found

    def database(self, template: str = "template1", owner: str = USER) -> str:
        """Create a database for a test; returns its name."""
        name = f"t_{secrets.token_hex(4)}"
        self.run("postgres", f'CREATE DATABASE {name} OWNER "{owner}" TEMPLATE {template}')
        return name

    def fresh(self, template: str = WITH_PARTMAN) -> Endpoint:
        """A database with pg_partman and a login that may create the schema, as on a managed server."""
        return self.endpoint(self.database(template, CREATOR), CREATOR, CREATOR_PASSWORD)

    def wait_for_no_sessions(self, database: str) -> None:
        """Wait until a database has no sessions, such as those of a process that just ended."""
        query = b"SELECT pid, state, query FROM pg_stat_activity WHERE datname = %s"
        with connected(self.endpoint()) as connection:

            def sessions() -> list[tuple[Any, ...]]:
                return connection.execute(query, (database,)).fetchall()

            wait.until(lambda: not sessions(), f"{database} has no sessions", seconds=TIMEOUT, detail=sessions)

    @contextlib.contextmanager
    def set(self, name: str, value: str) -> Iterator[None]:
        """Change a setting of the server for the length of a block."""
        self._set(f"ALTER SYSTEM SET {name} = '{value}'", name, value, becomes=True)
        try:
            yield
        finally:
            self._set(f"ALTER SYSTEM RESET {name}", name, value, becomes=False)

    def _set(self, statement: str, name: str, value: str, *, becomes: bool) -> None:
        self.run("postgres", statement, "SELECT pg_reload_conf()")

        def shown() -> str:
            return str(self.run("postgres", f"SHOW {name}")[0][0])

        what = f"{name} is {value}" if becomes else f"{name} is no longer {value}"
        wait.until(lambda: (shown() == value) is becomes, what, seconds=TIMEOUT, detail=shown)

    def terminate_sessions(self, database: str) -> None:
        query = b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
        with connected(self.endpoint()) as connection:
            connection.execute(query, (database,))

    def login(self, attributes: str = "") -> tuple[str, str]:
        """Create a login role for a test; returns its name and password."""
        name, password = f"r_{secrets.token_hex(4)}", f"canary-{secrets.token_hex(8)}"
        self.run("postgres", f"CREATE ROLE {name} LOGIN {attributes} PASSWORD '{password}'")
        return name, password

    @property
    def log(self) -> str:
        """The server's log: every statement, with the database's name at the start of the line."""
        return (self.folder / "log").read_text(errors="replace")


def connected(endpoint: Endpoint) -> psycopg.Connection[tuple[Any, ...]]:
    """A plain autocommit connection for a test's own statements."""
    return psycopg.connect(
        host=endpoint.host,
        port=endpoint.port,
        dbname=endpoint.database,
        user=endpoint.username,
        password=endpoint.password.text,
        autocommit=True,
        prepare_threshold=None,
        sslmode="disable",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """An installed PostgreSQL: the machine's own, or, for root, one in a separate root file system."""

    major: int
    partman: str
    """The prefix of its pg_partman's version."""
    root: Path | None = None

    def command(self, folder: Path, program: str, *arguments: str | Path) -> list[str]:
        """The command that runs a program as PostgreSQL's user, with access to the folder."""
        command = [f"/usr/lib/postgresql/{self.major}/bin/{program}", *map(str, arguments)]
        if os.getuid() != 0:
            return command
        owner = pwd.getpwnam(USER)
        if self.root is None:
            return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *command]
        user = f"--userspec={owner.pw_uid}:{owner.pw_gid}"
        return ["unshare", "--mount", "sh", "-ec", ENTER_TREE, str(self.root), str(folder), user, *command]


ENTER_TREE: Final = """
root=$0 folder=$1 who=$2
shift 2
mount -t tmpfs tmpfs "$root/tmp"
mkdir -p "$root$folder"
for shared in /dev /etc/passwd "$folder"; do mount --rbind "$shared" "$root$shared"; done
exec chroot "$who" "$root" "$@"
"""
"""Enters the root file system, with mounts that end with the server."""
BOOKWORM: Final = Release(major=15, partman="4.7.")


@contextlib.contextmanager
def running(folder: Path, release: Release = BOOKWORM, *, trust_all: bool = False) -> Iterator[Postgres]:
    """A server for the length of a block; with `trust_all` it accepts every login with any password.

    PostgreSQL's user must be able to enter the folder, which excludes pytest's: each new test run restricts those.
    """
    home, password_file = folder / "data", folder / "password"
    password_file.write_text(PASSWORD)
    certificate = tls.a_certificate("127.0.0.1")
    files = certificate.written(folder)
    if os.getuid() == 0:
        owner = pwd.getpwnam(USER)
        for path in (folder, password_file, *files):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    made = subprocess.run(
        release.command(
            folder, "initdb", "--pgdata", home, "--username", USER, "--pwfile", password_file,
            f"--auth={'trust' if trust_all else 'scram-sha-256'}",
            "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions",
        ),
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    port = free_ports.one()
    with (home / "postgresql.conf").open(
        "a"
    ) as configuration:  # unlike the command line, a test may change these while the server runs
        configuration.write(f"ssl = on\nssl_cert_file = '{files[0]}'\nssl_key_file = '{files[1]}'\n")
    settings = [f"-c{name}={value}" for name, value in SETTINGS.items()]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            release.command(folder, "postgres", "-D", home, "-p", str(port), "-k", folder, *settings),
            cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip
    one = Postgres(release=release, folder=folder, port=port, process=server.pid, ca=certificate.ca)
    try:
        _wait_until_ready(one, server)
        _create_databases(one)
        yield one
    finally:
        server.send_signal(signal.SIGQUIT)
        server.wait(TIMEOUT)
        shutil.rmtree(home, ignore_errors=True)


def _create_databases(one: Postgres) -> None:
    one.run("postgres", f"CREATE ROLE {CREATOR} LOGIN CREATEROLE PASSWORD '{CREATOR_PASSWORD}'")
    one.run("postgres", f"CREATE DATABASE {WITH_PARTMAN}")
    one.run(
        WITH_PARTMAN,
        "CREATE SCHEMA partman",
        "CREATE EXTENSION pg_partman SCHEMA partman",
        f"GRANT ALL ON SCHEMA partman TO {CREATOR}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA partman TO {CREATOR}",
        f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA partman TO {CREATOR}",
        f"GRANT EXECUTE ON ALL PROCEDURES IN SCHEMA partman TO {CREATOR}",
    )


def _wait_until_ready(one: Postgres, server: subprocess.Popen[bytes]) -> None:
    def accepts() -> bool:
        try:
            connected(one.endpoint()).close()
        except psycopg.OperationalError:
            assert server.poll() is None, one.log
            return False
        return True

    wait.until(accepts, "PostgreSQL accepts connections", seconds=TIMEOUT, detail=lambda: one.log)


def a_schema(*, trades_days: int = 90, **other: Any) -> DesiredSchema:
    """The desired schema of a platform."""
    plain = DesiredSchema(
        definition=PLATFORM_SCHEMA,
        owner="desk/paper of namespace 5d8f",
        venue="Simulated",
        created=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        timescale=Timescale.PREFERRED,
        days=DAYS | {"trades": trades_days},
        logins={
            user: Login(
                username=f"{user.value}_{secrets.token_hex(4)}",
                password=SecretText(LOGIN_PASSWORD),
                kept_in=f"paper-postgres-{user.value}",
            )
            for user in DatabaseUser
        },
    )
    return dataclasses.replace(plain, **other)


DAYS: Final = Retention().by_table()
"""The default retention of each table."""


def a_leader(guard: Callable[[], object] = lambda: None) -> Fences:
    """The fences of a process that leads."""
    return Fences(holder=f"operator-{secrets.token_hex(4)}", guard=guard)


class Interrupted(Exception):
    """Raised by the guard of a process that must end between two statements."""


def interrupted_at(number: int) -> Fences:
    """A leader whose guard raises before the n-th statement."""
    left = iter(range(number))

    def guard() -> None:
        if next(left, None) is None:
            raise Interrupted

    return a_leader(guard)


READ_ONLY_STATEMENTS: Final = re.compile(
    r"\s*SELECT(?!.*(create_parent|run_maintenance|create_hypertable|_policy|FOR SHARE))", re.DOTALL
)
"""Statements that write nothing."""


def in_child_process(work: Callable[[], object], *, at: int, after: bool, sign: int) -> int:
    """Run `work` in a child process, which sends itself a signal before or after its n-th statement that writes.

    Returns the child's process id, for `os.waitpid`.
    """
    child = os.fork()
    if child == 0:
        try:
            _signal_at(at, after=after, sign=sign)
            work()
        finally:
            os._exit(0)
    return child


def _signal_at(at: int, *, after: bool, sign: int) -> None:
    counter = itertools.count()
    numbers: dict[int, int] = {}

    def before_it(_: Any, cursor: Any, statement: str, *__: Any) -> None:
        if READ_ONLY_STATEMENTS.match(statement) is None:
            numbers[id(cursor)] = next(counter)
            if numbers[id(cursor)] == at and not after:
                os.kill(os.getpid(), sign)

    def after_it(_: Any, cursor: Any, statement: str, *__: Any) -> None:
        if READ_ONLY_STATEMENTS.match(statement) is None and numbers[id(cursor)] == at and after:
            os.kill(os.getpid(), sign)

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", before_it)
    sqlalchemy.event.listen(sqlalchemy.Engine, "after_cursor_execute", after_it)


class RecordedStatements(list[str]):
    """The statements that write, of all that a process sends to databases."""

    def __init__(self) -> None:
        super().__init__()
        self.last: set[int] = set()
        """The numbers of the statements that are followed by a commit."""

    @property
    def moments(self) -> list[tuple[int, bool]]:
        """The moments of a process's death that a database can distinguish: a statement's number, and whether after it.

        "After a statement" equals "before the next", unless a transaction is committed in between.
        """
        return [(number, after) for number in range(len(self)) for after in (False, True)[: 1 + (number in self.last)]]


@contextlib.contextmanager
def statements() -> Iterator[RecordedStatements]:
    """Record the statements that write, of all that this process sends to any database within a block."""
    recorded = RecordedStatements()

    def record(_: Any, cursor: Any, statement: str, *__: Any) -> None:
        if READ_ONLY_STATEMENTS.match(statement) is None:
            recorded.append(statement)
            if cursor.connection.autocommit:
                commit()

    def commit(*_: Any) -> None:
        if recorded:
            recorded.last.add(len(recorded) - 1)

    listeners: dict[str, Callable[..., None]] = {"before_cursor_execute": record, "commit": commit}
    for name, listener in listeners.items():
        sqlalchemy.event.listen(sqlalchemy.Engine, name, listener)
    try:
        yield recorded
    finally:
        for name, listener in listeners.items():
            sqlalchemy.event.remove(sqlalchemy.Engine, name, listener)


CONTENTS: Final = (
    (
        "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns "
        "WHERE table_schema = 'aether' ORDER BY 1, 2"
    ),
    (
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = 'aether'::regnamespace ORDER BY 1, 2"
    ),
    "SELECT indexdef FROM pg_indexes WHERE schemaname = 'aether' ORDER BY 1",
    "SELECT inhrelid::regclass::text FROM pg_inherits ORDER BY 1",
    (
        "SELECT parent_table, retention, retention_keep_table, premake, infinite_time_partitions, "
        "automatic_maintenance FROM partman.part_config ORDER BY 1"
    ),
    "SELECT viewname, definition FROM pg_views WHERE schemaname = 'aether' ORDER BY 1",
    (
        "SELECT relname, (SELECT array_agg(one::text ORDER BY one::text) FROM unnest(relacl) one) FROM pg_class "
        "WHERE relnamespace = 'aether'::regnamespace AND relkind IN ('r', 'p', 'v') ORDER BY 1"
    ),
    (
        "SELECT defaclobjtype, (SELECT array_agg(one::text ORDER BY one::text) FROM unnest(defaclacl) one) "
        "FROM pg_default_acl"
    ),
    (
        "SELECT (SELECT array_agg(one::text ORDER BY one::text) FROM unnest(nspacl) one) FROM pg_namespace "
        "WHERE nspname = 'aether'"
    ),
    (
        "SELECT rolname, shobj_description(oid, 'pg_authid'), rolinherit, rolcanlogin, rolconfig FROM pg_roles "
        "WHERE rolname = ANY(%s) ORDER BY 1"
    ),
    "SELECT name, value FROM aether.settings ORDER BY 1",
    "SELECT owner FROM aether.ownership",
    "SELECT version_num FROM aether.alembic_version",
    "SELECT * FROM aether.progress",
)


def database_contents(server: Postgres, database: str, desired: DesiredSchema) -> list[list[Any]]:
    """Everything that `ensure_schema` creates in a database, without the logins' names: equal results compare equal."""
    names = {login.username: user for user, login in desired.logins.items()}

    def named(value: object) -> object:
        match value:
            case list():
                return sorted(map(named, value), key=str)
            case tuple():
                return tuple(map(named, value))
        return functools.reduce(lambda text, name: text.replace(name, names[name]), names, str(value))

    with connected(server.endpoint(database)) as connection:
        return [
            [named(row) for row in connection.execute(query.encode(), [list(names)] if "%s" in query else None)]
            for query in CONTENTS
        ]
