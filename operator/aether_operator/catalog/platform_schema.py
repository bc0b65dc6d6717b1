"""The schema of a TradingPlatform: market data. Data only."""

# ruff: noqa: S608 - queries are made of constants

from __future__ import annotations

from pathlib import Path
from typing import Final

from aether_operator.catalog import logins
from aether_operator.catalog.schemas import Column, GrowingTable, Rollup, SchemaDefinition, Table

NAME: Final = "aether"
_INSTRUMENTS: Final = Table(
    name="instruments",
    columns=(
        Column("symbol", "text"),
        Column("altname", "text"),
        Column("base", "text"),
        Column("quote", "text"),
        Column("status", "text"),
        Column("price_decimals", "smallint"),
        Column("lot_decimals", "smallint"),
        Column("cost_decimals", "smallint"),
        Column("tick_size", "numeric"),
        Column("order_min", "numeric"),
        Column("cost_min", "numeric"),
        Column("updated_at", "timestamp with time zone"),
        Column("wsname", "text", required=False),
        Column("rest_id", "text", required=False),
    ),
    constraints={
        "instruments_pkey": "PRIMARY KEY (symbol)",
        "instruments_decimals": "CHECK (((price_decimals >= 0) AND (lot_decimals >= 0) AND (cost_decimals >= 0)))",
        "instruments_steps": "CHECK (((tick_size > (0)::numeric) AND (order_min >= (0)::numeric) "
        "AND (cost_min >= (0)::numeric)))",
    },
)
_TRADES: Final = Table(
    name="trades",
    columns=(
        Column("symbol", "text"),
        Column("trade_id", "bigint"),
        Column("ts", "timestamp with time zone"),
        Column("side", "text"),
        Column("price", "numeric"),
        Column("qty", "numeric"),
        Column("ord_type", "text"),
        Column("received_at", "timestamp with time zone"),
    ),
    constraints={
        "trades_pkey": "PRIMARY KEY (symbol, trade_id, ts)",
        "trades_side": "CHECK ((side = ANY (ARRAY['buy'::text, 'sell'::text])))",
        "trades_ord_type": "CHECK ((ord_type = ANY (ARRAY['limit'::text, 'market'::text])))",
        "trades_amounts": "CHECK (((price > (0)::numeric) AND (qty > (0)::numeric)))",
    },
    indexes={"trades_symbol_ts": "btree (symbol, ts DESC)"},
)
_PROGRESS: Final = Table(
    name="ingest_progress",
    columns=(
        Column("symbol", "text"),
        Column("trade_id", "bigint"),
        Column("ts", "timestamp with time zone"),
        Column("candles_until", "timestamp with time zone", required=False),
    ),
    constraints={"ingest_progress_pkey": "PRIMARY KEY (symbol)"},
)
_LEVELS: Final = (
    "CHECK (((cardinality({side}_prices) = cardinality({side}_qtys)) AND (cardinality({side}_prices) <= 10)))"
)
_BOOKS: Final = Table(
    name="books",
    columns=(
        Column("symbol", "text"),
        Column("ts", "timestamp with time zone"),
        Column("received_at", "timestamp with time zone"),
        Column("checksum", "bigint"),
        Column("bid_prices", "numeric[]"),
        Column("bid_qtys", "numeric[]"),
        Column("ask_prices", "numeric[]"),
        Column("ask_qtys", "numeric[]"),
    ),
    constraints={
        "books_pkey": "PRIMARY KEY (symbol, ts)",
        "books_bids": _LEVELS.format(side="bid"),
        "books_asks": _LEVELS.format(side="ask"),
    },
)
_TICKERS: Final = Table(
    name="tickers",
    columns=(
        Column("symbol", "text"),
        Column("ts", "timestamp with time zone"),
        Column("bid", "numeric"),
        Column("bid_qty", "numeric"),
        Column("ask", "numeric"),
        Column("ask_qty", "numeric"),
        Column("last", "numeric"),
        Column("volume", "numeric"),
        Column("vwap", "numeric"),
        Column("low", "numeric"),
        Column("high", "numeric"),
        Column("change", "numeric"),
        Column("change_pct", "numeric"),
        Column("received_at", "timestamp with time zone"),
    ),
    constraints={"tickers_pkey": "PRIMARY KEY (symbol, ts)"},
)
_CANDLES: Final = Table(
    name="candles",
    columns=(
        Column("symbol", "text"),
        Column("ts", "timestamp with time zone"),
        Column("open", "numeric"),
        Column("high", "numeric"),
        Column("low", "numeric"),
        Column("close", "numeric"),
        Column("vwap", "numeric"),
        Column("volume", "numeric"),
        Column("cost", "numeric"),
        Column("trades", "bigint"),
    ),
    constraints={
        "candles_pkey": "PRIMARY KEY (symbol, ts)",
        "candles_minute": "CHECK ((ts = date_bin('00:01:00'::interval, ts, "
        "'2000-01-01 00:00:00+00'::timestamp with time zone)))",
        "candles_prices": "CHECK (((low <= LEAST(open, close)) AND (high >= GREATEST(open, close))))",
        "candles_amounts": "CHECK (((volume >= (0)::numeric) AND (cost >= (0)::numeric) AND (trades >= 0) "
        "AND ((trades = 0) = (volume = (0)::numeric))))",
    },
)

_ROLLUP_COLUMNS: Final = tuple(Column(column.name, column.type, required=False) for column in _CANDLES.columns)
# A longer candle equals the venue's: it opens with the first trade in it, and an interval without trades carries the
# last close.
_SUMS: Final = f"""
SELECT symbol, {{begin}} AS ts,
    coalesce({{first_trade}}, {{first}}) AS open,
    coalesce(max(high) FILTER (WHERE trades > 0), max(high)) AS high,
    coalesce(min(low) FILTER (WHERE trades > 0), min(low)) AS low,
    {{last}} AS close,
    sum(volume) AS volume, sum(cost) AS cost, sum(trades)::bigint AS trades
FROM {NAME}.candles GROUP BY symbol, {{begin}}
"""
# Without trades the high and the low are the previous close. The vwap is truncated exactly by an integer division; it
# needs a join with the instruments, which a continuous aggregate cannot have.
_VIEW: Final = f"""
SELECT c.symbol, c.ts, c.open, c.high, c.low, c.close,
    CASE WHEN c.volume = 0 THEN 0
         ELSE trunc(div(c.cost * ('1e' || i.price_decimals)::numeric, c.volume)
                    * ('1e-' || i.price_decimals)::numeric, i.price_decimals) END AS vwap,
    c.volume, c.cost, c.trades
FROM {{sums}} c LEFT JOIN {NAME}.instruments i ON i.symbol = c.symbol
"""


def _longer_candles(length: str, minutes: int) -> Rollup:
    return Rollup(
        name=f"candles_{length}",
        source="candles",
        minutes=minutes,
        columns=_ROLLUP_COLUMNS,
        view=_VIEW,
        sums_columns=tuple(column for column in _ROLLUP_COLUMNS if column.name != "vwap"),
        sums_by_timescale=_SUMS.format(
            begin=f"{{timescale}}.time_bucket(INTERVAL '{minutes} minutes', ts)",
            first_trade="{timescale}.first(open, ts) FILTER (WHERE trades > 0)",
            first="{timescale}.first(open, ts)",
            last="{timescale}.last(close, ts)",
        ),
        sums_by_postgres=_SUMS.format(
            begin=f"date_bin('{minutes} minutes', ts, '2000-01-01 00:00:00+00')",
            first_trade="(array_agg(open ORDER BY ts) FILTER (WHERE trades > 0))[1]",
            first="(array_agg(open ORDER BY ts))[1]",
            last="(array_agg(close ORDER BY ts DESC))[1]",
        ),
    )


PLATFORM_SCHEMA: Final = SchemaDefinition(
    name=NAME,
    migrations=Path("platform"),
    tables={table.name: table for table in (_INSTRUMENTS, _TRADES, _PROGRESS, _BOOKS, _TICKERS, _CANDLES)},
    growing={
        "trades": GrowingTable(time="ts", segment="symbol", partition_days=1, compress_days=7),
        "books": GrowingTable(time="ts", segment="symbol", partition_days=1, compress_days=1),
        "tickers": GrowingTable(time="ts", segment="symbol", partition_days=1, compress_days=7),
        "candles": GrowingTable(time="ts", segment="symbol", partition_days=7, compress_days=30),
    },
    rollups=tuple(
        _longer_candles(length, minutes)
        for length, minutes in (("5m", 5), ("15m", 15), ("1h", 60), ("4h", 240), ("1d", 1440))
    ),
    users=logins.PRIVILEGES,
    own_lock=0x41657468_6572,  # the bytes of `Aether`: operators of every release exclude each other
)
