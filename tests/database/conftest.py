"""Servers for these tests: two PostgreSQL and one TimescaleDB for a whole run, a fresh database for each test."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aether_testing import postgres as servers
from aether_testing import timescale as wasm
from aether_testing import trixie

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aether_operator.observed.endpoints import Endpoint


@pytest.fixture(scope="session", params=[15, 17])
def postgres(request: pytest.FixtureRequest) -> Iterator[servers.Postgres]:
    """PostgreSQL 15 with pg_partman 4.7, and PostgreSQL 17 with pg_partman 5: every test on each."""
    release = servers.BOOKWORM if request.param == servers.BOOKWORM.major else trixie.postgres()
    with (
        tempfile.TemporaryDirectory(prefix="aether-postgres-") as folder,
        servers.running(Path(folder), release) as one,
    ):
        yield one


@pytest.fixture(scope="module")
def timescale_server() -> Iterator[Endpoint]:
    """TimescaleDB, as its superuser."""
    with wasm.running() as one:
        yield one


@pytest.fixture
def timescale(timescale_server: Endpoint) -> Endpoint:
    """The same without a schema of ours."""
    with servers.connected(timescale_server) as connection:
        connection.execute("DROP SCHEMA IF EXISTS aether CASCADE")
    return timescale_server


@pytest.fixture
def fresh(postgres: servers.Postgres) -> Endpoint:
    """A database with pg_partman, as a login that may carry a schema."""
    return postgres.fresh()
