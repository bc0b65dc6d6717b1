"""Rendering pods' statuses and a book."""

from __future__ import annotations

import dataclasses
import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest
from rich.console import Console

from aether_cli import market_data
from aether_operator.api import labels
from aether_operator.catalog import components
from aether_testing.values import observations

if TYPE_CHECKING:
    from rich.console import RenderableType

AT: Final = datetime(2026, 1, 1, 12, 0, 2, tzinfo=UTC)
VIEW: Final[dict[str, Any]] = {
    "version": 1, "type": "book-view", "symbol": "BTC/USD", "usable": True, "reason": "", "proved": 2,
    "checksum": 3310070434, "at": "2026-01-01T12:00:01.123456789Z", "received": "2026-01-01T12:00:01.500000000Z",
    "snapshot_at": "2026-01-01T11:00:00.000000000Z",
    "bids": [["99.9", "1"], ["99.8", "2"], ["99.7", "3"]], "asks": [["100.1", "4"], ["100.2", "5"]],
}  # fmt: skip
STATUS: Final[dict[str, Any]] = {
    "feed": {"connected": True, "age_seconds": 0.24},
    "books": {"BTC/USD": {"usable": True, "age_seconds": 0.93}, "ETH/USD": {"usable": False, "reason": "Resyncing"}},
    "outputs": {
        "kafka": {"ok": True, "lag_seconds": 0.01, "conflated": 2},
        "nats": {"ok": False, "lag_seconds": 31, "detail": "no server", "conflated": 3},
        "tables": {"ok": True, "lag_seconds": 0.5, "rate": 41.25},
    },
}


def printed(what: RenderableType) -> str:
    text = io.StringIO()
    Console(file=text, width=160, color_system=None).print(what)
    return text.getvalue()


def a_status(status: dict[str, Any] | None = None, **more: Any) -> market_data.PodStatus:
    return market_data.PodStatus(namespace="aether", platform="paper", pod="paper-ingest-0", status=status, **more)


def a_book(**changes: Any) -> market_data.BookSnapshot:
    return market_data.BookSnapshot(pod="paper-ingest-0", view={**VIEW, **changes}, at=AT)


def test_narrow_table_has_long_pod_names_on_their_own_lines() -> None:
    long = dataclasses.replace(a_status(STATUS), pod="a-pod-with-a-name-of-many-characters-ingest-0")
    lines = printed(market_data.status_table([long], width=80)).splitlines()
    assert [line.split()[0] for line in lines] == ["POD", "FEED", long.pod, "0.2"]
    assert max(map(len, lines)) <= 80
    assert len(printed(market_data.status_table([long])).splitlines()) == 2


def test_market_data_flow_has_one_narrow_line_per_pod() -> None:
    heading, line = printed(market_data.status_table([a_status(STATUS), a_status(None, error="gone")])).splitlines()
    assert heading.split() == ["POD", "FEED", "BOOKS", "AGE", "ROWS/S", "KAFKA", "NATS", "TABLES", "CONFLATED"]
    for part in ("paper-ingest-0", "0.2 s  ", "1/2", "0.9 s", "41.2", "0.0 s", "31.0 s", "5"):
        assert part in line
    assert max(map(len, (heading.rstrip(), line.rstrip()))) <= 80


@pytest.mark.parametrize(
    ("feed", "rendered"),
    [
        ({"connected": False, "detail": "name not known"}, "feed: not connected: name not known"),
        ({}, "feed: not connected: no cause reported"),
    ],
)
def test_problems_are_listed_below(feed: dict[str, Any], rendered: str) -> None:
    assert rendered in market_data.pod_problems(a_status({**STATUS, "feed": feed}))
    assert any(line.endswith("no server") for line in market_data.pod_problems(a_status(STATUS)))
    assert market_data.pod_problems(a_status(None, error="gone")) == ["not reachable: gone"]


def test_status_is_kept_exactly_as_received() -> None:
    assert a_status(STATUS).record()["status"] == STATUS
    assert a_status(None, error="no way").record() == {
        "namespace": "aether", "platform": "paper", "pod": "paper-ingest-0", "error": "no way",
    }  # fmt: skip


def test_book_view_has_asks_above_bids_and_best_prices_inside() -> None:
    lines = [line.split() for line in printed(market_data.book(a_book())).splitlines()]
    prices = [line[1] for line in lines if line[0] in {"ask", "bid"}]
    assert prices == ["100.2", "100.1", "99.9", "99.8", "99.7"]
    assert ["spread", "0.2", "(19.98", "bp)"] in lines
    text = printed(market_data.book(a_book()))
    assert "BTC/USD  from paper-ingest-0" in text
    assert "checksum 3310070434 (covers the first 2 levels), received 0.5 s ago" in text
    assert "covers" not in printed(market_data.book(a_book(proved=10)))


@pytest.mark.parametrize(("lines", "levels"), [(9, 2), (8, 2), (7, 1), (1, 1)])
def test_book_that_does_not_fit_shows_its_inner_levels(lines: int, levels: int) -> None:
    rendered = printed(market_data.book(a_book(), lines=lines)).splitlines()
    prices = [line.split()[1] for line in rendered if line.split()[0] in {"ask", "bid"}]
    assert prices == [*["100.2", "100.1"][2 - levels :], *["99.9", "99.8"][:levels]]
    assert rendered[0] == f"BTC/USD  from paper-ingest-0, {levels} levels of each side shown"
    assert len(rendered) == market_data.FRAME_LINES + 2 * levels


def test_fitting_book_is_shown_completely() -> None:
    assert printed(market_data.book(a_book(), lines=10)) == printed(market_data.book(a_book()))


def test_unusable_book_shows_no_level_but_the_reason() -> None:
    text = printed(market_data.book(a_book(usable=False, reason="ChecksumFailed")))
    assert "UNUSABLE ChecksumFailed" in text
    assert "100.1" not in text
    assert "99.9" not in text


def test_book_with_an_empty_side_has_no_spread() -> None:
    assert "one side is empty" in printed(market_data.book(a_book(asks=[])))


def test_pods_queried_for_books_are_those_the_operator_creates() -> None:
    ingest = components.COMPONENTS[components.Component.INGEST]
    assert (ingest.name, components.PORT) == (market_data.INGEST, market_data.PORT)
    pod_labels = labels.for_child(observations.an_owner("paper"), ingest.name)
    assert market_data.is_ingest({"metadata": {"labels": pod_labels}})
    assert not market_data.is_ingest(
        {"metadata": {"labels": labels.for_child(observations.an_owner("paper"), "exchange")}}
    )
    assert not market_data.is_ingest({"metadata": {}})
    assert set(market_data.selector("paper").split(",")) <= {f"{key}={value}" for key, value in pod_labels.items()}
