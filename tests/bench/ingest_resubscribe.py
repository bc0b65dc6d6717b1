"""From a cut of the connection until the books of 150 pairs are usable again, beside one request for each pair.

The venue is exchange_sim's own service with 150 markets that do not move, as a process: with its limits (fifty requests
a second on a connection, a hundred at once; as many symbols in a request as fit into half a megabyte), on a socket.
Kraken documents no number of symbols for book and none for requests; at either venue an acknowledgement comes for each.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import multiprocessing
import os
import signal
import socket
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final, cast

import prometheus_client

from aether_services.domain.instruments import Symbol
from aether_services.domain.trades import Side
from aether_services.exchange_sim import app, connections
from aether_services.exchange_sim.core import markets
from aether_services.exchange_sim.core.orders import LevelSet
from aether_services.exchange_sim.core.recordings import Recording
from aether_services.exchange_sim.ports import JournalState
from aether_services.exchange_sim.service import Venue
from aether_services.exchange_sim.settings import Settings
from aether_services.ingest.adapters.kraken import Kraken
from aether_services.ingest.core import subscriptions
from aether_services.ingest.core.markets import Markets
from aether_services.ingest.service.backfill import TradeHistory
from aether_services.ingest.service.receiver import Receiver
from aether_services.kit import http_server
from aether_services.kit.clocks import SystemClock
from aether_testing import wait
from aether_testing.bench import benchmarks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.process import BaseProcess

    from aether_services.exchange_sim.ports import Journal

PAIRS: Final = [Symbol(f"C{number:03}/USD") for number in range(150)]
DEPTH: Final = 100
ROUNDS: Final = 10
PEER_ROUNDS: Final = 2
DEADLINE: Final = 120.0


def _a_venue() -> Venue:
    known = markets.MARKETS[Symbol("BTC/USD")]
    instruments = {symbol: dataclasses.replace(known, symbol=symbol) for symbol in PAIRS}
    venue = Venue(
        Settings.model_validate({"instance": "venue-0", "release": "bench", "journal": "/nowhere", "connects": 1000}),
        instruments=instruments,
        journal=cast("Journal", SimpleNamespace(load=lambda _: JournalState())),
        clock=SystemClock(),
        registry=prometheus_client.CollectorRegistry(),
        recording=Recording(symbol=PAIRS[0], depth=DEPTH, updates=()),
    )
    for symbol, market in venue.markets.items():
        levels = [
            LevelSet(symbol, side, 870_000 + sign * (number + 1), 123_456_789 + number)
            for side, sign in ((Side.BUY, -1), (Side.SELL, 1))
            for number in range(DEPTH)
        ]
        market.apply(levels, (), venue.clock.now())
    return venue


def _serve(listening: socket.socket) -> None:
    """Serve it until the end; a signal cuts every connection."""

    async def serve() -> None:
        venue = _a_venue()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, venue.subscribers.close_all, connections.GOING_AWAY, "cut")
        served = app.create(venue, prometheus_client.CollectorRegistry())
        await http_server.server(served, host="127.0.0.1", port=0).serve(sockets=[listening])

    asyncio.run(serve())


async def _until(receiver: Receiver, served: Markets, reconnects: int) -> None:
    await wait.until_async(
        lambda: receiver.reconnects >= reconnects and all(market.usable for market in served.all()),
        "every book is usable",
        seconds=DEADLINE,
        interval=0.002,
    )


async def _after_a_cut(process: BaseProcess, port: int, symbols_at_once: int) -> float:
    """Seconds, once."""
    clock = SystemClock()
    async with Kraken(
        ws_url=f"ws://127.0.0.1:{port}/v2", rest_url=f"http://127.0.0.1:{port}", pause=0, clock=clock
    ) as venue:
        served = Markets(writer="bench", depth=DEPTH, trade_log_length=10, publish=lambda _: None)
        served.serve(PAIRS)
        receiver = Receiver(
            venue=venue,
            history=TradeHistory(venue, clock),
            markets=served,
            clock=clock,
            depth=DEPTH,
            refresh=300,
            on_received=lambda: None,
            symbols_at_once=symbols_at_once,
        )
        task = asyncio.create_task(receiver.run())
        try:
            await _until(receiver, served, 0)
            began = time.perf_counter()
            assert process.pid is not None
            os.kill(process.pid, signal.SIGUSR1)
            await _until(receiver, served, 1)
            return time.perf_counter() - began
        finally:
            task.cancel()
            await asyncio.wait([task])


def figures() -> Iterator[benchmarks.Figure]:
    """Measure."""
    logging.disable(logging.WARNING)  # each cut is one
    with socket.create_server(("127.0.0.1", 0)) as listening:
        process = multiprocessing.get_context("fork").Process(target=_serve, args=(listening,))
        process.start()
        try:
            port = listening.getsockname()[1]
            ours, alone = (
                [asyncio.run(_after_a_cut(process, port, symbols)) for _ in range(rounds)]
                for symbols, rounds in ((subscriptions.SYMBOLS_AT_ONCE, ROUNDS), (1, PEER_ROUNDS))
            )
        finally:
            process.terminate()
            process.join()
    yield from benchmarks.latencies("ingest-resubscribe", ours, "one request for each pair", alone)
