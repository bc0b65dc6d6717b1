"""What the release before services left behind, recreated for the tests of an upgrade."""

from __future__ import annotations

import copy
import dataclasses
import shutil
from typing import TYPE_CHECKING, Any, Final

from aether_operator.api import crds
from aether_operator.api.platform_definition import DEFINITION
from aether_operator.api.reasons import Reason
from aether_operator.catalog.platform_schema import PLATFORM_SCHEMA
from aether_operator.database import migrator
from aether_operator.database.revisions import FOLDER
from aether_testing.servers import postgres

if TYPE_CHECKING:
    from pathlib import Path

    from aether_operator.catalog.schemas import SchemaDefinition
    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.reports import DesiredSchema

REVISION: Final = "0001"
LATER: Final = sorted(PLATFORM_SCHEMA.tables.keys() - {"trades", "instruments"})
"""The tables that it did not have."""
TRADES: Final = 500


def definition(folder: Path) -> SchemaDefinition:
    """The platform's schema with the migrations that it had, which are copied to a new folder."""
    shutil.copytree(FOLDER / PLATFORM_SCHEMA.migrations, folder, ignore=shutil.ignore_patterns("__pycache__", "0002*"))
    return dataclasses.replace(PLATFORM_SCHEMA, migrations=folder)


def make_database(endpoint: Endpoint, before: SchemaDefinition, desired: DesiredSchema) -> None:
    """Bring a database to the state that it left, with trades in it."""
    then = dataclasses.replace(desired, definition=before)
    report = migrator.ensure_schema(endpoint, then, postgres.a_leader(), deadline=120)
    # The current program reports the later tables as missing; what the earlier release created exists.
    days = {"trades": desired.days["trades"]}
    assert (report.reason, report.revision, report.days) == (Reason.SCHEMA_DRIFTED, REVISION, days)
    assert {one.name for one in report.drift} >= {f"aether.{name}" for name in LATER}
    with postgres.connected(endpoint) as connection:
        connection.execute("ALTER TABLE aether.ownership DROP COLUMN venue")
        connection.execute(
            "UPDATE aether.settings SET name = replace(name, 'trades_', '') "
            "WHERE name IN ('trades_engine', 'trades_compress_days')"
        )
        connection.execute(
            "INSERT INTO aether.instruments (symbol, altname, base, quote, status, price_decimals, lot_decimals, "
            "cost_decimals, tick_size, order_min, cost_min) "
            "VALUES ('BTC/USD', 'XBTUSD', 'BTC', 'USD', 'online', 1, 8, 5, 0.1, 0.0001, 0.5)"
        )
        connection.execute(
            "INSERT INTO aether.trades (symbol, trade_id, ts, side, price, qty, ord_type) "
            "SELECT 'BTC/USD', n, now() - make_interval(mins => n), 'sell', 91234.5 + n, 0.00000001 * n, 'market' "
            f"FROM generate_series(1, {TRADES}) n"
        )


def content(endpoint: Endpoint) -> list[Any]:
    """The data that an upgrade must keep."""
    with postgres.connected(endpoint) as connection:
        return [
            connection.execute(query).fetchall()
            for query in (
                b"SELECT count(*), sum(price), sum(qty), min(ts), max(ts) FROM aether.trades",
                b"SELECT symbol, price_decimals, updated_at FROM aether.instruments",
                b"SELECT owner, since FROM aether.ownership",  # an upgrade adds the venue
            )
        ]


def kind() -> dict[str, Any]:
    """The CRD TradingPlatform without the fields that it did not have, and their rules."""
    crd = copy.deepcopy(crds.of(DEFINITION))
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    del spec["x-kubernetes-validations"]
    for field in ("venue", "pairs", "components"):
        del spec["properties"][field]
    retention = spec["properties"]["retention"]
    for field in ("booksDays", "tickersDays", "candlesDays"):
        del retention["properties"][field], retention["default"][field]
    return crd
