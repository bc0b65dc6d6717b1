"""A console that folds lines between words, and a line that a shell runs as it is shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console, Group
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

HANGING: Final = 2
"""Columns by which the folded part of a line is indented more than its beginning."""


class ShellCommand(str):
    """A line that the user may copy into a shell; folded, it still is one command."""

    __slots__ = ()


class WordConsole(Console):
    """A console that folds lines on a terminal, between words; a word that is longer than a line stays whole.

    In a pipe or a file lines are not folded, so that programs can search them.
    """

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as `Console.print` does; markup, texts and groups of them are folded."""
        if self.is_terminal and len(objects) == 1:
            objects = (self._folded(objects[0]),)
        super().print(*objects, **options)

    def _folded(self, shown: Any) -> Any:
        if isinstance(shown, Group):
            return Group(*(self._folded(one) for one in shown.renderables))
        text = Text.from_markup(shown) if isinstance(shown, str) else shown
        if not isinstance(text, Text):
            return shown
        return fold(text, self.width, end=" \\" if isinstance(shown, ShellCommand) else "")


def fold(text: Text, width: int, *, end: str = "") -> Text:
    """The same text, folded between words to lines of this width.

    Args:
        text: The text; line breaks are kept.
        width: Columns.
        end: What a line ends with that continues on the next one.
    """
    return Text("\n").join(part for line in text.split("\n", allow_blank=True) for part in _parts(line, width, end))


def _parts(line: Text, width: int, end: str) -> Iterator[Text]:
    indent = len(line.plain) - len(line.plain.lstrip())
    hanging, begin, breaks = 0, 0, list[int]()
    words = list(re.finditer(r"\S+", line.plain))
    for nth, word in enumerate(words):
        more = len(end) if nth + 1 < len(words) else 0
        if nth and hanging + word.end() - begin + more > width:
            breaks.append(word.start())
            hanging, begin = indent + HANGING, word.start()
    parts = line.divide(breaks)
    for nth, part in enumerate(parts):
        if nth + 1 < len(parts):
            part.rstrip()
        yield Text.assemble(" " * (indent + HANGING) if nth else "", part, end if nth + 1 < len(parts) else "")
