"""The CEL rules of TradingPlatform: contradictions between fields, and fields that are immutable. Data only."""

from __future__ import annotations

from typing import Final

from aether_operator.api import platforms
from aether_operator.api.definition import Rule, rule
from aether_operator.api.platforms import FEEDS, Server, Stored, VenueName


def _placed(server: Server) -> list[Rule]:
    where = f"spec.dataPlane.{server.value}"
    return [
        rule(
            "self.mode != 'External' || has(self.external)",
            f"{where}.external: required with mode External",
            at=".external",
            reason="FieldValueRequired",
        ),
        rule("self.mode != 'External' || !has(self.managed)", f"{where}.managed: not allowed with mode External"),
        rule("self.mode != 'Managed' || !has(self.external)", f"{where}.external: not allowed with mode Managed"),
        rule(
            "self.mode == oldSelf.mode",
            f"{where}.mode: immutable, since the operator does not move data; create a new platform",
            at=".mode",
        ),
    ]


def _stored(where: str) -> list[Rule]:
    # There is no rule against shrinking: an update that the StorageClass cannot fulfil must be reversible.
    return [
        rule(
            "quantity(string(self.storage)).isGreaterThan(quantity('0'))",
            f"{where}.storage: must be greater than 0",
            at=".storage",
        )
    ]


def _resources(where: str) -> list[Rule]:
    return [
        rule(
            f"!has(self.requests) || !has(self.limits) || !has(self.requests.{what}) || !has(self.limits.{what}) || "
            f"quantity(string(self.requests.{what})).compareTo(quantity(string(self.limits.{what}))) <= 0",
            f"{where}.requests.{what}: must not exceed limits.{what}",
        )
        for what in ("cpu", "memory")
    ]


def _of_managed(server: Server) -> dict[tuple[str, ...], list[Rule]]:
    path = ("dataPlane", server.value, "managed")
    where = f"spec.{'.'.join(path)}"
    return {path: _stored(where), (*path, "resources"): _resources(f"{where}.resources")}


def _of_component(component: str) -> dict[tuple[str, ...], list[Rule]]:
    path = ("components", platforms.component_field(component))
    where = f"spec.{'.'.join(path)}"
    stored = issubclass(platforms.component_models()[component], Stored)
    return {**({path: _stored(where)} if stored else {}), (*path, "resources"): _resources(f"{where}.resources")}


_FED: Final = " || ".join(f"(self.name == '{name}' && self.feed == '{feed}')" for name, feed in FEEDS.items())
_SPEC: Final = [
    rule(
        f"!has(self.components) || !has(self.components.exchangeSim) || self.venue.name == '{VenueName.SIMULATED}'",
        f"spec.components.exchangeSim: only allowed with venue {VenueName.SIMULATED}",
        at=".components.exchangeSim",
    )
]
_VENUE: Final = [
    rule(
        "self.name == oldSelf.name",
        "spec.venue.name: immutable, since data of simulated and real markets must not mix; "
        "create another platform, with another name and servers of its own",
        at=".name",
    ),
    rule(
        f"!has(self.feed) || {_FED}",
        f"spec.venue.feed: {' and '.join(f'{feed} requires venue {name}' for name, feed in FEEDS.items())}",
        at=".feed",
    ),
]
_PAIRS: Final = [rule("self.all(one, self.exists_one(other, other == one))", "spec.pairs: must not contain duplicates")]

RULES: Final[dict[tuple[str, ...], list[Rule]]] = {
    (): _SPEC,
    **{("dataPlane", server.value): _placed(server) for server in Server},
    **{path: found for server in Server for path, found in _of_managed(server).items()},
    ("venue",): _VENUE,
    ("pairs",): _PAIRS,
    **{path: found for name in platforms.component_models() for path, found in _of_component(name).items()},
}
"""Path within `spec` → the rules at that path."""
