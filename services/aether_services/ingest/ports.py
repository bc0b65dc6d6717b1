"""The ports of ingest: venue, outputs, instrument store, live settings, other replicas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from aether_services.contracts import statuses
    from aether_services.domain.instruments import Instrument, Symbol
    from aether_services.domain.times import Nanoseconds
    from aether_services.domain.trades import Trade
    from aether_services.ingest.core.outboxes import EncodedMessage
    from aether_services.ingest.core.trade_logs import Cursor, ReceivedTrade


class VenueUnavailable(Exception):
    """The venue cannot be reached, or closed the connection.

    `code` is the WebSocket's close code, the HTTP status of a rejected handshake, or 0.
    """

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class InvalidTrades(VenueUnavailable):
    """The venue answers, but the next trade of a market is malformed or implausible.

    No later trade of the market may be delivered, since one before it would be missing.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentList:
    """The markets of a venue, as read from AssetPairs."""

    instruments: Sequence[Instrument] = ()
    unreadable: frozenset[Symbol] = frozenset()
    """Markets whose entry is malformed."""


class OutputUnavailable(Exception):
    """An output cannot be reached, rejects the client, or does not answer in time."""


class Connection(Protocol):
    """One WebSocket to the venue."""

    async def receive(self) -> str:
        """Receive the next message.

        Raises:
            VenueUnavailable: The connection ended.
        """
        ...

    async def send(self, text: str) -> None:
        """Send a request.

        Raises:
            VenueUnavailable: The connection ended.
        """
        ...


class Venue(Protocol):
    """A venue's public API."""

    def connected(self) -> AbstractAsyncContextManager[Connection]:
        """A WebSocket connection as a context.

        Raises:
            VenueUnavailable: The connection fails.
        """
        ...

    async def instruments(self) -> InstrumentList:
        """All USD spot markets. `trades` uses their decimals from now on.

        Raises:
            VenueUnavailable: The request fails.
        """
        ...

    async def trades(self, symbol: Symbol, after: Cursor | None) -> Sequence[Trade]:
        """The trades of a market after a cursor in order, about a thousand at most; without a cursor the newest ones.

        Where one of them is malformed, only those before it; without a cursor, only those after it.

        Raises:
            VenueUnavailable: The request fails.
            InvalidTrades: The first of them is malformed; without a cursor, the last.
        """
        ...


class Sink(Protocol):
    """A connected output."""

    async def cursors(self, symbols: Collection[Symbol]) -> Mapping[Symbol, Cursor]:
        """The cursor of each market's last delivered trade; markets without a trade are left out.

        Raises:
            OutputUnavailable: The query fails.
        """
        ...

    async def deliver(
        self,
        trades: Sequence[ReceivedTrade],
        messages: Sequence[EncodedMessage],
        complete: Mapping[Symbol, Nanoseconds],
    ) -> int:
        """Deliver a batch, in order within a market, and wait for the acknowledgement.

        Args:
            trades: Trades.
            messages: Book and ticker messages.
            complete: Market → the time up to which no other trades exist than those that are delivered by now.

        Returns:
            The number of messages sent or of rows inserted.

        Raises:
            OutputUnavailable: The delivery failed; any part of it may have arrived.
            CursorMismatch: The output's cursor is not the expected one.
        """
        ...


class CursorMismatch(OutputUnavailable):
    """An output lost data, or another writer was active: its cursors must be queried again."""


class Output(Protocol):
    """A destination of market data."""

    @property
    def name(self) -> statuses.Output: ...

    @property
    def batch_interval(self) -> float:
        """Seconds between two deliveries, for an output where large batches are cheap; 0 to deliver at once.

        An output with an interval is also called without messages, since time alone may complete a candle.
        """
        ...

    def connected(self) -> AbstractAsyncContextManager[Sink]:
        """A connection to the output as a context.

        Raises:
            OutputUnavailable: The connection fails.
        """
        ...


class InstrumentStore(Protocol):
    """Stores the markets."""

    async def save(self, instruments: Sequence[Instrument]) -> None:
        """Insert or update markets.

        Raises:
            OutputUnavailable: The store cannot be written.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSettings:
    """Settings that may change while the service runs."""

    pairs: frozenset[Symbol]
    replicas: int
    digest: str


class LiveSettingsSource(Protocol):
    """The source of the live settings."""

    def read(self) -> LiveSettings | None:
        """The current settings; None where they cannot be read, so that the previous ones stay in effect."""
        ...


class Peers(Protocol):
    """The other replicas."""

    async def usable(self, replicas: int) -> dict[int, frozenset[Symbol]]:
        """Replica → markets with a usable book there, for the replicas that answer."""
        ...


class Observer(Protocol):
    """Gets each measured time, in seconds."""

    def feed_delay(self, seconds: float) -> None:
        """The time from the venue's timestamp of a trade or ticker until its receipt."""
        ...

    def delivered(self, output: statuses.Output, delay: float | None, duration: float) -> None:
        """A delivery arrived: the time since the receipt of its oldest item, None where it has none; its duration."""
        ...
