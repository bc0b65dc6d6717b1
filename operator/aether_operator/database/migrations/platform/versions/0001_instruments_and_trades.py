"""Instruments as the venue lists them, and trades as it reports them."""

# ruff: noqa: INP001 - Alembic reads the folder; it is no package

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from aether_operator.observed.reports import Engine

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "instruments",
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("altname", sa.Text, nullable=False),
        sa.Column("base", sa.Text, nullable=False),
        sa.Column("quote", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("price_decimals", sa.SmallInteger, nullable=False),
        sa.Column("lot_decimals", sa.SmallInteger, nullable=False),
        sa.Column("cost_decimals", sa.SmallInteger, nullable=False),
        sa.Column("tick_size", sa.Numeric, nullable=False),
        sa.Column("order_min", sa.Numeric, nullable=False),
        sa.Column("cost_min", sa.Numeric, nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("symbol", name="instruments_pkey"),
        sa.CheckConstraint(
            "price_decimals >= 0 AND lot_decimals >= 0 AND cost_decimals >= 0", name="instruments_decimals"
        ),
        sa.CheckConstraint("tick_size > 0 AND order_min >= 0 AND cost_min >= 0", name="instruments_steps"),
        schema="aether",
    )
    partitioned: dict[str, Any] = {}
    if op.get_context().opts["engine"] is Engine.PARTMAN:  # a hypertable is made of an ordinary one
        partitioned["postgresql_partition_by"] = "RANGE (ts)"
    op.create_table(
        "trades",
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("trade_id", sa.BigInteger, nullable=False),
        sa.Column("ts", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("side", sa.Text, nullable=False),
        sa.Column("price", sa.Numeric, nullable=False),
        sa.Column("qty", sa.Numeric, nullable=False),
        sa.Column("ord_type", sa.Text, nullable=False),
        sa.Column("received_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.text("now()")),
        # A pair's trade has one time for good, so that with its time in the key it is still stored once.
        sa.PrimaryKeyConstraint("symbol", "trade_id", "ts", name="trades_pkey"),
        sa.CheckConstraint("side IN ('buy', 'sell')", name="trades_side"),
        sa.CheckConstraint("ord_type IN ('limit', 'market')", name="trades_ord_type"),
        sa.CheckConstraint("price > 0 AND qty > 0", name="trades_amounts"),
        schema="aether",
        **partitioned,
    )
    op.create_index("trades_symbol_ts", "trades", ["symbol", sa.text("ts DESC")], schema="aether")
