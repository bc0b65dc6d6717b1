"""Exact amounts: Decimal at the edges, integers in units of the last decimal in hot code; never a float."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

MAX_DIGITS: Final = 20
"""The maximum number of digits before or after the decimal point."""
_MAX_LENGTH: Final = 100
"""The maximum length of a number's text, so that parsing stays cheap."""
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,10})?")


def parse(text: str) -> Decimal:
    """Parse a JSON number exactly: 1e3, 1E-8, 0.10 (keeping the zero), and -0 as 0.

    Raises:
        ValueError: It is not a JSON number, or has more than MAX_DIGITS digits on a side: 1e999999999 is valid JSON,
            but takes a gigabyte when written out.
    """
    if len(text) > _MAX_LENGTH or _NUMBER.fullmatch(text) is None:
        raise ValueError(f"not a number: {text[:40]!r}")
    value = Decimal(text)
    if not value:
        return value.copy_abs() if abs(value.adjusted()) <= MAX_DIGITS else Decimal(0)
    if abs(value.adjusted()) > MAX_DIGITS or decimal_places(value) > MAX_DIGITS:
        raise ValueError(f"beyond anything that is traded: {text[:40]}")
    return value


def decimal_places(value: Decimal) -> int:
    """The number of decimals of a finite number, without trailing zeros."""
    _, digits, exponent = value.as_tuple()
    places = -exponent if isinstance(exponent, int) else 0
    for digit in reversed(digits):
        if digit or places <= 0:
            break
        places -= 1
    return max(0, places) if any(digits) else 0


def scaled(value: Decimal, digits: int) -> int:
    """The amount as an integer in units of 10**-digits.

    Raises:
        ValueError: The value is not finite, or has more decimals than `digits`.
    """
    if not value.is_finite():
        raise ValueError(f"not a finite number: {value}")
    numerator, denominator = value.as_integer_ratio()
    power: int = 10**digits
    units, rest = divmod(numerator * power, denominator)
    if rest:
        raise ValueError(f"more than {digits} decimals: {value}")
    return units


def unscaled(units: int, digits: int) -> Decimal:
    """The inverse of `scaled`: a Decimal with exactly `digits` decimals."""
    return Decimal((units < 0, tuple(map(int, str(abs(units)))), -digits))


def text(units: int, digits: int) -> str:
    """The same as text: 100000 units with 8 decimals are 0.00100000."""
    if not digits:
        return str(units)
    sign, plain = ("-", -units) if units < 0 else ("", units)
    padded = f"{plain:0{digits + 1}d}"
    return f"{sign}{padded[:-digits]}.{padded[-digits:]}"


def plain(value: Decimal) -> str:
    """A Decimal as text without an exponent."""
    return format(value, "f")
