"""Settings: a strict model of the environment that the operator renders; what is not declared is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

import pydantic

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX: Final = "AETHER_"
"""Variables whose names begin so are ours: one that no field declares is a mistake."""


class InvalidSettings(Exception):
    """The environment is not what the room declares; the message names each variable."""


class Settings(pydantic.BaseModel):
    """What a room is told at its start: field `kafka_port` is the variable AETHER_KAFKA_PORT."""

    model_config = pydantic.ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        alias_generator=lambda name: PREFIX + name.upper(),
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    @classmethod
    def variables(cls) -> dict[str, bool]:
        """Variable → whether it must be given."""
        return {str(field.alias): field.is_required() for field in cls.model_fields.values()}

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """The settings of an environment.

        Raises:
            WrongSettings: A variable is missing, unknown or not understood.
        """
        try:
            return cls.model_validate({name: value for name, value in environ.items() if name.startswith(PREFIX)})
        except pydantic.ValidationError as fault:
            problems = (
                f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in fault.errors(include_url=False)
            )
            raise InvalidSettings("; ".join(problems)) from None
