"""One market: its book, its tape and what is known of it."""

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
UNREADABLE: Final = "PairNotUnderstood"
"""The venue has it, and what it says of its decimals is not understood."""
REST_DELAY: Final = 10 * times.SECOND
"""After so long the venue's REST has what the WebSocket told."""
ABSENT_AFTER: Final = 60 * times.SECOND
"""After so long a trade counts as none that REST does not know, nor any before it: were it one, REST will tell it."""


class Market:
    """One market.

    Attributes:
        book: Its book, once the venue said with how many decimals it writes; it says itself whether it is usable.
        unknown: Whether the venue has no such market.
        unreadable: Whether what the venue says of its decimals is not understood.
        liveness: What is known of its channels.
        tape: Its trades.
        doubt: Why a trade of it was refused: nothing after that one is handed on. Empty while nothing is missing.
        doubted_at: When it was refused last.
        gap_at: When it was first seen that trades are missing.
        left_out: After which trade REST left out numbers, and when that was first seen.
        snapshot_at: When the last snapshot of the book was received.
        sent_at: When the last message about its book was received; it is sent again once that is a second ago.
        verified_at: When the last message was received after which the book verified.
        known_at: When it was first looked at.
    """

    __slots__ = (
        "book",
        "checksum_failures",
        "first_seen_at",
        "gap_at",
        "gaps",
        "liveness",
        "published",
        "sent_at",
        "skipped_from",
        "snapshot_at",
        "symbol",
        "trade_log",
        "unknown",
        "unreadable",
        "verified_at",
        "withheld",
        "withheld_at",
        "writer",
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
        if self.unreadable:
            return UNREADABLE
        return UnusableReason.WAITING if self.book is None else self.book.unusable or ""

    # Its book.

    def snapshot_is_stale(self, moment: Nanoseconds) -> bool:
        """Whether its book, whose channel was silent, is still not what it is itself."""
        if self.book is None or Channel.BOOK not in self.liveness.silent:
            return False
        return self.liveness.contradicts(moment, *self.book.top)

    # Its trades.

    def check_trade_time(self, trade: Trade, received: Nanoseconds, *, snapshot: bool) -> None:
        """Refuse a trade whose time is long before that of the trade before it, or long after that of the next.

        Of a snapshot, which tells of what happened long ago, the one before it may be the one whose time is wrong: it
        is taken back where it came with the same message, so that it has reached no output.

        Raises:
            Refused: It is.
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
        """Take in a trade that the venue reported, which may leave others out."""
        whole = not self.trade_log.has_gap
        self.trade_log.add([ReceivedTrade(trade, received)])
        if whole and self.trade_log.has_gap:
            self.gaps, self.gap_at = self.gaps + 1, received

    def may_follow_gap(self, trade_id: int, now: Nanoseconds) -> bool:
        """Whether the trade that REST has next may be handed on, though it may leave out numbers before it.

        One that it leaves out may have been lost or refused on the WebSocket, and come to REST later: it is waited for.
        """
        last = self.trade_log.last
        if last is None or trade_id <= last.trade_id + 1:
            return True
        if self.skipped_from is None or self.skipped_from[0] != last.trade_id:
            self.skipped_from = last.trade_id, now
        return now - self.skipped_from[1] >= ABSENT_AFTER

    def confirm_trades(self, now: Nanoseconds, *, brought: bool) -> None:
        """The venue's REST told its trades, and they were understood: there is no more doubt.

        Args:
            now: The time.
            brought: Whether it had some that were missing; it may be a little behind the WebSocket.
        """
        if brought or now - self.withheld_at >= REST_DELAY:
            self.withheld = ""
        if not brought and self.trade_log.has_gap and now - self.gap_at >= ABSENT_AFTER:
            log.warning("trades_not_known_to_rest", extra={"symbol": self.symbol, "after": self.trade_log.last})
            self.trade_log.discard_after_gap()
