"""The object whose children the operator applies: what ownership needs to know of it, whatever its kind."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """One of Aether's custom resources, as the owner of its children."""

    kind: str
    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"
