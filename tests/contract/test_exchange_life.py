"""The simulated venue as a process: what it published is in its journal after any kind of end."""

from __future__ import annotations

import os
import random
import re
import socket
import subprocess
import sys
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed

from aether_services.domain.trades import Side
from aether_services.exchange_sim.adapters.journals import SqliteJournal
from aether_services.exchange_sim.core import markets
from aether_services.exchange_sim.core.engines import Engine
from aether_services.exchange_sim.settings import Settings
from aether_testing.processes import venues

if TYPE_CHECKING:
    from pathlib import Path

    from aether_services.domain import books
    from aether_services.domain.instruments import Symbol

ALL = list(markets.MARKETS)


def engine_of(journal: Path) -> Engine:
    """An engine as the next process will have it."""
    kept = SqliteJournal(journal)
    try:
        state = kept.load(recent=10)
    finally:
        kept.close()
    engine = Engine(markets.MARKETS.values())
    engine.restore(state.orders)
    return engine


def levels_of(engine: Engine, symbol: Symbol, side: Side) -> list[tuple[Decimal, Decimal]]:
    """One side of a book in decimals."""
    digits = markets.MARKETS[symbol].price_digits
    levels = engine.books[symbol].side(side).levels()
    return [(Decimal(price).scaleb(-digits), Decimal(quantity).scaleb(-8)) for price, quantity in levels]


def test_stopped_venue_closes_its_connections_and_exits_cleanly(tmp_path: Path) -> None:
    with venues.venue(tmp_path) as venue, venues.Client(venue.ws) as client:
        assert venue.get("/status")["ready"]
        client.request("subscribe", channel="book", symbol=["BTC/USD"])
        assert venue.end() == 0, venue.log
        with pytest.raises(ConnectionClosed) as closed:
            client.until(lambda _: False, "the end", 5)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "the venue is shutting down")


def test_killed_venue_keeps_every_published_trade_and_continues_its_ids(tmp_path: Path) -> None:
    chance = random.Random(7)
    received: dict[tuple[str, int], tuple[Decimal, Decimal, str]] = {}
    with venues.venue(tmp_path, started=False, speed=50) as venue:
        for _ in range(4):
            venue.start()
            ends = time.monotonic() + 0.5 + chance.random()
            with venues.Client(venue.ws) as client:
                client.request("subscribe", channel="trade", symbol=ALL, snapshot=True)
                while time.monotonic() < ends:
                    remember(received, client.receive())
                venue.kill()
                with pytest.raises(ConnectionClosed):
                    client.until(lambda message: remember(received, message), "the end", 5)
        venue.start()
        venue.admin("/flow", {"flowing": False})
        for symbol in ALL:
            journaled = everything(venue, symbol)
            assert [one["trade_id"] for one in journaled] == list(range(1, len(journaled) + 1))
            assert venue.get("/status")["pairs"][symbol] == len(journaled)
            kept = {
                (symbol, one["trade_id"]): (Decimal(one["price"]), Decimal(one["quantity"]), one["side"])
                for one in journaled
            }
            assert {key: one for key, one in received.items() if key[0] == symbol}.items() <= kept.items()
    assert len(received) > 100


def remember(received: dict[tuple[str, int], tuple[Decimal, Decimal, str]], message: dict[str, Any]) -> bool:
    """Remember trades; the same number must always be the same trade."""
    for one in message["data"] if message.get("channel") == "trade" else ():
        trade = one["price"], one["qty"], one["side"]
        assert received.setdefault((one["symbol"], one["trade_id"]), trade) == trade
    return False


def everything(venue: venues.Venue, symbol: str) -> list[dict[str, Any]]:
    """All trades of a market, by the journal."""
    journaled: list[dict[str, Any]] = []
    while page := venue.admin(f"/journal/trades?symbol={symbol}&after={len(journaled)}"):
        journaled += page
    return journaled


def test_killed_venue_restarts_with_the_published_book(tmp_path: Path) -> None:
    with venues.venue(tmp_path, speed=20) as venue:
        with venues.Client(venue.ws) as client:
            client.send({"method": "subscribe", "params": {"channel": "book", "symbol": ALL, "depth": 1000}})
            journaled: dict[Symbol, books.Book] = {}
            for message in client.collect(1.5):
                assert message
            venue.admin("/flow", {"flowing": False})
            client.request("ping")
            venue.kill()
            for text in client.texts:
                if '"channel":"book","type"' in text:
                    assert venues.follow(text, journaled, 1000)
        engine = engine_of(venue.journal)
        for symbol, book in journaled.items():
            assert list(book.bids.levels()) == levels_of(engine, symbol, Side.BUY)[:1000]
            assert list(book.asks.levels()) == levels_of(engine, symbol, Side.SELL)[:1000]
        venue.start()
        assert venue.get("/status")["trades"] > 0
        assert sum(1 for _ in engine.open_orders()) > 10_000


def test_candles_and_tickers_outlive_a_kill(tmp_path: Path) -> None:
    with venues.venue(tmp_path, speed=20) as venue:
        with venues.Client(venue.ws) as client:
            client.request("subscribe", channel="trade", symbol=["BTC/USD"])
            for _ in range(5):
                client.next("trade")
        venue.admin("/flow", {"flowing": False})
        before = venue.public("OHLC", pair="XBTUSD", interval=1440), venue.public("Ticker", pair="XBTUSD")
        venue.kill()
        venue.start()
        venue.admin("/flow", {"flowing": False})
        (row, *_), after = venue.public("OHLC", pair="XBTUSD", interval=1440)["XXBTZUSD"], venue.public("Ticker")
        (old,) = before[0]["XXBTZUSD"]
        assert (row[0], row[1]) == (old[0], old[1]), "the first price of the day is the same"
        assert row[7] >= old[7]
        assert after["XXBTZUSD"]["o"] == before[1]["XXBTZUSD"]["o"]


def test_a_journal_belongs_to_one_process(tmp_path: Path) -> None:
    with venues.venue(tmp_path) as venue:
        second = subprocess.run(
            [sys.executable, "-m", "aether_services", "exchange_sim"],
            env={**venue.environ, "AETHER_HTTP_PORT": "0", "AETHER_ADMIN_PORT": "0"},
            capture_output=True,
            text=True,
            timeout=venues.DEADLINE,
            check=False,
        )
        assert second.returncode == os.EX_CONFIG
        assert "locked by another process" in second.stderr


@pytest.mark.parametrize(
    "settings",
    [
        {"feed": "Replay"},
        {"recording": "/nowhere"},
        {"feed": "Replay", "recording": "/nowhere"},
        {"speed": 0},
        {"speeed": 2},
        {"journal": "/nowhere/at/all"},
    ],
)
def test_invalid_settings_are_named_and_nothing_is_started(tmp_path: Path, settings: dict[str, Any]) -> None:
    with venues.venue(tmp_path, started=False, **settings) as venue:
        ended = subprocess.run(
            [sys.executable, "-m", "aether_services", "exchange_sim"],
            env=dict(venue.environ),
            capture_output=True,
            text=True,
            timeout=venues.DEADLINE,
            check=False,
        )
        assert ended.returncode == os.EX_CONFIG, ended.stderr
        assert any(
            f"AETHER_{name.upper()}" in ended.stderr or "a recording is given" in ended.stderr for name in settings
        )


def test_the_admin_app_listens_on_the_loopback_alone(tmp_path: Path) -> None:
    with venues.venue(tmp_path, http_host="0.0.0.0") as venue:  # noqa: S104 - to see that this is not meant
        assert venue.code("/faults", admin=True) == 200
        with socket.socket() as anywhere:
            # The port is still free on other addresses of this machine.
            anywhere.bind(("127.0.0.2", venue.admin_port))


def test_guide_lists_exactly_the_settings_with_their_defaults() -> None:
    page = (venues.TOP / "docs/guide/simulated-venue.md").read_text()
    table = page.partition("## Settings")[2]
    received: dict[str, str | None] = {}
    for names, default in re.findall(r"^\| (`AETHER_[^|]+) \|[^|]+\| ?([^|]*?) ?\|$", table, re.MULTILINE):
        values = re.findall(r"`([^`]*)`", default)
        found = re.findall(r"`([^`]*)`", names)
        received |= dict(zip(found, values or [None] * len(found), strict=True))
    assert set(received) == set(Settings.variables())
    required = {"instance": "i", "release": "r", "journal": "/j"}
    for name, value in Settings.model_validate(required).model_dump(mode="json", by_alias=True).items():
        if name.removeprefix("AETHER_").lower() not in required:
            assert received[name] == (
                None if value is None else f"{value:g}" if isinstance(value, float) else str(value)
            )
