"""The markets that this replica serves: each with its book, its tape and what is known of it. A frame in, letters out.

Nothing here asks or waits: the service hands in what was received, with the time, and carries away what is to be sent.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from aether_services.contracts.marketdata import Topic
from aether_services.domain import times
from aether_services.domain.books import Book, Unusable
from aether_services.domain.instruments import Symbol
from aether_services.domain.times import Nanoseconds
from aether_services.ingest.core import lanes, wire, writing
from aether_services.ingest.core.outboxes import Letter
from aether_services.ingest.core.tapes import Received, Tape
from aether_services.ingest.core.wire import Channel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aether_services.ingest.core.lanes import Lane
    from aether_services.ingest.core.wire import BookData, Head, PairData, TickerData, TradeData

_BOOK: Final = Topic.BOOK
_SNAPSHOT: Final = "snapshot"
_UPDATE: Final = "update"
FIRST_WORD: Final = 5 * times.SECOND
"""Until the first word about a book may be that there is none: another replica may have it, whose /status is late."""
UNKNOWN: Final = "UnknownPair"
"""The venue has no such market."""


class Market:
    """One market.

    Attributes:
        book: Its book, once the venue said with how many decimals it writes; it says itself whether it is usable.
        unknown: Whether the venue has no such market.
        tape: Its trades.
        snapshot_at: When the last snapshot of the book was received.
        sent_at: When the last message about its book was received; it is sent again once that is a second ago.
        known_at: When it was first looked at.
    """

    __slots__ = (
        "book", "checksum_failures", "gaps", "known_at", "sent_at", "snapshot_at", "symbol", "tape", "told",
        "unknown", "writer",
    )  # fmt: skip

    def __init__(self, symbol: Symbol, writer: str, tape_length: int) -> None:
        self.symbol = symbol
        self.book: Book | None = None
        self.unknown = False
        self.tape = Tape(tape_length)
        self.writer = writing.BookWriter(symbol, writer)
        self.checksum_failures = self.gaps = 0
        self.snapshot_at = self.sent_at = self.known_at = Nanoseconds(0)
        self.told: Unusable | None = Unusable.WAITING
        """What was last published of the book: nothing, when it was usable."""

    @property
    def usable(self) -> bool:
        """Whether its book may be used."""
        return self.book is not None and self.book.unusable is None

    @property
    def reason(self) -> str:
        """Why it may not."""
        if self.unknown:
            return UNKNOWN
        return Unusable.WAITING if self.book is None else self.book.unusable or ""


class Markets:
    """All markets of this replica.

    Args:
        writer: Tells this life of this replica from all others, in the ids of messages.
        depth: Levels that books are subscribed with.
        tape_length: Trades of each market that are remembered.
        post: Is given each message about a book or a ticker.
    """

    def __init__(self, *, writer: str, depth: int, tape_length: int, post: Callable[[Letter], None]) -> None:
        self._writer, self._depth, self._tape_length, self._post = writer, depth, tape_length, post
        self._markets: dict[Symbol, Market] = {}
        self._lanes: dict[str, tuple[Lane, Market]] = {}
        """What the messages of a lane begin with → the lane, and whose it is."""
        self._pairs: dict[str, PairData] = {}
        self._written = 0
        self.system = ""
        """The venue's own word of itself."""
        self.messages: Counter[str] = Counter()
        """Channel → messages received, but for those of `book_messages`."""
        self.book_messages = 0
        self.misunderstood = 0
        self.renew: set[Symbol] = set()
        """Markets whose book is to be asked for anew."""
        self.fill: set[Symbol] = set()
        """Markets whose tape lacks trades that the venue is to be asked for."""
        self.elsewhere: frozenset[Symbol] = frozenset()
        """Markets that another replica has a usable book of, as far as is known."""
        self.latest: Nanoseconds = Nanoseconds(0)
        """The newest time that the venue told of a trade or a ticker."""
        self.observe: Callable[[float], object] = lambda _: None
        """Is told how many seconds each trade and ticker took, from the venue's time of it until it was received."""

    # What is served.

    def serve(self, symbols: Iterable[Symbol]) -> None:
        """Serve these markets, and forget all others."""
        wanted = set(symbols)
        for symbol in set(self._markets) - wanted:
            del self._markets[symbol]
            self.renew.discard(symbol)
            self.fill.discard(symbol)
        self._lanes = {head: one for head, one in self._lanes.items() if one[1].symbol in self._markets}
        for symbol in wanted - set(self._markets):
            market = self._markets[symbol] = Market(symbol, self._writer, self._tape_length)
            self._prepare(market)

    def __getitem__(self, symbol: Symbol) -> Market:
        return self._markets[symbol]

    def get(self, symbol: Symbol) -> Market | None:
        """One market, where it is served."""
        return self._markets.get(symbol)

    def all(self) -> list[Market]:
        """All that are served."""
        return list(self._markets.values())

    # What is received.

    def receive(self, frame: str, received: Nanoseconds) -> Head | None:
        """Take in one message of the venue; gives it back where it is a reply to a request."""
        market = None
        try:
            head, _, rest = frame.partition(lanes.FIRST)
            found = self._lanes.get(head)
            if found is None:
                return self._any(frame, received)
            lane, market = found
            at = lane.take(rest)
            if at is None:
                return self._by_rules(lane, frame, received)
            self.book_messages += 1
            self._publish(market, lane.book, at, received)
        except (wire.NotUnderstood, ValueError):
            self.misunderstood += 1
            suspects = self._suspects(frame)
            if market is not None:
                suspects.add(market)
            for one in suspects:
                self._unreadable(one, received)
        return None

    def _suspects(self, frame: str) -> set[Market]:
        """The markets whose book a message may have been about that was not understood: all, where nobody can tell."""
        names = wire.addressed(frame)
        if names is None or not names <= set(self._pairs):  # a name that the venue does not have is none
            return set(self._markets.values())
        return {market for symbol, market in self._markets.items() if symbol in names}

    def _unreadable(self, market: Market, received: Nanoseconds, kind: str = "") -> None:
        """What it was told about its book is not understood, so that the book is not what the venue has any more."""
        if market.book is not None and (market.book.followed or kind == _SNAPSHOT):
            market.book.drop(Unusable.MALFORMED)
            self._refuse(market, received)

    def _by_rules(self, lane: Lane, frame: str, received: Nanoseconds) -> Head | None:
        reply = self._any(frame, received)
        if not lane.book.checksum:
            raise wire.NotUnderstood("the rules find another message in it than the places do")
        return reply

    def _any(self, frame: str, received: Nanoseconds) -> Head | None:
        head = wire.head(frame)
        if head.method and not head.data:
            return head
        if head.channel != Channel.BOOK:
            self.messages[head.channel] += 1
        match head.channel:
            case Channel.BOOK:
                self._books(head, received)
            case Channel.TRADE:
                self._trades(wire.data(head, list[wire.TradeData]), received, head.type)
            case Channel.TICKER:
                self._tickers(wire.data(head, list[wire.TickerData]), received, head.type)
            case Channel.INSTRUMENT:
                self._instruments(wire.data(head, wire.InstrumentData).pairs)
            case Channel.STATUS:
                for status in wire.data(head, list[wire.StatusData]):
                    self.system = status.system
            case "" if head.data:
                raise wire.NotUnderstood("data of no channel")
            case _:
                pass  # heartbeats, and what is not asked for
        return None

    def _books(self, head: Head, received: Nanoseconds) -> None:
        """Take in what is understood of a message, and withdraw the books that the rest is about."""
        books, unreadable = wire.books(head)
        if any(symbol not in self._pairs for symbol in (*unreadable, *(one.symbol for one in books))):
            raise wire.NotUnderstood("a book of a market that the venue does not have")
        self.book_messages += 1
        self.misunderstood += bool(unreadable)
        for one in books:
            self._book(one, received, head.type)
        for symbol in unreadable:
            if (market := self._markets.get(Symbol(symbol))) is not None:
                self._unreadable(market, received, head.type)

    def _book(self, data: BookData, received: Nanoseconds, kind: str) -> None:
        market = self._markets.get(data.symbol)  # type: ignore[call-overload]  # where it is known, it is a Symbol
        if market is None or (book := market.book) is None:
            return
        if kind == _UPDATE and not book.followed:
            return  # what comes before the snapshot that was asked for
        try:
            at = times.text(times.parse(data.timestamp) if data.timestamp else received)
        except ValueError:
            kind = ""
        if kind not in {_SNAPSHOT, _UPDATE}:
            self.misunderstood += 1
            book.drop(Unusable.MALFORMED)
            self._refuse(market, received)
            return
        bids, asks = ([level.text() for level in side] for side in (data.bids, data.asks))
        if kind == _SNAPSHOT:
            market.snapshot_at = received
            usable = book.snapshot(bids, asks, data.checksum)
        else:
            usable = book.update(bids, asks, data.checksum)
        if usable:
            self._publish(market, book, at, received)
        elif book.unusable is Unusable.CROSSED:
            self.withdraw(market, received)
        else:
            self._refuse(market, received)

    def _publish(self, market: Market, book: Book, at: str, received: Nanoseconds) -> None:
        market.sent_at, market.told = received, None
        self._post(Letter(_BOOK, market.symbol, market.writer.usable(book, at, received), received))

    def _refuse(self, market: Market, received: Nanoseconds) -> None:
        market.checksum_failures += 1
        self.renew.add(market.symbol)
        self.withdraw(market, received)

    def _instruments(self, pairs: Iterable[PairData]) -> None:
        self._pairs |= {pair.symbol: pair for pair in pairs if pair.sensible}
        for market in self._markets.values():
            self._prepare(market)

    def _trades(self, trades: Iterable[TradeData], received: Nanoseconds, kind: str) -> None:
        for one in trades:
            market = self._markets.get(Symbol(one.symbol))
            if market is None:
                continue
            trade = one.trade()
            self._heard(trade.at, received, kind)
            last = market.tape.last
            if last is not None and trade.trade_id <= last.trade_id and trade.at > last.at + times.SECOND:
                self.begin_anew(market)
            whole = not market.tape.gap
            market.tape.add([Received(trade, received)])
            if market.tape.gap:
                market.gaps += whole
                self.fill.add(market.symbol)

    def _tickers(self, tickers: Iterable[TickerData], received: Nanoseconds, kind: str) -> None:
        for one in tickers:
            ticker = one.ticker(received)
            if ticker.symbol not in self._markets:
                continue
            self._heard(ticker.at, received, kind)
            self._written += 1
            body = writing.ticker(ticker, f"{self._writer}-{self._written}", received)
            self._post(Letter(Topic.TICKER, ticker.symbol, body, received))

    def _heard(self, at: Nanoseconds, received: Nanoseconds, kind: str) -> None:
        self.latest = max(self.latest, at)
        if kind == _UPDATE:  # a snapshot tells of what happened before anybody asked
            self.observe(max(0, received - at) / times.SECOND)

    def _prepare(self, market: Market) -> None:
        """A book can be read once the venue said with how many decimals it writes, and anew when it says other ones."""
        pair = self._pairs.get(market.symbol)
        if pair is None:
            market.unknown = bool(self._pairs)
            return
        market.unknown = False
        book = market.book
        if book is None or (book.price_digits, book.quantity_digits) != (pair.price_precision, pair.qty_precision):
            market.book = Book(
                market.symbol,
                price_digits=pair.price_precision,
                quantity_digits=pair.qty_precision,
                depth=self._depth,
            )
            self._lanes |= {head: (lane, market) for head, lane in lanes.of(market.book).items()}
            if book is not None:
                self.renew.add(market.symbol)

    def begin_anew(self, market: Market) -> None:
        """The venue gives ids again that it has given: what an output stands at is of other trades, and it will see."""
        market.tape = Tape(self._tape_length)

    # What is published.

    def withdraw(self, market: Market, now: Nanoseconds, *, again: bool = False) -> None:
        """Say that a market's book must not be used: once, unless `again`.

        Where another replica has it, only what was said here is taken back: readers have a good book from there.
        """
        why = Unusable.WAITING if market.book is None else market.book.unusable
        if why is None or (market.told is why and not again):
            return
        if market.told is not None and market.symbol in self.elsewhere:
            return
        market.sent_at, market.told = now, why
        self._post(Letter(_BOOK, market.symbol, market.writer.unusable(why, now), now))

    def beat(self, heard: Nanoseconds, now: Nanoseconds) -> None:
        """Say again what has not been said for a second.

        Args:
            heard: When the venue was last heard of: a book that did not change since is still what it was then.
            now: The time.
        """
        for market in self._markets.values():
            market.known_at = market.known_at or now
            if now - market.sent_at < times.SECOND:
                continue
            if market.book is not None and market.book.unusable is None:
                if heard > market.sent_at:
                    market.sent_at = heard
                    self._post(Letter(_BOOK, market.symbol, market.writer.again(market.book, heard), heard))
            elif market.sent_at or now - market.known_at >= FIRST_WORD:
                self.withdraw(market, now, again=True)

    def drop(self, why: Unusable, now: Nanoseconds) -> None:
        """No book is to be trusted any more."""
        for market in self._markets.values():
            if market.book is not None and market.book.followed:
                market.book.drop(why)
                self.withdraw(market, now)
        self.renew.clear()
