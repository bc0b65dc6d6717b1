"""The base class and the quantity type that all custom resource models share."""

from __future__ import annotations

import re
from decimal import Context, Decimal
from typing import Annotated, Final

import pydantic
from pydantic.alias_generators import to_camel

GROUP: Final = "trading.aether.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
CATEGORY: Final = "aether"
PROGRESS_DEADLINE_SECONDS: Final = 300
"""The default of `spec.progressDeadlineSeconds`: seconds without becoming Ready after which an object is Stalled."""


class Model(pydantic.BaseModel):
    """A part of a custom resource: camelCase on the wire, frozen, unknown fields are rejected."""

    model_config = pydantic.ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,  # the field descriptions of the CRD, which `kubectl explain` prints
    )


QUANTITY: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")
_FACTORS: Final = {
    "": Decimal(1), "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", start=1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)},
}  # fmt: skip
EXACT: Final = Context(prec=80)
"""Precise enough for the longest quantity in its largest unit, so nothing is rounded."""


def quantity(text: str) -> Decimal:
    """A Kubernetes quantity as a number, for comparison: `500m` is 0.5, `1Gi` is 1073741824.

    Raises:
        ValueError: The text is not a quantity.
    """
    match = QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"not a quantity: {text!r}")
    return EXACT.multiply(Decimal(match[1]), _FACTORS[match[2] or ""])


def _as_text(value: object) -> object:
    """YAML reads `cpu: 1` as a number; it becomes the text "1"."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


MAX_QUANTITY_LENGTH: Final = 20
Quantity = Annotated[
    str,
    pydantic.BeforeValidator(_as_text),
    pydantic.Field(pattern=f"^{QUANTITY.pattern}$", max_length=MAX_QUANTITY_LENGTH),
    pydantic.WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": f"^{QUANTITY.pattern}$",
            "maxLength": MAX_QUANTITY_LENGTH,
            "minimum": 0,
        }
    ),
]
