"""A pipeline of market data: venue, ingest, servers; and a comparison of the venue's journal with what arrived."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiokafka
from nats.aio.client import Client

from aether_services.contracts.marketdata import BookMessage, Topic, TradeMessage
from aether_services.domain import times
from aether_testing.processes import ingests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from aether_testing.processes.ingests import DataPlane, Ingest
    from aether_testing.processes.venues import Venue

DEADLINE: Final = 60.0
TRADES: Final = "SELECT trade_id, side, ord_type, price::text, qty::text, ts FROM aether.trades"
REST_PRECISION: Final = 2000
"""Nanoseconds by which a time from REST may differ, since REST returns floating-point numbers."""


@dataclass(slots=True, kw_only=True)
class Pipeline:
    """One venue and one data plane, between which a test runs replicas of ingest."""

    plane: DataPlane
    venue: Venue
    folder: Path

    @contextlib.contextmanager
    def ingest(self, pairs: Sequence[str] = ingests.PAIRS, **settings: Any) -> Iterator[Ingest]:
        """A running replica with a usable book of each market."""
        folder = self.folder / f"ingest-{time.monotonic_ns()}"
        with ingests.ingest(folder, self.plane, ws=self.venue.ws, rest=self.venue.rest, **settings) as one:
            one.write_live_settings(pairs)
            one.start()
            one.until_usable(pairs)
            yield one

    def journal(self, symbol: str) -> list[dict[str, Any]]:
        """All trades of a market in the venue's journal."""
        found: list[dict[str, Any]] = []
        while page := self.venue.admin(f"/journal/trades?symbol={symbol}&after={len(found)}"):
            found += page
        return found

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the market within the block."""
        self.venue.admin("/flow", {"flowing": False})
        try:
            yield
        finally:
            self.venue.admin("/flow", {"flowing": True})

    def until_all_has_arrived(self, *ingest: Ingest, outputs: int = 3) -> None:
        """Wait until every output has all trades; the market must be stopped."""

        def arrived() -> bool:
            last = self.venue.get("/status")["pairs"]
            states = [one.status() for one in ingest]
            expected = {symbol: book.last_trade_id for state in states for symbol, book in state.books.items()}
            waiting = [state for one in states for state in one.outputs.values() if state.ok and not state.waiting]
            return len(waiting) == outputs * len(ingest) and all(
                last[symbol] == expected[symbol] for symbol in expected
            )

        ingest[0].until(arrived, "all has arrived", DEADLINE)

    def compare_table(self, pairs: Sequence[str] = ingests.PAIRS) -> None:
        """Assert that the table equals the venue's journal from its first stored trade on."""
        for symbol in pairs:
            rows = self.plane.rows(f"{TRADES} WHERE symbol = '{symbol}' ORDER BY trade_id, ts")
            assert rows, f"{symbol}: nothing is stored"
            expected = [
                (one["trade_id"], one["side"], one["order_type"], one["price"], one["quantity"], times.parse(one["at"]))
                for one in self.journal(symbol)
                if one["trade_id"] >= rows[0][0]
            ]
            differ = [
                (row, one)
                for row, one in itertools.zip_longest(rows, expected)
                if row is None
                or one is None
                or tuple(row[:-1]) != one[:-1]
                or abs(times.from_datetime(row[-1]) - one[-1]) > REST_PRECISION
            ]
            assert not differ, f"{symbol}: {len(differ)} rows differ from the journal, first {differ[:3]}"

    def compare_kafka(self, pairs: Sequence[str] = ingests.PAIRS) -> None:
        """Assert that the topic has each trade of the venue's journal at least once, from its first one on."""
        received = asyncio.run(self._records(Topic.TRADES))
        by_market: defaultdict[str, dict[int, TradeMessage]] = defaultdict(dict)
        for record in received:
            message = TradeMessage.model_validate_json(record)
            by_market[message.symbol][message.trade_id] = message
        for symbol in pairs:
            found = by_market[symbol]
            first = min(found)
            expected = {one["trade_id"]: one for one in self.journal(symbol) if one["trade_id"] >= first}
            assert sorted(found) == sorted(expected), f"{symbol}: the topic and the journal differ"
            for trade_id, message in found.items():
                fields = json.loads(message.model_dump_json())
                for name in ("side", "order_type", "price", "quantity"):
                    assert fields[name] == expected[trade_id][name], f"{symbol} {trade_id}: {name}"

    def books(self) -> list[BookMessage]:
        return [BookMessage.model_validate_json(one) for one in asyncio.run(self._records(Topic.BOOK))]

    async def _records(self, topic: Topic) -> list[bytes]:
        consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=f"127.0.0.1:{self.plane.kafka}")
        await consumer.start()
        try:
            partitions = [aiokafka.TopicPartition(topic, number) for number in range(ingests.PARTITIONS)]
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            ends = await consumer.end_offsets(partitions)
            found: list[bytes] = []
            while any([await consumer.position(one) < ends[one] for one in partitions]):
                for records in (await consumer.getmany(*partitions, timeout_ms=500)).values():
                    found += [record.value for record in records]
            return found
        finally:
            await consumer.stop()


@contextlib.asynccontextmanager
async def listening(plane: DataPlane, subject: str) -> AsyncIterator[list[bytes]]:
    """The messages on NATS within the block."""
    client, received = Client(), list[bytes]()

    async def on_message(message: Any) -> None:
        received.append(message.data)

    await client.connect(f"nats://127.0.0.1:{plane.nats}")
    try:
        await client.subscribe(subject, cb=on_message)
        await client.flush()
        yield received
    finally:
        await client.close()
