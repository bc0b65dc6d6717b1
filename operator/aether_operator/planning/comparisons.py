"""Whether a live object is up to date: the fields that our applies own, against the manifest that would be applied.

Fields that others own, and defaults that the API server filled in, do not count.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from aether_operator.api import models
from aether_operator.observed import live_objects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aether_operator.observed.kinds import Manifest
    from aether_operator.observed.live_objects import Fields

_IDENTITY: Final = frozenset({"apiVersion", "kind"})
_NAMING: Final = frozenset({"name", "namespace"})
_AMOUNTS: Final = frozenset({"requests", "limits", "sizeLimit"})
"""Texts below these keys are quantities, which are equal when their values are."""


def is_up_to_date(desired: Manifest, live: Manifest) -> bool:
    """Whether applying `desired` would change nothing that our field manager owns."""
    owned = live_objects.owned_fields(live)
    body = {key: value for key, value in desired.items() if key not in _IDENTITY}
    body["metadata"] = {key: value for key, value in desired["metadata"].items() if key not in _NAMING}
    return _same(_without_null(body), live, owned, amounts=False)


def _without_null(value: Any) -> Any:
    """A null means the same as a missing field."""
    if isinstance(value, dict):
        return {key: _without_null(part) for key, part in value.items() if part is not None}
    return [_without_null(part) for part in value] if isinstance(value, list) else value


def _same(desired: Any, live: Any, owned: Fields, *, amounts: bool) -> bool:
    parts = {key: below for key, below in owned.items() if key != "."}
    if isinstance(desired, dict) and desired and parts:
        return isinstance(live, dict) and _same_fields(desired, live, parts, amounts=amounts)
    if isinstance(desired, list) and desired and parts:
        return isinstance(live, list) and _same_items(desired, live, parts, amounts=amounts)
    # A leaf, or a whole with a single owner (an atomic list or map), or an empty one: compared by value.
    return not parts and _covers(desired, live, amounts=amounts)


def _same_fields(desired: dict[str, Any], live: dict[str, Any], owned: Fields, *, amounts: bool) -> bool:
    if {f"f:{name}" for name in desired} != owned.keys():
        return False
    return all(
        name in live and _same(value, live[name], owned[f"f:{name}"], amounts=amounts or name in _AMOUNTS)
        for name, value in desired.items()
    )


def _same_items(desired: Sequence[Any], live: Sequence[Any], owned: Fields, *, amounts: bool) -> bool:
    if len(desired) != len(owned):
        return False
    for key, below in owned.items():
        ours, theirs = _item(key, desired), _item(key, live)
        if ours is None or theirs is None or not _same(ours, theirs, below, amounts=amounts):
            return False
    return True


def _item(key: str, items: Sequence[Any]) -> Any:
    """The item that a FieldsV1 key refers to; None if there is none."""
    kind, _, text = key.partition(":")
    meant = json.loads(text)
    if kind == "v":
        return next((item for item in items if item == meant), None)
    if kind == "i":
        return items[meant] if meant < len(items) else None
    # A key may contain a field that the manifest leaves to its default: it is the same item nevertheless.
    fitting = [item for item in items if all(item.get(name, value) == value for name, value in meant.items())]
    return fitting[0] if fitting else None


def _covers(desired: Any, live: Any, *, amounts: bool) -> bool:
    """Whether `live` contains all of `desired`; it may have more, since the API server fills in defaults."""
    if isinstance(desired, dict):
        return isinstance(live, dict) and all(
            name in live and _covers(value, live[name], amounts=amounts or name in _AMOUNTS)
            for name, value in desired.items()
        )
    if isinstance(desired, list):
        return (
            isinstance(live, list)
            and len(desired) == len(live)
            and all(_covers(ours, theirs, amounts=amounts) for ours, theirs in zip(desired, live, strict=True))
        )
    if desired == live:
        return type(desired) is type(live)
    return amounts and amount(desired) is not None and amount(desired) == amount(live)


def amount(value: Any) -> Any:
    """The value of a quantity; None if it is not a quantity."""
    try:
        return models.quantity(str(value))
    except ValueError:
        return None
