"""Renders the JSON of ingest's pods for a terminal: their status as a table, and one book. Pure functions: no I/O.

It parses only the fields that it shows, without the services' own models.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from aether_operator.api import labels

if TYPE_CHECKING:
    from collections.abc import Sequence

Object = dict[str, Any]
INGEST: Final = "ingest"
"""The component whose pods serve books."""
PORT: Final = 8000
SYMBOL: Final = re.compile(r"[A-Z0-9]{1,16}/[A-Z0-9]{1,16}")
SPACES: Final = "  "
"""The indentation of a table, and the gap between its columns."""
OUTPUTS: Final = ("kafka", "nats", "tables")


@dataclass(frozen=True, slots=True, kw_only=True)
class PodStatus:
    """The status that one ingest pod reported, or why there is none."""

    namespace: str
    platform: str
    pod: str
    status: Object | None = None
    error: str = ""

    def record(self) -> Object:
        """The status as JSON values."""
        result = {"error": self.error} if self.status is None else {"status": self.status}
        return {"namespace": self.namespace, "platform": self.platform, "pod": self.pod, **result}


def selector(platform: str) -> str:
    """The label selector of a platform's ingest pods."""
    return f"{labels.PLATFORM}={platform},{labels.COMPONENT}={INGEST}"


def is_ingest(pod: Object) -> bool:
    """Whether a pod is an ingest pod of some platform."""
    pod_labels = pod["metadata"].get("labels") or {}
    return pod_labels.get(labels.COMPONENT) == INGEST and labels.PLATFORM in pod_labels


def is_running(pod: Object) -> bool:
    """Whether a pod runs and is not being deleted."""
    return pod.get("status", {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]


def proxy_path(namespace: str, pod: str, path: str) -> str:
    """The path of a pod's endpoint through the API server's proxy."""
    return f"/api/v1/namespaces/{namespace}/pods/{pod}:{PORT}/proxy/{path}"


# The status of pods.


def status_table(statuses: Sequence[PodStatus], *, width: int | None = None) -> Group:
    """A table with one line per pod; where `width` columns are too few, a pod's name has a line of its own.

    FEED: age of the last message of the feed; BOOKS: usable books of all; AGE: age of the oldest book; ROWS/S: rows
    written to tables; one column with the lag of each output; CONFLATED: updates that were merged.
    """
    headings = ("POD", "FEED", "BOOKS", "AGE", "ROWS/S", *(name.upper() for name in OUTPUTS), "CONFLATED")
    rows = [[Text(heading, style="bold") for heading in headings]]
    rows += [[Text(one.pod), *map(Text.from_markup, _row(one.status))] for one in statuses if one.status is not None]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    wide = width is not None and len(SPACES) + sum(widths) + len(SPACES) * (len(widths) - 1) > width
    lines = []
    for row in rows:
        cells = [Text.assemble(cell, " " * (size - len(cell))) for cell, size in zip(row, widths, strict=True)]
        if wide:
            cells = cells[1:]
            lines.append(Text.assemble(SPACES, row[0]))
        lines.append(Text.assemble(SPACES * (2 if wide else 1), Text(SPACES).join(cells)))
        lines[-1].rstrip()
    return Group(*lines)


def _row(status: Object) -> list[str]:
    books, outputs, feed = status.get("books", {}), status.get("outputs", {}), status.get("feed", {})
    usable = sum(1 for book in books.values() if book.get("usable"))
    feed_age = feed.get("age_seconds")
    ages = [book["age_seconds"] for book in books.values() if book.get("age_seconds") is not None]
    return [
        f"[{'green' if feed.get('connected') else 'red'}]{'never' if feed_age is None else _seconds(feed_age)}[/]",
        f"[{'green' if usable == len(books) else 'red'}]{usable}/{len(books)}[/]",
        _seconds(max(ages)) if ages else "",
        f"{float(outputs.get('tables', {}).get('rate', 0)):.1f}",
        *(_lag(outputs.get(name)) for name in OUTPUTS),
        str(sum(int(one.get("conflated", 0)) for one in outputs.values())),
    ]


def _lag(output: Object | None) -> str:
    if output is None:
        return ""
    lag = _seconds(output.get("lag_seconds", 0))
    return lag if output.get("ok") else f"[red]{lag}[/]"


def _seconds(count: float) -> str:
    return f"{float(count):.1f} s"


def pod_problems(one: PodStatus) -> list[str]:
    """What is wrong with a pod, one line each, for below its row in the table."""
    if one.status is None:
        return [f"not reachable: {one.error}"]
    feed = one.status.get("feed", {})
    found = [] if feed.get("connected") else [f"feed: not connected: {feed.get('detail') or 'no cause reported'}"]
    books, outputs = one.status.get("books", {}), one.status.get("outputs", {})
    found += [f"{symbol}: {book.get('reason')}" for symbol, book in sorted(books.items()) if not book.get("usable")]
    return found + [
        f"{name}: {output.get('detail') or 'not ok'}" for name, output in outputs.items() if not output.get("ok")
    ]


# One book.


@dataclass(frozen=True, slots=True, kw_only=True)
class BookSnapshot:
    """A book as a pod's response has it."""

    pod: str
    view: Object
    """The response's JSON."""
    at: datetime
    """When it was received from the pod."""

    @property
    def usable(self) -> bool:
        """Whether ingest says that the book may be used."""
        return bool(self.view.get("usable"))

    def age(self) -> float:
        """Seconds from ingest's receiving the book's last update from the venue until `at`."""
        received = datetime.fromisoformat(str(self.view["received"])).astimezone(UTC)
        return max(0.0, (self.at - received).total_seconds())


FRAME_LINES: Final = 4
"""Lines of a rendered book besides its levels: title, headings, spread, checksum."""


def book(snapshot: BookSnapshot, *, lines: int | None = None) -> Group:
    """Render a book, asks above bids; one that is not usable without its levels, which nobody may use.

    Args:
        snapshot: The book.
        lines: The height that is available; the levels nearest to the spread are shown.
    """
    view = snapshot.view
    title = Text.assemble((str(view["symbol"]), "bold"), f"  from {snapshot.pod}")
    if not snapshot.usable:
        return Group(title, Text(f"UNUSABLE {view.get('reason') or 'no cause reported'}", style="bold red"))
    proved, asks, bids = int(view.get("proved", 0)), view.get("asks", []), view.get("bids", [])
    fitting = None if lines is None else max(1, (lines - FRAME_LINES) // 2)
    if fitting is not None and fitting < max(len(asks), len(bids)):
        asks, bids = asks[:fitting], bids[:fitting]
        title.append(f", {fitting} levels of each side shown")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2))
    table.add_column("", no_wrap=True)
    table.add_column("PRICE", justify="right", no_wrap=True)
    table.add_column("QUANTITY", justify="right", no_wrap=True)
    for depth, (price, quantity) in reversed(list(enumerate(asks))):
        table.add_row("ask", Text(price, style="red"), quantity, style="" if depth < proved else "dim")
    table.add_row("", Text(_spread(asks, bids), style="bold"), "")
    for depth, (price, quantity) in enumerate(bids):
        table.add_row("bid", Text(price, style="green"), quantity, style="" if depth < proved else "dim")
    beyond = f" (covers the first {proved} levels)" if max(len(asks), len(bids)) > proved else ""
    return Group(title, table, Text(f"checksum {view.get('checksum')}{beyond}, received {snapshot.age():.1f} s ago"))


def _spread(asks: Sequence[Sequence[str]], bids: Sequence[Sequence[str]]) -> str:
    if not asks or not bids:
        return "one side is empty"
    best_ask, best_bid = Decimal(asks[0][0]), Decimal(bids[0][0])
    spread = best_ask - best_bid
    return f"spread {spread} ({spread / best_ask * 10_000:.2f} bp)"
