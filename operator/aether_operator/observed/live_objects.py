"""What of a live object is ours, as the API server keeps it in `metadata.managedFields`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aether_operator.api import labels

if TYPE_CHECKING:
    from aether_operator.observed.kinds import Manifest

Fields = dict[str, Any]
"""A set of fields as FieldsV1 writes it: `f:name`, `k:{"key":"of an item"}`, `v:"an item"`, and `.` for itself."""

NOTHING: Final[Fields] = {}


def owned_fields(live: Manifest) -> Fields:
    """The fields of a live object that our applies own; empty when there are none."""
    for entry in live["metadata"].get("managedFields") or ():
        mine = entry.get("manager") == labels.OPERATOR and entry.get("operation") == "Apply"
        if mine and not entry.get("subresource"):
            owned: Fields = entry.get("fieldsV1") or NOTHING
            return owned
    return NOTHING


def owns_field(owned: Fields, *path: str) -> bool:
    """Whether a field is among those owned: `has(fields(secret), "data", "password")`."""
    for name in path:
        step = owned.get(f"f:{name}")
        if step is None:
            return False
        owned = step
    return True


def belongs_to(live: Manifest, platform: str) -> bool:
    """Whether an object is, or ever was, a child of this platform: then it is repaired, else its name is taken.

    What our applies own tells, whatever somebody did to its labels; names of two platforms' children never meet.
    Our labels tell as well, for an object that was restored from a copy.
    """
    marks = live["metadata"].get("labels") or {}
    marked = marks.get(labels.PLATFORM) == platform and marks.get(labels.MANAGED_BY) == labels.OPERATOR
    return marked or bool(owned_fields(live))


def has_owner(live: Manifest, uid: str) -> bool:
    """Whether an object goes when the owner of this uid goes."""
    return any(owner.get("uid") == uid for owner in live["metadata"].get("ownerReferences") or ())


def is_deleting(live: Manifest) -> bool:
    """Whether an object is on its way out already."""
    return bool(live["metadata"].get("deletionTimestamp"))
