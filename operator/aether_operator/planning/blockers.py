"""What prevents a child from being applied until a person acts, with the exact command or change that resolves it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from aether_operator.api import labels
from aether_operator.api.reasons import Reason
from aether_operator.observed import kinds, live_objects
from aether_operator.observed.observation import Blocker
from aether_operator.planning import comparisons

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_operator.api.owners import Owner
    from aether_operator.observed.kinds import Manifest, Ref

MAX_LENGTH: Final = 400
"""The length at which a message of the API server is cut."""
IMMUTABLE: Final = ("serviceName", "podManagementPolicy", "selector")
"""The immutable fields of a StatefulSet that we set."""

_FORBIDDEN, _INVALID = 403, 422
_IMMUTABLE: Final = re.compile(
    r"immutable|updates to statefulset spec for fields other|may not be changed", re.IGNORECASE
)
_RESIZE: Final = re.compile(r"must support resize|can be resized|volume expansion|not support.* expan", re.IGNORECASE)
_SHRINK: Final = re.compile(r"can ?not be less than", re.IGNORECASE)


def name_taken(manifest: Manifest, live: Manifest, owner: Owner) -> Blocker:
    """Another object has the name of a child."""
    ref, named = kinds.ref(manifest), live_objects.named_owner(live)
    if named is None or named == (owner.kind, owner.name):
        belongs = f"does not belong to {owner}"
    else:
        belongs = f"belongs to {' '.join(named)}"
    action = f"rename or delete it: {_kubectl(manifest['metadata']['namespace'], ref)}"
    return Blocker(ref=ref, reason=Reason.NAME_TAKEN, message=f"{ref} exists and {belongs}; {action}")


def claim_shrinks(manifest: Manifest, live: Manifest, storage_fields: Mapping[str, str]) -> Blocker | None:
    """A claim would have to shrink; None if it would not."""
    requested, current = (manifest["spec"]["resources"]["requests"]["storage"] for manifest in (manifest, live))
    requested_amount, current_amount = comparisons.amount(requested), comparisons.amount(current)
    if requested_amount is None or current_amount is None or requested_amount >= current_amount:
        return None
    ref, component = kinds.ref(manifest), manifest["metadata"]["labels"][labels.COMPONENT]
    field = storage_fields.get(component, "its size")
    return Blocker(
        ref=ref,
        reason=Reason.IMMUTABLE_FIELD,
        message=f"{ref} has {current} and cannot shrink: set {field} ({requested}) to {current} or more",
    )


def immutable_fields(manifest: Manifest, live: Manifest) -> Blocker | None:
    """A StatefulSet whose immutable fields would have to change; None if they would not."""
    requested_amount, current_amount = manifest["spec"], live["spec"]
    different = [name for name in IMMUTABLE if requested_amount.get(name) != current_amount.get(name)]
    if current_amount.get("volumeClaimTemplates"):
        different.append("volumeClaimTemplates")
    return _recreate(kinds.ref(manifest), manifest["metadata"]["namespace"], different) if different else None


def _recreate(ref: Ref, namespace: str, fields: list[str]) -> Blocker:
    named = ", ".join(f"spec.{name}" for name in fields) or "an immutable field"
    return Blocker(
        ref=ref,
        reason=Reason.IMMUTABLE_FIELD,
        message=f"{ref} differs in {named}, which cannot be changed; delete it, and the operator recreates it with the "
        f"same data: {_kubectl(namespace, ref)}",
    )


def blocker_from_error(ref: Ref, code: int, message: str, *, namespace: str = "") -> Blocker:
    """Translate an error of the API server into a blocker, with what a person has to do.

    For a Secret the server's message is left out: it may quote its content.
    """
    text = " ".join(message.split())
    if _RESIZE.search(text):
        text = (
            f"{ref} cannot grow: its StorageClass does not allow volume expansion; set allowVolumeExpansion there, or "
            "set the storage back"
        )
        return Blocker(ref=ref, reason=Reason.REQUEST_REJECTED, message=text)
    if code in {_INVALID, _FORBIDDEN} and (_IMMUTABLE.search(text) or _SHRINK.search(text)):
        if ref.kind == kinds.CLAIMS.kind:
            text = f"{ref} cannot become what the spec says: its storage only grows, and its other fields are immutable"
            return Blocker(ref=ref, reason=Reason.IMMUTABLE_FIELD, message=text)
        return _recreate(ref, namespace, [])
    if code == _FORBIDDEN and "being terminated" in text:
        return Blocker(ref=ref, reason=Reason.TERMINATING, message=f"{ref}: the namespace is being deleted")
    excerpt = "the API server rejected it" if ref.kind == kinds.SECRETS.kind else truncated(text)
    advice = next((advice for pattern, advice in _ADVICE if pattern.search(text)), "")
    return Blocker(ref=ref, reason=Reason.REQUEST_REJECTED, message=f"{ref} was rejected ({code}): {excerpt}{advice}")


_ADVICE: Final = (
    (re.compile(r"exceeded quota", re.IGNORECASE), "; raise the ResourceQuota, or lower the requests"),
    (
        re.compile(r"violates PodSecurity", re.IGNORECASE),
        "; the namespace's Pod Security level does not allow this pod",
    ),
    (
        re.compile(r"(maximum|minimum) .* usage per", re.IGNORECASE),
        "; the namespace has a LimitRange: lower the requests",
    ),
)


def truncated(text: str) -> str:
    """Cut a text to a length that fits a status."""
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 1]}…"


def _kubectl(namespace: str, ref: Ref) -> str:
    within = f" --namespace {namespace}" if namespace else ""
    return f"kubectl{within} delete {ref.kind.lower()} {ref.name}"
