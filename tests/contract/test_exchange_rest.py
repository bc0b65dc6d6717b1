"""The simulated venue's REST: Kraken's names, envelope, errors, and paged history."""

from __future__ import annotations

import urllib.parse
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from aether_services.exchange_sim.core import candles, markets
from aether_testing.processes import venues

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[venues.Venue]:
    """A venue with a stopped market and some history."""
    with venues.venue(tmp_path_factory.mktemp("venue"), speed=50) as one:
        with venues.Client(one.ws) as client:
            client.request("subscribe", channel="trade", symbol=["BTC/USD"])
            while client.next("trade")["data"][-1]["trade_id"] < 40:
                pass
        one.admin("/flow", {"flowing": False})
        yield one


def error(venue: venues.Venue, method: str, **params: Any) -> str:
    response = venue.get(f"/0/public/{method}?{urllib.parse.urlencode(params)}")
    assert list(response) == ["error"]
    (only,) = response["error"]
    return str(only)


@pytest.mark.parametrize("name", ["BTC/USD", "XBT/USD", "XBTUSD", "XXBTZUSD"])
def test_market_has_four_names(venue: venues.Venue, name: str) -> None:
    ((key, pair),) = venue.public("AssetPairs", pair=name).items()
    assert key == (name if "/" in name else "XXBTZUSD")
    assert (pair["altname"], pair["wsname"], pair["base"], pair["quote"]) == ("XBTUSD", "XBT/USD", "XXBT", "ZUSD")
    assert list(venue.public("Depth", pair=name)) == [key]


def test_markets_and_assets_have_modern_names_on_request(venue: venues.Venue) -> None:
    assert set(venue.public("AssetPairs", assetVersion=1)) == set(markets.MARKETS)
    assert venue.public("AssetPairs", assetVersion=1, pair="XDGUSD")["DOGE/USD"]["base"] == "DOGE"
    assert set(venue.public("Assets", assetVersion=1)) == set(markets.ASSETS)
    assert venue.public("Assets", asset="XBT,DOGE") == {
        "XXBT": {"aclass": "currency", "altname": "XBT", "decimals": 10, "display_decimals": 5, "status": "enabled"},
        "XXDG": {"aclass": "currency", "altname": "XDG", "decimals": 8, "display_decimals": 2, "status": "enabled"},
    }


def test_fee_schedules_are_empty_as_at_kraken_since_september_2026(venue: venues.Venue) -> None:
    for pair in venue.public("AssetPairs").values():
        assert (pair["fees"], pair["fees_maker"], pair["fee_volume_currency"]) == ([], [], "ZUSD")
    (only,) = venue.public("AssetPairs", pair="XBTUSD", info="fees").values()
    assert only == {"fees": [], "fees_maker": [], "fee_volume_currency": "ZUSD"}


def test_several_markets_in_one_request_and_all_when_none_named(venue: venues.Venue) -> None:
    assert list(venue.public("Ticker", pair="XBTUSD,ETHUSD")) == ["XXBTZUSD", "XETHZUSD"]
    assert set(venue.public("Ticker")) == {one.rest_id for one in markets.MARKETS.values()}


@pytest.mark.parametrize(
    ("method", "params", "expected"),
    [
        ("Ticker", {"pair": "XBTEUR"}, "EQuery:Unknown asset pair"),
        ("Ticker", {"pair": "XBTUSD,nope"}, "EQuery:Unknown asset pair"),
        ("Depth", {"pair": "XBTUSD,ETHUSD"}, "EQuery:Unknown asset pair"),
        ("Assets", {"asset": "GOLD"}, "EQuery:Unknown asset"),
        ("Depth", {}, "EGeneral:Invalid arguments:pair"),
        ("Depth", {"pair": "XBTUSD", "count": "0"}, "EGeneral:Invalid arguments:count"),
        ("Depth", {"pair": "XBTUSD", "count": "ten"}, "EGeneral:Invalid arguments:count"),
        ("Trades", {"pair": "XBTUSD", "count": "1001"}, "EGeneral:Invalid arguments:count"),
        ("Trades", {"pair": "XBTUSD", "since": "-1"}, "EGeneral:Invalid arguments:since"),
        ("Trades", {"pair": "XBTUSD", "since": "9" * 40}, "EGeneral:Invalid arguments:since"),
        ("OHLC", {"pair": "XBTUSD", "interval": "2"}, "EGeneral:Invalid arguments:interval"),
        ("AssetPairs", {"info": "all"}, "EGeneral:Invalid arguments:info"),
        ("Assets", {"assetVersion": "2"}, "EGeneral:Invalid arguments:assetVersion"),
        ("Dance", {}, "EGeneral:Unknown method"),
    ],
)
def test_rejections_are_errors_in_the_envelope(
    venue: venues.Venue, method: str, params: dict[str, str], expected: str
) -> None:
    assert error(venue, method, **params) == expected


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-www-form-urlencoded", b"pair=XBTUSD&count=7"),
        ("application/x-www-form-urlencoded; charset=utf-8", b"count=7&pair=XBT%2FUSD&nonce=1"),
        ("application/json", b'{"pair":"XBTUSD","count":7,"nonce":12345678901234567890}'),
        ("application/json; charset=utf-8", b'{"pair":"XBTUSD","count":"7","assetVersion":null}'),
    ],
)
def test_a_post_is_answered_as_a_get_is(venue: venues.Venue, kind: str, body: bytes) -> None:
    response = venue.post("/0/public/Depth", body, kind)
    (book,) = response["result"].values()
    assert (response["error"], [len(book[side]) for side in ("asks", "bids")]) == ([], [7, 7])
    assert book == venue.public("Depth", pair="XBTUSD", count=7)["XXBTZUSD"]


@pytest.mark.parametrize(
    "method", ["Time", "SystemStatus", "Assets", "AssetPairs", "Ticker", "OHLC", "Depth", "Trades", "Spread"]
)
def test_each_public_method_takes_a_post(venue: venues.Venue, method: str) -> None:
    response = venue.post(f"/0/public/{method}", b"pair=XBTUSD", "application/x-www-form-urlencoded")
    assert response["error"] == []
    assert set(response["result"]) == set(venue.public(method, pair="XBTUSD"))


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("application/json", b"{", "EGeneral:Invalid arguments"),
        ("application/json", b"[" * 5000, "EGeneral:Invalid arguments"),
        ("application/json", b'["XBTUSD"]', "EGeneral:Invalid arguments"),
        ("application/json", b"", "EGeneral:Invalid arguments:pair"),
        ("application/json", b'{"pair":["XBTUSD"]}', "EGeneral:Invalid arguments:pair"),
        ("application/json", b'{"pair":"XBTUSD","count":7.5}', "EGeneral:Invalid arguments:count"),
        ("application/json", b'{"pair":"XBTUSD","count":true}', "EGeneral:Invalid arguments:count"),
        ("application/x-www-form-urlencoded", b"pair=\xff\xfe", "EQuery:Unknown asset pair"),
        ("text/plain", b"", "EGeneral:Invalid arguments:pair"),
        ("application/json", b" " * 70_000, "EGeneral:Invalid arguments"),
    ],
)
def test_invalid_body_is_rejected_within_the_envelope(
    venue: venues.Venue, kind: str, body: bytes, expected: str
) -> None:
    assert venue.post("/0/public/Depth", body, kind) == {"error": [expected]}
    assert venue.post("/0/public/Dance", body, kind) == {"error": ["EGeneral:Unknown method"]}


@pytest.mark.parametrize("path", ["/0/private/Balance", "/0/private/AddOrder?validate=true", "/0/private/a/b"])
def test_private_methods_reject_every_key(venue: venues.Venue, path: str) -> None:
    rejected = {"error": ["EAPI:Invalid key"]}
    assert venue.get(path) == rejected
    assert venue.post(path, b"nonce=1", "application/x-www-form-urlencoded") == rejected


def test_requested_rate_limit_rejects_every_call_until_it_ends(venue: venues.Venue) -> None:
    rejected = {"error": ["EGeneral:Too many requests"]}
    assert venue.admin("/faults/too-many-requests", {"seconds": 3600})["refusing_seconds"] > 3000
    try:
        assert venue.get("/0/public/Time") == rejected
        assert venue.post("/0/public/Trades", b"pair=XBTUSD", "application/x-www-form-urlencoded") == rejected
        assert venue.get("/0/private/Balance") == rejected
        assert venue.get("/status")["ready"], "what is not Kraken's goes on"
    finally:
        assert venue.admin("/faults/too-many-requests", {"seconds": 0})["refusing_seconds"] == 0
    assert venue.public("Time")


def test_time_and_status(venue: venues.Venue) -> None:
    assert set(venue.public("Time")) == {"unixtime", "rfc1123"}
    assert venue.public("SystemStatus")["status"] == "online"


@pytest.mark.parametrize("count", [1, 7, 1000])
def test_history_pages_have_no_gap_and_no_duplicate_trade(venue: venues.Venue, count: int) -> None:
    journaled = venue.admin("/journal/trades?symbol=BTC/USD")
    since, read, pages = "0", [], 0
    while page := (response := venue.public("Trades", pair="XBTUSD", since=since, count=count))["XXBTZUSD"]:
        assert len(page) <= count
        read += page
        since, pages = response["last"], pages + 1
    assert response["last"] == since, "at the end the cursor stays"
    assert [row[6] for row in read] == list(range(1, len(journaled) + 1))
    assert pages == -(-len(journaled) // count)
    assert [(Decimal(row[0]), Decimal(row[1])) for row in read] == [
        (Decimal(one["price"]), Decimal(one["quantity"])) for one in journaled
    ]
    assert [row[3] for row in read] == [one["side"][0] for one in journaled]


def test_without_a_cursor_the_last_trades_are_returned(venue: venues.Venue) -> None:
    is_snapshot = venue.public("Trades", pair="XBTUSD")["XXBTZUSD"]
    assert venue.public("Trades", pair="XBTUSD", count=3)["XXBTZUSD"] == is_snapshot[-3:]


def test_a_cursor_may_be_in_seconds(venue: venues.Venue) -> None:
    is_snapshot = venue.public("Trades", pair="XBTUSD")["XXBTZUSD"]
    middle = int(is_snapshot[len(is_snapshot) // 2][2])
    since = venue.public("Trades", pair="XBTUSD", since=middle)["XXBTZUSD"]
    assert [row[6] for row in since] == [row[6] for row in is_snapshot if row[2] > middle]


@pytest.mark.parametrize("interval", candles.INTERVALS)
def test_candles_are_derived_from_the_trades(venue: venues.Venue, interval: int) -> None:
    trades = venue.public("Trades", pair="XBTUSD")["XXBTZUSD"]
    response = venue.public("OHLC", pair="XBTUSD", interval=interval)
    rows = response["XXBTZUSD"]
    assert [row[0] for row in rows] == sorted({row[0] for row in rows})
    assert all(row[0] % (interval * 60) == 0 for row in rows)
    assert response["last"] == (rows[-2][0] if len(rows) > 1 else 0)
    for begin, first, high, low, close, vwap, volume, count in rows:
        inside = [trade for trade in trades if begin <= trade[2] < begin + interval * 60]
        assert count == len(inside)
        prices, quantities = [Decimal(one[0]) for one in inside], [Decimal(one[1]) for one in inside]
        assert Decimal(volume) == sum(quantities)
        if inside:
            expected = [prices[0], max(prices), min(prices), prices[-1]]
            assert [Decimal(one) for one in (first, high, low, close)] == expected
            cost = sum((price * amount for price, amount in zip(prices, quantities, strict=True)), Decimal(0))
            exact = cost / sum(quantities)
            assert 0 <= exact - Decimal(vwap) < Decimal("0.1")


def test_ticker_agrees_with_book_trades_and_candles(venue: venues.Venue) -> None:
    ticker = venue.public("Ticker", pair="XBTUSD")["XXBTZUSD"]
    book = venue.public("Depth", pair="XBTUSD", count=1)["XXBTZUSD"]
    trades = venue.public("Trades", pair="XBTUSD")["XXBTZUSD"]
    assert ticker["a"][0] == book["asks"][0][0]
    assert ticker["b"][0] == book["bids"][0][0]
    assert ticker["c"] == trades[-1][:2]
    assert ticker["t"][1] == len(trades)
    assert Decimal(ticker["v"][1]) == sum(Decimal(row[1]) for row in trades)
    assert Decimal(ticker["h"][1]) == max(Decimal(row[0]) for row in trades)


def test_book_has_the_requested_number_of_levels_best_first(venue: venues.Venue) -> None:
    book = venue.public("Depth", pair="DOGE/USD", count=500)["DOGE/USD"]
    for side, downward in (("asks", False), ("bids", True)):
        prices = [Decimal(row[0]) for row in book[side]]
        assert len(prices) == 500
        assert prices == sorted(set(prices), reverse=downward)
        assert all(Decimal(row[1]) > 0 for row in book[side])


@pytest.mark.parametrize("count", [501, 1000, 10**9])
def test_request_for_too_many_levels_returns_those_there_are(venue: venues.Venue, count: int) -> None:
    book = venue.public("Depth", pair="XBTUSD", count=count)
    assert book == venue.public("Depth", pair="XBTUSD", count=500)
    assert [len(book["XXBTZUSD"][side]) for side in ("asks", "bids")] == [500, 500]


def test_spreads_are_returned_since_a_time(venue: venues.Venue) -> None:
    response = venue.public("Spread", pair="XBTUSD")
    rows = response["XXBTZUSD"]
    assert 0 < len(rows) <= 200
    assert all(Decimal(bid) < Decimal(ask) for _, bid, ask in rows)
    assert venue.public("Spread", pair="XBTUSD", since=response["last"] + 1)["XXBTZUSD"] == []


@pytest.mark.parametrize("path", ["/faults", "/faults/next", "/journal/trades?symbol=BTC/USD"])
def test_fault_endpoints_are_not_on_the_client_port(venue: venues.Venue, path: str) -> None:
    assert venue.code(path) == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/faults/next", {"kind": "checksum", "channel": "trade"}),
        ("/faults/next", {"kind": "drop", "symbol": "NOT/USD"}),
        ("/faults/next", {"kind": "drop", "channel": "status"}),
        ("/faults/next", {"kind": "explode"}),
        ("/faults/silence", {"seconds": -1}),
        ("/faults/mute", {"channel": "status", "symbol": "BTC/USD", "seconds": 1}),
        ("/faults/mute", {"channel": "book", "symbol": "", "seconds": 1}),
        ("/faults/mute", {"channel": "book", "symbol": "BTC/USD", "seconds": 3601}),
        ("/faults/too-many-requests", {"seconds": 3601}),
        ("/faults/too-many-requests", {}),
        ("/system", {"system": "limit_only"}),
        ("/flow", {"speed": 0}),
        ("/flow", {"tempo": 1}),
    ],
)
def test_unknown_fault_is_rejected(venue: venues.Venue, path: str, body: dict[str, Any]) -> None:
    assert venue.code(path, body, admin=True) == 422
