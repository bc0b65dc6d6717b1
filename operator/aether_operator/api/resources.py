"""A custom resource with a valid spec. A value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from aether_operator.api.models import Model
from aether_operator.api.owners import Owner

if TYPE_CHECKING:
    import datetime

SpecT = TypeVar("SpecT", bound=Model)


@dataclass(frozen=True, kw_only=True)  # without slots, which calls of `Resource[Spec]` do not survive
class Resource(Generic[SpecT]):
    """An object of one of Aether's kinds."""

    kind: str
    namespace: str
    name: str
    uid: str
    generation: int
    created: datetime.datetime
    """Aware."""
    spec: SpecT

    @property
    def owner(self) -> Owner:
        """The object as the owner of its children."""
        return Owner(kind=self.kind, namespace=self.namespace, name=self.name, uid=self.uid)
