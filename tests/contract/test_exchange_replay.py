"""The simulated venue replays a recording: the same book, message by message, at the recording's own pace."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from aether_services.domain.instruments import Symbol
from aether_services.exchange_sim.core import markets, recordings
from aether_testing.processes import venues
from aether_testing.values import recordings as feeds

if TYPE_CHECKING:
    from pathlib import Path

    from aether_services.domain import books


@pytest.fixture(scope="module")
def recording(source: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of book messages: generated, or recorded from the real venue."""
    path = tmp_path_factory.mktemp("recording") / "recording.jsonl"
    path.write_bytes(b"\n".join((*feeds.book_frames(source), b"")))
    return path


def checksum(text: str) -> int:
    """The identity of a book's state."""
    return int(json.loads(text)["data"][0]["checksum"])


def test_replay_repeats_the_recorded_book_and_restarts_at_its_end(recording: Path, tmp_path: Path) -> None:
    recorded = [checksum(line) for line in recording.read_text().splitlines()]
    known: dict[Symbol, books.Book] = {}
    with venues.venue(tmp_path, feed="Replay", recording=recording, speed=20) as venue:
        assert list(venue.get("/status")["pairs"]) == ["BTC/USD"]
        with venues.Client(venue.ws) as client:
            client.send({"method": "subscribe", "params": {"channel": "book", "symbol": ["BTC/USD"]}})
            client.next("book", "snapshot")
            assert venues.follow(client.texts[-1], known, 10)
            received: list[int] = []
            while len(received) < len(recorded) + 20:
                client.next("book")
                assert venues.follow(client.texts[-1], known, 10)
                received.append(checksum(client.texts[-1]))
    # Received from somewhere in the middle on, across the end.
    endless = recorded * 3
    assert any(received == endless[start : start + len(received)] for start in range(len(recorded)))


def test_replay_serves_other_depths_too(recording: Path, tmp_path: Path) -> None:
    known: dict[Symbol, books.Book] = {}
    with (
        venues.venue(tmp_path, feed="Replay", recording=recording, speed=50) as venue,
        venues.Client(venue.ws) as client,
    ):
        client.send({"method": "subscribe", "params": {"channel": "book", "symbol": ["BTC/USD"], "depth": 100}})
        for kind in ("snapshot", *["update"] * 600):
            client.next("book", kind)
            assert venues.follow(client.texts[-1], known, 100)
        assert len(known[Symbol("BTC/USD")].bids) <= 10
        assert client.request("subscribe", channel="book", symbol=["ETH/USD"])["error"].startswith("Currency pair not")


def test_recording_with_one_changed_digit_is_rejected(recording: Path) -> None:
    lines = recording.read_bytes().splitlines()
    known = markets.MARKETS.values()
    assert len(recordings.read(lines, known).updates) == len(lines)
    changed = lines[0].replace(b'"qty":0.', b'"qty":1.', 1)
    with pytest.raises(recordings.InvalidRecording, match="line 1: its checksum"):
        recordings.read([changed, *lines[1:]], known)


@pytest.mark.parametrize(
    "line",
    [b"{", b"{}", b'{"channel":"trade","type":"update","data":[]}', b'{"channel":"book","type":"update","data":[1]}'],
)
def test_invalid_recording_is_rejected_with_the_line(line: bytes) -> None:
    with pytest.raises(recordings.InvalidRecording, match="line 1: not a book message"):
        recordings.read([line], markets.MARKETS.values())


def test_empty_recording_is_rejected() -> None:
    with pytest.raises(recordings.InvalidRecording, match="the recording is empty"):
        recordings.read([b"\n"], markets.MARKETS.values())
