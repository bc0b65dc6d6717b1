"""The fast path for the most frequent message: an update of one side of one book, in the venue's usual notation.

The parts are sliced by position and each is checked, which costs a third of JSON parsing. Any other notation is left to
`wire`, which parses JSON in full.
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
"""The beginning of the first level. The text before it selects the fast path of a market and side."""
_NEXT: Final = '},{"price":'
_TIMESTAMP: Final = ',"timestamp":"'
_END: Final = 'Z"}]}'
_SECONDS: Final = {f"{second:02}.": second * times.SECOND for second in range(60)}
# Offsets from the end of the text behind the levels: of the last characters, the microseconds, the second.
_LAST: Final = -len(_END)
_MICROSECONDS: Final = _LAST - len("581227")
_SECOND: Final = _MICROSECONDS - len(_TIMESTAMP + "2023-07-30T15:30:01.")


class FastPath:
    """The updates of one side of one book."""

    __slots__ = ("_end", "_minute", "_second", "_text", "book", "side", "since")

    def __init__(self, book: Book, side: Ladder, end: str) -> None:
        self.book, self.side = book, side
        self._end = end
        """The text between the last level and the checksum."""
        self._second = self._text = ""
        """Cache: the current second of the venue's time, as it is written in a message and as it is published."""
        self.since = Nanoseconds(0)
        """The start of that second."""
        self._minute = 0
        """The start of its minute."""

    def apply(self, rest: str) -> str | None:
        """Apply an update.

        Args:
            rest: The text after FIRST_LEVEL.

        Returns:
            The venue's time with nanoseconds as text; None where the notation is unusual, the checksum does not match
            or the book is crossed. Then the message must be parsed in full; the book's checksum is empty if the update
            was applied in part.
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
            self.side.apply(())  # updates the digest to the levels that were applied
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
                return False  # before 1970: rejected by the full parser
            self._minute = since - since % times.MINUTE
        self._second, self._text, self.since = second, text, since
        return True


def for_book(book: Book) -> dict[str, FastPath]:
    """The fast paths of a book: the beginning of their messages → the fast path."""
    begin = f'{{"channel":"book","type":"update","data":[{{"symbol":{json.dumps(book.symbol)},"bids":['
    return {
        begin: FastPath(book, book.bids, '}],"asks":[],"checksum":'),
        begin + '],"asks":[': FastPath(book, book.asks, '}],"checksum":'),
    }
