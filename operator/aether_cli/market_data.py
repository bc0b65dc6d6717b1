"""Market data as ingest's pods tell of it, for a person: how it flows, and one book. Values only.

It reads the rooms' JSON by itself, and no more of it than it shows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from aether_operator.api import labels

if TYPE_CHECKING:
    from collections.abc import Sequence

Object = dict[str, Any]
INGEST: Final = "ingest"
"""The component whose pods know books."""
PORT: Final = 8000
SYMBOL: Final = re.compile(r"[A-Z0-9]{1,16}/[A-Z0-9]{1,16}")
OUTPUTS: Final = ("kafka", "nats", "tables")


@dataclass(frozen=True, slots=True, kw_only=True)
class PodStatus:
    """What one pod said of itself, or why it said nothing."""

    namespace: str
    platform: str
    pod: str
    status: Object | None = None
    error: str = ""

    def record(self) -> Object:
        """As JSON values."""
        output = {"error": self.error} if self.status is None else {"status": self.status}
        return {"namespace": self.namespace, "platform": self.platform, "pod": self.pod, **output}


def selector(platform: str) -> str:
    """Selects the pods that know a platform's books."""
    return ",".join(f"{key}={value}" for key, value in labels.selecting(platform, INGEST).items())


def is_ingest(pod: Object) -> bool:
    """Whether a pod is one of those."""
    pod_labels = pod["metadata"].get("labels") or {}
    return pod_labels.get(labels.COMPONENT) == INGEST and labels.PLATFORM in pod_labels


def is_running(pod: Object) -> bool:
    """Whether it can be asked."""
    return pod.get("status", {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]


def proxy_path(namespace: str, pod: str, path: str) -> str:
    """Where a pod answers through the API server."""
    return f"/api/v1/namespaces/{namespace}/pods/{pod}:{PORT}/proxy/{path}"


# How it flows.


def flow(statuses: Sequence[PodStatus]) -> Table:
    """One line a pod, in the width of any terminal.

    When the feed was last heard of, how many books are usable and how old the oldest of those is, what is written, and
    how late each output is.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 1))
    for heading in ("  POD", "HEARD", "BOOKS", "AGE", "ROWS/S", *(name.upper() for name in OUTPUTS), "CONFLATED"):
        table.add_column(heading, no_wrap=True)
    for one in statuses:
        if one.status is not None:
            table.add_row(f"  {escape(one.pod)}", *_row(one.status))
    return table


def _row(status: Object) -> list[str]:
    books, outputs, feed = status.get("books", {}), status.get("outputs", {}), status.get("feed", {})
    usable = sum(1 for book in books.values() if book.get("usable"))
    feed_age, statuses = feed.get("age_seconds"), [book.get("age_seconds") for book in books.values()]
    ages = [age for age in statuses if age is not None]
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
    late = _seconds(output.get("lag_seconds", 0))
    return late if output.get("ok") else f"[red]{late}[/]"


def _seconds(count: float) -> str:
    return f"{float(count):.1f} s"


def pod_problems(one: PodStatus) -> list[str]:
    """What is wrong with a pod, a line each: the numbers of its row do not say why."""
    if one.status is None:
        return [f"not reached: {one.error}"]
    feed = one.status.get("feed", {})
    found = [] if feed.get("connected") else [f"feed: not connected: {feed.get('detail') or 'it does not say why'}"]
    books, outputs = one.status.get("books", {}), one.status.get("outputs", {})
    found += [f"{symbol}: {book.get('reason')}" for symbol, book in sorted(books.items()) if not book.get("usable")]
    return found + [
        f"{name}: {output.get('detail') or 'not ok'}" for name, output in outputs.items() if not output.get("ok")
    ]


# One book.


@dataclass(frozen=True, slots=True, kw_only=True)
class BookSnapshot:
    """A book as a pod gave it, and when that was."""

    pod: str
    view: Object
    at: datetime

    @property
    def usable(self) -> bool:
        """Whether it may be used."""
        return bool(self.view.get("usable"))

    def age(self) -> float:
        """Seconds since it was received from the venue."""
        received = datetime.fromisoformat(str(self.view["received"])).astimezone(UTC)
        return max(0.0, (self.at - received).total_seconds())


FRAME_LINES: Final = 4
"""Lines of a book that are no levels: title, heads, spread and proof."""


def book(snapshot: BookSnapshot, *, lines: int | None = None) -> Group:
    """A book, asks above bids; without levels where it is not usable, since nobody may use them.

    Args:
        snapshot: The book.
        lines: How many there is room for; the levels nearest to the middle are shown.
    """
    view = snapshot.view
    title = Text.assemble((str(view["symbol"]), "bold"), f"  from {snapshot.pod}")
    if not snapshot.usable:
        return Group(title, Text(f"UNUSABLE {view.get('reason') or 'it does not say why'}", style="bold red"))
    proved, asks, bids = int(view.get("proved", 0)), view.get("asks", []), view.get("bids", [])
    fitting = None if lines is None else max(1, (lines - FRAME_LINES) // 2)
    if fitting is not None and fitting < max(len(asks), len(bids)):
        asks, bids = asks[:fitting], bids[:fitting]
        title.append(f", {fitting} levels of each side fit here")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2))
    table.add_column("", no_wrap=True)
    table.add_column("PRICE", justify="right", no_wrap=True)
    table.add_column("QUANTITY", justify="right", no_wrap=True)
    for depth, (price, quantity) in reversed(list(enumerate(asks))):
        table.add_row("ask", Text(price, style="red"), quantity, style="" if depth < proved else "dim")
    table.add_row("", Text(_spread(asks, bids), style="bold"), "")
    for depth, (price, quantity) in enumerate(bids):
        table.add_row("bid", Text(price, style="green"), quantity, style="" if depth < proved else "dim")
    deep = f"; below {proved} levels not proved by it" if max(len(asks), len(bids)) > proved else ""
    return Group(title, table, Text(f"checksum {view.get('checksum')}{deep}, received {snapshot.age():.1f} s ago"))


def _spread(asks: Sequence[Sequence[str]], bids: Sequence[Sequence[str]]) -> str:
    if not asks or not bids:
        return "one side is empty"
    best_ask, best_bid = Decimal(asks[0][0]), Decimal(bids[0][0])
    spread = best_ask - best_bid
    return f"spread {spread} ({spread / best_ask * 10_000:.2f} bp)"
