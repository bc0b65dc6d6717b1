"""Quantities in the canonical form of the API server, so that what is stored equals what was applied."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Final

from aether_operator.api import models

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_operator.api.platforms import ResourceList, Resources

_BINARY: Final = tuple((f"{unit}i", Decimal(1024) ** power) for power, unit in enumerate("KMGTPE", start=1))
_DECIMAL: Final = (
    ("m", Decimal("1e-3")), ("", Decimal(1)),  # the API server rounds smaller values up
    *((unit, Decimal(1000) ** power) for power, unit in enumerate("kMGTPE", start=1)),
)  # fmt: skip
_SMALLEST_BINARY: Final = 1024
_MOST_BINARY: Final = Decimal((1 << 63) - 1)
"""The largest value that the API server keeps in binary units; decimal units have no limit."""


def canonical(text: str) -> str:
    """A quantity with the largest unit that leaves a whole number: `1024Mi` is `1Gi`, `0.5` is `500m`."""
    value, of_1024 = models.quantity(text), text.endswith("i")
    if of_1024:
        value = min(value, _MOST_BINARY)
    binary = of_1024 and value >= _SMALLEST_BINARY and value == value.to_integral_value()
    units = (("", Decimal(1)), *_BINARY) if binary else _DECIMAL
    if value == 0:
        return "0"
    for unit, factor in reversed(units):
        if models.EXACT.remainder(value, factor) == 0:
            return f"{int(models.EXACT.divide(value, factor))}{unit}"
    unit, factor = units[0]
    return f"{int(models.EXACT.divide(value, factor).to_integral_value(ROUND_CEILING))}{unit}"


def merged(spec: Resources, defaults: Resources) -> dict[str, dict[str, str]]:
    """Requests and limits of the spec, completed by defaults, which are adjusted so that requests fit limits."""
    requests = {**_given(defaults.requests), **_given(spec.requests)}
    limits = {**_given(defaults.limits), **_given(spec.limits)}
    for name in requests.keys() & limits.keys():
        if models.quantity(requests[name]) > models.quantity(limits[name]):
            if name not in _given(spec.requests):
                requests[name] = limits[name]
            elif name not in _given(spec.limits):
                limits[name] = requests[name]
    both = {"requests": requests, "limits": limits}
    return {key: {name: canonical(text) for name, text in sorted(part.items())} for key, part in both.items() if part}


def _given(part: ResourceList) -> Mapping[str, str]:
    return {name: text for name, text in (("cpu", part.cpu), ("memory", part.memory)) if text is not None}
