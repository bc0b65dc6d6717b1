"""The schema of the live settings file."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic


class LiveDocument(pydantic.BaseModel):
    """The document in the live settings file."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    version: Literal[1]
    pairs: tuple[Annotated[str, pydantic.Field(pattern=r"^[A-Z0-9]{1,16}/USD$")], ...]
    replicas: Annotated[int, pydantic.Field(ge=1, le=64)]
