"""Exact amounts and times."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aether_services.domain import candles, decimals, times
from aether_services.domain.times import Nanoseconds


@given(units=st.integers(-(10**30), 10**30), digits=st.integers(0, 18))
def test_units_convert_to_amount_and_text_and_back(units: int, digits: int) -> None:
    amount = decimals.unscaled(units, digits)
    assert decimals.scaled(amount, digits) == units
    assert Decimal(decimals.text(units, digits)) == amount
    assert decimals.text(units, digits) == (str(amount) if digits < 6 else decimals.plain(amount)) or not units


@pytest.mark.parametrize("amount", ["0.123", "1e-3", "NaN", "Infinity"])
def test_amount_not_representable_in_units_is_rejected(amount: str) -> None:
    with pytest.raises(ValueError, match=r"decimals|finite"):
        decimals.scaled(Decimal(amount), 2)


@given(at=st.integers(0, 4 * 10**18).map(Nanoseconds))
def test_time_is_formatted_with_nanoseconds_and_parsed_again(at: Nanoseconds) -> None:
    assert times.parse(times.text(at)) == at
    assert times.from_datetime(times.to_datetime(at)) == at - at % 1000


@pytest.mark.parametrize(
    "text", ["2023-07-30T15:29:58", "2023-07-30 15:29:58Z", "2023-13-30T15:29:58Z", "", "1690731000"]
)
def test_invalid_utc_time_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"time|month|iso"):
        times.parse(text)


def test_a_time_may_have_fewer_decimals() -> None:
    assert times.text(times.parse("2023-07-30T15:29:58.34Z")) == "2023-07-30T15:29:58.340000000Z"
    assert times.to_datetime(times.parse("1970-01-01T00:00:01.5Z")) == datetime.datetime(
        1970, 1, 1, 0, 0, 1, 500_000, datetime.UTC
    )


def test_intervals_are_aligned_to_1970() -> None:
    assert candles.begin_of(Nanoseconds(times.MINUTE + 1)) == times.MINUTE
    assert candles.begin_of(Nanoseconds(7 * times.MINUTE), 5 * times.MINUTE) == 5 * times.MINUTE
