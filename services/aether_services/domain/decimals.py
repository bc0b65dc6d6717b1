"""Exact amounts: a Decimal at the edges, a whole number of the smallest unit inside hot cores; never a float."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

MAX_DIGITS: Final = 20
"""Before or behind the point, of anything that is traded."""
_MAX_LENGTH: Final = 100
"""Characters of a number: what is longer costs more to read than it can be worth."""
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,10})?")


def parse(text: str) -> Decimal:
    """A number as JSON writes it, exactly: 1e3, 1E-8, 0.10 (with its zero), and -0, which is 0.

    Raises:
        ValueError: It is none, or is beyond anything that is traded: 1e999999999 is a number, and a gigabyte once it is
            written out.
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
    """How many decimals a finite number needs: zeros at its end are none."""
    _, digits, exponent = value.as_tuple()
    places = -exponent if isinstance(exponent, int) else 0
    for digit in reversed(digits):
        if digit or places <= 0:
            break
        places -= 1
    return max(0, places) if any(digits) else 0


def scaled(value: Decimal, digits: int) -> int:
    """The amount in units of 10**-digits.

    Raises:
        ValueError: It is no finite number, or has more decimals than that.
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
    """The amount of that many units of 10**-digits, with just so many decimals."""
    return Decimal((units < 0, tuple(map(int, str(abs(units)))), -digits))


def text(units: int, digits: int) -> str:
    """The same as text: 100000 units of 8 decimals are 0.00100000."""
    if not digits:
        return str(units)
    sign, plain = ("-", -units) if units < 0 else ("", units)
    padded = f"{plain:0{digits + 1}d}"
    return f"{sign}{padded[:-digits]}.{padded[-digits:]}"


def plain(value: Decimal) -> str:
    """A Decimal as text without an exponent, whatever made it."""
    return format(value, "f")
