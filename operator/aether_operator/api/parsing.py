"""Parses a TradingPlatform object from the API server into a Platform, or into a list of problems by field."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import pydantic

from aether_operator.api.models import quantity
from aether_operator.api.platforms import (
    FEEDS,
    MAX_NAME_LENGTH,
    ExchangeSim,
    Managed,
    Mode,
    Platform,
    PlatformSpec,
    Resources,
    Server,
    VenueName,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAME: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
MAX_PROBLEMS: Final = 20
"""The most problems that are reported at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invalid:
    """An invalid spec: one line per problem, beginning with the field's path."""

    problems: tuple[str, ...]


def parse(raw: Mapping[str, Any]) -> Platform | Invalid:
    """Parse a TradingPlatform. The API server validates most of this; this also covers objects that predate a rule."""
    return _read(raw, raw.get("spec") or {}, "spec")


def last_applied(raw: Mapping[str, Any]) -> Platform | None:
    """The platform as it was last applied, from `status.applied`; None if it never was."""
    applied = (raw.get("status") or {}).get("applied")
    if not applied:
        return None
    platform = _read(raw, applied, "status.applied")
    return platform if isinstance(platform, Platform) else None


def secret_names(spec: PlatformSpec) -> frozenset[str]:
    """The names of the Secrets that a spec references."""
    parts = [spec.data_plane.of(server) for server in Server]
    return frozenset(part.external.secret_name for part in parts if part.external is not None)


def _read(raw: Mapping[str, Any], spec: Any, path: str) -> Platform | Invalid:
    meta = raw["metadata"]
    try:
        read = PlatformSpec.model_validate(spec)
    except pydantic.ValidationError as wrong:
        problems = [f"{path}{_path(one['loc'])}: {one['msg']}" for one in wrong.errors()]
        return Invalid(problems=tuple(sorted(problems)[:MAX_PROBLEMS]))
    problems = [f"{path}.{line}" for line in _contradictions(read)]
    if not NAME.fullmatch(meta["name"]) or len(meta["name"]) > MAX_NAME_LENGTH:
        problems.append(
            f"metadata.name: up to {MAX_NAME_LENGTH} lowercase letters, digits and hyphens, beginning with a letter"
        )
    if problems:
        return Invalid(problems=tuple(sorted(problems)[:MAX_PROBLEMS]))
    return Platform(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        generation=meta["generation"],
        spec=read,
    )


def created(raw: Mapping[str, Any]) -> datetime:
    """When an object was created."""
    return datetime.fromisoformat(raw["metadata"]["creationTimestamp"])


def _path(steps: Sequence[int | str]) -> str:
    """The path of a field as the API server writes it: `.pairs[0]`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)


def _contradictions(spec: PlatformSpec) -> list[str]:
    """Problems that involve more than one field."""
    found = []
    for server in Server:
        part, where = spec.data_plane.of(server), f"dataPlane.{server.value}"
        if part.mode is Mode.EXTERNAL and part.external is None:
            found.append(f"{where}.external: required with mode External")
        if part.mode is Mode.EXTERNAL and part.managed is not None:
            found.append(f"{where}.managed: not allowed with mode External")
        if part.mode is Mode.MANAGED and part.external is not None:
            found.append(f"{where}.external: not allowed with mode Managed")
        if part.managed is not None:
            found += [f"{where}.managed.{line}" for line in _sizes(part.managed)]
    return [*found, *_component_problems(spec)]


def _component_problems(spec: PlatformSpec) -> list[str]:
    found, venue, components = [], spec.venue, spec.components
    if venue.effective_feed is not FEEDS[venue.name]:
        found.append(f"venue.feed: venue {venue.name} requires {FEEDS[venue.name]}")
    if len(set(spec.pairs)) < len(spec.pairs):
        found.append("pairs: must not contain duplicates")
    if components.exchange_sim is not None:
        if venue.name is not VenueName.SIMULATED:
            found.append(f"components.exchangeSim: only allowed with venue {VenueName.SIMULATED}")
        found += [f"components.exchangeSim.{line}" for line in _sizes(components.exchange_sim)]
    return [*found, *(f"components.ingest.{line}" for line in _amounts(components.ingest.resources))]


def _sizes(stored: Managed | ExchangeSim) -> list[str]:
    nothing = ["storage: must be greater than 0"] if quantity(stored.storage) <= 0 else []
    return [*nothing, *_amounts(stored.resources)]


def _amounts(resources: Resources) -> list[str]:
    found = []
    for what in ("cpu", "memory"):
        request, limit = getattr(resources.requests, what), getattr(resources.limits, what)
        if request is not None and limit is not None and quantity(request) > quantity(limit):
            found.append(f"resources.requests.{what}: must not exceed limits.{what}")
    return found
