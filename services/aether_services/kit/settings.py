"""Settings: a strict model of the environment variables that the operator renders. Undeclared ones are an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

import pydantic

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX: Final = "AETHER_"
"""The prefix of our variables: one with this prefix that no field declares is an error."""


class InvalidSettings(Exception):
    """A variable is missing, unknown or invalid; the message names each of them, and no value."""


class Settings(pydantic.BaseModel):
    """A service's settings, read once at its start: field `kafka_port` is the variable AETHER_KAFKA_PORT."""

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
        """Variable → whether it is required."""
        return {str(field.alias): field.is_required() for field in cls.model_fields.values()}

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Parse the settings from an environment.

        Raises:
            InvalidSettings: A variable is missing, unknown or invalid.
        """
        try:
            return cls.model_validate({name: value for name, value in environ.items() if name.startswith(PREFIX)})
        except pydantic.ValidationError as fault:
            problems = (
                f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in fault.errors(include_url=False)
            )
            raise InvalidSettings("; ".join(problems)) from None
