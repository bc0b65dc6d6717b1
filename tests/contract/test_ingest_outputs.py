"""Ingest's outputs on real servers: positions, accepted data and errors."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import json
import re
import secrets
import socket
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from aether_runtime import network_errors
from aether_services.clients import servers
from aether_services.clients.servers import Server, Tls
from aether_services.contracts.marketdata import Topic
from aether_services.domain import times
from aether_services.domain.instruments import Instrument, Symbol
from aether_services.domain.times import Nanoseconds
from aether_services.domain.trades import OrderType, Side, Trade
from aether_services.ingest.adapters import kafka
from aether_services.ingest.adapters.kafka import Kafka
from aether_services.ingest.adapters.nats import Nats
from aether_services.ingest.adapters.tables import Tables
from aether_services.ingest.core import trade_logs
from aether_services.ingest.core.outboxes import EncodedMessage
from aether_services.ingest.core.trade_logs import ReceivedTrade
from aether_services.ingest.ports import CursorMismatch, Output, OutputUnavailable
from aether_testing import wait
from aether_testing.processes import pipelines
from aether_testing.servers import brokers, free_ports, postgres, tls

if TYPE_CHECKING:
    from pathlib import Path

    from aether_testing.processes.ingests import DataPlane

BEGIN = times.parse("2026-11-26T10:00:30Z")
DIGITS = 1


@pytest.fixture(scope="module")
def plane(market_plane: DataPlane) -> DataPlane:
    """With a database of this module's own."""
    return market_plane.with_database()


@pytest.fixture
def symbol() -> Symbol:
    """A market that no other test knows."""
    return Symbol(f"{secrets.token_hex(5).upper()}/USD")


def a_server(folder: Path, port: int, username: str = "", password: str = "", **other: Any) -> Server:
    """Where a server is, with its credentials in files."""
    folder.mkdir(exist_ok=True)
    (folder / "username").write_text(username)
    (folder / "password").write_text(password)
    plain: dict[str, Any] = {"host": "127.0.0.1", "port": port, "tls": Tls.OFF, "credentials": folder}
    return Server(**(plain | other))


def outputs(plane: DataPlane, folder: Path) -> dict[str, Output]:
    server = a_server(folder / "postgres", plane.postgres.port, postgres.USER, postgres.PASSWORD)
    return {
        "kafka": Kafka(a_server(folder / "kafka", plane.kafka)),
        "nats": Nats(a_server(folder / "nats", plane.nats)),
        "tables": Tables(server, plane.database),
    }


def tables(plane: DataPlane, folder: Path) -> Tables:
    one = outputs(plane, folder)["tables"]
    assert isinstance(one, Tables)
    return one


def trades(
    symbol: Symbol, *ids: int, seconds: float = 1, price: str = "10.5", quantity: str = "2"
) -> list[ReceivedTrade]:
    """So many trades, one each so many seconds."""
    return [
        ReceivedTrade(
            Trade(
                symbol=symbol,
                trade_id=one,
                side=Side.BUY,
                price=Decimal(price),
                quantity=Decimal(quantity),
                order_type=OrderType.LIMIT,
                at=Nanoseconds(BEGIN + round(one * seconds * times.SECOND)),
            ),
            Nanoseconds(BEGIN + one * times.SECOND),
        )
        for one in ids
    ]


def an_instrument(symbol: Symbol, **other: Any) -> Instrument:
    base = symbol.partition("/")[0]
    plain: dict[str, Any] = {
        "symbol": symbol, "wsname": symbol, "altname": f"{base}USD", "rest_id": f"X{base}ZUSD", "base": base,
        "base_id": f"X{base}", "quote": "USD", "quote_id": "ZUSD", "status": "online", "price_digits": DIGITS,
        "quantity_digits": 8, "cost_digits": 5, "tick_size": Decimal("0.1"), "quantity_min": Decimal("0.0001"),
        "cost_min": Decimal("0.5"),
    }  # fmt: skip
    return Instrument(**(plain | other))


def stored(plane: DataPlane, symbol: Symbol) -> list[int]:
    return [
        row[0] for row in plane.rows(f"SELECT trade_id FROM aether.trades WHERE symbol = '{symbol}' ORDER BY 1, ts")
    ]


def candles(plane: DataPlane, symbol: Symbol) -> list[tuple[Any, ...]]:
    return [
        tuple(row)
        for row in plane.rows(
            "SELECT to_char(ts AT TIME ZONE 'UTC', 'HH24:MI'), open, high, low, close, vwap, volume, cost, trades"
            f" FROM aether.candles WHERE symbol = '{symbol}' ORDER BY ts"
        )
    ]


# What is the same for all.


@pytest.mark.parametrize("name", ["kafka", "tables"])
async def test_output_that_stores_trades_returns_its_position(
    plane: DataPlane, tmp_path: Path, symbol: Symbol, name: str
) -> None:
    output = outputs(plane, tmp_path)[name]
    async with output.connected() as sink:
        assert await sink.cursors([symbol]) == {}
        await sink.deliver(trades(symbol, 5, 6), [], {})
    async with output.connected() as sink:
        (cursor,) = (await sink.cursors([symbol])).values()
        assert cursor == trade_logs.cursor_after(trades(symbol, 6)[0].trade)


@pytest.mark.parametrize("name", ["kafka", "nats", "tables"])
async def test_missing_output_is_unavailable_with_a_cause(plane: DataPlane, tmp_path: Path, name: str) -> None:
    unreachable = dataclasses.replace(
        plane, kafka=free_ports.one(), nats=free_ports.one(),
        postgres=dataclasses.replace(plane.postgres, port=free_ports.one()),
    )  # fmt: skip
    with pytest.raises(OutputUnavailable) as caught:
        async with outputs(unreachable, tmp_path)[name].connected():
            pass
    assert str(caught.value)
    assert postgres.PASSWORD not in str(caught.value)


@pytest.mark.parametrize("name", ["kafka", "nats", "tables"])
async def test_missing_credentials_are_named(plane: DataPlane, tmp_path: Path, name: str) -> None:
    output = outputs(plane, tmp_path)[name]
    (tmp_path / {"tables": "postgres"}.get(name, name) / "password").unlink()
    with pytest.raises(OutputUnavailable, match="password"):
        async with output.connected():
            pass


# Kafka.


async def test_search_goes_further_back_for_a_long_quiet_market(
    plane: DataPlane, tmp_path: Path, symbol: Symbol, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "LOOKBACK", 3)
    others = [Symbol(f"{symbol}{number}") for number in range(9)]
    async with Kafka(a_server(tmp_path / "kafka", plane.kafka)).connected() as sink:
        await sink.deliver(trades(symbol, 7), [], {})
        await sink.deliver([one for other in others for one in trades(other, *range(1, 9))], [], {})
        cursors = await sink.cursors([symbol, others[0], Symbol("NONE/USD")])
    assert {one: cursor.trade_id for one, cursor in cursors.items()} == {symbol: 7, others[0]: 8}


# Tables.


async def test_trade_is_stored_once_whatever_time_it_carries(plane: DataPlane, tmp_path: Path, symbol: Symbol) -> None:
    async with tables(plane, tmp_path).connected() as sink:
        await sink.deliver(trades(symbol, 1, 2, 3), [], {})
        moved = [
            ReceivedTrade(dataclasses.replace(one.trade, at=Nanoseconds(one.trade.at + 1000)), one.received)
            for one in trades(symbol, 2, 3, 4)
        ]
        await sink.deliver(moved, [], {})
    assert stored(plane, symbol) == [1, 2, 3, 4]


async def test_two_writers_store_each_trade_once(plane: DataPlane, tmp_path: Path, symbol: Symbol) -> None:
    async def write(first: int) -> None:
        async with tables(plane, tmp_path).connected() as sink:
            for begin in range(first, 400, 7):
                await sink.deliver(trades(symbol, *range(begin, begin + 7)), [], {})

    await asyncio.gather(write(1), write(1), write(1))
    assert stored(plane, symbol) == list(range(1, 400 + 6))[: len(stored(plane, symbol))]
    assert len(stored(plane, symbol)) >= 399


async def test_table_that_lost_progress_is_detected(plane: DataPlane, tmp_path: Path, symbol: Symbol) -> None:
    async with tables(plane, tmp_path).connected() as sink:
        await sink.deliver(trades(symbol, 1, 2, 3), [], {})
        plane.postgres.run(plane.database, f"UPDATE aether.ingest_progress SET trade_id = 1 WHERE symbol = '{symbol}'")
        with pytest.raises(CursorMismatch, match=f"{symbol}: the last stored trade is 1"):
            await sink.deliver(trades(symbol, 4), [], {})
    assert stored(plane, symbol) == [1, 2, 3]


async def test_minute_becomes_a_candle_once_a_later_trade_closes_it(
    plane: DataPlane, tmp_path: Path, symbol: Symbol
) -> None:
    one = tables(plane, tmp_path)
    await one.save([an_instrument(symbol)])
    async with one.connected() as sink:
        # From 10:00:30 on: 10:00 is not whole and gets no candle; 10:01 has trades, 10:02 none, 10:03 one.
        at = {31: ("10.0", "1"), 40: ("12.0", "1"), 50: ("9.0", "1.5"), 58: ("11.0", "0.5"), 155: ("11.5", "1")}
        await sink.deliver(trades(symbol, 1), [], {})
        for number, (seconds, (price, quantity)) in enumerate(at.items(), start=2):
            await sink.deliver(trades(symbol, number, seconds=seconds / number, price=price, quantity=quantity), [], {})
    amounts = tuple(map(Decimal, ("10.0", "12.0", "9.0", "11.0", "10.2", "4", "41.0")))
    assert candles(plane, symbol) == [
        ("10:01", *amounts, 4),  # 41.0 / 4 is 10.25: cut off, not rounded
        ("10:02", *[Decimal("11.0")] * 4, Decimal(0), Decimal(0), Decimal(0), 0),
    ]


async def test_minute_without_trades_closes_when_the_feed_has_passed_it(
    plane: DataPlane, tmp_path: Path, symbol: Symbol
) -> None:
    one = tables(plane, tmp_path)
    await one.save([an_instrument(symbol)])
    async with one.connected() as sink:
        await sink.deliver(trades(symbol, 1), [], {})
        await sink.deliver([], [], {symbol: times.parse("2026-11-26T10:02:59Z")})
        assert [row[0] for row in candles(plane, symbol)] == ["10:01"]
        await sink.deliver([], [], {symbol: times.parse("2026-11-26T10:03:00Z")})
        assert [row[0] for row in candles(plane, symbol)] == ["10:01", "10:02"]
        await sink.deliver([], [], {symbol: times.parse("2026-11-26T10:03:00Z")})
    assert [row[-1] for row in candles(plane, symbol)] == [0, 0]


async def test_late_trade_corrects_the_candle_of_its_minute(plane: DataPlane, tmp_path: Path, symbol: Symbol) -> None:
    one = tables(plane, tmp_path)
    await one.save([an_instrument(symbol)])
    async with one.connected() as sink:
        some = trades(symbol, 1, 2, seconds=45)  # 10:01:15, the first, whose minute has no candle, and 10:02:00
        await sink.deliver(some, [], {symbol: times.parse("2026-11-26T10:05:00Z")})
        late = trades(symbol, 3, seconds=40, price="20.0", quantity="1")  # 10:02:30
        await sink.deliver(late, [], {symbol: times.parse("2026-11-26T10:05:00Z")})
    found = {row[0]: row for row in candles(plane, symbol)}
    assert (found["10:02"][2], found["10:02"][-1]) == (Decimal("20.0"), 2)
    assert list(found) == ["10:02", "10:03", "10:04"]


@pytest.mark.parametrize("fifth", [None, "99.0"])
async def test_late_trade_changes_empty_minutes_up_to_the_next_trade(
    plane: DataPlane, tmp_path: Path, symbol: Symbol, fifth: str | None
) -> None:
    def at(number: int, minute: int, price: str) -> list[ReceivedTrade]:
        seconds = minute * 60 - 30  # BEGIN is half a minute after one began
        return trades(symbol, number, seconds=seconds / number, price=price)

    one = tables(plane, tmp_path)
    await one.save([an_instrument(symbol)])
    async with one.connected() as sink:
        await sink.deliver(at(1, -1, "98.0") + at(2, 1, "100.0"), [], {symbol: times.parse("2026-11-26T10:06:00Z")})
        assert [row[4] for row in candles(plane, symbol)] == [Decimal(98)] + [Decimal(100)] * 5
        late = at(3, 2, "105.0") + (at(4, 6, fifth) if fifth else [])
        await sink.deliver(late, [], {symbol: times.parse("2026-11-26T10:08:00Z")})
    found = {row[0]: row[1:] for row in candles(plane, symbol)}
    assert found["10:01"][3] == Decimal(100)
    assert found["10:02"] == (*[Decimal(105)] * 5, Decimal(2), Decimal(210), 1)
    carried = (*[Decimal(105)] * 4, Decimal(0), Decimal(0), Decimal(0), 0)
    assert [found[f"10:0{minute}"] for minute in (3, 4, 5)] == [carried] * 3
    sixth = Decimal(fifth or 105)
    assert found["10:06"][:4] == (sixth,) * 4
    assert found["10:07"][:4] == (sixth,) * 4


async def test_candles_use_the_newest_precision_of_their_market(
    plane: DataPlane, tmp_path: Path, symbol: Symbol
) -> None:
    one = tables(plane, tmp_path)
    await one.save([an_instrument(symbol)])
    async with one.connected() as sink:
        some = trades(symbol, 1) + trades(symbol, 2, seconds=31 / 2, price="10.05")
        await sink.deliver(some, [], {symbol: times.parse("2026-11-26T10:02:00Z")})
        await one.save([an_instrument(symbol, price_digits=2)])
        await sink.deliver(
            trades(symbol, 3, seconds=95 / 3, price="10.05"), [], {symbol: times.parse("2026-11-26T10:03:00Z")}
        )
    assert [row[5] for row in candles(plane, symbol)] == [Decimal("10.0"), Decimal("10.05")]


async def test_every_number_a_trade_may_have_is_stored_exactly(
    plane: DataPlane, tmp_path: Path, symbol: Symbol
) -> None:
    some = [("1e3", "1e-8"), ("1.50", "2E+1"), ("0.000000000000000001", "12345678901234567890")]
    async with tables(plane, tmp_path).connected() as sink:
        for number, (price, quantity) in enumerate(some, start=1):
            await sink.deliver(trades(symbol, number, price=price, quantity=quantity), [], {})
    rows = plane.rows(f"SELECT price, qty FROM aether.trades WHERE symbol = '{symbol}' ORDER BY trade_id")
    assert [tuple(row) for row in rows] == [(Decimal(price), Decimal(quantity)) for price, quantity in some]


async def test_candles_wait_until_the_instrument_is_stored(plane: DataPlane, tmp_path: Path, symbol: Symbol) -> None:
    one, done = tables(plane, tmp_path), {symbol: times.parse("2026-11-26T10:02:00Z")}
    async with one.connected() as sink:
        await sink.deliver(trades(symbol, 1), [], done)
        assert candles(plane, symbol) == []
        await one.save([an_instrument(symbol)])
        await sink.deliver(trades(symbol, 2), [], done)
        assert len(candles(plane, symbol)) == 1


async def test_newest_usable_book_and_ticker_of_a_delivery_are_stored(
    plane: DataPlane, tmp_path: Path, symbol: Symbol
) -> None:
    def a_book(number: int, *, usable: bool = True) -> EncodedMessage:
        row: dict[str, Any] = {
            "symbol": symbol, "usable": usable, "at": f"2026-11-26T10:00:0{number}.000000000Z",
            "received": "2026-11-26T10:00:09.000000000Z", "checksum": 4_000_000_000,
        }  # fmt: skip
        levels = {"bids": [["10.50", "1.00000000"], ["10.40", "2.00000000"]], "asks": [["10.60", "3.00000000"]]}
        return EncodedMessage(Topic.BOOK, symbol, json.dumps(row | (levels if usable else {})).encode(), BEGIN)

    names = ("bid", "bid_quantity", "ask", "ask_quantity", "last", "volume", "vwap", "low", "high")
    ticker = dict.fromkeys(names, "1.5") | {"change": "-0.1", "change_percent": "-0.01", "symbol": symbol}
    stamps = {"at": "2026-11-26T10:00:01.000000001Z", "received": "2026-11-26T10:00:01.5Z"}
    message = EncodedMessage(Topic.TICKER, symbol, json.dumps(ticker | stamps).encode(), BEGIN)
    async with tables(plane, tmp_path).connected() as sink:
        await sink.deliver([], [a_book(1), a_book(2), message], {})
        await sink.deliver([], [a_book(2), message], {})
        await sink.deliver([], [a_book(3), a_book(4, usable=False)], {})
    rows = plane.rows(
        f"SELECT ts, checksum, bid_prices, bid_qtys, ask_prices, ask_qtys FROM aether.books WHERE symbol = '{symbol}'"
    )
    at = datetime.datetime(2026, 11, 26, 10, 0, 2, tzinfo=datetime.UTC)
    prices = [Decimal("10.50"), Decimal("10.40")]
    sides = (prices, [Decimal(1), Decimal(2)], [Decimal("10.60")], [Decimal(3)])
    assert [tuple(row) for row in rows] == [(at, 4_000_000_000, *sides)]
    row = plane.rows(f"SELECT bid, change FROM aether.tickers WHERE symbol = '{symbol}'")
    assert [tuple(row) for row in row] == [(Decimal("1.5"), Decimal("-0.1"))]


async def test_markets_are_written_again_only_when_they_change(
    plane: DataPlane, tmp_path: Path, symbol: Symbol
) -> None:
    def row() -> tuple[Any, ...]:
        row = plane.rows(f"SELECT status, price_decimals, xmin::text FROM aether.instruments WHERE symbol = '{symbol}'")
        return tuple(row[0])

    one = tables(plane, tmp_path)
    await one.save([an_instrument(symbol)])
    first = row()
    await one.save([an_instrument(symbol)])
    assert row() == first
    await one.save([an_instrument(symbol, status="cancel_only")])
    assert row()[:2] == ("cancel_only", DIGITS)


async def test_rejected_login_is_reported_without_username_and_password(plane: DataPlane, tmp_path: Path) -> None:
    """The two are swapped, as people do: the password is what the server calls the user."""
    with brokers.nats_server(tmp_path / "server", authorization="user: desk, password: canary-nats") as nats:
        rejecting: list[tuple[Output, str]] = [
            (
                Tables(a_server(tmp_path / "a", plane.postgres.port, "canary-S3cret", "desk"), plane.database),
                servers.AUTHENTICATION_FAILED,
            ),
            (
                Tables(a_server(tmp_path / "b", plane.postgres.port, "canary" * 20, "desk"), plane.database),
                servers.AUTHENTICATION_FAILED,
            ),
            (Nats(a_server(tmp_path / "c", nats.port, "canary-nats", "desk")), servers.AUTHENTICATION_FAILED),
            (
                Kafka(a_server(tmp_path / "d", plane.kafka, "canary-kafka", "desk")),
                "the listener has no login",
            ),
        ]
        for output, cause in rejecting:
            assert re.match(rf"127\.0\.0\.1:\d+: {re.escape(cause)}", await connect_error(output))


@pytest.mark.parametrize(("host", "cause"), [("127.0.0.1", "REFUSED"), ("no-such-host.invalid", "NOT_RESOLVED")])
async def test_output_that_cannot_connect_names_address_and_cause(tmp_path: Path, host: str, cause: str) -> None:
    """Although the username is a part of the host name, as in the default namespace, nothing is withheld."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        server = a_server(tmp_path / "credentials", port, host.partition(".")[0], "canary", host=host)
        for output in (Kafka(server), Nats(server), Tables(server, "aether")):
            with pytest.raises(OutputUnavailable) as failed:
                async with output.connected():
                    pass
            assert str(failed.value) == f"{host}:{port}: {getattr(network_errors, cause)}"


async def connect_error(output: Output) -> str:
    """The error for a rejected login; no attempt may quote the credentials.

    NATS closes at once, and the library writes once more: where a reset was faster than the server's words, ingest
    connects again, and so does this.
    """
    for _ in range(20):
        with pytest.raises(OutputUnavailable) as away:
            async with output.connected():
                pass
        words = str(away.value)
        assert "canary" not in words
        if network_errors.CLOSED not in words:
            return words
    raise AssertionError("the server gave no cause")


# NATS.


async def test_nats_has_one_subject_per_market(plane: DataPlane, tmp_path: Path, symbol: Symbol) -> None:
    base = symbol.partition("/")[0]
    async with pipelines.listening(plane, f"md.trades.{base}.USD") as received:
        async with outputs(plane, tmp_path)["nats"].connected() as sink:
            await sink.deliver(trades(symbol, 1), [], {})
        await wait.until_async(lambda: received, "the trade")
    assert json.loads(received[0])["id"] == f"{symbol}:1"


async def test_password_is_never_sent_in_clear_where_tls_is_required(tmp_path: Path) -> None:
    """The library would go on in the clear."""
    with brokers.nats_server(tmp_path / "server", authorization="user: desk, password: canary") as server:
        settings = a_server(tmp_path / "desk", server.port, "desk", "canary", tls=Tls.VERIFY)
        with pytest.raises(OutputUnavailable, match="TLS"):
            async with Nats(settings).connected():
                pass
        assert "desk" not in server.log.read_text()


async def test_nats_over_verified_tls(tmp_path: Path) -> None:
    certificate = tls.a_certificate("127.0.0.1")
    with brokers.nats_server(
        tmp_path / "server", authorization="user: desk, password: canary", tls=certificate
    ) as server:
        folder = tmp_path / "desk"
        settings = a_server(folder, server.port, "desk", "canary", tls=Tls.VERIFY)
        with pytest.raises(OutputUnavailable):
            async with Nats(settings).connected():
                pass
        (folder / "ca.crt").write_text(certificate.ca)
        async with Nats(settings).connected() as sink:
            await sink.deliver(trades(Symbol("BTC/USD"), 1), [], {})
