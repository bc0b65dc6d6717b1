"""Exact amounts: a Decimal at the edges, a whole number of the smallest unit inside hot cores; never a float."""

from __future__ import annotations

from decimal import Decimal


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
