"""Checks a TradingPlatform's spec beyond its model. The API server checks most of it too, by `platform_rules`."""

from __future__ import annotations

from aether_operator.api import platforms
from aether_operator.api.models import quantity
from aether_operator.api.platforms import FEEDS, Mode, PlatformSpec, Resources, Server, VenueName


def secret_names(spec: PlatformSpec) -> frozenset[str]:
    """The names of the Secrets that a spec references."""
    parts = [spec.data_plane.of(server) for server in Server]
    return frozenset(part.external.secret_name for part in parts if part.external is not None)


def problems(spec: PlatformSpec) -> list[str]:
    """Problems that involve more than one field, each beginning with the path of a field below `spec`."""
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
            found += [f"{where}.managed.{line}" for line in _sizes(part.managed.storage, part.managed.resources)]
    return [*found, *_component_problems(spec)]


def _component_problems(spec: PlatformSpec) -> list[str]:
    found, venue, components = [], spec.venue, spec.components
    if venue.effective_feed is not FEEDS[venue.name]:
        found.append(f"venue.feed: venue {venue.name} requires {FEEDS[venue.name]}")
    if len(set(spec.pairs)) < len(spec.pairs):
        found.append("pairs: must not contain duplicates")
    if components.exchange_sim is not None and venue.name is not VenueName.SIMULATED:
        found.append(f"components.exchangeSim: only allowed with venue {VenueName.SIMULATED}")
    for name in platforms.component_models():
        where = f"components.{platforms.component_field(name)}"
        found += [f"{where}.{line}" for line in _sizes(components.storage(name), components.of(name).resources)]
    return found


def _sizes(storage: str | None, resources: Resources) -> list[str]:
    nothing = ["storage: must be greater than 0"] if storage is not None and quantity(storage) <= 0 else []
    return [*nothing, *_amounts(resources)]


def _amounts(resources: Resources) -> list[str]:
    found = []
    for what in ("cpu", "memory"):
        request, limit = getattr(resources.requests, what), getattr(resources.limits, what)
        if request is not None and limit is not None and quantity(request) > quantity(limit):
            found.append(f"resources.requests.{what}: must not exceed limits.{what}")
    return found
