"""A schema in a database: brought to its desired state, as the operator does, filled and entered."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from aether_operator.database import migrator
from aether_testing.servers import postgres

if TYPE_CHECKING:
    from aether_operator.catalog.logins import DatabaseUser
    from aether_operator.database.fence import Fences
    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.reports import DesiredSchema, SchemaReport


def ensure(
    endpoint: Endpoint, desired: DesiredSchema, leader: Fences | None = None, *, deadline: float = 120, **other: Any
) -> SchemaReport:
    """Bring a schema to its desired state within so many seconds; without a leader, as a new one."""
    return migrator.ensure_schema(endpoint, desired, leader or postgres.a_leader(), deadline=deadline, **other)


def insert_trade(days_ago: int, number: int = 1) -> str:
    """The statement that stores a trade of BTC/USD, so many days ago."""
    return (
        "INSERT INTO aether.trades (symbol, trade_id, ts, side, price, qty, ord_type) "
        f"VALUES ('BTC/USD', {number}, now() - interval '{days_ago} days', 'buy', 91234.5, 0.00012345, 'limit')"
    )


def as_user(user: DatabaseUser, endpoint: Endpoint, desired: DesiredSchema) -> Endpoint:
    """The endpoint of the same database for one of the schema's logins."""
    login = desired.logins[user]
    return dataclasses.replace(endpoint, username=login.username, password=login.password)
