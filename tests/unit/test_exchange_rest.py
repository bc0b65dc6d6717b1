"""The simulated venue's REST, without a network: what it answers of candles and levels that a test put there."""

from __future__ import annotations

import json
import urllib.parse
from typing import TYPE_CHECKING, Any, Final

import prometheus_client
import pytest

from aether_services.domain import times
from aether_services.domain.instruments import Symbol
from aether_services.domain.times import Nanoseconds
from aether_services.domain.trades import Side
from aether_services.exchange_sim import app, connections
from aether_services.exchange_sim.adapters.journals import SqliteJournal
from aether_services.exchange_sim.core import markets
from aether_services.exchange_sim.core.batches import Batch
from aether_services.exchange_sim.core.candles import Candle
from aether_services.exchange_sim.core.orders import LevelSet, Opened, OrderId, Owner, Traded
from aether_services.exchange_sim.service import Venue
from aether_services.exchange_sim.settings import Settings
from aether_testing.values.clocks import BEGIN, Clock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BTC: Final = Symbol("BTC/USD")
DAY: Final = 86_400
FIRST: Final = BEGIN // times.SECOND
"""A midnight; five days later begins the candle that is not over."""
NOW: Final = FIRST + 5 * DAY + 3_600


class RestHarness:
    """A venue with a stopped market, and the content of a journal."""

    def __init__(self, journal: SqliteJournal, **settings: Any) -> None:
        self.clock = Clock()
        self.clock.seconds = NOW - FIRST
        registry = prometheus_client.CollectorRegistry()
        values = {"instance": "venue-0", "release": "test", "journal": "/nowhere", **settings}
        self.venue = Venue(
            Settings.model_validate(values),
            instruments={BTC: markets.MARKETS[BTC]},
            journal=journal,
            clock=self.clock,
            registry=registry,
        )
        self._app = app.create(self.venue, registry)

    async def ask(self, method: str, *, address: str = "10.0.0.1", **params: object) -> dict[str, Any]:
        """What a GET of a public method is answered."""
        result: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            result.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
            "path": f"/0/public/{method}", "query_string": urllib.parse.urlencode(params).encode(), "headers": [],
            "client": (address, 1), "server": ("venue", 8000),
        }  # fmt: skip
        await self._app(scope, receive, send)
        assert result[0]["status"] == 200
        answer: dict[str, Any] = json.loads(b"".join(one.get("body", b"") for one in result[1:]))
        return answer


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    one = SqliteJournal(tmp_path / "journal.db", synchronous="OFF")
    yield one
    one.close()


def a_candle(begin: int, interval: int = 1440) -> Candle:
    return Candle(BTC, interval, Nanoseconds(begin * times.SECOND), 10, 12, 9, 11, 100, 1_050, 1)


async def with_days(journal: SqliteJournal, days: int) -> None:
    """A trade on each of the last so many days."""
    batch = Batch()
    for day in range(6 - days, 6):
        candle = a_candle(FIRST + day * DAY)
        batch.candles[BTC, 1440, candle.begin] = candle
        order, at = OrderId(day + 1), Nanoseconds(candle.begin + 1)
        batch.trades.append(Traded(BTC, day + 1, Side.BUY, "limit", 11, 100, at, order, order))  # type: ignore[arg-type]
    await journal.write(batch)


@pytest.mark.parametrize(
    ("since", "first"),
    [
        (None, 0),
        (0, 0),
        (FIRST - 1, 0),
        (FIRST, 1),
        (FIRST + 1, 1),
        (FIRST + 4 * DAY - 1, 4),
        (FIRST + 4 * DAY, 5),  # as recorded of Kraken: since=1716249600 begins with the next day, 1716336000
        (FIRST + 5 * DAY, 5),
        (FIRST + 9 * DAY, 5),
    ],
)
async def test_candles_begin_after_since_and_last_names_the_newest_committed(
    journal: SqliteJournal, since: int | None, first: int
) -> None:
    await with_days(journal, 6)
    params: dict[str, Any] = {} if since is None else {"since": since}
    result = (await RestHarness(journal).ask("OHLC", pair="XBTUSD", interval=1440, **params))["result"]
    assert [row[0] for row in result["XXBTZUSD"]] == [FIRST + day * DAY for day in range(first, 6)]
    assert result["last"] == FIRST + 4 * DAY


@pytest.mark.parametrize("since", [0, FIRST + 5 * DAY, FIRST + 9 * DAY])
async def test_last_is_zero_without_a_complete_candle(journal: SqliteJournal, since: int) -> None:
    await with_days(journal, 1)
    result = (await RestHarness(journal).ask("OHLC", pair="XBTUSD", interval=1440, since=since))["result"]
    assert ([row[0] for row in result["XXBTZUSD"]], result["last"]) == ([FIRST + 5 * DAY], 0)


async def test_paging_by_last_candle_skips_none_and_repeats_none(journal: SqliteJournal) -> None:
    await with_days(journal, 6)
    harness = RestHarness(journal)
    first = (await harness.ask("OHLC", pair="XBTUSD", interval=1440))["result"]
    harness.clock.seconds += 2 * DAY
    again = (await harness.ask("OHLC", pair="XBTUSD", interval=1440, since=first["last"]))["result"]
    begins = [row[0] for row in first["XXBTZUSD"][:-1] + again["XXBTZUSD"]]
    assert begins == [FIRST + day * DAY for day in range(8)]
    assert again["last"] == FIRST + 6 * DAY


async def levels(harness: RestHarness, side: str) -> dict[str, int]:
    """Price → time of the level, from Depth."""
    book = (await harness.ask("Depth", pair="XBTUSD"))["result"]["XXBTZUSD"]
    return {price: at for price, _, at in book[side]}


async def test_each_level_has_the_time_of_its_own_last_change(journal: SqliteJournal) -> None:
    harness = RestHarness(journal)
    market = harness.venue.markets[BTC]
    for second, side, price, quantity in (
        (1, Side.BUY, 1000, 5),
        (1, Side.SELL, 1010, 5),
        (2, Side.BUY, 990, 7),
        (4, Side.BUY, 1000, 3),
        (6, Side.BUY, 1005, 1),
        (7, Side.BUY, 1005, 0),
        (9, Side.SELL, 1020, 2),
    ):
        at = Nanoseconds((NOW + second) * times.SECOND + 999_999_999)
        market.apply([LevelSet(BTC, side, price, quantity)], (), at)
    assert await levels(harness, "bids") == {"100.00000": NOW + 4, "99.00000": NOW + 2}
    assert await levels(harness, "asks") == {"101.00000": NOW + 1, "102.00000": NOW + 9}


async def test_restart_keeps_the_time_of_a_levels_newest_order(journal: SqliteJournal) -> None:
    batch = Batch()
    for number, (side, price, second) in enumerate(
        ((Side.BUY, 1000, 5), (Side.BUY, 1000, 8), (Side.BUY, 990, 9), (Side.SELL, 1010, 3)), 1
    ):
        at = Nanoseconds((NOW + second) * times.SECOND)
        batch.opened[OrderId(number)] = Opened(OrderId(number), Owner("a"), BTC, side, price, 10, 10, at)
    batch.next_order_id = OrderId(5)
    await journal.write(batch)
    harness = RestHarness(journal)
    assert await levels(harness, "bids") == {"100.00000": NOW + 8, "99.00000": NOW + 9}
    assert await levels(harness, "asks") == {"101.00000": NOW + 3}
    spreads = (await harness.ask("Spread", pair="XBTUSD"))["result"]["XXBTZUSD"]
    assert spreads == [[NOW + 8, "100.00000", "101.00000"]]


async def test_rate_limit_is_per_address(journal: SqliteJournal) -> None:
    harness = RestHarness(journal, rest_rate=2)
    rejected = {"error": ["EGeneral:Too many requests"]}
    result = [await harness.ask("SystemStatus") for _ in range(6)]
    assert [one == rejected for one in result] == [False] * 4 + [True] * 2
    assert (await harness.ask("Dance")) == rejected, "for any request"
    assert (await harness.ask("SystemStatus", address="10.0.0.2"))["error"] == []
    harness.clock.seconds += 0.5
    assert [(await harness.ask("SystemStatus")) == rejected for _ in range(2)] == [False, True]


async def test_without_a_rate_calls_are_not_limited(journal: SqliteJournal) -> None:
    harness = RestHarness(journal)
    assert [(await harness.ask("SystemStatus"))["error"] for _ in range(200)] == [[]] * 200


@pytest.mark.parametrize("rate", [0.1, 1.0, 50.0])
def test_rate_limit_allows_a_burst_and_its_rate_thereafter(rate: float) -> None:
    calls = connections.CallLimiter(rate)
    at_once = sum(calls.allows("a", 0.0) for _ in range(1000))
    assert at_once == max(int(2 * rate), 1)
    later = sum(calls.allows("a", second / 100) for second in range(1, 10_001))
    assert abs(later - 100 * rate) <= 1
