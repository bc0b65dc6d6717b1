"""What the API server checks beyond types and ranges, as CEL: contradictions, and what may never change. Data only."""

from __future__ import annotations

from typing import Any, Final

from aether_operator.api.platforms import LONGEST_NAME, Server

Rule = dict[str, Any]


def _rule(rule: str, message: str, *, field: str = "", **rest: Any) -> Rule:
    return {"rule": rule, "message": message, **({"fieldPath": field} if field else {}), **rest}


ROOT: Final[list[Rule]] = [
    _rule(
        f"self.metadata.name.size() <= {LONGEST_NAME}",
        f"metadata.name: at most {LONGEST_NAME} letters, since the names of its children are made of it",
    ),
    _rule(
        "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "metadata.name: lower-case letters, digits and dashes, a letter first, since it becomes the name of Services",
    ),
]


def _placed(server: Server) -> list[Rule]:
    where = f"spec.dataPlane.{server.value}"
    return [
        _rule(
            "self.mode != 'External' || has(self.external)",
            f"{where}.external: needed with mode External",
            field=".external",
            reason="FieldValueRequired",
        ),
        _rule("self.mode != 'External' || !has(self.managed)", f"{where}.managed: not with mode External"),
        _rule("self.mode != 'Managed' || !has(self.external)", f"{where}.external: not with mode Managed"),
        _rule(
            "self.mode == oldSelf.mode",
            f"{where}.mode: cannot be changed, since data does not move by itself; make a new platform",
            field=".mode",
        ),
    ]


def _managed(server: Server) -> list[Rule]:
    # That it never shrinks is no rule here: who asked for more than the StorageClass gives must be able to go back.
    where = f"spec.dataPlane.{server.value}.managed"
    return [
        _rule(
            "quantity(string(self.storage)).isGreaterThan(quantity('0'))",
            f"{where}.storage: more than nothing",
            field=".storage",
        )
    ]


def _resources(server: Server) -> list[Rule]:
    where = f"spec.dataPlane.{server.value}.managed.resources"
    return [
        _rule(
            f"!has(self.requests) || !has(self.limits) || !has(self.requests.{what}) || !has(self.limits.{what}) || "
            f"quantity(string(self.requests.{what})).compareTo(quantity(string(self.limits.{what}))) <= 0",
            f"{where}.requests.{what}: not more than limits.{what}",
        )
        for what in ("cpu", "memory")
    ]


RULES: Final[dict[tuple[str, ...], list[Rule]]] = {
    **{("dataPlane", server.value): _placed(server) for server in Server},
    **{("dataPlane", server.value, "managed"): _managed(server) for server in Server},
    **{("dataPlane", server.value, "managed", "resources"): _resources(server) for server in Server},
}
"""Where in `spec` → what holds there."""
