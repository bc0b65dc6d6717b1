"""The base model of all messages, and the JSON forms of its value types."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

import pydantic

from aether_services.domain import decimals, times
from aether_services.domain.times import Nanoseconds


class Message(pydantic.BaseModel):
    """A message of a contract: frozen; unknown fields are ignored, so that old readers accept newer writers."""

    model_config = pydantic.ConfigDict(extra="ignore", frozen=True, use_attribute_docstrings=True)


def _amount(value: object) -> Decimal:
    if not isinstance(value, str):
        raise ValueError("a decimal is written as a string")  # noqa: TRY004 - pydantic expects ValueError
    amount = Decimal(value)
    if not amount.is_finite():
        raise ValueError("not a finite number")
    return amount


def _time(value: object) -> Nanoseconds:
    if isinstance(value, str):
        return times.parse(value)
    raise ValueError("a time is written as RFC 3339")


Amount = Annotated[
    Decimal,
    pydantic.BeforeValidator(lambda value: value if isinstance(value, Decimal) else _amount(value)),
    pydantic.PlainSerializer(decimals.plain, return_type=str),
    pydantic.WithJsonSchema({"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$"}),
]
"""An exact decimal number, a string in JSON."""

Time = Annotated[
    Nanoseconds,
    pydantic.BeforeValidator(lambda value: value if isinstance(value, int) else _time(value)),
    pydantic.PlainSerializer(times.text, return_type=str),
    pydantic.WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A point in time, RFC 3339 in UTC with nanoseconds in JSON."""

Version = Literal[1]
