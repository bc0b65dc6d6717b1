"""The simulated venue's WebSocket v2 for clients: the envelope, channels, errors and limits."""

from __future__ import annotations

import re
import time
import urllib.request
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from aether_services.domain import decimals
from aether_services.exchange_sim.core import candles, markets, views
from aether_testing import wait
from aether_testing.processes import venues

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aether_services.domain import books
    from aether_services.domain.instruments import Symbol

MICROS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
ALL = list(markets.MARKETS)


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[venues.Venue]:
    """A lively one for all tests that leave it as it was."""
    with venues.venue(tmp_path_factory.mktemp("venue"), speed=10) as one:
        yield one


@pytest.fixture
def client(venue: venues.Venue) -> Iterator[venues.Client]:
    """A new connection to it."""
    with venues.Client(venue.ws) as one:
        yield one


# ---- the envelope


def test_the_first_message_is_the_status(client: venues.Client) -> None:
    message = client.receive()
    assert (message["channel"], message["type"]) == ("status", "update")
    (data,) = message["data"]
    assert (data["system"], data["api_version"]) == ("online", "v2")
    assert 0 < data["connection_id"] < 2**64


def test_a_ping_is_answered_with_its_number_and_both_times(client: venues.Client) -> None:
    message = client.request("ping", 42)
    assert (message["method"], message["req_id"]) == ("pong", 42)
    assert MICROS.fullmatch(message["time_in"])
    assert message["time_in"] <= message["time_out"]


@pytest.mark.parametrize("req_id", ["42", 4.2, True, [1]])
def test_request_id_that_is_no_integer_is_not_returned(client: venues.Client, req_id: object) -> None:
    assert "req_id" not in client.request("ping", req_id)


def test_each_symbol_is_acknowledged_before_its_snapshot(client: venues.Client) -> None:
    client.send(
        {
            "method": "subscribe",
            "params": {"channel": "book", "symbol": ["BTC/USD", "NOT/USD", "ETH/USD"], "depth": 25},
            "req_id": 7,
        }
    )
    messages = [client.until(lambda message: message.get("type") != "update", "answers") for _ in range(5)]
    btc, snapshot, rejected, eth, _ = messages
    assert btc["result"] == {"channel": "book", "depth": 25, "snapshot": True, "symbol": "BTC/USD"}
    assert (btc["method"], btc["success"], btc["req_id"]) == ("subscribe", True, 7)
    assert (snapshot["type"], snapshot["data"][0]["symbol"]) == ("snapshot", "BTC/USD")
    assert rejected.items() >= {
        ("error", "Currency pair not supported NOT/USD"),
        ("method", "subscribe"),
        ("success", False),
        ("symbol", "NOT/USD"),
        ("req_id", 7),
    }
    assert "result" not in rejected
    assert eth["result"]["symbol"] == "ETH/USD"


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("{", "Malformed request"),
        ("[]", "Malformed request"),
        ({"params": {}}, "Malformed request"),
        ({"method": "ping", "params": {}}, "Unsupported field: 'params' for the given msg type: ping"),
        ({"method": "ping", "params": {"a": 1}}, "Unsupported field: 'params' for the given msg type: ping"),
        ({"method": "ping", "token": "x"}, "Unsupported field: 'token' for the given msg type: ping"),
        ({"method": "dance"}, "Event(s) not found"),
        ({"method": "subscribe"}, "Params field must be an object"),
        ({"method": "subscribe", "params": {"channel": "level9"}}, "Subscription name invalid"),
        ({"method": "subscribe", "params": {"channel": "trade"}}, "Symbol field must be an array"),
        ({"method": "subscribe", "params": {"channel": "trade", "symbol": "BTC/USD"}}, "Symbol field must be an array"),
        (
            {"method": "subscribe", "params": {"channel": "trade", "symbol": ["XBT/USD"]}},
            "Currency pair not supported XBT/USD",
        ),
        (
            {"method": "subscribe", "params": {"channel": "trade", "symbol": ["btc/usd"]}},
            "Currency pair not supported btc/usd",
        ),
        (
            {"method": "subscribe", "params": {"channel": "book", "symbol": ["BTC/USD"], "depth": 11}},
            "Subscription depth not supported",
        ),
        (
            {"method": "subscribe", "params": {"channel": "book", "symbol": ["BTC/USD"], "depth": "10"}},
            "Subscription book depth must be an integer",
        ),
        (
            {"method": "subscribe", "params": {"channel": "ohlc", "symbol": ["BTC/USD"], "interval": 2}},
            "Subscription ohlc interval not supported",
        ),
        (
            {"method": "subscribe", "params": {"channel": "ohlc", "symbol": ["BTC/USD"]}},
            "Subscription ohlc requires interval",
        ),
        (
            {"method": "subscribe", "params": {"channel": "trade", "symbol": ["BTC/USD"], "colour": "red"}},
            "Unsupported field: 'colour' for the given msg type: subscribe",
        ),
        ({"method": "unsubscribe", "params": {"channel": "trade", "symbol": ["BTC/USD"]}}, "Subscription Not Found"),
    ],
)
def test_unsupported_request_is_rejected_with_krakens_message(client: venues.Client, message: Any, error: str) -> None:
    client.send(message)
    reply = client.until(lambda message: "channel" not in message, "a rejection")
    assert (reply["error"], reply["success"]) == (error, False)


def test_subscription_is_unique_and_unsubscribing_needs_its_whole_key(client: venues.Client) -> None:
    key = {"channel": "book", "symbol": ["BTC/USD"], "depth": 100}
    assert client.request("subscribe", **key)["success"]
    assert client.request("subscribe", **key)["error"] == "Already subscribed"
    assert client.request("subscribe", **{**key, "depth": 10})["success"], "another depth is another subscription"
    assert client.request("unsubscribe", **{**key, "depth": 25})["error"] == "Subscription Not Found"
    assert client.request("unsubscribe", **key)["result"] == {"channel": "book", "depth": 100, "symbol": "BTC/USD"}
    assert client.request("unsubscribe", **key)["error"] == "Subscription Not Found"
    assert client.request("unsubscribe", **{**key, "depth": 10})["success"]
    assert not [message for message in client.collect(0.3) if message.get("channel") == "book"]


# ---- channels


@pytest.mark.parametrize("depth", views.DEPTHS)
def test_every_book_of_every_depth_matches_each_checksum(client: venues.Client, depth: int) -> None:
    client.send({"method": "subscribe", "params": {"channel": "book", "symbol": ALL, "depth": depth}})
    known_books: dict[Symbol, books.Book] = {}
    updates = 0

    def followed(message: dict[str, Any]) -> bool:
        nonlocal updates
        if message.get("channel") == "book":
            assert venues.follow(client.texts[-1], known_books, depth), client.texts[-1]
            updates += message["type"] == "update"
        return updates == 400

    client.until(followed, "400 updates")
    assert set(known_books) == set(ALL)
    assert all(len(book.bids) == min(depth, len(book.bids)) >= min(depth, 500) for book in known_books.values())


def test_numbers_have_all_decimals_of_their_market(client: venues.Client) -> None:
    client.send({"method": "subscribe", "params": {"channel": "book", "symbol": ["DOGE/USD"]}})
    client.next("book", "snapshot")
    numbers = re.findall(r'"price":([^,]+),"qty":([^}]+)}', client.texts[-1])
    assert len(numbers) == 20
    for price, quantity in numbers:
        assert re.fullmatch(r"\d+\.\d{7}", price)
        assert re.fullmatch(r"\d+\.\d{8}", quantity)


def test_trades_are_in_order_and_agree_with_candles_and_tickers(client: venues.Client) -> None:
    pair = {"symbol": ["BTC/USD"]}
    client.send({"method": "subscribe", "params": {"channel": "trade", "snapshot": True, **pair}})
    snapshot = client.next("trade", "snapshot")["data"]
    assert 0 < len(snapshot) <= views.RECENT
    client.send({"method": "subscribe", "params": {"channel": "ticker", **pair}})
    client.send({"method": "subscribe", "params": {"channel": "ohlc", "interval": 5, **pair}})
    client.next("ohlc", "snapshot")
    ids = [one["trade_id"] for one in snapshot]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    ids = []
    for _ in range(10):
        trades = client.next("trade")["data"]
        ids += [one["trade_id"] for one in trades]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        candles = [client.next("ohlc")["data"][0] for _ in trades]
        assert [one["close"] for one in candles] == [one["price"] for one in trades]
        ticker = client.next("ticker")["data"][0]
        assert ticker["last"] == trades[-1]["price"]
        assert ticker["bid"] < ticker["ask"]
        assert ticker["low"] <= ticker["vwap"] <= ticker["high"]


def test_trade_has_the_fields_of_kraken(client: venues.Client) -> None:
    client.send({"method": "subscribe", "params": {"channel": "trade", "symbol": ALL}})
    (trade, *_) = client.next("trade")["data"]
    assert set(trade) == {"symbol", "side", "price", "qty", "ord_type", "trade_id", "timestamp"}
    assert trade["side"] in {"buy", "sell"}
    assert trade["ord_type"] in {"limit", "market"}
    assert MICROS.fullmatch(trade["timestamp"])
    assert not [text for text in client.texts if '"trade","type":"snapshot"' in text], "it was not requested"


@pytest.mark.parametrize("interval", candles.INTERVALS)
def test_a_candle_of_each_interval_begins_on_its_interval(client: venues.Client, interval: int) -> None:
    reply = client.request("subscribe", channel="ohlc", symbol=["BTC/USD"], interval=interval)
    assert reply["result"]["interval"] == interval
    for candle in client.next("ohlc", "snapshot")["data"]:
        assert candle["interval"] == interval
        assert candle["interval_begin"].endswith(":00.000000000Z")
        assert candle["low"] <= min(candle["open"], candle["close"], candle["vwap"])
        assert candle["trades"] > 0


def test_best_price_ticker_is_sent_without_a_trade(client: venues.Client) -> None:
    reply = client.request("subscribe", channel="ticker", symbol=["BTC/USD"], event_trigger="bbo", snapshot=False)
    assert reply["result"]["event_trigger"] == "bbo"
    first, second = client.next("ticker")["data"][0], client.next("ticker")["data"][0]
    best = ("bid", "bid_qty", "ask", "ask_qty")
    assert [first[name] for name in best] != [second[name] for name in best]


def test_instruments_have_the_same_decimals_as_rest(client: venues.Client, venue: venues.Venue) -> None:
    client.send({"method": "subscribe", "params": {"channel": "instrument"}})
    data = client.next("instrument", "snapshot")["data"]
    rest = venue.public("AssetPairs", assetVersion=1)
    assert {pair["symbol"] for pair in data["pairs"]} == set(rest) == set(ALL)
    for pair in data["pairs"]:
        same = rest[pair["symbol"]]
        assert (pair["price_precision"], pair["qty_precision"]) == (same["pair_decimals"], same["lot_decimals"])
        assert pair["price_increment"] == pair["tick_size"] == Decimal(same["tick_size"])
        assert Decimal(str(pair["qty_min"])) == Decimal(same["ordermin"])
    assert {asset["id"] for asset in data["assets"]} == {*(symbol.split("/")[0] for symbol in ALL), "USD"}


def test_only_heartbeats_are_sent_after_subscribing_in_a_quiet_market(tmp_path: Any) -> None:
    with venues.venue(tmp_path) as quiet, venues.Client(quiet.ws) as client:
        quiet.admin("/flow", {"flowing": False})
        assert [message["channel"] for message in client.collect(1.5)] == ["status"]
        client.request("subscribe", channel="trade", symbol=["BTC/USD"])
        messages = client.collect(2.6)
        assert 1 <= len(messages) <= 3
        assert all(message == {"channel": "heartbeat"} for message in messages)


# ---- limits


def test_too_many_messages_at_once_are_rejected(tmp_path: Any) -> None:
    with venues.venue(tmp_path, message_rate=5) as venue, venues.Client(venue.ws) as client:
        for number in range(30):
            client.send({"method": "ping", "req_id": number})
        messages = [client.until(lambda message: "channel" not in message, "answers") for _ in range(30)]
        assert [one["method"] for one in messages[:10]] == ["pong"] * 10
        assert messages[29]["error"] == "Exceeded msg rate"


def test_too_many_connects_from_one_address_are_rejected(tmp_path: Any) -> None:
    with venues.venue(tmp_path, connects=2) as venue:
        for _ in range(2):
            with venues.Client(venue.ws) as client:
                client.receive()
        with pytest.raises(InvalidStatus) as rejected:
            venues.Client(venue.ws)
        assert rejected.value.response.status_code == 429


def test_connection_without_subscription_is_closed(tmp_path: Any) -> None:
    with venues.venue(tmp_path, idle_seconds=0.5) as venue:
        with venues.Client(venue.ws) as idle, pytest.raises(ConnectionClosed) as closed:
            idle.until(lambda _: False, "the end", 5)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "no subscription")
        with venues.Client(venue.ws) as busy:
            busy.request("subscribe", channel="trade", symbol=["BTC/USD"])
            busy.collect(1.0)
            assert busy.request("ping")["method"] == "pong"


def test_slow_consumer_is_closed_with_a_reason_and_blocks_nobody(tmp_path: Any) -> None:
    with venues.venue(tmp_path, queue=64, speed=20) as venue, venues.Client(venue.ws) as fast:
        fast.request("subscribe", channel="trade", symbol=["BTC/USD"])
        with venues.Client(venue.ws, slow=True) as slow:
            for depth in views.DEPTHS:
                slow.send({"method": "subscribe", "params": {"channel": "book", "symbol": ALL, "depth": depth}})
            fast.until(lambda _: "slow_consumer" in venue.log, "the slow consumer is detected")
            with pytest.raises(ConnectionClosed) as closed:
                slow.until(lambda _: False, "the end")
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1013, "slow consumer: 64 messages wait")
        assert fast.next("trade")


# ---- faults on demand


def test_checksum_fault_affects_the_requested_number_of_messages(client: venues.Client, venue: venues.Venue) -> None:
    client.send({"method": "subscribe", "params": {"channel": "book", "symbol": ["SOL/USD"]}})
    client.next("book", "snapshot")
    known_books: dict[Symbol, books.Book] = {}
    assert venues.follow(client.texts[-1], known_books, 10)
    venue.admin("/faults/next", {"kind": "checksum", "count": 1, "symbol": "SOL/USD"})
    verified = True
    while verified:
        client.next("book")
        verified = venues.follow(client.texts[-1], known_books, 10)
    assert venue.admin("/faults")["waiting"] == {}
    client.request("unsubscribe", channel="book", symbol=["SOL/USD"])
    client.send({"method": "subscribe", "params": {"channel": "book", "symbol": ["SOL/USD"]}})
    client.next("book", "snapshot")
    assert venues.follow(client.texts[-1], known_books, 10)
    client.next("book")
    assert venues.follow(client.texts[-1], known_books, 10)


def test_dropped_trade_is_missing_and_duplicated_trade_comes_twice(client: venues.Client, venue: venues.Venue) -> None:
    client.send({"method": "subscribe", "params": {"channel": "trade", "symbol": ["BTC/USD"]}})
    before = client.next("trade")["data"][-1]["trade_id"]
    venue.admin("/faults/next", {"kind": "drop", "channel": "trade", "symbol": "BTC/USD"})
    while (after := client.next("trade")["data"])[0]["trade_id"] == before + 1:
        before = after[-1]["trade_id"]
    assert after[0]["trade_id"] > before + 1
    venue.admin("/faults/next", {"kind": "double", "channel": "trade", "symbol": "BTC/USD"})
    last, doubled = after, client.next("trade")["data"]
    while last != doubled:
        last, doubled = doubled, client.next("trade")["data"]
    assert client.next("trade")["data"][0]["trade_id"] == doubled[-1]["trade_id"] + 1


def test_while_the_venue_is_silent_there_are_no_heartbeats_either(client: venues.Client, venue: venues.Venue) -> None:
    client.request("subscribe", channel="book", symbol=["BTC/USD"])
    client.next("book")
    venue.admin("/faults/silence", {"seconds": 60})
    wait.until(lambda: not client.collect(1.0), "what was on its way has come", seconds=venues.DEADLINE, interval=0)
    venue.admin("/faults/silence", {"seconds": 0})
    assert client.next("book")


def test_maintenance_is_announced_and_stops_trading_until_its_end(client: venues.Client, venue: venues.Venue) -> None:
    client.request("subscribe", channel="trade", symbol=ALL)
    try:
        for system in ("maintenance", "cancel_only", "post_only"):
            venue.admin("/system", {"system": system})
            assert client.next("status")["data"][0]["system"] == system
            assert venue.public("SystemStatus")["status"] == system
        venue.admin("/flow", {})  # what was being matched meanwhile has been sent
        client.request("ping")
        assert not [message for message in client.collect(0.5) if message["channel"] == "trade"]
    finally:
        venue.admin("/system", {"system": "online"})
    assert client.next("status")["data"][0]["system"] == "online"
    assert client.next("trade")


def test_all_can_be_disconnected(client: venues.Client, venue: venues.Venue) -> None:
    client.receive()
    assert venue.admin("/faults/disconnect", {})["closed"] >= 1
    with pytest.raises(ConnectionClosed) as closed:
        client.until(lambda _: False, "the end", 5)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1013, "disconnected on demand")


def test_clients_closed_as_slow_on_request_may_reconnect_at_once(tmp_path: Any) -> None:
    with venues.venue(tmp_path, queue=64) as venue:
        with venues.Client(venue.ws) as busy, venues.Client(venue.ws) as idle:
            busy.request("subscribe", channel="book", symbol=["BTC/USD"])
            idle.receive()
            assert venue.admin("/faults/slow-consumer", {}) == {"closed": 2}
            for client in (busy, idle):
                with pytest.raises(ConnectionClosed) as closed:
                    client.until(lambda _: False, "the end", 5)
                assert closed.value.rcvd is not None
                assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1013, "slow consumer: 64 messages wait")
        assert venue.log.count("slow_consumer") == 2
        with venues.Client(venue.ws) as again:
            again.request("subscribe", channel="book", symbol=["BTC/USD"])
            assert again.next("book")


def test_guide_shows_how_to_trigger_each_fault(venue: venues.Venue) -> None:
    described = venue.admin("/openapi.json")["paths"]
    shown = re.findall(r"^post (/\S+) ", (venues.TOP / "docs/guide/simulated-venue.md").read_text(), re.MULTILINE)
    assert set(shown) == {path for path, ways in described.items() if "post" in ways}
    assert described["/faults/slow-consumer"]["post"]["description"], "it has a description"


def test_order_flow_can_be_accelerated_and_stopped(venue: venues.Venue) -> None:
    assert venue.admin("/flow", {"speed": 20})["speed"] == 20
    assert venue.admin("/flow", {"speed": 10, "flowing": False})["flowing"] is False
    time.sleep(0.1)
    before = venue.get("/status")["pairs"]
    time.sleep(0.3)
    assert venue.get("/status")["pairs"] == before
    assert venue.admin("/flow", {"flowing": True}) == {**venue.admin("/faults"), "flowing": True}


def test_journal_has_the_published_trades(client: venues.Client, venue: venues.Venue) -> None:
    client.request("subscribe", channel="trade", symbol=["ETH/USD"])
    received = [trade for _ in range(3) for trade in client.next("trade")["data"]]
    known_books = venue.admin(
        f"/journal/trades?symbol=ETH/USD&after={received[0]['trade_id'] - 1}&count={len(received)}"
    )
    assert [(one["trade_id"], one["side"]) for one in known_books] == [
        (one["trade_id"], one["side"]) for one in received
    ]
    assert [Decimal(one["price"]) for one in known_books] == [one["price"] for one in received]
    assert [one["quantity"] for one in known_books] == [decimals.plain(one["qty"]) for one in received]


def test_metrics_count_what_was_sent(venue: venues.Venue, client: venues.Client) -> None:
    client.request("ping")
    with urllib.request.urlopen(f"{venue.rest}/metrics", timeout=10) as reply:
        received = reply.read().decode()
    assert re.search(r'^aether_venue_messages_total{channel="reply"} [1-9]', received, re.MULTILINE)
    assert re.search(r'^aether_venue_trades_total{symbol="BTC/USD"} [1-9]', received, re.MULTILINE)
