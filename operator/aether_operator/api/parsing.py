"""Parses the specs of custom resources from the API server into models, or into a list of problems by field.

What is the same for every kind; a kind's own checks, of several fields at once, are in a module of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pydantic

from aether_operator.api.models import Model
from aether_operator.api.resources import Resource

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from aether_operator.api.definition import Definition

ModelT = TypeVar("ModelT", bound=Model)
NAME: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
MAX_PROBLEMS: Final = 20
"""The most problems that are reported at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invalid:
    """An invalid spec: one line per problem, beginning with the field's path."""

    problems: tuple[str, ...]


def invalid(problems: Iterable[str]) -> Invalid:
    """An invalid spec with these problems, as many as are reported."""
    return Invalid(problems=tuple(sorted(problems)[:MAX_PROBLEMS]))


def read_spec(model: type[ModelT], spec: Any, path: str) -> ModelT | Invalid:
    """Parse a spec. The API server validates most of this; this also covers objects that predate a rule.

    Args:
        model: The model of the spec.
        spec: The value at `path` in the object.
        path: `spec` or `status.applied`, with which problems begin.
    """
    try:
        return model.model_validate(spec)
    except pydantic.ValidationError as wrong:
        return invalid(f"{path}{_path(one['loc'])}: {one['msg']}" for one in wrong.errors())


def name_problems(name: str, max_length: int) -> list[str]:
    """What is wrong with an object's name: nothing, or one line."""
    if NAME.fullmatch(name) and len(name) <= max_length:
        return []
    return [f"metadata.name: up to {max_length} lowercase letters, digits and hyphens, beginning with a letter"]


def parse(definition: Definition, raw: Mapping[str, Any]) -> Resource[Any] | Invalid:
    """Parse an object of a kind."""
    return _parse(definition, raw, raw.get("spec") or {}, "spec")


def last_applied(definition: Definition, raw: Mapping[str, Any]) -> Resource[Any] | None:
    """The object as it was last applied, from `status.applied`; None if it never was."""
    applied = (raw.get("status") or {}).get("applied")
    if not applied:
        return None
    parsed = _parse(definition, raw, applied, "status.applied")
    return parsed if isinstance(parsed, Resource) else None


def _parse(definition: Definition, raw: Mapping[str, Any], spec: Any, path: str) -> Resource[Any] | Invalid:
    read = read_spec(definition.spec, spec, path)
    if isinstance(read, Invalid):
        return read
    meta = raw["metadata"]
    problems = [f"{path}.{line}" for line in definition.checks(read)]
    problems += name_problems(meta["name"], definition.max_name_length)
    if problems:
        return invalid(problems)
    return Resource(
        kind=definition.kind,
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        generation=meta["generation"],
        created=created(raw),
        spec=read,
    )


def created(raw: Mapping[str, Any]) -> datetime:
    """When an object was created."""
    return datetime.fromisoformat(raw["metadata"]["creationTimestamp"])


def _path(steps: Sequence[int | str]) -> str:
    """The path of a field as the API server writes it: `.pairs[0]`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
