"""The markets that this replica serves: WebSocket frames in, messages for the outputs out.

There is no I/O and no waiting here: the service passes in each frame with its time of receipt.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from aether_services.contracts.marketdata import Topic
from aether_services.domain import decimals, times
from aether_services.domain.books import Book, UnusableReason
from aether_services.domain.instruments import Symbol
from aether_services.domain.times import Nanoseconds
from aether_services.ingest.core import encoding, fast_path, liveness, rejections, wire
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
"""The channel label of a rejected frame whose channel is unknown."""
_FIRST: Final = fast_path.FIRST_LEVEL
_SNAPSHOT: Final = "snapshot"
_UPDATE: Final = "update"
FIRST_UNUSABLE_AFTER: Final = 5 * times.SECOND
"""How long after it starts to serve a market a replica may publish that the book is not usable.

Until then another replica may serve it whose /status was not read yet.
"""


class Markets:
    """All markets of this replica, and the only one that changes their state; the service reads it, and calls this.

    Args:
        writer: An id of this process, the prefix of message ids.
        depth: The subscribed depth of books.
        trade_log_length: Trades of each market that are kept in memory.
        publish: Called with each book and ticker message.
        observe_delay: Called with the seconds from the venue's time of each trade and ticker until its receipt.
        rejections: Counts rejected messages and entries.
    """

    def __init__(  # noqa: PLR0913 - its parts, by name
        self,
        *,
        writer: str,
        depth: int,
        trade_log_length: int,
        publish: Callable[[EncodedMessage], None],
        observe_delay: Callable[[float], object] = lambda _: None,
        rejections: Rejections | None = None,
    ) -> None:
        self._writer, self._depth, self._trade_log_length = writer, depth, trade_log_length
        self._publish_message, self._observe = publish, observe_delay
        self.rejections = rejections or Rejections()
        self._markets: dict[Symbol, Market] = {}
        self._fast_paths: dict[str, tuple[FastPath, Market]] = {}
        """The beginning of the messages of a fast path → the fast path and its market."""
        self._digits: dict[str, tuple[int, int]] = {}
        """All markets of the venue → decimals of their prices and quantities."""
        self._unreadable: set[str] = set()
        """Markets of the venue with malformed instrument data."""
        self._ticker_number = 0
        self.system = ""
        """The venue's system status."""
        self.messages: Counter[str] = Counter()
        """Channel → messages received, without those counted in `book_messages`."""
        self.book_messages = 0
        self.malformed = 0
        self.resubscribe: set[Symbol] = set()
        """Markets whose book must be subscribed to again."""
        self.data_received: set[tuple[Channel, Symbol | None]] = set()
        """Subscriptions with new data since the service last checked; for books and instruments, a snapshot."""
        self.backfill: set[Symbol] = set()
        """Markets with missing trades that must be queried over REST."""
        self.instruments_outdated = False
        """Whether to reload the instruments: a number had too many decimals, or instrument data was malformed."""
        self.usable_elsewhere: frozenset[Symbol] = frozenset()
        """Markets with a usable book in another replica, as of the last query."""
        self.latest: Nanoseconds = Nanoseconds(0)
        """The newest timestamp of a trade or ticker."""

    # Served markets.

    def serve(self, symbols: Iterable[Symbol], *, usable_elsewhere: frozenset[Symbol] = frozenset()) -> None:
        """Serve exactly these markets; those of `usable_elsewhere` have a usable book in another replica."""
        required, self.usable_elsewhere = set(symbols), usable_elsewhere
        for symbol in set(self._markets) - required:
            del self._markets[symbol]
            self.resubscribe.discard(symbol)
            self.backfill.discard(symbol)
        self._fast_paths = {head: one for head, one in self._fast_paths.items() if one[1].symbol in self._markets}
        for symbol in required - set(self._markets):
            market = self._markets[symbol] = Market(symbol, self._writer, self._trade_log_length)
            self._prepare_book(market)

    def __getitem__(self, symbol: Symbol) -> Market:
        return self._markets[symbol]

    def get(self, symbol: Symbol) -> Market | None:
        return self._markets.get(symbol)

    def all(self) -> list[Market]:
        return list(self._markets.values())

    # Receiving.

    def receive(self, frame: str, received: Nanoseconds) -> Head | None:
        """Process one frame of the venue. Returns its head if it is a reply to a request, else None."""
        market = None
        try:
            head, _, rest = frame.partition(_FIRST)
            found = self._fast_paths.get(head)
            if found is None:
                return self._parse(frame, received)
            path, market = found
            at = path.apply(rest)
            if at is None:
                return self._parse_after_fast_path(path, frame, received)
            self.book_messages += 1
            if path.since > received + _AHEAD:
                rejections.check_time(path.since, received)
            self._publish(market, path.book, at, received)
        except Exception as fault:  # noqa: BLE001 - no message may stop the next one
            self.malformed += 1
            source = (_FRAME, "") if market is None else (Channel.BOOK, market.symbol)
            reason = self.rejections.record(*source, fault)
            affected = self._affected_markets(frame)
            if market is not None:
                affected.add(market)
            for one in affected:
                self._invalidate_book(one, reason, received, _UPDATE)
        return None

    def _affected_markets(self, frame: str) -> set[Market]:
        """The markets whose book a malformed message may have been about; all of them if that is unknown."""
        names = wire.markets_named(frame)
        # A symbol that the venue does not have may be a mangled one.
        if names is None or not all(map(self._known, names)):
            return set(self._markets.values())
        return {market for symbol, market in self._markets.items() if symbol in names}

    def _known(self, symbol: str) -> bool:
        return bool(symbol) and (symbol in self._digits or symbol in self._unreadable)

    def _parse_after_fast_path(self, path: FastPath, frame: str, received: Nanoseconds) -> Head | None:
        reply = self._parse(frame, received)
        if not path.book.checksum:
            raise wire.MalformedMessage("the full parser and the fast path disagree")
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
                pass  # heartbeats, and channels that are not subscribed to
        return None

    def _read_entries(self, head: Head, entries: list[msgspec.Raw], received: Nanoseconds) -> None:
        """Process each entry by itself, so that one bad entry does not affect the others."""
        for raw in entries:
            try:
                self._read_entry(head, raw, received)
            except Exception as fault:  # noqa: BLE001 - no entry may stop the next one
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
        """Reject an entry, and invalidate what it may have been about."""
        symbol = wire.symbol_of(raw)
        if head.channel == Channel.BOOK and not self._known(symbol):
            raise wire.MalformedMessage(f"a book of a market that the venue does not have: {symbol[:40]!r}") from fault
        self.malformed += 1
        reason = self.rejections.record(head.channel, symbol, fault)
        self.instruments_outdated |= reason is RejectionReason.DECIMALS
        if head.channel == Channel.INSTRUMENT:
            self._digits.pop(symbol, None)
            self._unreadable.add(symbol)
        market = self._markets.get(Symbol(symbol))
        if market is None:
            return
        self.instruments_outdated |= head.channel == Channel.INSTRUMENT
        if head.channel == Channel.BOOK:
            self._invalidate_book(market, reason, received, head.type)
        elif head.channel == Channel.TRADE:
            cause = type(fault).__name__ if reason is RejectionReason.UNEXPECTED else str(fault)
            self._withhold_after(market, wire.trade_id_of(raw), cause, received)

    def _invalidate_book(self, market: Market, reason: RejectionReason, received: Nanoseconds, kind: str) -> None:
        """Invalidate a book because a message about it was rejected."""
        if market.book is not None and (market.book.in_sync or kind != _UPDATE):
            market.book.invalidate(
                UnusableReason.AHEAD if reason is RejectionReason.TIME_AHEAD else UnusableReason.MALFORMED
            )
            self._book_failed(market, received)

    def _withhold_after(self, market: Market, trade_id: int | None, fault: str, received: Nanoseconds) -> None:
        """Withhold the trades after a rejected one, unless it is an old one."""
        last = market.trade_log.last
        if trade_id is not None and last is not None and trade_id <= last.trade_id:
            return
        self.withhold(market, fault, received)

    def withhold(self, market: Market, reason: str, now: Nanoseconds) -> None:
        """Withhold further trades of a market until REST returns the one that is missing."""
        market.withheld, market.withheld_at = reason, now
        self.backfill.add(market.symbol)

    def _book(self, data: BookData, received: Nanoseconds, kind: str) -> None:
        market = self._markets.get(Symbol(data.symbol))
        if not self._known(data.symbol):
            raise wire.MalformedMessage("no such market")
        if market is None or (book := market.book) is None:
            return
        if kind == _UPDATE and not book.in_sync:
            return  # updates before the requested snapshot
        if kind not in {_SNAPSHOT, _UPDATE}:
            raise wire.MalformedMessage(f"neither a snapshot nor an update: {kind[:40]!r}")
        venue_time = times.parse(data.timestamp) if data.timestamp else received
        rejections.check_time(venue_time, received)
        at, checksum = times.text(venue_time), wire.integer(data.checksum)
        bids, asks = ([level.text() for level in side] for side in (data.bids, data.asks))
        if kind == _SNAPSHOT:
            self.data_received.add((Channel.BOOK, market.symbol))
            market.snapshot_at = received
            usable = book.snapshot(bids, asks, checksum)
        else:
            usable = book.update(bids, asks, checksum)
        if usable and market.snapshot_is_stale(venue_time):
            self._withdraw_contradicted(market, received)
        elif usable:
            self._publish(market, book, at, received)
        elif book.unusable is UnusableReason.CROSSED:
            self.withdraw(market, received)
        else:
            self._book_failed(market, received)

    def _withdraw_contradicted(self, market: Market, now: Nanoseconds) -> None:
        """Withdraw a book that ticker or trades contradict."""
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

    def add_from_rest(
        self, market: Market, trades: Sequence[Trade], now: Nanoseconds, *, after_gap: bool
    ) -> Sequence[Trade] | None:
        """Add trades from REST.

        Args:
            market: Their market.
            trades: The trades in order; some may have arrived over the WebSocket meanwhile.
            now: The time.
            after_gap: Whether they directly follow the last known trade, so that ids left out do not exist.

        Returns:
            The new ones; None where ids are left out before them that REST may still return.
        """
        last = market.trade_log.last
        missing = [one for one in trades if last is None or one.trade_id > last.trade_id]
        if missing and not market.may_follow_gap(missing[0].trade_id, now):
            if not (market.trade_log.has_gap or market.withheld):  # so that the missing trades are queried again
                self.withhold(market, "Trades: trade ids are missing", now)
            return None
        market.confirm_trades(now, has_new=bool(missing))
        if missing:
            self._add_missing(market, missing, now, after_gap=after_gap)
        return missing

    def _add_missing(self, market: Market, trades: Sequence[Trade], now: Nanoseconds, *, after_gap: bool) -> None:
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
        # The other fields cover 24 hours, in which the market may have had more decimals.
        self._check_decimals(symbol, (ticker.bid, ticker.ask), (ticker.bid_quantity, ticker.ask_quantity))
        self._observe_delay(ticker.at, received, kind)
        market.liveness.ticker_received(ticker, dated=bool(one.timestamp))
        if kind == _UPDATE:
            market.liveness.update_received(Channel.TICKER)
        self._ticker_number += 1
        body = encoding.ticker(ticker, f"{self._writer}-{self._ticker_number}", received)
        self._publish_message(EncodedMessage(Topic.TICKER, symbol, body, received))

    def _check_decimals(self, symbol: Symbol, prices: Iterable[Decimal], quantities: Iterable[Decimal]) -> None:
        """Reject numbers with more decimals than their market has.

        Raises:
            RejectedValue: A number has too many decimals.
        """
        for digits, numbers in zip(self._digits.get(symbol, ()), (prices, quantities), strict=False):
            for number in numbers:
                if decimals.decimal_places(number) > digits:
                    raise RejectedValue(RejectionReason.DECIMALS, f"a number with more than {digits} decimals", number)

    def _observe_delay(self, at: Nanoseconds, received: Nanoseconds, kind: str) -> None:
        self.latest = max(self.latest, at)
        if kind == _UPDATE:  # a snapshot has old events
            self._observe(max(0, received - at) / times.SECOND)

    def _prepare_book(self, market: Market) -> None:
        """Create a market's book once its decimals are known, and again when they change."""
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
        """The venue's trade ids started over: forget the old trades. Outputs detect it by their cursors."""
        market.trade_log = TradeLog(self._trade_log_length)

    # What the service reports and asks.

    def connection_opened(self) -> None:
        """There is a new connection, whose subscriptions have no data yet."""
        self.data_received.clear()

    def take_data_received(self) -> Iterable[tuple[Channel, Symbol | None]]:
        """The subscriptions with new data since the last call."""
        if not self.data_received:
            return ()
        taken, self.data_received = self.data_received, set()
        return taken

    def take_resubscription(self, market: Market) -> bool:
        """Whether a market's book must be subscribed to again; the request counts as carried out."""
        # A crossed book is in sync: its next update may make it usable.
        required = market.symbol in self.resubscribe or market.book is None or not market.book.in_sync
        self.resubscribe.discard(market.symbol)
        return required

    def snapshot_late(self, market: Market, now: Nanoseconds) -> None:
        """A requested snapshot did not come: withdraw the old book, which stayed in use until now."""
        if market.book is not None and market.book.in_sync:
            market.book.invalidate(UnusableReason.WAITING)
            self.withdraw(market, now)

    def check_channels(
        self, market: Market, now: Nanoseconds, *, ticker_subscribed_for: Nanoseconds | None
    ) -> list[Channel]:
        """Check a market's channels against each other.

        A contradicted book is withdrawn, and a book that was crossed for long is to be subscribed to again.

        Args:
            market: The market.
            now: The time.
            ticker_subscribed_for: How long the ticker has been subscribed to; None if it is not.

        Returns:
            The other channels that are silent.
        """
        silent: list[Channel] = []
        for channel in liveness.silent(market, now, ticker_subscribed_for=ticker_subscribed_for):
            if channel is Channel.BOOK:
                self._withdraw_contradicted(market, now)
            else:
                silent.append(channel)
        if liveness.crossed_for_long(market, now):
            self.resubscribe.add(market.symbol)
        return silent

    def quiet_market_queried(
        self, market: Market, missed: Sequence[Trade], now: Nanoseconds, *, subscribed_for: Nanoseconds
    ) -> bool:
        """REST was queried about a quiet market; returns whether that shows that its trade channel is silent.

        Args:
            market: The market.
            missed: The trades, in order, that the channel did not send.
            now: The time.
            subscribed_for: How long the channel has been subscribed to.
        """
        if not missed:
            market.liveness.trades_confirmed(now)
            return False
        market.gaps += 1
        return subscribed_for >= liveness.SUBSCRIBED_FOR and market.liveness.trades_missed(missed, now)

    def needs_backfill(self, symbol: Symbol) -> bool:
        """Whether trades of a market are missing; where not, the request for them is dropped."""
        market = self._markets.get(symbol)
        missing = market is not None and (market.trade_log.has_gap or bool(market.withheld))
        if not missing:
            self.backfill.discard(symbol)
        return missing

    def instruments_requested(self) -> None:
        """The list of instruments will be loaded again."""
        self.instruments_outdated = False

    # Publishing.

    def withdraw(self, market: Market, now: Nanoseconds, *, again: bool = False) -> None:
        """Publish that a market's book is not usable; once for each reason, unless `again`.

        Where another replica has a usable book, only a book that was published here is withdrawn.
        """
        reason = UnusableReason.WAITING if market.book is None else market.book.unusable
        if reason is None or (market.published is reason and not again):
            return
        if market.published is not None and market.symbol in self.usable_elsewhere:
            return
        market.sent_at, market.published = now, reason
        self._publish_message(EncodedMessage(_BOOK, market.symbol, market.writer.unusable(reason, now), now))

    def republish(self, received: Nanoseconds, now: Nanoseconds) -> None:
        """Publish the state of books again that were not published for a second.

        Args:
            received: When the last message of the venue was received: unchanged books were current at that time.
            now: The time.
        """
        for market in self._markets.values():
            market.first_seen_at = market.first_seen_at or now
            if now - market.sent_at < times.SECOND:
                continue
            if market.book is not None and market.book.unusable is None:
                if received > market.sent_at:
                    market.sent_at = received
                    self._publish_message(
                        EncodedMessage(_BOOK, market.symbol, market.writer.again(market.book, received), received)
                    )
            elif market.sent_at or now - market.first_seen_at >= FIRST_UNUSABLE_AFTER:
                self.withdraw(market, now, again=True)

    def invalidate_books(self, reason: UnusableReason, now: Nanoseconds) -> None:
        """Invalidate and withdraw all books."""
        for market in self._markets.values():
            if market.book is not None and market.book.in_sync:
                market.book.invalidate(reason)
                self.withdraw(market, now)
        self.resubscribe.clear()
