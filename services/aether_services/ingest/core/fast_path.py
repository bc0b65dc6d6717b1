"""The messages that are nearly all: an update of one side of one book, as the venue always writes it.

It is read by where its parts stand, each of them checked, which costs a third of what a parser does. Whatever is
written otherwise is left to `wire`, which knows the rules.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from aether_services.domain import times
from aether_services.domain.books import Malformed
from aether_services.domain.times import Nanoseconds

if TYPE_CHECKING:
    from aether_services.domain.books import Book, Ladder

FIRST_LEVEL: Final = '{"price":'
"""Begins the first level; what stands before it names a lane."""
_NEXT: Final = '},{"price":'
_TIMESTAMP: Final = ',"timestamp":"'
_END: Final = 'Z"}]}'
_SECONDS: Final = {f"{second:02}.": second * times.SECOND for second in range(60)}
# Places in what stands behind the levels, from its end: where the last characters begin, the microseconds, the second.
_LAST: Final = -len(_END)
_MICROSECONDS: Final = _LAST - len("581227")
_SECOND: Final = _MICROSECONDS - len(_TIMESTAMP + "2023-07-30T15:30:01.")


class FastPath:
    """The updates of one side of one book."""

    __slots__ = ("_end", "_minute", "_second", "_text", "book", "side", "since")

    def __init__(self, book: Book, side: Ladder, end: str) -> None:
        self.book, self.side = book, side
        self._end = end
        """What stands between the last level and the checksum."""
        self._second = self._text = ""
        """A second of the venue's, up to its point, as it stands in a message and as it is published."""
        self.since = Nanoseconds(0)
        """When that second began."""
        self._minute = 0
        """And its minute."""

    def apply(self, rest: str) -> str | None:
        """Apply an update.

        Args:
            rest: What stands behind FIRST.

        Returns:
            The venue's time of it, with nanoseconds; none where the message is not as it always is, does not verify, or
            leaves a crossed book.
            Then it is to be read again by the rules; the book is without a checksum if it was applied in part.
        """
        book, (levels, _, tail) = self.book, rest.partition(self._end)
        checksum, microseconds = tail[:_SECOND], tail[_MICROSECONDS:_LAST]
        if (
            (tail[_SECOND:_MICROSECONDS] != self._second and not self._enter_second(tail[_SECOND:_MICROSECONDS]))
            or not microseconds.isdigit()
            or not microseconds.isascii()
            or tail[_LAST:] != _END
            or not checksum.isdigit()
            or book.unusable is not None
        ):
            return None
        try:
            self.side.apply(levels.split(_NEXT))
            if book.verify(checksum) is None:
                return f"{self._text}{microseconds}000Z"
        except Malformed:
            self.side.apply(())  # so that the digest is of what is there
        book.checksum = ""
        return None

    def _enter_second(self, second: str) -> bool:
        text = second.removeprefix(_TIMESTAMP)
        if text[:-3] == self._text[:-3] and (seconds := _SECONDS.get(text[-3:])) is not None:
            since = Nanoseconds(self._minute + seconds)
        else:
            try:
                since = times.parse(f"{text}0Z")
            except ValueError:
                return False
            if since < 0:
                return False  # before 1970: the rules refuse it
            self._minute = since - since % times.MINUTE
        self._second, self._text, self.since = second, text, since
        return True


def for_book(book: Book) -> dict[str, FastPath]:
    """The lanes of a book: what their messages begin with → the lane."""
    begin = f'{{"channel":"book","type":"update","data":[{{"symbol":{json.dumps(book.symbol)},"bids":['
    return {
        begin: FastPath(book, book.bids, '}],"asks":[],"checksum":'),
        begin + '],"asks":[': FastPath(book, book.asks, '}],"checksum":'),
    }
