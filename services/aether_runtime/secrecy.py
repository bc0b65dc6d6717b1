"""Detects whether a text from outside quotes a secret. Values only; the only place that decides it.

Such a text is dropped whole: with only the value cut out, the gap would show how long a short secret is. Codes and our
own texts that name the error do not come from the text, and remain.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

WITHHELD: Final = "(its words quote the Secret, and are withheld)"
"""What stands for such a text in a status."""
PIECE: Final = 8
"""The length of a part of a value that counts as a quotation: servers truncate, as PostgreSQL truncates names."""
_ARMOUR: Final = re.compile(r"-----[A-Z0-9 ]+-----")
"""The lines around a certificate, which are the same in every certificate."""


def quotes(text: str, values: Iterable[str]) -> bool:
    """Whether a text contains one of these values, or a part of a long one, in any encoding or line breaks."""
    plain = _plain(text)
    pieces = [plain[start : start + PIECE] for start in range(len(plain) - PIECE + 1)]
    return any(_has(plain, pieces, form) for value in values for form in _forms(value))


def _has(plain: str, pieces: list[str], form: str) -> bool:
    if len(form) < PIECE:
        return bool(form) and form in plain
    return any(piece in form for piece in pieces)


def _forms(value: str) -> Iterator[str]:
    """A value as it is, JSON-escaped, URL-encoded and in base64."""
    bare = _ARMOUR.sub(" ", value).strip()
    for form in (bare, json.dumps(bare)[1:-1], quote(bare, safe=""), base64.b64encode(bare.encode()).decode()):
        yield _plain(form)


def _plain(text: str) -> str:
    return "".join(text.split()).casefold()
