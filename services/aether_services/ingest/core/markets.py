"""The markets that this replica serves. A frame in, letters out.

Nothing here asks or waits: the service hands in what was received, with the time, and carries away what is to be sent.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from aether_services.contracts.marketdata import Topic
from aether_services.domain import decimals, times
from aether_services.domain.books import Book, UnusableReason
from aether_services.domain.instruments import Symbol
from aether_services.domain.times import Nanoseconds
from aether_services.ingest.core import encoding, fast_path, rejections, wire
from aether_services.ingest.core.market import Market
from aether_services.ingest.core.outboxes import EncodedMessage
from aether_services.ingest.core.rejections import RejectedValue, RejectionReason, Rejections
from aether_services.ingest.core.trade_logs import ReceivedTrade, TradeLog
from aether_services.ingest.core.wire import Channel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from decimal import Decimal

    import msgspec

    from aether_services.domain.trades import Trade
    from aether_services.ingest.core.fast_path import FastPath
    from aether_services.ingest.core.wire import BookData, Head, TickerData, TradeData

_BOOK: Final = Topic.BOOK
_AHEAD: Final = rejections.MAX_AHEAD
_FRAME: Final = "frame"
"""Where it cannot be told which channel a message is of."""
_FIRST: Final = fast_path.FIRST_LEVEL
_SNAPSHOT: Final = "snapshot"
_UPDATE: Final = "update"
FIRST_UNUSABLE_AFTER: Final = 5 * times.SECOND
"""Until the first word about a book may be that there is none: another replica may have it, whose /status is late."""


class Markets:
    """All markets of this replica.

    Args:
        writer: Tells this life of this replica from all others, in the ids of messages.
        depth: Levels that books are subscribed with.
        trade_log_length: Trades of each market that are remembered.
        publish: Is given each message about a book or a ticker.
        rejections: Counts what is not taken.
    """

    def __init__(
        self,
        *,
        writer: str,
        depth: int,
        trade_log_length: int,
        publish: Callable[[EncodedMessage], None],
        rejections: Rejections | None = None,
    ) -> None:
        self._writer, self._depth, self._trade_log_length, self._publish_message = (
            writer,
            depth,
            trade_log_length,
            publish,
        )
        self.rejections = rejections or Rejections()
        self._markets: dict[Symbol, Market] = {}
        self._fast_paths: dict[str, tuple[FastPath, Market]] = {}
        """What the messages of a lane begin with → the lane, and whose it is."""
        self._digits: dict[str, tuple[int, int]] = {}
        """Every market that the venue has → decimals of its prices and of its quantities."""
        self._unreadable: set[str] = set()
        """Those of which it does not say that in a form that is understood."""
        self._ticker_number = 0
        self.system = ""
        """The venue's own word of itself."""
        self.messages: Counter[str] = Counter()
        """Channel → messages received, but for those of `book_messages`."""
        self.book_messages = 0
        self.malformed = 0
        self.resubscribe: set[Symbol] = set()
        """Markets whose book is to be asked for anew."""
        self.data_received: set[tuple[Channel, Symbol | None]] = set()
        """Subscriptions that data came of since somebody looked; of books and instruments, a snapshot."""
        self.backfill: set[Symbol] = set()
        """Markets whose tape lacks trades that the venue is to be asked for."""
        self.instruments_outdated = False
        """Whether a number had more decimals than its market, or a market was not understood: all are read anew."""
        self.usable_elsewhere: frozenset[Symbol] = frozenset()
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
            self.resubscribe.discard(symbol)
            self.backfill.discard(symbol)
        self._fast_paths = {head: one for head, one in self._fast_paths.items() if one[1].symbol in self._markets}
        for symbol in wanted - set(self._markets):
            market = self._markets[symbol] = Market(symbol, self._writer, self._trade_log_length)
            self._prepare_book(market)

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
            head, _, rest = frame.partition(_FIRST)
            found = self._fast_paths.get(head)
            if found is None:
                return self._parse(frame, received)
            path, market = found
            at = path.apply(rest)
            if at is None:
                return self._parse_fully(path, frame, received)
            self.book_messages += 1
            if path.since > received + _AHEAD:
                rejections.check_time(path.since, received)
            self._publish(market, path.book, at, received)
        except Exception as fault:  # noqa: BLE001 - whatever is received, the next message is read
            self.malformed += 1
            where = (_FRAME, "") if market is None else (Channel.BOOK, market.symbol)
            why = self.rejections.record(*where, fault)
            suspects = self._affected_markets(frame)
            if market is not None:
                suspects.add(market)
            for one in suspects:
                self._invalidate_book(one, why, received, _UPDATE)
        return None

    def _affected_markets(self, frame: str) -> set[Market]:
        """The markets whose book a message may have been about that was not understood: all, where nobody can tell."""
        names = wire.markets_named(frame)
        if names is None or not all(map(self._known, names)):  # a name that the venue does not have is none
            return set(self._markets.values())
        return {market for symbol, market in self._markets.items() if symbol in names}

    def _known(self, symbol: str) -> bool:
        """Whether the venue has such a market."""
        return bool(symbol) and (symbol in self._digits or symbol in self._unreadable)

    def _parse_fully(self, path: FastPath, frame: str, received: Nanoseconds) -> Head | None:
        reply = self._parse(frame, received)
        if not path.book.checksum:
            raise wire.MalformedMessage("the rules find another message in it than the places do")
        return reply

    def _parse(self, frame: str, received: Nanoseconds) -> Head | None:
        head = wire.head(frame)
        if head.method and not head.data:
            return head
        if head.channel != Channel.BOOK:
            self.messages[head.channel] += 1
        match head.channel:
            case Channel.BOOK:
                self._read_entries(head, wire.entries(head), received)
                self.book_messages += 1
            case Channel.TRADE | Channel.TICKER | Channel.STATUS:
                self._read_entries(head, wire.entries(head), received)
            case Channel.INSTRUMENT:
                pairs = wire.data(head, wire.InstrumentData).pairs
                if head.type == _SNAPSHOT and not pairs:
                    raise wire.MalformedMessage("a list of markets without one")
                self._read_entries(head, pairs, received)
                for market in self._markets.values():
                    self._prepare_book(market)
                if head.type == _SNAPSHOT:
                    self.data_received.add((Channel.INSTRUMENT, None))
            case "" if head.data:
                raise wire.MalformedMessage("data of no channel")
            case _:
                pass  # heartbeats, and what is not asked for
        return None

    def _read_entries(self, head: Head, entries: list[msgspec.Raw], received: Nanoseconds) -> None:
        """Take in each entry by itself: what is wrong with one is not wrong with the others."""
        for raw in entries:
            try:
                self._read_entry(head, raw, received)
            except Exception as fault:  # noqa: BLE001 - whatever is received, the next entry is read
                self._reject_entry(head, raw, received, fault)

    def _read_entry(self, head: Head, raw: msgspec.Raw, received: Nanoseconds) -> None:
        match head.channel:
            case Channel.BOOK:
                self._book(wire.entry(raw, wire.BookData), received, head.type)
            case Channel.TRADE:
                self._trade(wire.entry(raw, wire.TradeData), received, head.type)
            case Channel.TICKER:
                self._ticker(wire.entry(raw, wire.TickerData), received, head.type)
            case Channel.INSTRUMENT:
                pair = wire.entry(raw, wire.PairData)
                self._digits[pair.symbol] = pair.digits()
                self._unreadable.discard(pair.symbol)
            case _:
                self.system = wire.entry(raw, wire.StatusData).system

    def _reject_entry(self, head: Head, raw: msgspec.Raw, received: Nanoseconds, fault: Exception) -> None:
        """An entry is not taken: what it was about is left safe."""
        symbol = wire.symbol_of(raw)
        if head.channel == Channel.BOOK and not self._known(symbol):
            raise wire.MalformedMessage(f"a book of a market that the venue does not have: {symbol[:40]!r}") from fault
        self.malformed += 1
        why = self.rejections.record(head.channel, symbol, fault)
        self.instruments_outdated |= why is RejectionReason.DECIMALS
        if head.channel == Channel.INSTRUMENT:
            self._digits.pop(symbol, None)
            self._unreadable.add(symbol)
        market = self._markets.get(Symbol(symbol))
        if market is None:
            return
        self.instruments_outdated |= head.channel == Channel.INSTRUMENT
        if head.channel == Channel.BOOK:
            self._invalidate_book(market, why, received, head.type)
        elif head.channel == Channel.TRADE:
            said = type(fault).__name__ if why is RejectionReason.UNEXPECTED else str(fault)
            self._withhold_after(market, wire.trade_id_of(raw), said, received)

    def _invalidate_book(self, market: Market, why: RejectionReason, received: Nanoseconds, kind: str) -> None:
        """What it was told about its book is not taken, so that the book is not what the venue has any more."""
        if market.book is not None and (market.book.in_sync or kind != _UPDATE):
            market.book.invalidate(
                UnusableReason.AHEAD if why is RejectionReason.TIME_AHEAD else UnusableReason.MALFORMED
            )
            self._book_failed(market, received)

    def _withhold_after(self, market: Market, trade_id: int | None, fault: str, received: Nanoseconds) -> None:
        """A trade is not taken: what comes after it is not handed on until the venue's REST told it otherwise."""
        last = market.trade_log.last
        if trade_id is not None and last is not None and trade_id <= last.trade_id:
            return
        self.withhold(market, fault, received)

    def withhold(self, market: Market, why: str, now: Nanoseconds) -> None:
        """Hand on no trade of a market after those that are known: one is not understood, or cannot be so."""
        market.withheld, market.withheld_at = why, now
        self.backfill.add(market.symbol)

    def _book(self, data: BookData, received: Nanoseconds, kind: str) -> None:
        market = self._markets.get(Symbol(data.symbol))
        if not self._known(data.symbol):
            raise wire.MalformedMessage("no such market")
        if market is None or (book := market.book) is None:
            return
        if kind == _UPDATE and not book.in_sync:
            return  # what comes before the snapshot that was asked for
        if kind not in {_SNAPSHOT, _UPDATE}:
            raise wire.MalformedMessage(f"neither a snapshot nor an update: {kind[:40]!r}")
        moment = times.parse(data.timestamp) if data.timestamp else received
        rejections.check_time(moment, received)
        at, checksum = times.text(moment), wire.integer(data.checksum)
        bids, asks = ([level.text() for level in side] for side in (data.bids, data.asks))
        if kind == _SNAPSHOT:
            self.data_received.add((Channel.BOOK, market.symbol))
            market.snapshot_at = received
            usable = book.snapshot(bids, asks, checksum)
        else:
            usable = book.update(bids, asks, checksum)
        if usable and market.snapshot_is_stale(moment):
            self.withdraw_contradicted(market, received)
        elif usable:
            self._publish(market, book, at, received)
        elif book.unusable is UnusableReason.CROSSED:
            self.withdraw(market, received)
        else:
            self._book_failed(market, received)

    def withdraw_contradicted(self, market: Market, now: Nanoseconds) -> None:
        """Withdraw a book that cannot be what its market is: ticker or trades say otherwise."""
        if market.book is not None:
            market.book.invalidate(UnusableReason.CONTRADICTED)
            market.liveness.book_withdrawn(now)
            self.resubscribe.add(market.symbol)
            self.withdraw(market, now)

    def _publish(self, market: Market, book: Book, at: str, received: Nanoseconds) -> None:
        market.sent_at = market.verified_at = received
        market.published = None
        self._publish_message(EncodedMessage(_BOOK, market.symbol, market.writer.usable(book, at, received), received))

    def _book_failed(self, market: Market, received: Nanoseconds) -> None:
        market.checksum_failures += 1
        self.instruments_outdated |= market.book is not None and market.book.unusable is UnusableReason.MALFORMED
        self.resubscribe.add(market.symbol)
        self.withdraw(market, received)

    def _trade(self, one: TradeData, received: Nanoseconds, kind: str) -> None:
        market = self._markets.get(Symbol(one.symbol))
        if market is None:
            return
        self.data_received.add((Channel.TRADE, market.symbol))
        trade, last = one.trade(), market.trade_log.last
        rejections.check_time(trade.at, received)
        market.check_trade_time(trade, received, snapshot=kind == _SNAPSHOT)
        self._check_decimals(market.symbol, (trade.price,), (trade.quantity,))
        self._observe_delay(trade.at, received, kind)
        market.liveness.trade_received(trade)
        if kind == _UPDATE:
            market.liveness.update_received(Channel.TRADE)
        if last is not None and trade.trade_id <= last.trade_id and trade.at > last.at + times.SECOND:
            self.restart_trade_log(market)
        market.add(trade, received)
        if market.trade_log.has_gap:
            self.backfill.add(market.symbol)

    def add_from_rest(self, market: Market, trades: Sequence[Trade], now: Nanoseconds, *, after_gap: bool) -> None:
        """Take in trades that the venue's REST told.

        Args:
            market: Whose they are.
            trades: They, in order.
            now: The time.
            after_gap: Whether they are what follows the last that is known, so that an id left out does not exist.
        """
        received = [ReceivedTrade(one, now) for one in trades]
        market.liveness.trade_received(trades[-1])
        if after_gap:
            market.trade_log.backfill(received)
            return
        market.trade_log.add(received)
        if market.trade_log.has_gap:
            self.backfill.add(market.symbol)

    def _ticker(self, one: TickerData, received: Nanoseconds, kind: str) -> None:
        symbol = Symbol(one.symbol)
        market = self._markets.get(symbol)
        if market is None:
            return
        self.data_received.add((Channel.TICKER, symbol))
        ticker = one.ticker(received)
        rejections.check_time(ticker.at, received)
        # The others are of the last 24 hours, in which it may have had more decimals.
        self._check_decimals(symbol, (ticker.bid, ticker.ask), (ticker.bid_quantity, ticker.ask_quantity))
        self._observe_delay(ticker.at, received, kind)
        market.liveness.ticker_received(ticker, dated=bool(one.timestamp))
        if kind == _UPDATE:
            market.liveness.update_received(Channel.TICKER)
        self._ticker_number += 1
        body = encoding.ticker(ticker, f"{self._writer}-{self._ticker_number}", received)
        self._publish_message(EncodedMessage(Topic.TICKER, symbol, body, received))

    def _check_decimals(self, symbol: Symbol, prices: Iterable[Decimal], quantities: Iterable[Decimal]) -> None:
        """Refuse numbers with more decimals than their market has; they are read once the venue says that it has more.

        Raises:
            Refused: There is one.
        """
        for digits, numbers in zip(self._digits.get(symbol, ()), (prices, quantities), strict=False):
            for number in numbers:
                if decimals.decimal_places(number) > digits:
                    raise RejectedValue(RejectionReason.DECIMALS, f"a number with more than {digits} decimals", number)

    def _observe_delay(self, at: Nanoseconds, received: Nanoseconds, kind: str) -> None:
        self.latest = max(self.latest, at)
        if kind == _UPDATE:  # a snapshot tells of what happened before anybody asked
            self.observe(max(0, received - at) / times.SECOND)

    def _prepare_book(self, market: Market) -> None:
        """A book can be read once the venue said with how many decimals it writes, and anew when it says other ones."""
        digits = self._digits.get(market.symbol)
        market.unreadable = market.symbol in self._unreadable
        market.unknown = digits is None and not market.unreadable and bool(self._digits)
        if digits is None:
            if market.unreadable and market.book is not None:
                market.book.invalidate(UnusableReason.MALFORMED)
                self.withdraw(market, market.sent_at)
                market.book = None
            return
        book = market.book
        if book is None or (book.price_digits, book.quantity_digits) != digits:
            market.book = Book(market.symbol, price_digits=digits[0], quantity_digits=digits[1], depth=self._depth)
            self._fast_paths |= {head: (path, market) for head, path in fast_path.for_book(market.book).items()}
            if book is not None:
                self.resubscribe.add(market.symbol)

    def restart_trade_log(self, market: Market) -> None:
        """The venue gives ids again that it has given: what an output stands at is of other trades, and it will see."""
        market.trade_log = TradeLog(self._trade_log_length)

    # What is published.

    def withdraw(self, market: Market, now: Nanoseconds, *, again: bool = False) -> None:
        """Say that a market's book must not be used: once, unless `again`.

        Where another replica has it, only what was said here is taken back: readers have a good book from there.
        """
        why = UnusableReason.WAITING if market.book is None else market.book.unusable
        if why is None or (market.published is why and not again):
            return
        if market.published is not None and market.symbol in self.usable_elsewhere:
            return
        market.sent_at, market.published = now, why
        self._publish_message(EncodedMessage(_BOOK, market.symbol, market.writer.unusable(why, now), now))

    def republish(self, heard: Nanoseconds, now: Nanoseconds) -> None:
        """Say again what has not been said for a second.

        Args:
            heard: When the venue was last heard of: a book that did not change since is still what it was then.
            now: The time.
        """
        for market in self._markets.values():
            market.first_seen_at = market.first_seen_at or now
            if now - market.sent_at < times.SECOND:
                continue
            if market.book is not None and market.book.unusable is None:
                if heard > market.sent_at:
                    market.sent_at = heard
                    self._publish_message(
                        EncodedMessage(_BOOK, market.symbol, market.writer.again(market.book, heard), heard)
                    )
            elif market.sent_at or now - market.first_seen_at >= FIRST_UNUSABLE_AFTER:
                self.withdraw(market, now, again=True)

    def invalidate_books(self, why: UnusableReason, now: Nanoseconds) -> None:
        """No book is to be trusted any more."""
        for market in self._markets.values():
            if market.book is not None and market.book.in_sync:
                market.book.invalidate(why)
                self.withdraw(market, now)
        self.resubscribe.clear()
