"""Market data through the death of each of its parts: no trade lost or doubled, no book served that does not verify."""

from __future__ import annotations

import contextlib
import itertools
import random
import signal
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import pytest

from aether_services.contracts.books import BookView
from aether_services.contracts.statuses import Output
from aether_services.domain import books
from aether_testing.processes import ingests, pipelines, venues

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from aether_testing.processes.ingests import DataPlane, Ingest
    from aether_testing.processes.pipelines import Pipeline

STORED: Final = """
    SELECT checksum, bid_prices::text[], bid_qtys::text[], ask_prices::text[], ask_qtys::text[] FROM aether.books"""
PARTS: Final = ("ingest", "venue", "kafka", "nats", "tables")
LONGEST: Final = 2.0
"""Seconds between a part's coming back and its next end, at most."""


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory, market_plane: DataPlane) -> Iterator[Pipeline]:
    """One venue for all parts, at five times its normal speed."""
    folder = tmp_path_factory.mktemp("market-data")
    plane = market_plane.with_database()
    ingests.new_topics(plane)
    with venues.venue(folder / "venue", speed=5) as venue:
        yield pipelines.Pipeline(plane=plane, venue=venue, folder=folder)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.campaign(full=20)
def test_nothing_is_lost_or_duplicated_when_a_part_dies(pipeline: Pipeline, part: str, rounds: int) -> None:
    """In each round the part is ended once in order and once by kill -9, at random moments.

    Before each, a book with a wrong checksum is sent; no reader of books, on any output, gets an unverified one.
    """
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    began = datetime.now(UTC)
    with pipeline.ingest() as ingest, _asked(ingest) as views:
        for _ in range(rounds):
            for ends in _ways(pipeline, ingest, part):
                # A venue that ended early again and again is connected to after up to half a minute.
                ingest.until(lambda: ingest.status().feed.connected, "the venue is connected")
                pipeline.venue.admin("/faults/next", {"kind": "checksum", "symbol": chance.choice(ingests.PAIRS)})
                time.sleep(chance.uniform(0, LONGEST))  # the moment is what is tried
                ends()
        ingest.until_usable()
        with pipeline.paused():
            pipeline.until_all_has_arrived(ingest)
            pipeline.compare_table()
            pipeline.compare_kafka()
    assert any(view.usable for view in views)
    published = [(one.usable, one.bids, one.asks, one.checksum) for one in pipeline.books()]
    published += [(one.usable, one.bids, one.asks, one.checksum) for one in views]
    for usable, bids, asks, expected in published:
        assert not usable or checksum(bids, asks) == expected, (bids, asks, expected)
    rows = pipeline.plane.rows(f"{STORED} WHERE received_at > '{began}'")
    assert rows
    for expected, *sides in rows:
        stored = [list(zip(*side, strict=True)) for side in (sides[:2], sides[2:])]
        assert checksum(*stored) == expected, (expected, stored)


def _ways(pipeline: Pipeline, ingest: Ingest, part: str) -> list[Callable[[], None]]:
    """How a part is ended and started again: in order, and not."""
    match part:
        case "ingest":
            return [lambda: _again(ingest, signal.SIGTERM), lambda: _again(ingest, signal.SIGKILL)]
        case "venue":
            return [lambda: _again(pipeline.venue, signal.SIGTERM), lambda: _again(pipeline.venue, signal.SIGKILL)]
        case _:
            server = pipeline.plane.processes[Output(part)]

            def in_order() -> None:
                server.shut_down()
                server.start()

            def killed() -> None:
                server.kill()
                server.start()

            return [in_order, killed]


def _again(process: Ingest | venues.Venue, how: signal.Signals) -> None:
    process.end(how)
    process.start()


@contextlib.contextmanager
def _asked(ingest: Ingest) -> Iterator[list[BookView]]:
    """What /books answers all the while."""
    views, over = list[BookView](), threading.Event()

    def ask() -> None:
        for symbol in itertools.cycle(ingests.PAIRS):
            if over.wait(0.05):
                return
            if body := ingest.get(f"/books/{symbol}"):
                views.append(BookView.model_validate_json(body))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield views
    finally:
        over.set()
        thread.join()


def checksum(bids: Iterable[tuple[object, object]], asks: Iterable[tuple[object, object]]) -> int:
    """Of the levels as they are published."""
    best = (
        [(int(str(price).replace(".", "")), int(str(quantity).replace(".", ""))) for price, quantity in side]
        for side in (asks, bids)
    )
    return books.checksum(*best)
