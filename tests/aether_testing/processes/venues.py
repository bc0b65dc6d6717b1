"""Runs the simulated venue as a process, which a test starts, kills and restarts; and a client for it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import deque
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from websockets.sync.client import connect

from aether_services.domain import books
from aether_services.exchange_sim.core import markets
from aether_services.ingest.core import wire
from aether_testing import wait
from aether_testing.servers import free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from aether_services.domain.instruments import Symbol

TOP: Final = Path(__file__).resolve().parents[3]
DEADLINE: Final = 30.0
RECEIVE_TIMEOUT: Final = 0.5
"""Seconds to wait for one message before the deadline is looked at."""


@dataclass(slots=True, kw_only=True)
class Venue:
    """One venue, which can be restarted with the same ports and journal."""

    folder: Path
    environ: Mapping[str, str]
    port: int
    admin_port: int
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def rest(self) -> str:
        """The replacement for https://api.kraken.com."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        """The replacement for wss://ws.kraken.com/v2."""
        return f"ws://127.0.0.1:{self.port}/v2"

    @property
    def admin_url(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}"

    @property
    def journal(self) -> Path:
        return self.folder / "journal.db"

    @property
    def log(self) -> str:
        """Its log, of all runs."""
        path = self.folder / "venue.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start the process, and wait until it is ready and its admin API answers."""
        with (self.folder / "venue.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "aether_services", "exchange_sim"],
                env=dict(self.environ),
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        wait.until(self._ready_or_alive, "the venue is ready", seconds=DEADLINE, detail=lambda: self.log)

    def _ready_or_alive(self) -> bool:
        if self._ready():
            return True
        assert self.process is not None
        assert self.process.poll() is None, f"the venue ended by itself\n{self.log}"
        return False

    def _ready(self) -> bool:
        try:
            for url in (f"{self.rest}/readyz", f"{self.admin_url}/openapi.json"):
                urllib.request.urlopen(url, timeout=2).close()
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False
        return True

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, and wait for the process to exit; returns its exit code."""
        assert self.process is not None, "it was never started"
        self.process.send_signal(how)
        return self.process.wait(DEADLINE)

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.rest}{path}", timeout=10) as answer:
            return json.load(answer)

    def public(self, method: str, **params: Any) -> Any:
        """The result of a public REST method."""
        response = self.get(f"/0/public/{method}?{'&'.join(f'{name}={value}' for name, value in params.items())}")
        assert not response["error"], response
        return response["result"]

    def post(self, path: str, body: bytes, content_type: str) -> Any:
        """The response to a POST."""
        request = urllib.request.Request(f"{self.rest}{path}", body, {"Content-Type": content_type})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def admin(self, path: str, change: Mapping[str, Any] | None = None) -> Any:
        """GET a path of its admin app, or POST a change: `admin("/faults/silence", {"seconds": 2})`."""
        body = None if change is None else json.dumps(change).encode()
        request = urllib.request.Request(f"{self.admin_url}{path}", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def code(self, path: str, change: Mapping[str, Any] | None = None, *, admin: bool = False) -> int:
        """The HTTP status of a path."""
        body = None if change is None else json.dumps(change).encode()
        base = self.admin_url if admin else self.rest
        request = urllib.request.Request(f"{base}{path}", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code


@contextlib.contextmanager
def venue(folder: Path, *, started: bool = True, **settings: Any) -> Iterator[Venue]:
    """A venue on free ports of the loopback, its journal in a folder.

    Args:
        folder: A folder of its own; what lies in it from before, it goes on with.
        started: Whether it is started, and ready.
        settings: Its settings, in lower case and without the prefix: `speed=10`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port, admin_port = free_ports.one(), free_ports.one()
    ours = {
        "instance": "venue-0",
        "release": "test",
        "journal": folder / "journal.db",
        "http_host": "127.0.0.1",
        "http_port": port,
        "admin_port": admin_port,
        **settings,
    }
    others = {name: value for name, value in os.environ.items() if not name.startswith("AETHER_")}
    one = Venue(
        folder=folder,
        environ={**others, **{f"AETHER_{name.upper()}": str(value) for name, value in ours.items()}},
        port=port,
        admin_port=admin_port,
    )
    try:
        if started:
            one.start()
        yield one
    finally:
        if one.process is not None and one.process.poll() is None:
            one.end()


# ---- a client


class Client:
    """A WebSocket client that sends requests and stores received messages, with exact numbers.

    With `slow` it reads from the network only on demand, with small buffers.
    """

    def __init__(self, url: str, *, slow: bool = False) -> None:
        address = urllib.parse.urlsplit(url)
        network = socket.socket()
        if slow:
            network.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        network.connect((address.hostname, address.port))
        queue = 4 if slow else None
        self._open = contextlib.ExitStack()
        self._socket = self._open.enter_context(
            connect(url, sock=network, max_size=None, max_queue=queue, compression=None)
        )
        self.texts: deque[str] = deque(maxlen=100_000)
        """The received messages, as text."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def send(self, message: object) -> None:
        """Send a message: a string as it is, anything else as JSON."""
        self._socket.send(message if isinstance(message, str) else json.dumps(message))

    def request(self, method: str, req_id: object = None, **params: Any) -> dict[str, Any]:
        """Send a request, and wait for the first reply to it."""
        named = {} if req_id is None else {"req_id": req_id}
        self.send({"method": method, **({"params": params} if params else {}), **named})
        return self.until(lambda message: "channel" not in message, f"an answer to {method} {params}")

    def receive(self, timeout: float = 10.0) -> dict[str, Any]:
        """The next message.

        Raises:
            TimeoutError: There is none within `timeout` seconds.
            websockets.exceptions.ConnectionClosed: The venue closed the connection.
        """
        text = self._socket.recv(timeout, decode=True)
        self.texts.append(text)
        message: dict[str, Any] = json.loads(text, parse_float=Decimal)
        return message

    def until(
        self, condition: Callable[[dict[str, Any]], object], expected: str, deadline: float = DEADLINE
    ) -> dict[str, Any]:
        """Receive until a message satisfies the condition, and return it."""

        def satisfying() -> dict[str, Any] | None:
            with contextlib.suppress(TimeoutError):
                message = self.receive(RECEIVE_TIMEOUT)
                return message if condition(message) else None
            return None

        return wait.until(
            satisfying,
            expected,
            seconds=deadline,
            interval=0,
            detail=lambda: f"the last messages: {list(self.texts)[-3:]}",
        )

    def next(self, channel: str, kind: str = "update", deadline: float = DEADLINE) -> dict[str, Any]:
        """Receive until a message of this channel and type comes, and return it."""
        expected = f"{kind} of {channel}"
        return self.until(lambda one: one.get("channel") == channel and one.get("type") == kind, expected, deadline)

    def collect(self, seconds: float) -> list[dict[str, Any]]:
        """All messages received within some seconds."""
        ends, messages = time.monotonic() + seconds, []
        with contextlib.suppress(TimeoutError):
            while (left := ends - time.monotonic()) > 0:
                messages.append(self.receive(left))
        return messages


def follow(text: str, known: dict[Symbol, books.Book], depth: int) -> bool:
    """Apply a book message to the book of its market, as ingest does; whether the book is usable."""
    head = wire.head(text)
    (data,) = wire.data(head, list[wire.BookData])
    one = next(market for market in markets.MARKETS.values() if market.symbol == data.symbol)
    if one.symbol not in known:
        known[one.symbol] = books.Book(
            one.symbol, price_digits=one.price_digits, quantity_digits=one.quantity_digits, depth=depth
        )
    book = known[one.symbol]
    apply = book.snapshot if head.type == "snapshot" else book.update
    bids, asks = ([level.text() for level in side] for side in (data.bids, data.asks))
    return apply(bids, asks, wire.integer(data.checksum))
