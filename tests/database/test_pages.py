"""The statements of the pages, on a real PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aether_operator.database import migrator
from aether_testing.servers import postgres as servers
from aether_testing.values import pages

if TYPE_CHECKING:
    from aether_operator.observed.endpoints import Endpoint


def test_postgresql_runs_every_documented_statement(postgres: servers.Postgres, fresh: Endpoint) -> None:
    assert migrator.ensure_schema(fresh, servers.a_schema(), servers.a_leader(), deadline=60).ok
    empty = postgres.database()
    blocks = pages.blocks("sql")
    assert len(blocks) >= 3
    for block in blocks:
        database = empty if "EXTENSION" in block.text else fresh.database
        # The pages' login is there for as long as that, and nothing stays.
        postgres.run(database, f'BEGIN; CREATE ROLE "aether"; {block.text} ROLLBACK')
