"""What earlier reconciles observed, so that an event finds its keys. In memory only; nothing is decided by it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aether_operator.controllers.workqueue import Key
    from aether_operator.observed.kinds import Ref


@dataclass(slots=True)
class Index:
    """Which keys an object concerns, of all kinds."""

    _keys: defaultdict[tuple[str, str, str], set[Key]] = field(default_factory=lambda: defaultdict(set))
    """By (namespace, kind, name) of a child, a user's Secret or a parent."""
    _creations: WeakValueDictionary[tuple[str, Ref], asyncio.Lock] = field(default_factory=WeakValueDictionary)
    own_writes: dict[Key, str] = field(default_factory=dict)
    """The resourceVersion of the operator's latest write of each object's status: its event brings nothing new."""

    def add(self, key: Key, refs: Iterable[Ref]) -> None:
        """An event of one of these objects concerns this key."""
        for ref in refs:
            self._keys[key.namespace, ref.kind, ref.name].add(key)

    def creation(self, namespace: str, ref: Ref) -> asyncio.Lock:
        """Held while a child is created: two owners may desire its name."""
        return self._creations.setdefault((namespace, ref), asyncio.Lock())

    def keys_of(self, namespace: str, ref: Ref) -> frozenset[Key]:
        """The keys that an object concerns."""
        return frozenset(self._keys.get((namespace, ref.kind, ref.name), ()))

    def forget(self, key: Key) -> None:
        """Drop an object that was deleted."""
        self.own_writes.pop(key, None)
        for keys in self._keys.values():
            keys.discard(key)
        for one in [one for one, keys in self._keys.items() if not keys]:
            del self._keys[one]
