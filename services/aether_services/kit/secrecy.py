"""Whether a text that others wrote quotes a secret: the same rule as the operator's, which a test compares.

A text that does is dropped whole: with the value cut out of it, the gap would tell how a short one is spelled. What
names the fault, a code or our own words, does not come from the text and remains.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PIECE: Final = 8
"""Letters of a value that are enough to call it quoted: servers cut what is long, as PostgreSQL cuts names."""
WITHHELD: Final = "(its words quote the credentials, and are withheld)"
_ARMOUR: Final = re.compile(r"-----[A-Z0-9 ]+-----")
"""The lines around a certificate: every certificate has them."""


def quotes(text: str, values: Iterable[str]) -> bool:
    """Whether a text has one of these values in it, or a piece of a long one, however it is written or broken."""
    said = _plain(text)
    pieces = [said[start : start + PIECE] for start in range(len(said) - PIECE + 1)]
    return any(_has(said, pieces, form) for value in values for form in _forms(value))


def _has(said: str, pieces: list[str], form: str) -> bool:
    if len(form) < PIECE:
        return bool(form) and form in said
    return any(piece in form for piece in pieces)


def _forms(value: str) -> Iterator[str]:
    """A value as it is, escaped, in a URL and in base64."""
    bare = _ARMOUR.sub(" ", value).strip()
    for form in (bare, json.dumps(bare)[1:-1], quote(bare, safe=""), base64.b64encode(bare.encode()).decode()):
        yield _plain(form)


def _plain(text: str) -> str:
    return "".join(text.split()).casefold()
