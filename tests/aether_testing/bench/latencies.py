"""Latency from the venue's socket to a consumer, at 5,000 book updates per second; the peer is the bare client library.

A venue that only does this sends updates whose timestamp is the moment of sending. The peer sends messages of the same
size by the library alone, at the same rate, to the same server, and the same consumer receives them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiokafka
from aiohttp import web
from nats.aio.client import Client

from aether_services.contracts.marketdata import Topic
from aether_services.domain import books, times
from aether_services.domain.times import Nanoseconds
from aether_testing.bench import benchmarks
from aether_testing.processes import ingests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

RATE: Final = 5000
SECONDS: Final = 12
WARM: Final = 3
TICK: Final = 0.002
PAIRS: Final = [f"{chr(65 + n) * 3}/USD" for n in range(10)]
PAIR: Final = {"quote": "USD", "status": "online", "price_precision": 1, "qty_precision": 8}
CYCLE: Final = 50
AT: Final = re.compile(rb'"at":"([^"]+)"')


class Emitter:
    """A venue that sends only books of ten levels, of which one level changes."""

    def __init__(self) -> None:
        self.sockets: list[web.WebSocketResponse] = []
        self.books: set[str] = set()
        bids, asks = ([(1000 + sign * (n + 1), 100_000_000 + n) for n in range(10)] for sign in (-1, 1))
        self.states: list[tuple[str, int]] = []
        self.sent = 0
        for turn in range(2 * CYCLE):  # the first cycle reaches the state in which each later one begins
            asks[turn % 10] = (asks[turn % 10][0], 200_000_000 + turn % CYCLE)
            if turn >= CYCLE:
                self.states.append((_level(*asks[turn % 10]), books.checksum(asks, bids)))
        self.bids, self.asks = (",".join(_level(*one) for one in side) for side in (bids, asks))
        self.first = books.checksum(asks, bids)

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        """Acknowledge every request, and begin each book with a snapshot."""
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        self.sockets.append(socket)
        async for message in socket:
            body = json.loads(message.data)
            params = body.get("params", {})
            if body["method"] != "subscribe":
                continue
            ack = {"method": "subscribe", "req_id": body["req_id"], "success": True, "result": params}
            await socket.send_str(json.dumps(ack))
            if params["channel"] == "instrument":
                pairs = [PAIR | {"symbol": one, "base": one[:3]} for one in PAIRS]
                data = {"assets": [], "pairs": pairs}
                await socket.send_str(json.dumps({"channel": "instrument", "type": "snapshot", "data": data}))
            if params["channel"] == "book":
                (symbol,) = params["symbol"]
                await socket.send_str(self._book("snapshot", symbol, self.bids, self.asks, self.first))
                self.books.add(symbol)
        return socket

    @staticmethod
    def _book(kind: str, symbol: str, bids: str, asks: str, checksum: int) -> str:
        now = times.text(Nanoseconds(time.time_ns()))[:-4]
        return (
            f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{symbol}","bids":[{bids}],"asks":[{asks}],'
            f'"checksum":{checksum},"timestamp":"{now}Z"}}]}}'
        )

    async def emit(self, seconds: float) -> int:
        """Send updates at the rate; returns their number."""
        begin, sent = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - begin) < seconds:
            while sent < elapsed * RATE:
                symbol = PAIRS[self.sent % len(PAIRS)]
                level, checksum = self.states[self.sent // len(PAIRS) % len(self.states)]
                self.sent += 1
                await self.sockets[-1].send_str(self._book("update", symbol, "", level, checksum))
                sent += 1
            await asyncio.sleep(TICK)
        return sent


def _level(price: int, quantity: int) -> str:
    return f'{{"price":{price / 10:.1f},"qty":{quantity // 10**8}.{quantity % 10**8:08d}}}'


async def _nothing(_: web.Request) -> web.Response:
    return web.json_response({"error": [], "result": {}})


@contextlib.asynccontextmanager
async def venue() -> AsyncIterator[tuple[Emitter, int]]:
    emitter = Emitter()
    app = web.Application()
    app.router.add_get("/v2", emitter.handle)
    app.router.add_get("/0/public/{method}", _nothing)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield emitter, runner.addresses[0][1]
    finally:
        await runner.cleanup()


def of_kafka() -> Iterator[benchmarks.Figure]:
    yield from _figures("ingest-latency-kafka", "aiokafka alone", from_kafka, bare_kafka)


def of_nats() -> Iterator[benchmarks.Figure]:
    yield from _figures("ingest-latency-nats", "nats-py alone", from_nats, bare_nats)


def _figures(name: str, peer: str, receive: Any, bare: Any) -> Iterator[benchmarks.Figure]:
    with tempfile.TemporaryDirectory() as folder, ingests.plane(Path(folder) / "plane") as plane:
        ours, sent, plain = asyncio.run(_measure(Path(folder), plane, receive, bare))
    yield from benchmarks.latencies(name, ours, peer, plain)
    yield benchmarks.Figure(name=f"{name}-rate", value=len(ours) / sent * RATE, unit="updates/s", less_is_better=False)


async def _measure(
    folder: Path, plane: ingests.DataPlane, receive: Any, bare: Any
) -> tuple[list[float], int, list[float]]:
    plain = list[float]()
    async with receive(plane, plain):
        await bare(plane)
    plain = plain[WARM * RATE :]
    async with venue() as (emitter, port):
        address = f"127.0.0.1:{port}"
        with ingests.ingest(folder / "ingest", plane, ws=f"ws://{address}/v2", rest=f"http://{address}") as one:
            one.write_live_settings(PAIRS)
            await asyncio.to_thread(one.start)
            assert one.process is not None
            os.sched_setaffinity(one.process.pid, {max(os.sched_getaffinity(0))})
            await asyncio.to_thread(one.until_usable, PAIRS)
            ours = list[float]()
            async with receive(plane, ours):
                await emitter.emit(WARM)
                await asyncio.sleep(0.5)
                ours.clear()
                sent = await emitter.emit(SECONDS)
                await asyncio.sleep(1)
            status = await asyncio.to_thread(one.status)
            assert all(not book.checksum_failures for book in status.books.values()), status
    return ours, sent, plain


def _noted(body: bytes, waits: list[float]) -> None:
    found = AT.search(body)
    if found is not None:
        waits.append((time.time_ns() - times.parse(found[1].decode())) / times.SECOND)


@contextlib.asynccontextmanager
async def from_kafka(plane: ingests.DataPlane, waits: list[float]) -> AsyncIterator[None]:
    consumer = aiokafka.AIOKafkaConsumer(Topic.BOOK, bootstrap_servers=f"127.0.0.1:{plane.kafka}", fetch_max_wait_ms=50)
    await consumer.start()
    await consumer.seek_to_end()

    async def consume() -> None:
        async for record in consumer:
            _noted(record.value, waits)

    task = asyncio.create_task(consume())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        await consumer.stop()


@contextlib.asynccontextmanager
async def from_nats(plane: ingests.DataPlane, waits: list[float]) -> AsyncIterator[None]:
    client = Client()
    await client.connect(f"nats://127.0.0.1:{plane.nats}")

    async def on_message(message: Any) -> None:
        _noted(message.data, waits)

    await client.subscribe("md.book.>", cb=on_message, pending_msgs_limit=10**6, pending_bytes_limit=10**9)
    await client.flush()
    try:
        yield
    finally:
        await client.close()


async def _paced(send: Callable[[str, bytes], Any]) -> None:
    begin, sent, filler = time.perf_counter(), 0, "x" * 700
    while (elapsed := time.perf_counter() - begin) < WARM + SECONDS:
        while sent < elapsed * RATE:
            now = times.text(Nanoseconds(time.time_ns()))
            await send(PAIRS[sent % len(PAIRS)], f'{{"at":"{now}","filler":"{filler}"}}'.encode())
            sent += 1
        await asyncio.sleep(TICK)
    await asyncio.sleep(1)


async def bare_kafka(plane: ingests.DataPlane) -> None:
    producer = aiokafka.AIOKafkaProducer(
        bootstrap_servers=f"127.0.0.1:{plane.kafka}", acks="all", enable_idempotence=True, linger_ms=0
    )
    await producer.start()
    try:

        async def send(symbol: str, body: bytes) -> None:
            await producer.send(Topic.BOOK, body, key=symbol.encode())

        await _paced(send)
    finally:
        await producer.stop()


async def bare_nats(plane: ingests.DataPlane) -> None:
    client = Client()
    await client.connect(f"nats://127.0.0.1:{plane.nats}")
    try:

        async def send(symbol: str, body: bytes) -> None:
            await client.publish(f"md.book.{symbol.replace('/', '.')}", body)

        await _paced(send)
    finally:
        await client.close()
