"""A PostgreSQL of Debian for tests: on a loopback port, in a folder of its own, gone with the process that had it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg

from aether_operator.api.platforms import Timescale
from aether_operator.database.migrating import Fences
from aether_operator.observed.endpoints import Endpoint, Hidden
from aether_operator.observed.reports import Login, SchemaWanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PROGRAMS: Final = Path("/usr/lib/postgresql/15/bin")
USER: Final = "postgres"
"""Whom Debian's package made for it: PostgreSQL refuses to run as root."""
PATIENCE: Final = 60.0
PASSWORD: Final = "canary-7f3a-superuser"  # noqa: S105 - of a server that lives as long as a test run
CARRIER: Final = "carrier"
CARRIER_PASSWORD: Final = "canary-7f3a-carrier"  # noqa: S105 - the same
READER_PASSWORD: Final = "canary-7f3a-reader"  # noqa: S105 - the same
WITH_PARTMAN: Final = "with_partman"
SETTINGS: Final = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
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
    """A running server, and its superuser."""

    folder: Path
    port: int
    process: int

    def endpoint(self, database: str = "postgres", username: str = USER, password: str = PASSWORD) -> Endpoint:
        """How to log in."""
        return Endpoint(
            host="127.0.0.1", port=self.port, username=username, password=Hidden(password), database=database
        )

    def run(self, database: str, *statements: str) -> list[tuple[Any, ...]]:
        """As the superuser, each for itself; the rows of the last."""
        with connected(self.endpoint(database)) as connection:
            found: list[tuple[Any, ...]] = []
            for statement in statements:
                cursor = connection.execute(statement.encode())
                found = cursor.fetchall() if cursor.description else []
            return found

    def database(self, template: str = "template1", owner: str = USER) -> str:
        """A database for a test."""
        name = f"t_{secrets.token_hex(4)}"
        self.run("postgres", f'CREATE DATABASE {name} OWNER "{owner}" TEMPLATE {template}')
        return name

    def fresh(self) -> Endpoint:
        """A database with pg_partman and a login that carries a schema, as the managed server has them."""
        return self.endpoint(self.database(WITH_PARTMAN, CARRIER), CARRIER, CARRIER_PASSWORD)

    def login(self, attributes: str = "") -> tuple[str, str]:
        """A role for a test, and its password."""
        name, password = f"r_{secrets.token_hex(4)}", f"canary-{secrets.token_hex(8)}"
        self.run("postgres", f"CREATE ROLE {name} LOGIN {attributes} PASSWORD '{password}'")
        return name, password

    @property
    def log(self) -> str:
        """What the server wrote: every statement, with the database's name at the start of a line."""
        return (self.folder / "log").read_text(errors="replace")


def connected(endpoint: Endpoint) -> psycopg.Connection[tuple[Any, ...]]:
    """A plain connection that commits each statement, for what a test does or looks at itself."""
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


def _as_owner(command: Sequence[str | Path]) -> list[str]:
    words = [str(word) for word in command]
    if os.getuid() != 0:
        return words
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *words]


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Postgres]:
    """A server for the length of a block."""
    home, word = folder / "data", folder / "password"
    word.write_text(PASSWORD)
    if os.getuid() == 0:
        owner = pwd.getpwnam(USER)
        for path in (folder, word):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        for above in folder.parents:  # pytest's folders are for their owner only
            if above.stat().st_uid == 0 and not above.stat().st_mode & 0o001:
                above.chmod(above.stat().st_mode | 0o011)
    made = subprocess.run(
        _as_owner([
            PROGRAMS / "initdb", "--pgdata", home, "--username", USER, "--pwfile", word, "--auth=scram-sha-256",
            "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions",
        ]),
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = [f"-c{name}={value}" for name, value in SETTINGS.items()]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            _as_owner([PROGRAMS / "postgres", "-D", home, "-p", str(port), "-k", folder, *settings]),
            cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip
    one = Postgres(folder=folder, port=port, process=server.pid)
    try:
        _answers(one, server)
        _prepare(one)
        yield one
    finally:
        server.send_signal(signal.SIGQUIT)
        server.wait(PATIENCE)
        shutil.rmtree(home, ignore_errors=True)


def _prepare(one: Postgres) -> None:
    one.run("postgres", f"CREATE ROLE {CARRIER} LOGIN CREATEROLE PASSWORD '{CARRIER_PASSWORD}'")
    one.run("postgres", f"CREATE DATABASE {WITH_PARTMAN}")
    one.run(
        WITH_PARTMAN,
        "CREATE SCHEMA partman",
        "CREATE EXTENSION pg_partman SCHEMA partman",
        f"GRANT ALL ON SCHEMA partman TO {CARRIER}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA partman TO {CARRIER}",
        f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA partman TO {CARRIER}",
        f"GRANT EXECUTE ON ALL PROCEDURES IN SCHEMA partman TO {CARRIER}",
    )


def _answers(one: Postgres, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            connected(one.endpoint()).close()
        except psycopg.OperationalError:
            assert server.poll() is None, one.log
            assert time.monotonic() < until, one.log
            time.sleep(0.05)  # it tells nobody when it has started
        else:
            return


def eventually(true: Callable[[], bool], shown: Callable[[], object]) -> None:
    """Wait until something is true; show what was seen when it does not come."""
    until = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < until, shown()
        time.sleep(0.02)


def a_wish(**other: Any) -> SchemaWanted:
    """What a platform wants of its database."""
    plain = SchemaWanted(
        owner="desk/paper of namespace 5d8f",
        timescale=Timescale.PREFERRED,
        trades_days=90,
        reader=Login(username=f"reader_{secrets.token_hex(4)}", password=Hidden(READER_PASSWORD)),
    )
    return dataclasses.replace(plain, **other)


def a_leader(guard: Callable[[], object] = lambda: None) -> Fences:
    """A process that leads."""
    return Fences(holder=f"operator-{secrets.token_hex(4)}", guard=guard)
