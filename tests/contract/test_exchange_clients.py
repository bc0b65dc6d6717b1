"""Clients of Kraken that others wrote, as they come, on the simulated venue; and Kraken's description of its REST."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from aether_services.exchange_sim.core import markets
from aether_testing.processes import venues
from aether_testing.values import recordings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.clients

CLIENTS: Final = Path(__file__).with_name("clients")
PROGRAMS: Final = venues.TOP / ".venv-clients/bin"
PEERS: Final = venues.TOP / "tests/bench/peers"
SERVED: Final = ("Time", "SystemStatus", "Assets", "AssetPairs", "Ticker", "OHLC", "Depth", "Trades", "Spread")
CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "envelope",
)


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[venues.Venue]:
    """A lively one, with some trades behind it."""
    with venues.venue(tmp_path_factory.mktemp("venue"), speed=20) as one, venues.Client(one.ws) as client:
        client.request("subscribe", channel="trade", symbol=["BTC/USD"])
        client.until(
            lambda output: output.get("channel") == "trade" and output["data"][0]["trade_id"] > 50, "some trades"
        )
        yield one


def run(*command: str | Path, folder: Path | None = None, environ: dict[str, str] | None = None) -> str:
    """What a program of theirs prints."""
    assert PROGRAMS.is_dir(), "make clients"
    ended = subprocess.run(
        command,
        env={**os.environ, **(environ or {})},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert ended.returncode == 0, f"{ended.stdout[-6000:]}\n{ended.stderr[-3000:]}"
    return ended.stdout


def run_script(script: str, *arguments: str) -> dict[str, list[dict[str, Any]]]:
    """Run a script with a client library; returns its output by kind."""
    output: dict[str, list[dict[str, Any]]] = {}
    for line in run(PROGRAMS / "python", CLIENTS / script, *arguments).splitlines():
        one = json.loads(line)
        output.setdefault(one["what"], []).append(one)
    return output


def test_ccxt_reads_markets_tickers_books_candles_and_the_whole_history(venue: venues.Venue) -> None:
    output = run_script("ccxt_rest.py", venue.rest)
    known = output["markets"][0]["markets"]
    assert set(known) == set(markets.MARKETS)
    for symbol, one in markets.MARKETS.items():
        assert known[symbol]["id"] == one.rest_id
        assert known[symbol]["precision"] == {"amount": 1e-8, "price": float(one.tick_size)}
        assert known[symbol]["least"] == float(one.quantity_min)
    assert output["tickers"][0]["symbols"] == sorted(markets.MARKETS)
    for ticker in output["ticker"]:
        assert ticker["low"] <= ticker["last"] <= ticker["high"]
        assert ticker["bid"] < ticker["ask"]
    for book in output["book"]:
        assert len(book["bids"]) == len(book["asks"]) == 100
        assert book["bids"][0][0] < book["asks"][0][0]
    assert all(candles["candles"] for candles in output["candles"])
    # ccxt sorts what has one millisecond by the digits of its number as text.
    ids = sorted(int(one["id"]) for one in output["trades"][0]["trades"])
    assert len(ids) > 50
    assert ids == list(range(1, len(ids) + 1))
    assert "EQuery:Unknown asset pair" in output["rejected"][0]["error"]


def test_ccxt_watches_books_trades_tickers_and_candles(venue: venues.Venue) -> None:
    output = run_script("ccxt_streams.py", venue.rest, venue.ws, "60")
    assert len(output["book"]) == 60
    for book in output["book"]:
        bids, asks = ([level[0] for level in book[side]] for side in ("bids", "asks"))
        assert bids == sorted(bids, reverse=True)
        assert asks == sorted(asks)
        assert bids[0] < asks[0]
        assert len(bids) == len(asks) == 25
    ids = [int(one["id"]) for some in output["trades"] for one in some["trades"]]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert all(one["bid"] < one["ask"] for one in output["ticker"])
    assert len(output["candle"]) == 5


@pytest.mark.parametrize("depth", ["10", "100"])
def test_kraken_python_sdk_keeps_books_whose_checksums_it_verifies(venue: venues.Venue, depth: str) -> None:
    output = run_script("sdk_books.py", venue.rest, venue.ws, depth, "400")
    (books,) = output["books"]
    assert sum(books["updates"].values()) >= 400
    assert set(books["updates"]) == {"BTC/USD", "ETH/USD", "DOGE/USD", "AVAX/USD"}
    assert (books["mismatches"], books["broken"]) == ({}, False)
    assert output["pairs"][0]["names"] == ["DOGE/USD", "XXBTZUSD"]
    assert [row[6] for row in output["trades"][0]["trades"]["XXBTZUSD"]] == list(range(1, 11))


def test_kraken_python_sdk_detects_a_wrong_checksum(venue: venues.Venue) -> None:
    venue.admin("/faults/next", {"kind": "checksum", "count": 1, "symbol": "ETH/USD"})
    (books,) = run_script("sdk_books.py", venue.rest, venue.ws, "10", "400")["books"]
    assert set(books["mismatches"]) == {"ETH/USD"}, "and it subscribed again and went on"
    assert not books["broken"]


def test_kraken_python_sdk_verifies_each_message_of_our_tests(frames: Sequence[bytes], tmp_path: Path) -> None:
    path = tmp_path / "frames.jsonl"
    path.write_bytes(b"\n".join(frames))
    (rate,) = json.loads(run(PROGRAMS / "python", PEERS / "kraken_sdk_book.py", path, "1", "1"))
    assert rate > 0


@pytest.mark.parametrize("source", ["the venue's", "Kraken's"] if recordings.description() else ["the venue's"])
def test_rest_responses_match_krakens_own_description(source: str, venue: venues.Venue, tmp_path: Path) -> None:
    """And as the venue's own does, which has the same parameters and envelope and is always at hand."""
    krakens = recordings.description() if source == "Kraken's" else None
    spec, base = (krakens, "/0") if krakens else (f"{venue.rest}/openapi.json", "")
    output = run(
        PROGRAMS / "schemathesis",
        "run",
        spec,
        f"--url={venue.rest}{base}",
        f"--include-path-regex=/public/({'|'.join(SERVED)})$",
        "--mode=all",
        "--phases=examples,coverage,fuzzing",
        "--max-examples=20",
        "--generation-database=none",
        "--seed=1",
        f"--checks={','.join(CHECKS)}",
        "--no-color",
        folder=tmp_path,
        environ={"SCHEMATHESIS_HOOKS": str(CLIENTS / "spec_hooks.py")},
    )
    counted = re.search(r"(\d+) generated, (\d+) passed", output)
    assert counted, output
    assert counted[1] == counted[2]
    assert int(counted[1]) > (300 if base else 0)
    assert f"Selected: {len(SERVED)}/" in output
