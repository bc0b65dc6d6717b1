"""The state of one market: its book, its trade log, and the liveness of its channels."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from aether_services.domain import times
from aether_services.domain.books import UnusableReason
from aether_services.domain.times import Nanoseconds
from aether_services.ingest.core import encoding, rejections
from aether_services.ingest.core.liveness import Liveness
from aether_services.ingest.core.rejections import RejectedValue
from aether_services.ingest.core.trade_logs import ReceivedTrade, TradeLog
from aether_services.ingest.core.wire import Channel

if TYPE_CHECKING:
    from aether_services.domain.books import Book
    from aether_services.domain.instruments import Symbol
    from aether_services.domain.trades import Trade

log = logging.getLogger(__name__)

UNKNOWN: Final = "UnknownPair"
"""The venue has no such market."""
UNREADABLE: Final = "PairMalformed"
"""The venue has the market, but its instrument data is malformed."""
REST_DELAY: Final = 10 * times.SECOND
"""After this time REST has the trades that the WebSocket sent."""
ABSENT_AFTER: Final = 60 * times.SECOND
"""How long REST must leave out a trade id until it counts as nonexistent."""


class Market:
    """One market.

    Attributes:
        book: The book; None until the instrument data gives the decimals.
        unknown: Whether the venue has no such market.
        unreadable: Whether the venue's instrument data of it is malformed.
        liveness: The evidence about its channels.
        trade_log: Its trades.
        withheld: Why later trades are withheld: a trade was rejected. Empty while none is missing.
        withheld_at: When a trade was last rejected.
        gap_at: When the current gap in trade ids was detected.
        skipped_from: The last trade before ids that REST leaves out, and when that was first observed.
        snapshot_at: When the last snapshot of the book was received.
        sent_at: The `received` time of the last published book message; republished after a second.
        verified_at: When the last message was received after which the book was usable.
        first_seen_at: When the market was first processed.
    """

    __slots__ = (
        "book", "checksum_failures", "first_seen_at", "gap_at", "gaps", "liveness", "published", "sent_at",
        "skipped_from", "snapshot_at", "symbol", "trade_log", "unknown", "unreadable", "verified_at", "withheld",
        "withheld_at", "writer",
    )  # fmt: skip

    def __init__(self, symbol: Symbol, writer: str, trade_log_length: int) -> None:
        self.symbol = symbol
        self.book: Book | None = None
        self.unknown = self.unreadable = False
        self.trade_log = TradeLog(trade_log_length)
        self.liveness = Liveness()
        self.withheld = ""
        self.withheld_at = self.gap_at = Nanoseconds(0)
        self.skipped_from: tuple[int, Nanoseconds] | None = None
        self.writer = encoding.BookWriter(symbol, writer)
        self.checksum_failures = self.gaps = 0
        self.snapshot_at = self.sent_at = self.verified_at = self.first_seen_at = Nanoseconds(0)
        self.published: UnusableReason | None = UnusableReason.WAITING
        """The reason in the last published book message; None if the book was usable."""

    @property
    def usable(self) -> bool:
        return self.book is not None and self.book.unusable is None

    @property
    def reason(self) -> str:
        """Why the book is not usable; empty if it is."""
        if self.unknown:
            return UNKNOWN
        if self.unreadable:
            return UNREADABLE
        return UnusableReason.WAITING if self.book is None else self.book.unusable or ""

    # Its book.

    def snapshot_is_stale(self, venue_time: Nanoseconds) -> bool:
        """Whether the snapshot after a silent book channel is still contradicted by trades or ticker."""
        if self.book is None or Channel.BOOK not in self.liveness.silent:
            return False
        return self.liveness.contradicts(venue_time, *self.book.top)

    # Its trades.

    def check_trade_time(self, trade: Trade, received: Nanoseconds, *, snapshot: bool) -> None:
        """Reject a trade whose time is long before that of its predecessor, or long after that of its successor.

        In a snapshot the predecessor's time may be the wrong one: the predecessor is removed as well if it came with
        the same message and so has reached no output.

        Raises:
            RejectedValue: The time is out of order.
        """
        last, following = self.trade_log.last, self.trade_log.next_after(trade.trade_id)
        if following is not None:
            rejections.check_sequence(following.at, trade.at)
        if last is None or trade.trade_id <= last.trade_id:
            return
        try:
            rejections.check_sequence(trade.at, last.at)
        except RejectedValue:
            if snapshot and self.trade_log.last_received_at == received:
                self.trade_log.remove_last()
            raise

    def add(self, trade: Trade, received: Nanoseconds) -> None:
        """Add a trade from the channel, which may open a gap."""
        whole = not self.trade_log.has_gap
        self.trade_log.add([ReceivedTrade(trade, received)])
        if whole and self.trade_log.has_gap:
            self.gaps, self.gap_at = self.gaps + 1, received

    def may_follow_gap(self, trade_id: int, now: Nanoseconds) -> bool:
        """Whether the next trade of REST may be added although ids before it may be left out.

        An id that is left out may appear in REST later, so it is waited for until ABSENT_AFTER.
        """
        last = self.trade_log.last
        if last is None or trade_id <= last.trade_id + 1:
            return True
        if self.skipped_from is None or self.skipped_from[0] != last.trade_id:
            self.skipped_from = last.trade_id, now
        return now - self.skipped_from[1] >= ABSENT_AFTER

    def confirm_trades(self, now: Nanoseconds, *, has_new: bool) -> None:
        """REST returned valid trades: stop withholding, and give up gaps that REST does not fill.

        Args:
            now: The time.
            has_new: Whether there were new trades among them; REST may be a little behind the WebSocket.
        """
        if has_new or now - self.withheld_at >= REST_DELAY:
            self.withheld = ""
        if not has_new and self.trade_log.has_gap and now - self.gap_at >= ABSENT_AFTER:
            log.warning("trades_missing_in_rest", extra={"symbol": self.symbol, "after": self.trade_log.last})
            self.trade_log.discard_after_gap()
