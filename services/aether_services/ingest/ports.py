"""What ingest needs of the world, in its own words."""

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
    """The venue cannot be reached, or ended the connection.

    `code` is that of a WebSocket's close, the status with which its opening was refused, or 0.
    """

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class InvalidTrades(VenueUnavailable):
    """The venue answers, and what it says next of a market's trades is not understood or cannot be.

    Nothing after it may be handed on: nobody knows what is missing.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentList:
    """The markets of a venue."""

    instruments: Sequence[Instrument] = ()
    unreadable: frozenset[Symbol] = frozenset()
    """Those whose entry is not understood."""


class OutputUnavailable(Exception):
    """An output cannot be reached, refuses, or does not answer in time; the message is for people."""


class Connection(Protocol):
    """One WebSocket to the venue."""

    async def receive(self) -> str:
        """The next message.

        Raises:
            VenueAway: There is none any more.
        """
        ...

    async def send(self, text: str) -> None:
        """Say something.

        Raises:
            VenueAway: It cannot be said any more.
        """
        ...


class Venue(Protocol):
    """A venue's public side."""

    def connected(self) -> AbstractAsyncContextManager[Connection]:
        """A WebSocket, for as long as it is entered.

        Raises:
            VenueAway: There is none to be had.
        """
        ...

    async def instruments(self) -> InstrumentList:
        """All spot markets in USD; from now on `trades` reads by what this says.

        Raises:
            VenueAway: It does not say.
        """
        ...

    async def trades(self, symbol: Symbol, after: Cursor | None) -> Sequence[Trade]:
        """The trades of a market after a place, in order: all of them, or the first thousand or so.

        Where one of them is not understood, those before it. Without a place the newest thousand or so, and where one
        is not understood, those after it.

        Raises:
            VenueAway: It does not say.
            NotTold: The first of them is not understood; without a place, the last.
        """
        ...


class Sink(Protocol):
    """An output that can be written to."""

    async def cursors(self, symbols: Collection[Symbol]) -> Mapping[Symbol, Cursor]:
        """Where it stands in each market's trades; a market is left out where it has none.

        Raises:
            OutputAway: It does not say.
        """
        ...

    async def deliver(
        self,
        trades: Sequence[ReceivedTrade],
        messages: Sequence[EncodedMessage],
        complete: Mapping[Symbol, Nanoseconds],
    ) -> int:
        """Have it all arrive, in order within a market; when this returns, it has: in so many messages or new rows.

        Args:
            trades: Trades.
            messages: Books and tickers.
            complete: Market → until when it is known that there was no trade but those delivered by now.

        Raises:
            OutputAway: Nobody knows what of it has arrived.
            Behind: It stands elsewhere than was thought.
        """
        ...


class CursorMismatch(OutputUnavailable):
    """An output has lost what it had, or another wrote: its places are to be asked for again."""


class Output(Protocol):
    """Where market data goes."""

    @property
    def name(self) -> statuses.Output:
        """Which."""
        ...

    @property
    def batch_interval(self) -> float:
        """Seconds for which it waits for more, since many at once cost it little more than one.

        An output that waits is called when there is nothing, too: time passes for what it keeps.
        """
        ...

    def connected(self) -> AbstractAsyncContextManager[Sink]:
        """The output, for as long as it is entered.

        Raises:
            OutputAway: It is not to be had.
        """
        ...


class InstrumentStore(Protocol):
    """Where markets are written down."""

    async def save(self, instruments: Sequence[Instrument]) -> None:
        """Write them down.

        Raises:
            OutputAway: It could not be done.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSettings:
    """What may change while we run."""

    pairs: frozenset[Symbol]
    replicas: int
    digest: str


class LiveSettingsSource(Protocol):
    """Where that is written."""

    def read(self) -> LiveSettings | None:
        """As it is now; nothing where it cannot be read or understood, so that what was goes on."""
        ...


class Peers(Protocol):
    """The other replicas."""

    async def usable(self, replicas: int) -> dict[int, frozenset[Symbol]]:
        """Replica → markets that it has a usable book of, for those that answer."""
        ...
