"""Market data through the death of each of its parts: no trade lost or doubled, no book served that does not verify."""

from __future__ import annotations

import random
import signal
import time
from typing import TYPE_CHECKING, Final

import pytest

from aether_services.contracts.statuses import Output
from aether_services.domain import books
from aether_testing import ingests, trips, venues

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aether_services.contracts.marketdata import BookMessage
    from aether_testing.ingests import Ingest, Plane
    from aether_testing.trips import Trip

PARTS: Final = ("ingest", "venue", "kafka", "nats", "tables")
LONGEST: Final = 2.0
"""Seconds between a part's coming back and its next end, at most."""


@pytest.fixture(scope="module")
def trip(tmp_path_factory: pytest.TempPathFactory, market_plane: Plane) -> Iterator[Trip]:
    """One venue for all parts, at five times its normal speed."""
    folder = tmp_path_factory.mktemp("market-data")
    plane = market_plane.with_database()
    ingests.new_topics(plane)
    with venues.venue(folder / "venue", speed=5) as venue:
        yield trips.Trip(plane=plane, venue=venue, folder=folder)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.campaign(full=20)
def test_nothing_is_lost_or_doubled_when_a_part_dies(trip: Trip, part: str, rounds: int) -> None:
    """In each round the part is ended once in order and once by kill -9, at random moments."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with trip.ingest() as ingest:
        for _ in range(rounds):
            for ends in _ways(trip, ingest, part):
                time.sleep(chance.uniform(0, LONGEST))  # the moment is what is tried
                ends()
        ingest.until_usable()
        with trip.still():
            trip.until_all_has_arrived(ingest)
            trip.compare_table()
            trip.compare_kafka()
    for message in trip.books():
        if message.usable:
            assert checksum(message) == message.checksum, message


def _ways(trip: Trip, ingest: Ingest, part: str) -> list[Callable[[], None]]:
    """How a part is ended and started again: in order, and not."""
    match part:
        case "ingest":
            return [lambda: _again(ingest, signal.SIGTERM), lambda: _again(ingest, signal.SIGKILL)]
        case "venue":
            return [lambda: _again(trip.venue, signal.SIGTERM), lambda: _again(trip.venue, signal.SIGKILL)]
        case _:
            life = trip.plane.lives[Output(part)]

            def in_order() -> None:
                life.ask_to_end()
                life.start()

            def burnt() -> None:
                life.kill()
                life.start()

            return [in_order, burnt]


def _again(process: Ingest | venues.Venue, how: signal.Signals) -> None:
    process.end(how)
    process.start()


def checksum(message: BookMessage) -> int:
    """Of the levels as they are published."""
    asks, bids = (
        [(int(str(price).replace(".", "")), int(str(quantity).replace(".", ""))) for price, quantity in side]
        for side in (message.asks, message.bids)
    )
    return books.checksum(asks, bids)
