"""What the metadata of a live object says: which fields our applies own, its owner, and whether it is being deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aether_operator.api import labels, models, platforms

if TYPE_CHECKING:
    from aether_operator.api.owners import Owner
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


def belongs_to(live: Manifest, owner: Owner) -> bool:
    """Whether an object is a child of this owner: then it is repaired, else its name is taken.

    An owner reference with the owner's uid proves it. Otherwise kind and name must match, in labels and reference: a
    child whose owner was deleted belongs to a new owner of the same kind and name (`former_uids`). A child that lost
    its labels belongs to whoever desires its name, if our applies own fields of it.
    """
    reference = _owner_reference(live)
    if reference is not None:
        if reference["uid"] == owner.uid:
            return True
        if (reference["kind"], reference["name"]) != (owner.kind, owner.name):
            return False
    marks, named = live["metadata"].get("labels") or {}, named_owner(live)
    if named is not None and named != (owner.kind, owner.name):
        return False
    ours = named is not None and marks.get(labels.MANAGED_BY) == labels.OPERATOR  # restored from a backup, perhaps
    return ours or bool(owned_fields(live))


def named_owner(live: Manifest) -> tuple[str, str] | None:
    """The kind and name of an object's owner, by its labels; None without such labels.

    A label that others wrote over ours counts as lost: who changes it does not give the child to another owner.
    """
    owned, marks = owned_fields(live), live["metadata"].get("labels") or {}

    def is_ours(*names: str) -> bool:
        return all(one in marks and (not owned or owns_field(owned, "metadata", "labels", one)) for one in names)

    if is_ours(labels.OWNER_KIND, labels.OWNER_NAME):
        return marks[labels.OWNER_KIND], marks[labels.OWNER_NAME]
    if labels.OWNER_KIND not in marks and is_ours(labels.PLATFORM):
        return platforms.KIND, marks[labels.PLATFORM]
    return None


def former_uids(live: Manifest, owner: Owner) -> frozenset[str]:
    """The uids of other owners of the same kind and name that an object references: deleted ones, if `owner` exists."""
    reference = _owner_reference(live)
    if reference is None or (reference["kind"], reference["name"]) != (owner.kind, owner.name):
        return frozenset()
    return frozenset({reference["uid"]} - {owner.uid})


def _owner_reference(live: Manifest) -> Manifest | None:
    """The reference to the custom resource of ours that controls an object."""
    for one in live["metadata"].get("ownerReferences") or ():
        if one.get("controller") and one.get("apiVersion", "").partition("/")[0] == models.GROUP:
            return dict(one)
    return None


def has_owner(live: Manifest, uid: str) -> bool:
    """Whether an object has an owner reference with this uid, so that it is deleted with that owner."""
    return any(owner.get("uid") == uid for owner in live["metadata"].get("ownerReferences") or ())


def is_deleting(live: Manifest) -> bool:
    """Whether an object is being deleted."""
    return bool(live["metadata"].get("deletionTimestamp"))
