"""Servers of these tests: two PostgreSQL and a TimescaleDB for a whole run, a new database for each test."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aether_testing.servers import postgres as servers
from aether_testing.servers import timescale as wasm
from aether_testing.servers import trixie

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aether_operator.observed.endpoints import Endpoint


@pytest.fixture(scope="session")
def releases() -> Iterator[Callable[[int], servers.Postgres]]:
    """PostgreSQL 15 with pg_partman 4.7, and PostgreSQL 17 with pg_partman 5, each started on first use."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def of(major: int) -> servers.Postgres:
            release = servers.BOOKWORM if major == servers.BOOKWORM.major else trixie.postgres()
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="aether-postgres-"))
            return stack.enter_context(servers.running(Path(folder), release))

        yield of


@pytest.fixture(scope="session", params=[15, 17])
def postgres(request: pytest.FixtureRequest, releases: Callable[[int], servers.Postgres]) -> servers.Postgres:
    """Both releases: each test runs on either."""
    return releases(request.param)


@pytest.fixture(scope="module")
def timescale_server() -> Iterator[Endpoint]:
    """TimescaleDB, as its superuser."""
    with wasm.running() as one:
        yield one


@pytest.fixture
def timescale(timescale_server: Endpoint) -> Endpoint:
    """TimescaleDB without our schemas."""
    with servers.connected(timescale_server) as connection:
        connection.execute("DROP SCHEMA IF EXISTS aether, toy CASCADE")
    return timescale_server


@pytest.fixture
def fresh(postgres: servers.Postgres) -> Endpoint:
    """A new database with pg_partman, for a login that may create the schema."""
    return postgres.fresh()
