"""What the metadata of a live object says: which fields our applies own, its owner, and whether it is being deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aether_operator.api import labels

if TYPE_CHECKING:
    from aether_operator.observed.kinds import Manifest

Fields = dict[str, Any]
"""A set of fields in the FieldsV1 format: `f:name`, `k:{"key":"of an item"}`, `v:"an item"`, `.` for the whole."""

NOTHING: Final[Fields] = {}


def owned_fields(live: Manifest) -> Fields:
    """The fields that our server-side applies own, from `metadata.managedFields`; empty if there are none."""
    for entry in live["metadata"].get("managedFields") or ():
        mine = entry.get("manager") == labels.OPERATOR and entry.get("operation") == "Apply"
        if mine and not entry.get("subresource"):
            owned: Fields = entry.get("fieldsV1") or NOTHING
            return owned
    return NOTHING


def owns_field(owned: Fields, *path: str) -> bool:
    """Whether a field is owned: `owns_field(owned_fields(secret), "data", "password")`."""
    for name in path:
        step = owned.get(f"f:{name}")
        if step is None:
            return False
        owned = step
    return True


def belongs_to(live: Manifest, platform: str) -> bool:
    """Whether an object is, or ever was, a child of this platform: then it is repaired, else its name is taken.

    Fields that our applies own prove it even if the labels were changed, since names of two platforms' children never
    collide. Labels prove it too, for an object that was restored from a backup.
    """
    marks = live["metadata"].get("labels") or {}
    marked = marks.get(labels.PLATFORM) == platform and marks.get(labels.MANAGED_BY) == labels.OPERATOR
    return marked or bool(owned_fields(live))


def has_owner(live: Manifest, uid: str) -> bool:
    """Whether an object has an owner reference with this uid, so that it is deleted with that owner."""
    return any(owner.get("uid") == uid for owner in live["metadata"].get("ownerReferences") or ())


def is_deleting(live: Manifest) -> bool:
    """Whether an object is being deleted."""
    return bool(live["metadata"].get("deletionTimestamp"))
