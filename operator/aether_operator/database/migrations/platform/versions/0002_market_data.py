"""Books, tickers and candles of a minute, and how far each market's trades have come."""

# ruff: noqa: INP001 - Alembic reads the folder; it is no package

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from aether_operator.observed.reports import Engine

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

LEVELS = "cardinality({side}_prices) = cardinality({side}_qtys) AND cardinality({side}_prices) <= 10"


def upgrade() -> None:
    op.add_column("instruments", sa.Column("wsname", sa.Text), schema="aether")
    op.add_column("instruments", sa.Column("rest_id", sa.Text), schema="aether")
    # What was noted of the only table that was kept then now says of which.
    op.execute("UPDATE aether.settings SET name = 'trades_' || name WHERE name IN ('engine', 'compress_days')")
    op.create_table(
        "ingest_progress",
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("trade_id", sa.BigInteger, nullable=False),
        sa.Column("ts", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("candles_until", sa.TIMESTAMP(timezone=True)),
        sa.PrimaryKeyConstraint("symbol", name="ingest_progress_pkey"),
        schema="aether",
    )
    partitioned: dict[str, Any] = {}
    if op.get_context().opts["engine"] is Engine.PARTMAN:  # a hypertable is made of an ordinary one
        partitioned["postgresql_partition_by"] = "RANGE (ts)"
    op.create_table(
        "books",
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("ts", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("received_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.Column("checksum", sa.BigInteger, nullable=False),
        *(
            sa.Column(f"{side}_{what}", postgresql.ARRAY(sa.Numeric), nullable=False)
            for side in ("bid", "ask")
            for what in ("prices", "qtys")
        ),
        sa.PrimaryKeyConstraint("symbol", "ts", name="books_pkey"),
        sa.CheckConstraint(LEVELS.format(side="bid"), name="books_bids"),
        sa.CheckConstraint(LEVELS.format(side="ask"), name="books_asks"),
        schema="aether",
        **partitioned,
    )
    op.create_table(
        "tickers",
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("ts", sa.TIMESTAMP(timezone=True), nullable=False),
        *(
            sa.Column(name, sa.Numeric, nullable=False)
            for name in ("bid", "bid_qty", "ask", "ask_qty", "last", "volume", "vwap", "low", "high", "change")
        ),
        sa.Column("change_pct", sa.Numeric, nullable=False),
        sa.Column("received_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("symbol", "ts", name="tickers_pkey"),
        schema="aether",
        **partitioned,
    )
    op.create_table(
        "candles",
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("ts", sa.TIMESTAMP(timezone=True), nullable=False),
        *(
            sa.Column(name, sa.Numeric, nullable=False)
            for name in ("open", "high", "low", "close", "vwap", "volume", "cost")
        ),
        sa.Column("trades", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("symbol", "ts", name="candles_pkey"),
        sa.CheckConstraint("ts = date_bin('1 minute', ts, '2000-01-01 00:00:00+00')", name="candles_minute"),
        sa.CheckConstraint("low <= least(open, close) AND high >= greatest(open, close)", name="candles_prices"),
        # What longer candles take for an interval without a trade must be one in every way.
        sa.CheckConstraint(
            "volume >= 0 AND cost >= 0 AND trades >= 0 AND (trades = 0) = (volume = 0)", name="candles_amounts"
        ),
        schema="aether",
        **partitioned,
    )
